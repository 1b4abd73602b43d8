# SPDX-License-Identifier: Apache-2.0
"""Proofs of the scanner, the group's queue, and the walk of pixels and kernel rows."""

import dataclasses

from amaranth import *
from amaranth.lib import data
from amaranth.utils import exact_log2

from hw.conv.group import Group
from hw.conv.lanes import Lanes
from hw.conv.row_cutter import RowCutter
from hw.conv.scanner import Scanner
from hw.conv.walker import PixelWalker
from hw.descriptor import CONV, Flag
from hw.payloads import TokenLayout, WordLayout, descriptor_layout
from hw.presets import Preset
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one, in_stages

__all__ = ["PROOFS"]

_BITS, _SHIFT = 4, 2
"""Bits of a word, and of a bit's number, in the proof of the scanner."""

_ROWS = dataclasses.replace(MINUTE, weight_rows=32)
"""Rows enough that the words of an entry have different ones."""

_SMALL = {"WORD_BITS": _BITS, "_BIT_BITS": _SHIFT}


@proof(Scanner, reach=11, small=_SMALL, bugs=[
    Bug("a set bit is skipped", "next_clear.eq(clear | (clear + 1)[:WORD_BITS])",
        "next_clear.eq(~0)"),
    Bug("a word is handed on twice", "_lowest(rest_words)", "_lowest(pending)"),
    Bug("words in the wrong order", "for index in reversed(range(len(bits))):",
        "for index in range(len(bits)):"),
    Bug("a token is repeated", "with m.Elif(self.enable & ~extra):\n            m.d.sync += [word",
        "with m.Elif(self.enable & extra):\n            m.d.sync += [word"),
    Bug("takes the next entry too early", "self.i_valid & (~entry_valid | last_word))",
        "self.i_valid)"),
])
def _scanner(p: Properties, block: type) -> None:
    """Each set bit of each word that counts comes out exactly once, in ascending order.

    One entry is followed, whichever; it alone carries the flag ``minus``, which the scanner hands
    on without looking at it. Its kind is dense; the others may be of any kind. Words of 4 bits.
    """
    _follow_an_entry(p, block, _ROWS)


@proof(Scanner, reach=12, small=_SMALL, bugs=[
    Bug("a doubling rides on an addition", "doubling_next if preset.wide_luts else doubling_next",
        "doubling_next[1:] if preset.wide_luts else doubling_next"),
    Bug("a word of two bits is taken for one of one", "following.all()", "following[:-1].all()"),
    Bug("a doubling ends the unit", "token.end.eq(ends & now.end)", "token.end.eq(now.end)"),
])
def _scanner_wide(p: Properties, block: type) -> None:
    """The same for wide LUTs, where a token that doubles adds nothing and ends nothing."""
    dut = _follow_an_entry(p, block, dataclasses.replace(_ROWS, lut_inputs=6))
    p.claim("a token that doubles only doubles", ~dut.o.add & ~dut.o.end,
            dut.o_valid & dut.o.double)


def _follow_an_entry(p: Properties, block: type, preset: Preset) -> Scanner:
    dut, m = p.add(block(preset)), p.m
    banks, i = preset.map_banks, dut.i
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
    ahead, now = (p.view(WordLayout(preset), name) for name in ("ahead", "now"))
    pending, entry_valid = p.signal("pending"), p.signal("entry_valid")
    ahead_valid, word_valid = p.signal("ahead_valid"), p.signal("word_valid")
    word, clear, ahead_clear = (p.signal(name) for name in ("word", "rest_clear", "ahead_clear"))
    in_a, in_b = entry_valid & entry.minus, ahead_valid & ahead.minus
    in_c, in_d = word_valid & now.minus, dut.o_valid & dut.o.minus
    gone = taken & ~in_a & ~in_b & ~in_c & ~in_d
    p.claim("when its entry has left, every bit of it has come out", seen, its & gone)
    others = word_valid | ahead_valid
    p.cover("an entry of three bits in two words has left", gone & (words[0] == 9)
            & (words[1] == 8) & counts.all() & seen & its & others)
    p.cover("a doubling of its own token", moves & dut.o.double & ~dut.o.add)
    _inside(p, dut, locals())
    return dut


