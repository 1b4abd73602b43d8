# SPDX-License-Identifier: Apache-2.0
"""Proofs of DMA's address generators."""

from amaranth import *

from hw.dma.beats import Beats
from hw.dma.bursts import Bursts
from hw.dma.payloads import MAX_BURST, run
from hw.dma.region_check import RegionCheck
from hw.dma.run_walker import RunWalker
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one

__all__ = ["PROOFS", "inside"]

_WIDTH = 4
_SHIFT = 3
"""An AXI beat of 64 bits: 8 bytes."""


@proof(RunWalker, bugs=[
    Bug("a row too few", "row_left.eq(i.count_1 - 1)", "row_left.eq(i.count_1)"),
    Bug("last with every row", "o.last.eq((row_left == 0) & (repeat_left == 0))",
        "o.last.eq(row_left == 0)"),
    Bug("rows start at the first repeat again", "row_next.eq(repeat_next + job.step_1)",
        "row_next.eq(row_next + job.step_1)"),
    Bug("runs while the output waits", "with m.If(self.o.ready):\n            with m.If(row_left",
        "with m.If(valid):\n            with m.If(row_left"),
])
def _run_walker(p: Properties, block: type) -> None:
    """The starts of both loops, ``count_1 * count_2`` of them, the last one marked."""
    dut, m = p.add(block(_WIDTH)), p.m
    i, o = dut.i.payload, dut.o.payload
    p.assume("counts are at least 1", (i.count_1 != 0) & (i.count_2 != 0))
    job = Signal.like(i, name="given")
    j1, j2, under_way = (p.register(16, "j1"), p.register(16, "j2"), p.register(1, "under_way"))
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    row_ends, job_ends = j1 == job.count_1 - 1, j2 == job.count_2 - 1
    with m.If(put):
        m.d.sync += [job.eq(i), j1.eq(0), j2.eq(0), under_way.eq(1)]
    with m.Elif(get):
        m.d.sync += [j1.eq(Mux(row_ends, 0, j1 + 1)), j2.eq(j2 + row_ends)]
        with m.If(row_ends & job_ends):
            m.d.sync += under_way.eq(0)

    def at(first, second):
        return (job.start + second[:_WIDTH] * job.step_2 + first[:_WIDTH] * job.step_1)[:_WIDTH]

    p.claim("the address is start + j2 step_2 + j1 step_1", o.start == at(j1, j2), dut.o.valid)
    p.claim("last exactly on the last one", o.last == (row_ends & job_ends), dut.o.valid)
    p.claim("offers exactly what is under way", dut.o.valid == under_way)
    p.claim("the next transfer is taken only when the last run is", ~under_way | (get & o.last),
            put)
    p.claim("the next transfer is taken with the last run: no gap", dut.i.ready, get & o.last)
    p.claim("all else is the transfer's", Cat(o.length, o.beat_step, o.index, o.layer)
            == Cat(job.length, job.beat_step, job.index, job.layer), dut.o.valid)
    p.holds("output", dut.o)
    p.invariant((j1 < job.count_1) & (j2 < job.count_2), under_way)
    p.invariant(p.signal("row_left") == (job.count_1 - 1 - j1)[:16], under_way)
    p.invariant(p.signal("repeat_left") == (job.count_2 - 1 - j2)[:16], under_way)
    p.invariant(p.signal("row_next") == at(j1 + 1, j2), under_way)
    p.invariant(p.signal("repeat_next") == at(C(0, 16), j2 + 1), under_way)
    inner = p.view(job.shape(), "job")
    for name in ("step_1", "step_2", "count_1", "count_2", "length", "beat_step", "index",
                 "layer"):
        p.invariant(inner[name] == job[name], under_way)
    p.cover("a transfer of two by two runs ends",
            get & o.last & (job.count_1 == 2) & (job.count_2 == 2))


@proof(Beats, bugs=[
    Bug("a beat too many", "left.eq(i.length - 1)", "left.eq(i.length)"),
    Bug("last with every run", "self.o.payload.last.eq(final & (left == 0))",
        "self.o.payload.last.eq(left == 0)"),
    Bug("steps by one", "beat.eq(beat + step)", "beat.eq(beat + 1)"),
    Bug("steps while the output waits", "with m.If(self.o.ready):\n            m.d.sync += [beat",
        "with m.If(valid):\n            m.d.sync += [beat"),
])
def _beats(p: Properties, block: type) -> None:
    """``length`` beats of each run, ``beat_step`` apart, the last one of a transfer marked."""
    dut, m = p.add(block()), p.m
    i, o = dut.i.payload, dut.o.payload
    p.assume("a run has at least one beat", i.length != 0)
    job = Signal.like(i, name="given")
    n, under_way = p.register(16, "n"), p.register(1, "under_way")
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    ends = n == job.length - 1
    with m.If(put):
        m.d.sync += [job.eq(i), n.eq(0), under_way.eq(1)]
    with m.Elif(get):
        m.d.sync += [n.eq(n + 1), under_way.eq(~ends)]
    p.claim("the beat is start + n beat_step",
            o.beat == (job.start + n * job.beat_step)[:len(o.beat)], dut.o.valid)
    p.claim("last exactly on the last beat of a last run", o.last == (ends & job.last),
            dut.o.valid)
    p.claim("offers exactly what is under way", dut.o.valid == under_way)
    p.claim("the next run is taken only when the last beat is", ~under_way | (get & ends), put)
    p.claim("the next run is taken with the last beat: no gap", dut.i.ready, get & ends)
    p.claim("index and layer are the run's", Cat(o.index, o.layer) == Cat(job.index, job.layer),
            dut.o.valid)
    p.holds("output", dut.o)
    p.invariant(n < job.length, under_way)
    p.invariant(p.signal("left") == (job.length - 1 - n)[:16], under_way)
    p.invariant(p.signal("step") == job.beat_step, under_way)
    p.invariant(p.signal("final") == job.last, under_way)
    p.cover("a last run of three beats ends", get & o.last & (job.length == 3))


