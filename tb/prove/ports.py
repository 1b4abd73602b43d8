# SPDX-License-Identifier: Apache-2.0
"""Proofs of the AXI4 master: read port and write port."""

from amaranth import *

from hw.dma.payloads import BURST, MAX_BURST
from hw.dma.read_port import ReadPort
from hw.dma.write_port import WritePort
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one
from tb.prove.walkers import inside

__all__ = ["PROOFS", "in_queue", "queue_sound"]

_OUTSTANDING = 2


def _checked(p: Properties, dut, put, burst):
    """Assume what the port may; return the strobe of bursts that are to be issued."""
    base, limit = p.steady("base", dut.base), p.steady("limit", dut.limit)
    p.assume("a burst has 1 to 16 beats", (burst.beats >= 1) & (burst.beats <= MAX_BURST), put)
    bad = p.register(1, "bad")
    good = put & ~bad & inside(burst, base, limit, 0)
    p.m.d.sync += bad.eq(bad | (put & ~good))
    first, passed = p.view(BURST, "burst", "check"), p.view(BURST, "o__payload", "check")
    first_valid, passed_valid = p.signal("valid", "check"), p.signal("o__valid", "check")
    failed = p.signal("failed", "check")
    in_first = first_valid & inside(first, base, limit, 0) & ~failed
    p.invariant(p.signal("end", "check") == first.address + first.beats, first_valid)
    p.invariant(bad, failed)
    p.invariant(bad | inside(first, base, limit, 0), first_valid)
    p.invariant(failed | (first_valid & ~inside(first, base, limit, 0)), bad)
    for valid, one in ((first_valid, first), (passed_valid, passed)):
        p.invariant((one.beats >= 1) & (one.beats <= MAX_BURST), valid)
    p.invariant(inside(passed, base, limit, 0), passed_valid)
    return good, in_first, first, passed_valid, passed, (base, limit)


def queue_sound(p: Properties, path: str, depth: int) -> Signal:
    """Invariants of a queue inside; return its level."""
    level = p.signal("level", path)
    p.invariant(level <= depth)
    p.invariant(p.signal("not_empty", path) == (level != 0))
    p.invariant(p.signal("not_full", path) == (level != depth))
    bits = len(p.signal("head", path))
    p.invariant((p.signal("tail", path) - p.signal("head", path))[:bits] == level[:bits])
    return level


def in_queue(p: Properties, path: str, place) -> Signal:
    head = p.signal("head", path)
    return p.row(f"{path}.memory", (head + place)[:len(head)])


