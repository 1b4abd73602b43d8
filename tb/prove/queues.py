# SPDX-License-Identifier: Apache-2.0
"""Proofs of what stores and hands on: queue, skid, gate, tags."""

from amaranth import *

from hw.control.gate import Gate
from hw.conv.tag_store import TAG_DEPTH, TagStore
from hw.dma.half_skid import HalfSkid
from hw.dma.queue import Queue
from hw.dma.skid import Skid
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties

__all__ = ["PROOFS"]

_BITS = 2
_DEPTH = 4


def follow_one(p: Properties, put, get, given, taken, depth: int, text: str = ""):
    """Follow one element, whichever, through something that holds up to ``depth`` in order.

    Return whether it is inside, how many are before it, its payload, and how many are inside.
    """
    m = p.m
    pick = p.free(1)            # in any cycle, the element that enters may be the one
    chosen, waiting = p.register(1, "chosen"), p.register(1, "inside")
    level = p.register(range(depth + 2), "count")
    before = p.register(range(depth + 2), "before")
    payload = Value.cast(given)
    element = p.register(len(payload), "element")
    m.d.sync += level.eq(level + put - get)
    with m.If(put & pick & ~chosen):
        m.d.sync += [chosen.eq(1), waiting.eq(1), element.eq(payload), before.eq(level - get)]
    with m.Elif(waiting & get):
        m.d.sync += [before.eq(before - 1), waiting.eq(before != 0)]
    leaves = waiting & get & (before == 0)
    p.claim(f"{text}any element leaves as it came, after those before it and only once",
            Value.cast(taken) == element, leaves)
    p.claim(f"{text}nothing leaves that has not come", level != 0, get)
    p.claim(f"{text}no more are inside than fit", level <= depth)
    p.invariant(before < level, waiting)
    p.cover(f"{text}an element comes and leaves behind others", leaves & (p.count(get) > 1))
    return waiting, before, element, level


def in_stages(p: Properties, waiting, before, element, level, stages) -> None:
    """Invariants of a pipeline: an element is in one of the stages.

    ``stages``: strobe and payload of each, the oldest first.
    """
    place, found = C(0), C(0)
    for here, payload in stages:
        p.invariant(payload == element, waiting & here & (before == place))
        found = found | (here & (before == place))
        place = place + here
    p.invariant(level == place)
    p.invariant(found, waiting)


@proof(Queue, k=1, bugs=[
    Bug("full one too late", "not_full.eq(self.level != self.depth - 1)", "not_full.eq(1)"),
    Bug("empty one too late", "not_empty.eq(self.level != 1)", "not_empty.eq(1)"),
    Bug("the head moves with the tail", "with m.If(get):", "with m.If(put):"),
    Bug("a put beside a get is not written", "write.en.eq(put)", "write.en.eq(put & ~get)"),
])
def _queue(p: Properties, block: type) -> None:
    """First in, first out; nothing lost, doubled or changed; ``level`` is right."""
    dut = p.add(block(_BITS, _DEPTH))
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    waiting, before, element, level = follow_one(
        p, put, get, dut.i.payload, dut.o.payload, _DEPTH)
    head, tail = p.signal("head"), p.signal("tail")
    p.invariant(p.row("memory", (head + before)[:len(head)]) == element, waiting)
    p.invariant((tail - head)[:len(head)] == level[:len(head)])
    p.claim("level counts what is inside", dut.level == level)
    p.claim("takes exactly while there is room", dut.i.ready == (level != _DEPTH))
    p.claim("offers exactly while something is inside", dut.o.valid == (level != 0))
    p.holds("output", dut.o)
    p.cover("it is full", level == _DEPTH)


@proof(Skid, k=1, bugs=[
    Bug("takes while the spare register is full", "self.i.ready.eq(~spare_valid)",
        "self.i.ready.eq(~spare_valid | self.o.valid)"),
    Bug("the spare payload stays",
        "self.o.valid.eq(self.i.valid | spare_valid), spare_valid.eq(0)]",
        "self.o.valid.eq(self.i.valid | spare_valid)]"),
    Bug("what comes while the output waits is lost", "spare_valid.eq(1)", "spare_valid.eq(0)"),
    Bug("the spare register loads while it is full", "with m.If(~spare_valid):", "with m.If(1):"),
])
def _skid(p: Properties, block: type) -> None:
    """Hands on in order, whatever either side does; one transfer a cycle."""
    dut = p.add(block(_BITS))
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    waiting, before, element, level = follow_one(p, put, get, dut.i.payload, dut.o.payload, 2)
    spare, spare_valid = p.signal("spare"), p.signal("spare_valid")
    p.invariant(level == dut.o.valid + spare_valid)
    p.invariant(dut.o.valid, spare_valid)
    p.invariant(Mux(before == 0, dut.o.payload, spare) == element, waiting)
    p.holds("output", dut.o)
    p.claim("ready comes from a register: it takes while the spare is free",
            dut.i.ready == ~spare_valid)
    p.claim("what came in the cycle before is offered", dut.o.valid, p.past(put))
    p.cover("both registers are full", level == 2)