@proof(Bursts, reach=12, bugs=[
    Bug("merges across a boundary", "complete.eq(grown.last | (next_start[:block] == 0))",
        "complete.eq(grown.last)"),
    Bug("merges what is not contiguous", "~complete & (rest.start == next_start)", "~complete"),
    Bug("merges transfers", "complete.eq(grown.last | (next", "complete.eq((next"),
    Bug("a piece may be longer than its block", "ends.eq(rest.length <= room)",
        "ends.eq(rest.length <= room + 1)"),
    Bug("a burst is replaced while it waits",
        "                    & (~self.o.valid | self.o.ready)),", "),"),
])
def _bursts(p: Properties, block: type) -> None:
    """The beats of the runs, all of them and in order, in bursts that keep to their block."""
    dut, m = p.add(block(8 << _SHIFT)), p.m
    i, o = dut.i.payload, dut.o.payload
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    p.assume("a run has at least one beat", i.length != 0)
    continues, index, layer = (p.register(1, "continues"), Signal.like(i.index, name="of_index"),
                               Signal.like(i.layer, name="of_layer"))
    with m.If(put):
        m.d.sync += [continues.eq(~i.last), index.eq(i.index), layer.eq(i.layer)]
    p.assume("runs of a transfer have its index and layer",
             (i.index == index) & (i.layer == layer), continues)

    # one beat of one run is followed; `ahead`: beats that come before it
    rest, grown = p.view(run(32 - _SHIFT), "rest"), p.view(o.shape(), "grown")
    rest_valid, grown_valid = p.signal("rest_valid"), p.signal("grown_valid")
    held = p.register(17, "held")
    m.d.sync += held.eq(held + Mux(put, i.length, 0) - Mux(get, o.beats, 0))
    offset, pick = p.any(16), p.free(1)
    chosen, waiting = p.register(1, "chosen"), p.register(1, "waiting")
    ahead = p.register(17, "ahead")
    address, final = p.register(32 - _SHIFT, "address"), p.register(1, "final")
    its_index, its_layer = Signal.like(index, name="its_index"), Signal.like(layer,
                                                                              name="its_layer")
    with m.If(put & ~chosen & pick & (offset < i.length)):
        m.d.sync += [chosen.eq(1), waiting.eq(1), address.eq(i.start[_SHIFT:] + offset),
                     final.eq(i.last & (offset == i.length - 1)), its_index.eq(i.index),
                     its_layer.eq(i.layer),
                     ahead.eq(held - Mux(get, o.beats, 0) + offset)]
    with m.Elif(waiting & get):
        m.d.sync += [ahead.eq(ahead - o.beats), waiting.eq(ahead >= o.beats)]
    leaves = waiting & get & (ahead < o.beats)
    start = o.address[_SHIFT:]
    p.claim("any beat leaves at its address, in order", address == start + ahead, leaves)
    p.claim("with index and layer of its transfer",
            (its_index == o.index) & (its_layer == o.layer), leaves)
    p.claim("last exactly on the burst that ends a transfer",
            o.last == final, leaves & (ahead == o.beats - 1))
    p.claim("a transfer's last beat ends its burst", ahead == o.beats - 1, leaves & final)
    p.claim("no beat leaves that has not come", held >= o.beats, get)
    p.claim("1 to 16 beats", (o.beats >= 1) & (o.beats <= MAX_BURST), dut.o.valid)
    p.claim("never across a block of 16 beats (so never across 4 KB)",
            start[:4] + o.beats <= MAX_BURST, dut.o.valid)
    p.claim("addresses are multiples of the beat", o.address[:_SHIFT] == 0, dut.o.valid)
    p.holds("output", dut.o)

    o_beats, g_beats = Mux(dut.o.valid, o.beats, 0), Mux(grown_valid, grown.beats, 0)
    p.invariant(held == o_beats + g_beats + Mux(rest_valid, rest.length, 0))
    p.invariant(ahead < held, waiting)
    p.invariant((rest.length != 0), rest_valid)
    g_start, next_start = grown.address[_SHIFT:], p.signal("next_start")
    p.invariant((grown.beats >= 1) & (g_start[:4] + grown.beats <= MAX_BURST)
                & (grown.address[:_SHIFT] == 0) & (next_start == (g_start + grown.beats)[:29]),
                grown_valid)
    in_o, in_g = ahead < o_beats, (ahead >= o_beats) & (ahead < o_beats + g_beats)
    in_rest = waiting & ~in_o & ~in_g
    for here, place, first, beats, layout in (
            (waiting & in_o, start, 0, o.beats, o),
            (waiting & in_g, g_start, o_beats, grown.beats, grown),
            (in_rest, rest.start, o_beats + g_beats, rest.length, rest)):
        mine = ahead - first
        p.invariant(address == (place + mine)[:29], here)
        p.invariant((its_index == layout.index) & (its_layer == layout.layer), here)
        p.invariant(final == (layout.last & (mine == beats - 1)), here & (mine == beats - 1))
        p.invariant(~final, here & (mine != beats - 1))
    # what grows is the transfer's whose run waits, unless that has ended
    p.invariant((rest.index == grown.index) & (rest.layer == grown.layer),
                rest_valid & grown_valid & ~grown.last)
    p.invariant((index == rest.index) & (layer == rest.layer) & (continues == ~rest.last),
                rest_valid)
    p.invariant((index == grown.index) & (layer == grown.layer) & continues,
                grown_valid & ~grown.last & ~rest_valid)
    p.cover("runs merge into a burst", get & (o.beats == 5) & (p.count(put) > 1) & leaves
            & (offset == 0) & (ahead == 3))
    p.cover("a run is split", p.count(get) > p.count(put))


