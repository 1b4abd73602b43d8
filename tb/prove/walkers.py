# SPDX-License-Identifier: Apache-2.0
"""Proofs of DMA's address generators."""

from amaranth import *
from amaranth.lib import data

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
    Bug("last with every row", "o.last.eq(row_ends & repeat_ends)", "o.last.eq(row_ends)"),
    Bug("rows start at the first repeat again", "row_next.eq(repeat_next + job.step_1)",
        "row_next.eq(row_next + job.step_1)"),
    Bug("runs while the output waits", "with m.If(self.o.ready):\n            with m.If(~row_ends",
        "with m.If(valid):\n            with m.If(~row_ends"),
    Bug("only the first row of a single run ends", "row_ends.eq(single)", "row_ends.eq(0)"),
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
    p.invariant((p.signal("row_ends") == row_ends) & (p.signal("repeat_ends") == job_ends)
                & (p.signal("single") == (job.count_1 == 1)), under_way)
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
    Bug("last with every run", "self.o.payload.last.eq(final & ends)",
        "self.o.payload.last.eq(ends)"),
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
    p.invariant(p.signal("ends") == ends, under_way)
    p.invariant(p.signal("step") == job.beat_step, under_way)
    p.invariant(p.signal("final") == job.last, under_way)
    p.cover("a last run of three beats ends", get & o.last & (job.length == 3))