@proof(HalfSkid, k=1, bugs=[
    Bug("takes while it is full", "self.i.ready.eq(~self.o.valid)", "self.i.ready.eq(1)"),
    Bug("what waits is replaced", "with m.If(~self.o.valid):", "with m.If(self.i.valid):"),
    Bug("gives twice", "self.o.valid.eq(0)", "self.o.valid.eq(1)"),
])
def _half_skid(p: Properties, block: type) -> None:
    """Hands on in order, whatever either side does; one transfer every second cycle."""
    dut = p.add(block(_BITS))
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    waiting, _, element, level = follow_one(p, put, get, dut.i.payload, dut.o.payload, 1)
    p.invariant(level == dut.o.valid)
    p.invariant(dut.o.payload == element, waiting)
    p.holds("output", dut.o)
    p.claim("ready comes from a register: it takes while it is empty",
            dut.i.ready == ~dut.o.valid)
    p.claim("what came in the cycle before is offered", dut.o.valid, p.past(put))
    p.cover("it takes again after a transfer", p.past(get) & put)


@proof(Gate, k=2, bugs=[
    Bug("stays open", "m.d.sync += is_open.eq(0)", "pass"),
    Bug("open without a grant", "with m.If(self.grant):", "with m.If(self.i.valid):"),
    Bug("takes the input while closed", "self.i.ready.eq(self.o.ready & is_open)",
        "self.i.ready.eq(self.o.ready)"),
    Bug("a grant while open is asked for again", "self.i.valid & ~is_open)", "self.i.valid)"),
])
def _gate(p: Properties, block: type) -> None:
    """A payload passes for each grant, none without, and none is lost."""
    dut = p.add(block(_BITS))
    p.holds("input", dut.i, claimed=False)
    # semaphores grant what has asked since the cycle before, once
    asked = p.past(dut.request)
    p.assume("a grant only answers a request, in one of two cycles",
             asked & ~p.past(dut.grant), dut.grant)
    passed = dut.o.valid & dut.o.ready
    credit = p.register(2, "credit")
    p.m.d.sync += credit.eq(credit + dut.grant - passed)
    p.claim("as many pass as were granted, at most one grant ahead", credit <= 1)
    p.claim("nothing passes without a grant", credit != 0, dut.o.valid)
    p.claim("what is granted is offered", dut.o.valid == dut.i.valid, credit != 0)
    p.claim("input and output move together",
            passed == (dut.i.valid & dut.i.ready))
    p.claim("the payload is not changed", dut.o.payload == dut.i.payload, passed)
    p.claim("asks exactly while one waits without a grant",
            dut.request == (dut.i.valid & (credit == 0)))
    p.invariant(credit == p.signal("is_open"))
    p.holds("output", dut.o)
    passes = p.register(2, "passes")
    p.m.d.sync += passes.eq(passes + (passed & (passes != 3)))
    p.cover("two pass", passes == 2)


@proof(TagStore, k=1, bugs=[
    Bug("a pop moves every head",
        "heads[group] + self.pop[group]", "heads[group] + self.pop.any()"),
    Bug("a push moves every tail", "tails[group] + pushed", "tails[group] + self.push_valid"),
    Bug("groups share their rows", "row.eq(Cat(select(self.push_group, tails), "
        "self.push_group))", "row.eq(select(self.push_group, tails))"),
    Bug("the tag of another group", "select(self.group, heads), self.group",
        "heads[0], self.group"),
])
def _tag_store(p: Properties, block: type) -> None:
    """A queue of tags for each group, none of which touches another's."""
    dut = p.add(block(MINUTE))
    group = p.any(range(MINUTE.groups))
    early = dut.push_valid & (dut.push_group == group)
    put, tag = p.past(early), p.past(dut.push)  # as it goes to the memory
    get = Cat(dut.pop).bit_select(group, 1)
    count = p.register(range(TAG_DEPTH + 1), "held")
    p.m.d.sync += count.eq(count + put - get)
    p.assume("no group gets more tags than fit", count + put != TAG_DEPTH, early)
    p.assume("no group's queue is popped while empty", count != 0, get)
    p.assume("what is popped was asked for, behind the pop before",
             (p.past(dut.group) == group) & ~p.past(get), get)
    waiting, before, element, level = follow_one(p, put, get, tag, dut.tag, TAG_DEPTH)
    p.invariant(level == count)
    p.invariant(count + put <= TAG_DEPTH)
    heads = Array(p.signal(f"head_{n}") for n in range(MINUTE.groups))
    tails = Array(p.signal(f"tail_{n}") for n in range(MINUTE.groups))
    head = heads[group]
    p.invariant((tails[group] - head)[:3] == (level + put)[:3])
    address, asked = p.signal("read__addr"), p.past(dut.group)
    p.invariant(address == Cat((heads[group] - p.past(get))[:3], group), asked == group)
    p.invariant((p.signal("valid") & (p.signal("tail")[3:] == group)) == put)
    p.invariant((p.signal("tail")[:3] == (tails[group] - 1)[:3]) & (p.signal("pushed") == tag), put)
    place = Cat((head + before)[:3], group)
    p.invariant(p.row("memory", place) == element, waiting)


PROOFS = (_queue, _skid, _half_skid, _gate, _tag_store)