def _inside(p: Properties, dut, v: dict) -> None:
    """Where in the scanner the words of the followed entry are."""
    words, row, counts = v["words"], v["row"], v["counts"]
    in_a, in_b, in_c, in_d = v["in_a"], v["in_b"], v["in_c"], v["in_d"]
    entry, ahead, now = v["entry"], v["ahead"], v["now"]
    pending, word, rest, ahead_word = v["pending"], v["word"], ~v["clear"], ~v["ahead_clear"]
    extra, single, last_word = p.signal("extra"), p.signal("single"), p.signal("last_word")
    wide = Array(words)

    def low(value):
        return value & ~(value & (value - 1)[:len(value)])

    p.invariant(v["taken"], in_a | in_b | in_c | in_d | v["any_yet"])
    for number, one in enumerate(words):
        p.invariant(one.any(), v["taken"] & counts[number])
    p.invariant(last_word == ~pending.all(), v["entry_valid"])
    p.invariant(p.signal("word_index") == (pending == 2), v["entry_valid"])
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
    p.invariant(p.signal("doubling")[0 if v["preset"].wide_luts else 1:].any() == extra)
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
        lower = (word & below[:_BITS]) == 0
        p.invariant((c_word > at[_SHIFT]) | ((c_word == at[_SHIFT]) & lower),
                    when & in_c & ~now.empty)
    p.invariant(out > v["last"], adds & v["any_yet"])
    its, seen, its_word, its_bit = v["its"], v["seen"], v["its_word"], v["its_bit"]
    p.invariant(v["any_yet"] & (v["last"] >= Cat(its_bit, its_word)), seen)
    there = Cat(seen, in_a & pending.bit_select(its_word, 1), in_b & (b_word == its_word)
                & ~ahead.empty, in_c & (c_word == its_word) & word.bit_select(its_bit, 1)
                & ~now.empty, adds & (out == Cat(its_bit, its_word))).any()
    p.invariant(there, its)


def _descriptor(p: Properties, value):
    """Assume that a CONV never changes, and that it is as the dispatcher lets it pass."""
    d = descriptor_layout(CONV)(p.steady("the descriptor", value))
    p.assume("counts are at least 1", (d.columns != 0) & (d.rows != 0) & (d.images != 0))
    return d