@proof(Bursts, reach=14, bugs=[
    Bug("merges across a boundary", "complete.eq(final | (reached == 0))", "complete.eq(final)"),
    Bug("merges what is not contiguous", "arriving.follows.eq(arriving.run.start == behind)",
        "arriving.follows.eq(1)"),
    Bug("merges transfers", "complete.eq(final | (reached == 0))", "complete.eq(reached == 0)"),
    Bug("a piece may be longer than its block", "piece.eq(Mux(i.length <= room, i.length, room))",
        "piece.eq(Mux(i.length <= room + 1, i.length, room))"),
    Bug("a run ends with its second piece", "ends.eq(left <= MAX_BURST)", "ends.eq(1)"),
    Bug("a run follows where the one before began",
        "behind.eq(arriving.run.start + arriving.run.length)", "behind.eq(arriving.run.start)"),
    Bug("a burst is replaced while it waits",
        "rest.follows)) & free)", "rest.follows)))"),
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

    # beats that have come and gone are counted, and one of one run is followed, by its number
    # a run is in the skid, two places, or the rest that pieces are taken of
    layout = data.StructLayout({"run": run(32 - _SHIFT), "follows": 1})
    places = [p.view(layout, *name) for name in (
        ("rest",), ("first", "skid"), ("spare", "skid"))]
    valid = [p.signal(*name) for name in (
        ("rest_valid",), ("o__valid", "skid"), ("spare_valid", "skid"))]
    grown, grown_valid = p.view(o.shape(), "grown"), p.signal("grown_valid")
    came, gone, number = (p.register(18, name) for name in ("came", "gone", "number"))
    m.d.sync += [came.eq(came + Mux(put, i.length, 0)), gone.eq(gone + Mux(get, o.beats, 0))]
    ahead = (number - gone)[:18]
    offset, pick = p.any(16), p.free(1)
    chosen, waiting = p.register(1, "chosen"), p.register(1, "waiting")
    address, final = p.register(32 - _SHIFT, "address"), p.register(1, "final")
    its_index, its_layer = Signal.like(index, name="its_index"), Signal.like(layer,
                                                                              name="its_layer")
    with m.If(put & ~chosen & pick & (offset < i.length)):
        m.d.sync += [chosen.eq(1), waiting.eq(1), address.eq(i.start[_SHIFT:] + offset),
                     final.eq(i.last & (offset == i.length - 1)), its_index.eq(i.index),
                     its_layer.eq(i.layer), number.eq(came + offset)]
    with m.Elif(waiting & get):
        m.d.sync += waiting.eq(ahead >= o.beats)
    leaves = waiting & get & (ahead < o.beats)
    start = o.address[_SHIFT:]
    p.claim("any beat leaves at its address, in order", address == start + ahead, leaves)
    p.claim("with index and layer of its transfer",
            (its_index == o.index) & (its_layer == o.layer), leaves)
    p.claim("last exactly on the burst that ends a transfer",
            o.last == final, leaves & (ahead == o.beats - 1))
    p.claim("a transfer's last beat ends its burst", ahead == o.beats - 1, leaves & final)
    p.claim("no beat leaves that has not come", (came - gone)[:18] >= o.beats, get)
    p.claim("1 to 16 beats", (o.beats >= 1) & (o.beats <= MAX_BURST), dut.o.valid)
    p.claim("never across a block of 16 beats (so never across 4 KB)",
            start[:4] + o.beats <= MAX_BURST, dut.o.valid)
    p.claim("addresses are multiples of the beat", o.address[:_SHIFT] == 0, dut.o.valid)
    p.holds("output", dut.o)

    p.invariant(valid[1], valid[2])
    g_start, complete = grown.address[_SHIFT:], p.signal("complete")
    stages = [(dut.o.valid, start, o.beats, o), (grown_valid, g_start, grown.beats, grown),
              *((there, one.run.start, one.run.length, one.run)
                for there, one in zip(valid, places, strict=True))]
    take, emit, piece = p.signal("take"), p.signal("emit"), p.signal("piece")
    pop = ~valid[1] | p.signal("o__ready", "skid")
    # beats that have reached each stage, or one behind it
    crossed = [gone, *(p.register(18, "crossed") for _ in range(4)), came]
    moved = [Mux(emit, grown.beats, 0), Mux(take, piece, 0),
             Mux(p.signal("o__ready", "skid") & valid[1], places[1].run.length, 0),
             Mux(pop, Mux(valid[2], places[2].run.length, Mux(put, i.length, 0)), 0)]
    m.d.sync += [count.eq(count + more) for count, more in zip(crossed[1:-1], moved, strict=True)]
    # where the end of each run is, and in which of the stages the beat, how far in it
    ends = [None, *(p.register(29, "end") for _ in range(4))]
    with m.If(~valid[2]):
        m.d.sync += ends[4].eq(i.start[_SHIFT:] + i.length)
    with m.If(pop):
        m.d.sync += ends[3].eq(Mux(valid[2], ends[4], i.start[_SHIFT:] + i.length))
    with m.If(p.signal("o__ready", "skid")):
        m.d.sync += ends[2].eq(ends[3])
    with m.If(take):
        m.d.sync += ends[1].eq(places[0].run.start + piece)
    at, mine = p.register(5, "at"), p.register(17, "mine")
    with m.If(put & ~chosen & pick & (offset < i.length)):
        m.d.sync += [at.eq(Mux(pop, 1 << 3, 1 << 4)), mine.eq(offset)]
    with m.Elif((at[0] & get) | (at[1] & emit) | (at[3] & valid[1] & pop & p.signal(
            "o__ready", "skid")) | (at[4] & pop)):
        m.d.sync += at.eq(at >> 1)
    with m.Elif(at[2] & take & (mine < piece)):
        m.d.sync += [at.eq(at >> 1),
                     mine.eq(mine + Mux(grown_valid & p.signal("merges"), grown.beats, 0))]
    with m.Elif(at[2] & take):
        m.d.sync += mine.eq(mine - piece)
    p.invariant(at == Mux(waiting, at & -at, 0))
    p.invariant(at.any() == waiting)
    most = 0
    for n, (there, place, beats, layout) in enumerate(stages):
        p.invariant(there & (mine < beats) & (number == (crossed[n] + mine)[:18]), at[n])
        p.invariant(crossed[n + 1] == (crossed[n] + Mux(there, beats, 0))[:18])
        if n:
            before = (crossed[n] - gone)[:18]
            p.invariant((before >= Mux(stages[0][0], o.beats, 0)) & (before <= most))
        most += MAX_BURST if n < 2 else 1 << 16
        p.invariant(address == (place + mine)[:29], at[n])
        p.invariant((its_index == layout.index) & (its_layer == layout.layer), at[n])
        p.invariant(final == (layout.last & (mine == beats - 1)), at[n])
        p.invariant(beats != 0, there)
        if n:
            p.invariant(ends[n] == (place + beats)[:29], there)
    # the piece that is next is what is left, up to the end of the block
    rest, room = places[0].run, Signal(5)
    m.d.comb += room.eq(MAX_BURST - rest.start[:4])
    p.invariant((p.signal("ends") == (rest.length <= room))
                & (piece == Mux(rest.length <= room, rest.length, room)), valid[0])
    p.invariant((g_start[:4] + grown.beats <= MAX_BURST) & (grown.address[:_SHIFT] == 0),
                grown_valid)
    p.invariant(complete == (grown.last | (ends[1][:4] == 0)), grown_valid)
    # each knows whether it follows the one before it, and is of the same transfer unless that ended
    for n in range(2, 5):
        older = [stages[k][0] for k in range(1, n)]
        for k in range(1, n):
            next_to = stages[n][0] & stages[k][0] & ~Cat(C(0, 1), *older[k:]).any()
            # of a run whose piece was taken, the rest begins a block
            fresh = ~complete if (n, k) == (2, 1) else 1
            p.invariant(places[n - 2].follows == (stages[n][1] == ends[k]), next_to & fresh)
            p.invariant((stages[n][3].index == stages[k][3].index)
                        & (stages[n][3].layer == stages[k][3].layer),
                        next_to & ~stages[k][3].last)
    for k in range(1, 5):
        newest = stages[k][0] & ~Cat(C(0, 1), *(stages[n][0] for n in range(k + 1, 5))).any()
        p.invariant(p.signal("behind") == ends[k], newest)
        p.invariant((continues == ~stages[k][3].last) & ((index == stages[k][3].index)
                    & (layer == stages[k][3].layer) | ~continues), newest)
    p.cover("runs merge into a burst", get & (o.beats == 5) & (p.count(put) > 1) & leaves
            & (offset == 0) & (ahead == 3))
    p.cover("a run is split", p.count(get) > p.count(put))


def inside(burst, base, limit, shift: int = _SHIFT):
    """Return whether all bytes of a burst are in a region."""
    return (burst.address >= base) & (burst.address + (burst.beats << shift) <= limit)


@proof(RegionCheck, bugs=[
    Bug("one byte too far", "(end <= self.limit)", "(end <= self.limit + 1)"),
    Bug("the first byte is outside", "burst.address >= self.base", "burst.address > self.base"),
    Bug("goes on after an error", "m.d.sync += failed.eq(1)", "pass"),
    Bug("the end wraps", "end = Signal(33, ", "end = Signal(32, "),
    Bug("reports the burst behind", "with m.If(~failed):", "with m.If(1):"),
    Bug("reports in every cycle", "Mux(failed & ~told,", "Mux(failed,"),
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
    told = p.signal("told")
    p.invariant((dut.error.index == its_index) & (dut.error.layer == its_layer), failed)
    p.invariant((dut.error.code == 0) | (dut.error.code == code))
    p.invariant((reports == 0) & (dut.error.code == 0), ~told)
    p.invariant((reports != 0) ^ (dut.error.code != 0), told)
    p.invariant(failed, told | p.past(quiet))
    p.invariant(told, p.past(quiet & p.past(quiet)))
    p.cover("one is reported after one has passed", (dut.error.code != 0) & p.count(get).any())
    p.cover("the highest burst passes", get & (limit == 0xFFFFFFFF) & (o.address >= 0xFFFFFF00)
            & (base > 0))


PROOFS = (_run_walker, _beats, _bursts, _region_check)