def inside(burst, base, limit, shift: int = _SHIFT):
    """Return whether all bytes of a burst are in a region."""
    return (burst.address >= base) & (burst.address + (burst.beats << shift) <= limit)


@proof(RegionCheck, bugs=[
    Bug("one byte too far", "(end <= self.limit)", "(end <= self.limit + 1)"),
    Bug("the first byte is outside", "burst.address >= self.base", "burst.address > self.base"),
    Bug("goes on after an error", "failed.eq(1), ", ""),
    Bug("the end wraps", "end = Signal(33)", "end = Signal(32)"),
    Bug("passes while stopped", "closed = self.stop | failed", "closed = failed"),
])
def _region_check(p: Properties, block: type) -> None:
    """Nothing outside the region passes; the first that would is reported, and closes."""
    code = 7
    dut, m = p.add(block(8 << _SHIFT, code)), p.m
    i, o = dut.i.payload, dut.o.payload
    base, limit = p.steady("base", dut.base), p.steady("limit", dut.limit)
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    bad = p.register(1, "bad")              # one that lies outside has come
    its_index, its_layer = (Signal.like(i.index, name="its_index"),
                            Signal.like(i.layer, name="its_layer"))
    good = put & ~bad & inside(i, base, limit)
    with m.If(put & ~good & ~bad):
        m.d.sync += [bad.eq(1), its_index.eq(i.index), its_layer.eq(i.layer)]
    waiting, before, element, level = follow_one(p, good, get, i, o, 2, "inside: ")
    p.claim("what passes lies in the region", inside(o, base, limit), dut.o.valid)
    p.holds("output", dut.o)
    reports = p.count(dut.error.code != 0)
    p.claim("at most one report, with the code", (reports == 0) & (dut.error.code == code),
            dut.error.code != 0)
    p.claim("it is the first burst outside",
            bad & (dut.error.index == its_index) & (dut.error.layer == its_layer),
            dut.error.code != 0)
    quiet = bad & ~dut.o.valid & ~dut.stop & (reports == 0)
    p.claim("a burst outside is reported when those before it have passed",
            dut.error.code != 0, p.past(quiet) & quiet & p.past(p.past(quiet)))
    p.claim("while stopped nothing new is offered", ~dut.o.valid,
            p.past(dut.stop & (~dut.o.valid | dut.o.ready)))
    valid, failed, end = p.signal("valid"), p.signal("failed"), p.signal("end")
    burst = p.view(o.shape(), "burst")
    in_first = valid & inside(burst, base, limit) & ~failed
    p.invariant(end == burst.address + (burst.beats << _SHIFT), valid)
    p.invariant(level == dut.o.valid + in_first)
    p.invariant(Mux((before == 0) & dut.o.valid, o.as_value(), burst.as_value()) == element,
                waiting)
    p.invariant(bad, failed)
    p.invariant(bad | inside(burst, base, limit), valid)
    p.invariant(failed | (valid & ~inside(burst, base, limit)), bad)
    p.invariant((its_index == burst.index) & (its_layer == burst.layer), bad & ~failed)
    p.invariant((dut.error.index == its_index) & (dut.error.layer == its_layer)
                & (dut.error.code == code) & (reports == 0), dut.error.code != 0)
    p.invariant((reports == 0) & (dut.error.code == 0), ~failed)
    p.invariant((reports != 0) | (dut.error.code != 0), failed)
    p.cover("one is reported after one has passed", (dut.error.code != 0) & p.count(get).any())
    p.cover("the highest burst passes", get & (limit == 0xFFFFFFFF) & (o.address >= 0xFFFFFF00)
            & (base > 0))


PROOFS = (_run_walker, _beats, _bursts, _region_check)