@proof(PixelWalker, reach=12, bugs=[
    Bug("a column too many", "last_column.eq(columns <= Mux(paired, 3, 1))",
        "last_column.eq(columns <= Mux(paired, 2, 0))"),
    Bug("a pair at the end of an odd row", "two.eq(paired & more)", "two.eq(paired)"),
    Bug("no pair in a row of two", "more.eq(d.columns != 1)", "more.eq(d.columns > 2)"),
    Bug("a pair at the end of a row behind the first", "more.eq(columns != 1 + few)",
        "more.eq(columns != 1)"),
    Bug("the second pixel comes again", "x.eq(x + times(d.x_step))", "x.eq(x + d.x_step)"),
    Bug("a pair's window is too short", "Mux(ahead.two, string, d.string_words)",
        "d.string_words"),
    Bug("rows do not return to the first column", "x.eq(d.x_start),\n                    rows",
        "rows"),
    Bug("moves while the output waits", "move.eq(~job_valid | skid.i.ready)", "move.eq(1)"),
    Bug("words left of the map", "job.low.eq(-ahead_x)", "job.low.eq(0)"),
    Bug("words right of the map", "with m.If(room < length):",
        "with m.If(room < 0):"),
    Bug("y does not return to the first row", "y.eq(d.y_start),\n                        images",
        "images"),
])
def _pixel_walker(p: Properties, block: type) -> None:
    """One job a pixel, or two, image by image, row by row, the window inside the row.

    Of the jobs as they enter the skid at the output, which has a proof of its own.
    """
    dut, m = p.add(block(MINUTE)), p.m
    d, job = _descriptor(p, dut.descriptor), p.view(dut.o.payload.shape(), "job")
    there, full = p.signal("job_valid"), p.signal("spare_valid", "skid")
    p.assume("no start while busy", ~dut.busy, dut.start)
    p.assume("rows and windows are no longer than the map",
             (d.row_words <= MINUTE.map_words) & (d.string_words <= MINUTE.map_words))
    move = ~there | ~full
    # the pixel at hand, and those of the two stages behind it
    shape = {"column": 16, "row": 16, "image": 16}
    stages = [{name: p.register(width, f"{name}_s{n}") for name, width in shape.items()}
              for n in range(3)]
    busy = [p.register(1, f"busy_s{n}") for n in range(3)]
    at = stages[0]
    paired = d.flags[exact_log2(int(Flag.PAIRED))]

    def two(stage):
        return paired & (stage["column"] != d.columns - 1)

    ends = (at["column"] + two(at) == d.columns - 1, at["row"] == d.rows - 1,
            at["image"] == d.images - 1)
    with m.If(move):
        for n in (1, 2):
            m.d.sync += [busy[n].eq(busy[n - 1]),
                         *(stages[n][name].eq(stages[n - 1][name]) for name in shape)]
    with m.If(dut.start):
        m.d.sync += [busy[0].eq(1), *(value.eq(0) for value in at.values())]
    with m.Elif(busy[0] & move):
        m.d.sync += [
            busy[0].eq(~Cat(ends).all()),
            at["column"].eq(Mux(ends[0], 0, at["column"] + 1 + two(at))),
            at["row"].eq(Mux(ends[0], Mux(ends[1], 0, at["row"] + 1), at["row"])),
            at["image"].eq(at["image"] + (ends[0] & ends[1]))]

    def times(stage, name, step, width):
        return (stage[name][:width] * step[:width])[:width]

    def x_of(stage):
        return (d.x_start[:6] + times(stage, "column", d.x_step, 6))[:6].as_signed()

    def y_of(stage):
        return (d.y_start[:6] + times(stage, "row", d.y_step, 6))[:6]

    out = stages[2]
    p.claim("offers the pixels that are to come, each once", there == busy[2])
    p.claim("busy until the last pixel is taken", dut.busy == (Cat(busy).any() | dut.o.valid))
    p.invariant(dut.o.valid, full)
    p.claim("the skid is offered each job, as it is", Cat(
        p.signal("i__valid", "skid"), p.signal("i__payload", "skid"))
        == Cat(there, job.as_value()))
    p.claim("the window begins at y_start + row y_step", job.y.as_unsigned() == y_of(out), there)
    x = x_of(out)
    room = (d.row_words[:5].as_unsigned() - x)[:7].as_signed()
    p.claim("and at column x_start + column x_step, or where the row begins",
            job.low == Mux(x < 0, -x, 0)[:5], there)
    string = (d.string_words + two(out))[:5]
    p.claim("and ends inside it", job.high == Mux(room < string, Mux(
        room < 0, 0, room), string)[:5], there)
    p.claim("a job is two pixels where it says so", job.two == two(out), there)
    p.holds("output", dut.o)

    p.invariant(Cat(p.signal("active"), p.signal("ahead_valid"), there) == Cat(busy))
    on = busy[0]
    for name, limit in (("column", d.columns), ("row", d.rows), ("image", d.images)):
        p.invariant(at[name] < limit, on)
    for name, end, limit in (("column", 0, d.columns), ("row", 1, d.rows), ("image", 2, d.images)):
        p.invariant(p.signal(f"{name}s") == (limit - 1 - at[name])[:16], on)
        p.invariant(p.signal(f"last_{name}") == ends[end], on)
    p.invariant(p.signal("more") == (at["column"] != d.columns - 1), on)
    p.invariant((p.signal("columns_last") == d.columns - 1)
                & (p.signal("rows_last") == d.rows - 1), on)
    p.invariant(p.signal("x") == x_of(at), on)
    p.invariant(p.signal("y").as_unsigned() == y_of(at), on)
    ahead = p.view(job.shape(), "ahead")
    p.invariant(ahead.y.as_unsigned() == y_of(stages[1]), busy[1])
    p.invariant(ahead.two == two(stages[1]), busy[1])
    p.invariant(p.signal("string") == d.string_words + 1, on | busy[1])
    x = x_of(stages[1])
    p.invariant((p.signal("ahead_x") == x) & (p.signal("room").as_signed() == (
        d.row_words[:5].as_unsigned() - x)[:7].as_signed()), busy[1])
    p.cover("two by two pixels of two images", there & ~full & Cat(
        d.columns == 2, d.rows == 2, d.images == 2, out["image"] == 1, out["row"] == 1,
        out["column"] == 1).all())


