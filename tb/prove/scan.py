# SPDX-License-Identifier: Apache-2.0
"""Proofs of the scanner, the group's queue, and the walk of pixels and kernel rows."""

import dataclasses

from amaranth import *

from hw.conv.row_cutter import RowCutter
from hw.conv.scanner import Scanner
from hw.conv.walker import PixelWalker
from hw.descriptor import CONV
from hw.payloads import UnitLayout, WordLayout, descriptor_layout
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one

__all__ = ["PROOFS"]

_BITS, _SHIFT = 4, 2
"""Bits of a word, and of a bit's number, in the proof of the scanner."""

_WIDE = dataclasses.replace(MINUTE, weight_rows=32)
"""Rows enough that the words of an entry have different ones."""


@proof(Scanner, reach=12, small={"WORD_BITS": _BITS, "_BIT_BITS": _SHIFT}, bugs=[
    Bug("a set bit is skipped", "next_rest.eq(rest & (rest - 1)[:WORD_BITS])",
        "next_rest.eq(rest & (rest - 2)[:WORD_BITS])"),
    Bug("the last word of an entry is lost", "at_most_one(rest_words))]", "1)]"),
    Bug("words in the wrong order", "for index in reversed(range(banks)):",
        "for index in range(banks):"),
    Bug("moves while it must stand", "advance.eq(self.enable & (~word_valid",
        "advance.eq((~word_valid"),
    Bug("a token is repeated", "with m.Elif(self.enable & ~extra):\\n            m.d.sync += [word",
        "with m.Elif(self.enable & extra):\\n            m.d.sync += [word"),
    Bug("takes the next entry too early", "self.i_valid & (~entry_valid | last_word))",
        "self.i_valid)"),
])
def _scanner(p: Properties, block: type) -> None:
    """Each set bit of each word that counts comes out exactly once, in ascending order.

    One entry is followed, whichever; it alone carries the flag ``minus``, which the scanner hands
    on without looking at it. Its kind is dense; the others may be of any kind. Words of 4 bits.
    """
    dut, m = p.add(block(_WIDE)), p.m
    banks, i = _WIDE.map_banks, dut.i
    for word in range(banks):
        p.assume("a word that counts has a set bit", i.words[word].any(), dut.nonzero[word])
        p.assume("words have four bits", i.words[word][_BITS:] == 0)
    p.assume("single: at most one word counts", i.single == ~dut.nonzero.all(), dut.i_valid)
    p.assume("an entry without a bit carries an end or a doubling",
             dut.nonzero.any() | i.end | (i.double != 0), dut.i_valid)
    taken = p.register(1, "taken")
    mine = p.free(1) & ~taken
    p.assume("the entry that is followed is marked", i.minus == mine, dut.i_valid)
    p.assume("and dense", ~i.depthwise, mine)
    begin = dut.i_take & mine
    words = [p.register(_BITS, f"word_{n}") for n in range(banks)]
    row, counts, double = p.register(5, "row"), p.register(banks, "counts"), p.register(4, "double")
    with m.If(begin):
        m.d.sync += [taken.eq(1), row.eq(i.row), counts.eq(dut.nonzero), double.eq(i.double),
                     *(word.eq(i.words[n]) for n, word in enumerate(words))]
    p.claim("an entry is taken only when it is there", dut.i_valid, dut.i_take)

    # tokens of that entry, as the lanes take them
    moves = dut.o_valid & dut.enable
    token = moves & dut.o.minus & dut.o.add
    bit = dut.o.row[:_SHIFT]
    which = (dut.o.row[_SHIFT:] - row)[:3]
    bits = Array(words)[which[:1]]
    p.claim("a token names a set bit of a word that counts",
            (which < banks) & bits.bit_select(bit, 1) & counts.bit_select(which, 1), token)
    last, any_yet = p.register(_SHIFT + 1, "last"), p.register(1, "any_yet")
    place = Cat(bit, which[:1])
    with m.If(token):
        m.d.sync += [last.eq(place), any_yet.eq(1)]
    p.claim("tokens come in ascending order, so none twice", place > last, token & any_yet)
    p.claim("tokens of an entry only after it was taken", taken, moves & dut.o.minus)
    # one bit is followed, whichever: until the entry has left, it is somewhere
    its_bit, its_word = p.any(_SHIFT), p.any(1)
    its = taken & Array(words)[its_word].bit_select(its_bit, 1) & counts.bit_select(its_word, 1)
    seen = p.register(1, "seen")
    with m.If(token & (place == Cat(its_bit, its_word))):
        m.d.sync += seen.eq(1)

    entry = p.view(i.shape(), "entry")
    ahead, now = (p.view(WordLayout(_WIDE), name) for name in ("ahead", "now"))
    pending, entry_valid = p.signal("pending"), p.signal("entry_valid")
    ahead_valid, word_valid = p.signal("ahead_valid"), p.signal("word_valid")
    word, rest, ahead_word = (p.signal(name) for name in ("word", "rest", "ahead_word"))
    in_a, in_b = entry_valid & entry.minus, ahead_valid & ahead.minus
    in_c, in_d = word_valid & now.minus, dut.o_valid & dut.o.minus
    gone = taken & ~in_a & ~in_b & ~in_c & ~in_d
    p.claim("when its entry has left, every bit of it has come out", seen, its & gone)
    others = word_valid | ahead_valid
    p.cover("an entry of three bits in two words has left", gone & (words[0] == 9)
            & (words[1] == 8) & counts.all() & seen & its & others)
    p.cover("a doubling of its own token", moves & dut.o.double & ~dut.o.add)
    _inside(p, dut, locals())