@proof(ReadPort, k=1, reach=14, bugs=[
    Bug("one too many under way", "free = (~axi.arvalid | axi.arready) & room",
        "free = ~axi.arvalid | axi.arready"),
    Bug("the address changes while it waits", "free = (~axi.arvalid | axi.arready) &", "free ="),
    Bug("beats go to the other client", "(self.o_fetch, to_fetch), (self.o_load, ~to_fetch)",
        "(self.o_load, to_fetch), (self.o_fetch, ~to_fetch)"),
    Bug("a beat is taken by whichever client is ready", "Mux(to_fetch, self.o_fetch.ready, "
        "self.o_load.ready)", "(self.o_fetch.ready | self.o_load.ready)"),
    Bug("an owner leaves with every beat", "owner.o.ready.eq(beat & axi.rlast)",
        "owner.o.ready.eq(beat)"),
    Bug("idle while memory owes data", "~axi.arvalid & ~owners.o.valid & ~owner.o.valid",
        "~axi.arvalid & ~owners.o.valid"),
    Bug("load goes before fetch", "self.i_load.ready.eq(check.i.ready & ~fetch)",
        "self.i_load.ready.eq(check.i.ready)"),
])
def _read_port(p: Properties, block: type) -> None:
    """Bursts in order, at most ``outstanding`` under way, each beat to who asked for it."""
    dut, m = p.add(block(8, _OUTSTANDING)), p.m
    axi = dut.axi
    took_fetch, took_load = (s.valid & s.ready for s in (dut.i_fetch, dut.i_load))
    p.claim("one burst is taken at a time, fetch first", ~dut.i_fetch.valid, took_load)
    burst = BURST(Mux(dut.i_fetch.valid, dut.i_fetch.payload.as_value(),
                      dut.i_load.payload.as_value()))
    put = took_fetch | took_load
    good, in_first, first, passed_valid, passed, (base, limit) = _checked(p, dut, put, burst)
    asked, beat, last = axi.arvalid & axi.arready, axi.rvalid & axi.rready, axi.rlast
    waiting, before, fetch, level = follow_one(
        p, good, beat & last, took_fetch, dut.o_fetch.valid, _OUTSTANDING + 2, "owners: ")
    # owners wait in the queue, then in the skid
    queued = queue_sound(p, "owners", _OUTSTANDING)
    in_out, in_spare = p.signal("o__valid", "owner"), p.signal("spare_valid", "owner")
    p.invariant(in_out, in_spare)
    next_up = in_out + in_spare
    owners = queued + next_up
    p.invariant(level == owners + passed_valid + in_first)
    p.invariant(Mux(before == 0, p.signal("o__payload", "owner"), p.signal("spare", "owner"))
                == fetch, waiting & (before < next_up))
    p.invariant(in_queue(p, "owners", before - next_up) == fetch,
                waiting & (before >= next_up) & (before < owners))
    in_passed = (before == owners) & passed_valid
    p.invariant(passed.last == fetch, waiting & in_passed)
    p.invariant(first.last == fetch, waiting & (before >= owners) & ~in_passed)

    # what memory owes
    due = p.register(3, "due")
    m.d.sync += due.eq(due + asked - (beat & last))
    p.assume("memory answers only what was asked for", due != 0, axi.rvalid)
    sent = Cat(axi.rdata, axi.rresp, axi.rlast)
    p.assume("memory's data hold until taken", axi.rvalid & (sent == p.past(sent)),
             p.past(axi.rvalid & ~axi.rready))
    p.invariant(owners == axi.arvalid + due)
    under_way = p.signal("under_way")
    p.invariant((under_way == owners + p.signal("ended")) & (under_way <= _OUTSTANDING))
    p.invariant(p.signal("room") == (under_way != _OUTSTANDING))
    outputs = (dut.o_fetch, dut.o_load)
    p.claim("a beat is for one client", ~(dut.o_fetch.valid & dut.o_load.valid))
    p.claim("a beat is taken when its client takes it, and only then",
            beat == Cat(o.valid & o.ready for o in outputs).any())
    for output in outputs:
        p.claim("any beat leaves as it came, with its error", axi.rvalid & (
            output.payload.as_value() == Cat(axi.rdata, axi.rresp[1])), output.valid)
    p.claim("a beat waits for its client alone: its owner is known",
            Cat(o.valid for o in outputs).any(), axi.rvalid)
    p.invariant(in_out, due != 0)
    p.claim("a beat is told in the next cycle", dut.beat == p.past(beat))
    p.claim("bursts under way are bounded", due + axi.arvalid <= _OUTSTANDING)
    p.claim("idle only when nothing is under way", ~axi.arvalid & (due == 0), dut.idle)
    there = Cat(axi.araddr, axi.arlen)
    p.claim("an address holds until taken", axi.arvalid & (there == p.past(there)),
            p.past(axi.arvalid & ~axi.arready))
    p.claim("what is issued lies in the region",
            (axi.araddr >= base) & (axi.araddr + axi.arlen + 1 <= limit), axi.arvalid)
    p.holds("fetch", dut.o_fetch)
    p.holds("load", dut.o_load)
    p.cover("bursts of both clients end", p.count(beat & last & dut.o_fetch.valid).any()
            & p.count(beat & last & dut.o_load.valid).any())