@proof(RowCutter, reach=14, bugs=[
    Bug("a unit loses its last row", "valid[2] & (inside | cut.last)", "valid[2] & inside"),
    Bug("a row too few", "row[0].last.eq(rows_left == 0)", "row[0].last.eq(rows_left <= 1)"),
    Bug("words behind the chunk", "row[3].high.eq(Mux(new.high < new.unit.high, new.high, "
        "new.unit.high))", "row[3].high.eq(new.unit.high)"),
    Bug("rows below the map", "(old.y < contexts.field(context, \"rows_words\"))",
        "(old.y <= contexts.field(context, \"rows_words\"))"),
    Bug("moves while the output waits", "move.eq(~self.o.valid | self.o.ready)", "move.eq(1)"),
    Bug("the second pixel's last word is lost", "- old.first + old.unit.two)]", "- old.first)]"),
    Bug("the second pixel gets the first word", "cut.unit.two & (cut.low == 0)", "0"),
    Bug("the first pixel gets the last word", "cut.high > contexts", "cut.high < contexts"),
])
def _row_cutter(p: Properties, block: type) -> None:
    """The kernel rows of each unit, cut to map and chunk, one last row for each unit."""
    dut, m = p.add(block(MINUTE)), p.m
    i, o = dut.i.payload, dut.o.payload
    views = [descriptor_layout(CONV)(p.steady("a descriptor", value)) for value in dut.descriptors]
    up = p.register(1, "up")
    m.d.sync += up.eq(1)
    p.assume("no unit in the cycle in which the descriptor comes", up, dut.i.valid)
    p.holds("input", dut.i, claimed=False)
    move = ~dut.o.valid | dut.o.ready
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready & o.last
    same = ("group", "context", "minus", "two", "double", "end")
    waiting, before, element, level = follow_one(
        p, put, get, Cat(i[name] for name in same), Cat(o[name] for name in same), 5, "units: ")
    stage = data.StructLayout({
        "unit": i.shape(), "last": 1, "y": i.y.shape(), "first": signed(17), "y_inside": 1,
        "place": len(i.origin), "weight": len(i.weight), "low": signed(18), "high": signed(19)})
    valid = p.signal("valid")
    rows = [p.view(stage, f"row_s{n}") for n in (3, 2, 1)]
    in_stages(p, waiting, before, element, level, [
        (dut.o.valid & o.last, Cat(o[name] for name in same)),
        *((valid[n] & row.last, Cat(row.unit[name] for name in same))
          for n, row in zip((2, 1, 0), rows, strict=True))])
    p.holds("output", dut.o)
    p.claim("no row without a word but a last one", (o.words != 0) | o.last, dut.o.valid)
    # what is cut, by the datasheet: window words inside the row, inside the chunk
    cut = rows[0]
    view = [Mux(cut.unit.context, views[1][name], views[0][name])
            for name in ("chunk_words", "rows_words")]
    low = p.past(Mux(-cut.first > cut.unit.low, -cut.first, cut.unit.low))
    behind = view[0] - cut.first + cut.unit.two
    high = p.past(Mux(behind < cut.unit.high, behind, cut.unit.high))
    string = Mux(cut.unit.context, views[1].string_words, views[0].string_words)
    inside = p.past((cut.y >= 0) & (cut.y < view[1]))
    new = p.past(move & valid[2])
    p.claim("a row's words are those of its unit inside the chunk and the map",
            o.words == Mux(inside & (high > low), high - low, 0)[:len(o.words)],
            new & dut.o.valid & (o.words != 0))
    p.claim("of two pixels, which has the first word, which the last",
            (o.begins == (o.two & (low == 0))) & (o.ends == (o.two & (high > p.past(string)))),
            new & dut.o.valid & (o.words != 0))
    p.claim("none is left out", dut.o.valid, new & inside & (high > low) & p.past(
        Mux(cut.unit.context, views[1].kernel_rows, views[0].kernel_rows) != 0))
    for n, row in ((2, rows[0]), (1, rows[1])):
        here = Mux(row.unit.context, views[1].chunk_words, views[0].chunk_words)
        rows_words = Mux(row.unit.context, views[1].rows_words, views[0].rows_words)
        none = Mux(row.unit.context, views[1].kernel_rows, views[0].kernel_rows) == 0
        lower, upper = (-row.first, here - row.first + row.unit.two)
        if n == 2:
            lower = Mux(lower > row.unit.low, lower, row.unit.low)
            upper = Mux(upper < row.unit.high, upper, row.unit.high)
        p.invariant((row.low == lower) & (row.high == upper) & (
            row.y_inside == ((row.y >= 0) & (row.y < rows_words) & ~none)), valid[n])
    # rows of a unit: as many as it has
    kernel = Mux(i.context, views[1].kernel_rows, views[0].kernel_rows)[:8]
    number = p.register(8, "number")
    with m.If(move & dut.i.valid):
        m.d.sync += number.eq(Mux(dut.i.ready, 0, number + 1))
    last = Mux(kernel == 0, 0, kernel - 1)[:8]
    p.assume("a kernel has at most 255 rows", Mux(
        i.context, views[1].kernel_rows, views[0].kernel_rows) < 256)
    p.claim("a unit is taken with the last of its rows", dut.i.ready == (number == last),
            dut.i.valid & move)
    offered = p.register(1, "offered")
    m.d.sync += offered.eq(dut.i.valid & ~dut.i.ready)
    for index in range(2):
        register = p.signal(f"rows_last_{index}")
        p.invariant(register == Mux(views[index].kernel_rows == 0, 0,
                                    views[index].kernel_rows - 1)[:8], up)
    p.invariant(p.signal("fresh") == (number == 0))
    p.invariant((p.signal("left") == (last - number)[:8]) & (number <= last),
                (number != 0) & dut.i.valid)
    p.invariant(up, number != 0)
    p.invariant(offered, number != 0)
    p.cover("a unit of three rows", get & (p.count(dut.o.valid & dut.o.ready) == 2))