def _inside(p: Properties, dut, v: dict) -> None:
    """Where in the scanner the words of the followed entry are."""
    words, row, counts = v["words"], v["row"], v["counts"]
    in_a, in_b, in_c, in_d = v["in_a"], v["in_b"], v["in_c"], v["in_d"]
    entry, ahead, now = v["entry"], v["ahead"], v["now"]
    pending, word, rest, ahead_word = v["pending"], v["word"], v["rest"], v["ahead_word"]
    extra, single, last_word = p.signal("extra"), p.signal("single"), p.signal("last_word")
    wide = Array(words)

    def low(value):
        return value & ~(value & (value - 1)[:len(value)])

    p.invariant(v["taken"], in_a | in_b | in_c | in_d | v["any_yet"])
    for number, one in enumerate(words):
        p.invariant(one.any(), v["taken"] & counts[number])
    p.invariant(last_word == ~pending.all(), v["entry_valid"])
    p.invariant(pending.any() | entry.end | (entry.double != 0), v["entry_valid"])
    p.invariant((entry.row == row) & ~entry.depthwise
                & Cat(entry.words[n] == words[n] for n in range(len(words))).all()
                & ((pending & ~counts) == 0), in_a)
    b_word, c_word = (ahead.row - row)[:1], (now.row - row)[:1]
    for here, at, layout, left in ((in_b, b_word, ahead, ahead_word), (in_c, c_word, now, word)):
        p.invariant(~layout.depthwise, here)
        p.invariant((layout.row - row)[:5] < 2, here & ~layout.empty)
        p.invariant(counts.bit_select(at, 1), here & ~layout.empty)
        p.invariant(counts == 0, here & layout.empty)
        p.invariant((left & ~wide[at]) == 0, here & ~layout.empty)
        p.invariant(left.any(), here & ~layout.empty)
    p.invariant(ahead_word == wide[b_word], in_b & ~ahead.empty)
    p.invariant(rest == (word & (word - 1)[:_BITS]), v["word_valid"])
    p.invariant(single == (~rest.any() | now.depthwise | now.empty), v["word_valid"])
    p.invariant(p.signal("doubling")[1:].any() == extra)
    # the order of what is inside
    p.invariant((pending & ((2 << b_word) - 1)[:2]) == 0, in_a & in_b)
    p.invariant((pending & ((2 << c_word) - 1)[:2]) == 0, in_a & in_c)
    p.invariant(b_word > c_word, in_b & in_c)
    p.invariant(~ahead.last, in_a & in_b)
    p.invariant(pending.any(), in_a & (in_b | in_c | in_d | v["any_yet"]))
    p.invariant(pending == counts, in_a & ~(in_b | in_c | in_d | v["any_yet"]))
    p.invariant(in_c, in_d & ~dut.o.add & (counts != 0))
    p.invariant(~(ahead.empty & (in_c | in_d | v["any_yet"])), in_b)
    p.invariant(~(now.empty & (in_b | v["any_yet"])), in_c)
    # what has come out lies below what is inside
    out_bit, out_word = dut.o.row[:_SHIFT], (dut.o.row[_SHIFT:] - row)[:3]
    out = Cat(out_bit, out_word[:1])
    adds = in_d & dut.o.add
    p.invariant((out_word < 2) & wide[out_word[:1]].bit_select(out_bit, 1)
                & counts.bit_select(out_word, 1), adds)
    for when, at in ((adds, out), (v["any_yet"], v["last"])):
        below = (C(2, _BITS + 1) << at[:_SHIFT]) - 1
        p.invariant((pending & ((2 << at[_SHIFT]) - 1)[:2]) == 0, when & in_a)
        p.invariant(b_word > at[_SHIFT], when & in_b & ~ahead.empty)
        p.invariant((c_word > at[_SHIFT]) | ((c_word == at[_SHIFT]) & ((word & below[:_BITS]) == 0)),
                    when & in_c & ~now.empty)
    p.invariant(out > v["last"], adds & v["any_yet"])
    its, seen, its_word, its_bit = v["its"], v["seen"], v["its_word"], v["its_bit"]
    p.invariant(v["any_yet"] & (v["last"] >= Cat(its_bit, its_word)), seen)
    there = Cat(seen, in_a & pending.bit_select(its_word, 1), in_b & (b_word == its_word)
                & ~ahead.empty, in_c & (c_word == its_word) & word.bit_select(its_bit, 1)
                & ~now.empty, adds & (out == Cat(its_bit, its_word))).any()
    p.invariant(there, its)


PROOFS = (_scanner,)