@proof(WritePort, k=1, reach=14, bugs=[
    Bug("one too many under way", "awready) & answers.i.ready", "awready) & lengths.i.ready"),
    Bug("a beat too many", "ends.eq(sent + 1 == ", "ends.eq(sent == "),
    Bug("any first beat is a burst", "Mux(first, length.o.payload.single, ends)",
        "first | ends"),
    Bug("last stays behind", "sent.eq(Mux(last, 0, sent + 1))", "sent.eq(sent + 1)"),
    Bug("data before its address", "axi.wvalid.eq(self.i_data.valid & length.o.valid)",
        "axi.wvalid.eq(self.i_data.valid & (check.o.valid | length.o.valid))"),
    Bug("data are replaced while they wait", "self.i_data.ready.eq(length.o.valid & axi.wready)",
        "self.i_data.ready.eq(length.o.valid)"),
    Bug("any beat that is offered is counted", "self.beat.eq(give)", "self.beat.eq(axi.wvalid)"),
    Bug("done with every burst", "axi.bvalid & answers.o.payload", "axi.bvalid"),
    Bug("idle before the answer", "~answers.o.valid & ~axi.awvalid", "~axi.awvalid"),
])
def _write_port(p: Properties, block: type) -> None:
    """Bursts in order, each with its beats, the last marked, and done when answered."""
    dut, m = p.add(block(8, _OUTSTANDING)), p.m
    axi, burst = dut.axi, dut.i_burst.payload
    put = dut.i_burst.valid & dut.i_burst.ready
    good, in_first, first, passed_valid, passed, (base, limit) = _checked(p, dut, put, burst)
    sent, wrote = axi.wvalid & axi.wready, axi.wvalid & axi.wready & axi.wlast
    accepted = axi.awvalid & axi.awready
    # bursts with their address taken / data written, less those answered
    addressed, written = p.register(3, "addressed"), p.register(3, "written")
    m.d.sync += [addressed.eq(addressed + accepted - axi.bvalid),
                 written.eq(written + wrote - axi.bvalid)]
    p.assume("memory answers only what it was given", (addressed != 0) & (written != 0),
             axi.bvalid)
    number = p.register(4, "number")        # of the beat in its burst
    with m.If(sent):
        m.d.sync += number.eq(Mux(axi.wlast, 0, number + 1))

    queued, answers = (queue_sound(p, name, _OUTSTANDING) for name in ("lengths", "answers"))
    # lengths leave their queue through a skid
    begun, spared = (p.signal(name, "length") for name in ("o__valid", "spare_valid"))
    p.invariant(begun, spared)
    lengths = queued + begun + spared
    waiting, before, length, level = follow_one(
        p, good, wrote, (burst.beats - 1)[:4], number, _OUTSTANDING + 3, "data: ")
    p.invariant(level == lengths + passed_valid + in_first)
    queueing, in_passed = before < lengths, (before == lengths) & passed_valid
    behind = in_queue(p, "lengths", (before - begun - spared)[:2])
    held, spare = p.signal("first", "length"), p.signal("spare", "length")
    of_place = Mux(begun & (before == 0), held[:4], Mux(spared & (before == 1), spare[:4], behind))
    p.invariant(held[4] == (held[:4] == 0), begun)
    p.invariant(spare[4] == (spare[:4] == 0), spared)
    p.invariant(of_place == length, waiting & queueing)
    p.invariant((passed.beats - 1)[:4] == length, waiting & ~queueing & in_passed)
    p.invariant((first.beats - 1)[:4] == length, waiting & ~queueing & ~in_passed)
    inner = p.signal("sent")
    p.invariant(inner == number)
    p.invariant(inner <= held[:4], begun)
    p.invariant(begun, inner != 0)
    p.invariant(p.signal("first") == (inner == 0))
    p.invariant(p.signal("ends") == (inner == held[:4]), inner != 0)

    told, at, last, bursts = follow_one(
        p, good, axi.bvalid, burst.last, p.signal("o__payload", "answers"), _OUTSTANDING + 2,
        "answers: ")
    p.invariant(bursts == answers + passed_valid + in_first)
    here, passing = at < answers, (at == answers) & passed_valid
    p.invariant(in_queue(p, "answers", at) == last, told & here)
    p.invariant(passed.last == last, told & ~here & passing)
    p.invariant(first.last == last, told & ~here & ~passing)
    p.invariant(answers == addressed + axi.awvalid)
    p.invariant(answers == lengths + written)
    p.claim("done when the last burst of a transfer is answered, and only then",
            dut.done == p.past(axi.bvalid & p.signal("o__payload", "answers")))
    p.holds("data", dut.i_data, claimed=False)
    p.claim("a beat is taken when it is written, and only then",
            sent == (dut.i_data.valid & dut.i_data.ready))
    p.claim("any beat leaves as it came", axi.wdata == dut.i_data.payload, axi.wvalid)
    p.claim("a beat is told in the next cycle", dut.beat == p.past(sent))

    p.claim("data only behind their address", addressed + axi.awvalid > written, axi.wvalid)
    p.claim("bursts under way are bounded", addressed + axi.awvalid <= _OUTSTANDING)
    p.claim("idle only when nothing is under way", ~axi.awvalid & (addressed == 0) & ~axi.wvalid,
            dut.idle)
    there, data = Cat(axi.awaddr, axi.awlen), Cat(axi.wdata, axi.wlast)
    p.claim("an address holds until taken", axi.awvalid & (there == p.past(there)),
            p.past(axi.awvalid & ~axi.awready))
    p.claim("data hold until taken", axi.wvalid & (data == p.past(data)),
            p.past(axi.wvalid & ~axi.wready))
    p.invariant((axi.awaddr >= base) & (axi.awaddr + axi.awlen + 1 <= limit), axi.awvalid)
    p.claim("what is issued lies in the region",
            (axi.awaddr >= base) & (axi.awaddr + axi.awlen + 1 <= limit), axi.awvalid)
    p.cover("two bursts, the second of two beats, are answered", p.count(axi.bvalid & (
        p.count(sent) == 3)).any())


PROOFS = (_read_port, _write_port)