@proof(Lanes, reach=14, bugs=[
    Bug("a result is replaced before it is free", "next_enable.eq(~self.hold & (~ends | "
        "next_vacant))", "next_enable.eq(~self.hold)"),
    Bug("a result comes before its last addition", "Mux(enable & final.end, 0, vacant",
        "Mux(final.end, 0, vacant"),
    Bug("freed without an owner", "0, vacant | self.free)", "0, 1)"),
    Bug("moves while held", "next_enable.eq(~self.hold & (", "next_enable.eq(("),
    Bug("forgets what it wants while it stands", "i_valid.replicate(2), wanted))",
        "i_valid.replicate(2), 0))"),
    Bug("wants what is not there", "self.i_wants & self.i_valid.replicate(2)", "self.i_wants"),
    Bug("names the next row while it stands", "Mux(self.enable, self.i.row, tokens[0].row)",
        "self.i.row"),
    Bug("a unit begins with the sum before it", "clear.eq(next_enable & ends)",
        "clear.eq(next_enable & strobes[2].end)"),
])
def _lanes(p: Properties, block: type) -> None:
    """One result for each unit, in order, held until it is freed."""
    dut = p.add(block(MINUTE))
    put = dut.i_valid & dut.enable & dut.i.end
    p.assume("a token says which bank it reads", dut.i_wants == Mux(
        dut.i.add, Mux(dut.i.row[-1], 2, 1), 0))
    p.assume("only a result that is there is freed", dut.result_valid, dut.free)
    waiting, before, element, level = follow_one(
        p, put, dut.free, dut.i.context, dut.result_context, 5, "results: ")
    tokens = [p.view(TokenLayout(MINUTE), f"token_s{n}") for n in range(4)]
    strobes = [p.view(dict.fromkeys(("add", "double", "end"), 1), f"strobes_s{n}")
               for n in range(4)]
    in_stages(p, waiting, before, element, level, [
        (dut.result_valid, dut.result_context),
        *((strobes[n].end, tokens[n].context) for n in (3, 2, 1, 0))])
    p.invariant(p.signal("vacant") == ~dut.result_valid)
    p.claim("a result stays until it is freed", dut.result_valid,
            p.past(dut.result_valid & ~dut.free))
    held = p.past(dut.hold)
    p.claim("held means that nothing moves in the next cycle", ~dut.enable, held)
    p.claim("stands only for a reason", held | (dut.result_valid & strobes[3].end), ~dut.enable)
    p.invariant(dut.enable == (~held & (~strobes[3].end | ~dut.result_valid)))
    up = p.register(1, "up")
    p.m.d.sync += up.eq(1)
    p.claim("accumulators start at 0 after a reset and behind the end of each unit",
            p.signal("clear") == (~up | (dut.enable & strobes[3].end)))
    # the row that is read now: it is wanted, and named, in the cycle before
    row, upper = tokens[0].row, tokens[0].row[-1]
    up_before = p.past(up)
    p.claim("a row is wanted in the cycle before it is read, and each before it is read again",
            p.past(dut.wants) == Mux(strobes[0].add, Mux(upper, 2, 1), 0))
    p.claim("and is named then", p.past(dut.row) == row, strobes[0].add & up_before)
    p.claim("its pipeline moves as was said before", p.past(dut.next_enable) == dut.enable, up)
    p.invariant(up, strobes[0].add)
    p.invariant(p.signal("wanted") == Mux(strobes[0].add, Mux(upper, 2, 1), 0))
    p.claim("one bank at most is read", ~dut.wants.all())
    p.cover("two results wait", level == 5)


