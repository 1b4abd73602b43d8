# SPDX-License-Identifier: Apache-2.0
"""Proofs of the buffers: what is read is what was written last."""

from amaranth import *

from hw.conv.map_buffer import MapBuffer
from hw.lif.out_buffer import OutBuffer
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties

__all__ = ["PROOFS"]


@proof(OutBuffer, k=4, reach=8, resets=False, bugs=[
    Bug("the bank of the read behind", "select(bank_s2, rows)", "select(bank_s1, rows)"),
    Bug("banks share a row", '("addr", self.write_row)', '("addr", [self.write_row[0]] * 99)'),
    Bug("a write fills the whole beat", "register.eq(value[bank])",
        'register.eq(value[bank].any().replicate(99) if port == "en" else value[bank])'),
])
def _out_buffer(p: Properties, block: type) -> None:
    """A beat reads as what was last written to each of its parts."""
    dut, m = p.add(block(MINUTE)), p.m
    lanes, parts = MINUTE.epilogue_lanes, MINUTE.axi_bits // MINUTE.epilogue_lanes
    beat, part = p.any(range(MINUTE.out_beats)), p.any(range(parts))
    bank, row = beat[:1], beat[1:]
    content = p.register(lanes, "content")  # a cycle behind the write, as the memory is
    enable = Array(dut.write_enable)[bank].bit_select(part, 1)
    asked = enable & (Array(dut.write_row)[bank] == row)
    data = Array(dut.write_data)[bank].word_select(part, lanes)
    write, data_s1 = p.past(asked), p.past(data)
    with m.If(write):
        m.d.sync += content.eq(data_s1)
    reads = dut.read_enable & (dut.read_beat == beat)
    p.assume("a beat is not read while it is written", ~reads, write)
    there = p.past(p.past(p.past(reads)))
    p.claim("what was written last is read three cycles later",
            dut.read_data.word_select(part, lanes) == p.past(p.past(p.past(content))), there)
    for index in range(2):
        held = p.row(f"bank_{index}", row)
        p.invariant(held.word_select(part, lanes) == content, bank == index)
        p.invariant((p.signal(f"en_{index}").bit_select(part, 1)
                     & (p.signal(f"addr_{index}") == row)) == write, bank == index)
        p.invariant(p.signal(f"data_{index}").word_select(part, lanes) == data_s1,
                    (bank == index) & write)
    p.cover("a part is read that was written", there & (content != 0))


@proof(MapBuffer, k=5, reach=10, resets=False, bugs=[
    Bug("words behind the row come from the row",
        "(offset > bank) if bank < banks - 1 else 0", "0"),
    Bug("words are not rotated", "(bank + (1 << bit)) % banks", "bank"),
    Bug("a row's parts are swapped", "word.word_select(bank % beat_words, WORD_BITS)",
        "word.word_select((bank + 1) % beat_words, WORD_BITS)"),
    Bug("nonzero lags", "self.read_nonzero.eq(Cat(flags))", "self.read_nonzero.eq(~0)"),
    Bug("nonzero is another word's", "Cat(content, content.any())", "Cat(content, word.any())"),
])
def _map_buffer(p: Properties, block: type) -> None:
    """A read returns the words at its address and behind, as they were written last."""
    dut, m = p.add(block(MINUTE)), p.m
    word = p.any(range(MINUTE.map_words))
    bank, row = word[:1], word[1:]
    content = p.register(32, "content")     # a cycle behind the write, as the memory is
    hits = dut.write_enable & (dut.write_beat == row)
    data = dut.write_data.word_select(bank, 32)
    hit_s1, data_s1 = p.past(hits), p.past(data)
    with m.If(hit_s1):
        m.d.sync += content.eq(data_s1)
    # a read takes the memory's row a cycle after it was asked for
    first = dut.read_address
    place = (word - first)[:4]
    reads = dut.read_enable & (place < MINUTE.map_banks)
    p.assume("a row is not read while it is written", ~p.past(reads), hit_s1)
    seen = p.past(p.past(p.past(content)))
    there, at = reads, place[0]
    for _ in range(4):
        there, at = p.past(there), p.past(at)
    p.claim("the word is that which was written last",
            Array(dut.read_data[n] for n in range(2))[at] == seen, there)
    p.claim("nonzero says whether it has a set bit",
            dut.read_nonzero.bit_select(at, 1) == seen.any(), there)
    for index in range(2):
        p.invariant(p.row(f"bank_{index}", row) == Cat(content, content.any()), bank == index)
    for index in range(1):
        p.invariant((p.signal(f"write_{index}") & (p.signal(f"write_row_{index}") == row))
                    == hit_s1)
        p.invariant(p.signal(f"write_word_{index}").word_select(bank, 32) == data_s1, hit_s1)
    p.cover("a word that was written is read", there & (seen != 0))


PROOFS = (_out_buffer, _map_buffer)