@proof(Group, reach=9, bugs=[
    Bug("the level ignores what leaves",
        "level + self.entry_valid - pop", "level + self.entry_valid"),
    Bug("offers nothing as an entry", "filled | self.entry_valid)", "1)"),
    Bug("a token says the other bank", "Cat(token.add & ~upper, token.add & upper)",
        "Cat(token.add & upper, token.add & ~upper)"),
    Bug("a popped entry is read again", "read.addr.eq(read.addr + pop)", "read.addr.eq(read.addr)"),
])
def _group(p: Properties, block: type) -> None:
    """The queue of entries: in order, none lost, told when one leaves."""
    dut = p.add(block(MINUTE))
    pop, filled = p.signal("i_take", "scanner"), p.signal("filled")
    held, freed = p.register(4, "held"), dut.entry_popped
    p.m.d.sync += held.eq(held + dut.entry_valid - freed)
    p.assume("no more entries than fit", held != MINUTE.fifo_depth, dut.entry_valid)
    given = Cat(dut.entry.as_value()[:4], dut.nonzero)
    seen = Cat(p.signal("i", "scanner")[:4], p.signal("nonzero", "scanner"))
    waiting, before, element, level = follow_one(
        p, dut.entry_valid, pop, given, seen, MINUTE.fifo_depth)
    p.claim("an entry that leaves is told in the next cycle", freed == p.past(pop))
    p.claim("the scanner is offered exactly what is inside", filled == (level != 0))
    p.invariant(level == p.signal("level"))
    p.invariant((held == level + freed) & (held <= MINUTE.fifo_depth))
    p.invariant(freed == p.past(pop))
    addresses = p.addresses("entries")
    p.invariant((addresses[0] - addresses[1])[:2] == level[:2])
    row = p.row("entries", (addresses[1] + before)[:2])
    p.invariant(Cat(row[:4], row[len(dut.entry.as_value()):]) == element, waiting)
    p.cover("it is full", level == MINUTE.fifo_depth)
    # what `lanes` assumes of its input
    layout = data.StructLayout({"token": TokenLayout(MINUTE), "wants": 2})
    for name, valid in (("first", "o__valid"), ("spare", "spare_valid")):
        held, there = p.view(layout, name, "skid"), p.signal(valid, "skid")
        says = held.wants == Mux(held.token.add, Mux(held.token.row[-1], 2, 1), 0)
        if name == "first":
            p.claim("a token says which bank it reads", says, there)
        p.invariant(says, there)


PROOFS = (_scanner, _scanner_wide, _pixel_walker, _row_cutter, _lanes, _group)
