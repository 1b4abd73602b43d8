# SPDX-License-Identifier: Apache-2.0
"""Proofs of what orders descriptors and results: dispatcher, sequencer."""

import copy
from itertools import product

from amaranth import *
from amaranth.lib.wiring import Component
from amaranth.utils import exact_log2

from hw.control.dispatcher import Dispatcher
from hw.descriptor import CONV, FORMATS, LOAD, Flag, Opcode, Target
from hw.dma.payloads import INDEX_BITS
from hw.limits import limits
from hw.payloads import descriptor_layout
from hw.regmap import ErrorCode
from hw.sequencer import Sequencer
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one

__all__ = ["PROOFS"]

_WIDE = copy.copy(MINUTE)
object.__setattr__(_WIDE, "axi_bits", 512)
"""A descriptor in two beats; no accelerator has such a port with so few lanes."""


@proof(Dispatcher, k=3, reach=12, bugs=[
    Bug("a malformed descriptor passes", "given.eq(Mux(holds.any(), 0, route))",
        "given.eq(route)"),
    Bug("a malformed descriptor is not told", "with m.If(faulty):", "with m.If(0):"),
    Bug("a descriptor is given twice", "m.d.sync += given.eq(0)", "pass"),
    Bug("goes on before the faults are known", 'm.next = "DECIDE"', 'm.next = "ROUTE"'),
    Bug("the last beat's limits are not waited for",
        'm.next = "WATCH" if self._late() else "CHECK"', 'm.next = "CHECK"'),
    Bug("the last fault is told", "in reversed([*enumerate(faults)]):", "in enumerate(faults):"),
    Bug("goes on after END", "with m.If(route[3]):", "with m.If(0):"),
    Bug("a STORE goes to LOAD", "route.eq(Cat(words[:8] == Opcode.LOAD, words",
        "route.eq(Cat(words[:8] == Opcode.STORE, words"),
    Bug("a beat for compute is replaced while it waits",
        "self.i.ready.eq(~self.o_compute.valid | self.o_compute.ready)", "self.i.ready.eq(1)"),
    Bug("an error is forgotten", "m.d.sync += [self.error.code.eq(ErrorCode.NO_END),",
        "m.d.sync += [self.error.code.eq(0),"),
])
def _dispatcher(p: Properties, block: type) -> None:
    """Each descriptor goes to its unit, once, whole and checked; nothing after END or an error.

    A descriptor here is two beats.
    """
    dut, m = p.add(block(_WIDE)), p.m
    i = dut.i.payload
    put = dut.i.valid & dut.i.ready
    second = p.register(1, "second")
    m.d.sync += second.eq(second ^ put)
    p.assume("every second beat is the last", i.last == second, dut.i.valid)
    p.assume("the program is exhausted only between descriptors", ~second, dut.exhausted)
    words = p.register(1024, "words")       # the descriptor at hand
    index = p.register(INDEX_BITS, "index")
    with m.If(put):
        m.d.sync += [words.word_select(second, 512).eq(i.data), index.eq(i.index)]
    outputs = (dut.o_load, dut.o_store, dut.o_index, dut.o_end)
    opcodes = ((Opcode.LOAD,), (Opcode.STORE,), (Opcode.CONV, Opcode.KTV), (Opcode.END,))
    opcode, head = words[:8], descriptor_layout(LOAD)(words)
    moved = Cat(o.valid & o.ready for o in outputs).any()
    whole = p.register(1, "whole")          # it waits for its unit
    with m.If(put & second):
        m.d.sync += whole.eq(1)
    with m.Elif(moved):
        m.d.sync += whole.eq(0)
    p.claim("one unit at a time", sum(o.valid for o in outputs) <= 1)
    p.claim("each descriptor goes to its unit once", whole, Cat(o.valid for o in outputs).any())
    for output, codes in zip(outputs, opcodes, strict=True):
        p.claim("to the unit of its opcode", Cat(opcode == code for code in codes).any(),
                output.valid)
        p.holds("outputs", output)
    for output in (dut.o_load, dut.o_store):
        o = output.payload
        same = Cat(o[name] == head[name][:len(o[name])] for name in o.shape().members
                   if name != "index")
        p.claim("LOAD and STORE get the fields of their descriptor", same.all() & (
            o.index == index), output.valid)
        p.claim("counts are at least 1, addresses and steps multiples of a beat",
                Cat(o[name] != 0 for name in ("length", "count_1", "count_2", "beat_step")).all()
                & ~Cat(o[name][:6] for name in ("address", "step_1", "step_2")).any()
                & ~head["address_high"].any(), output.valid)
    p.claim("a LOAD has a target", dut.o_load.payload.target <= max(Target), dut.o_load.valid)
    p.claim("compute gets the number", dut.o_index.payload == index, dut.o_index.valid)
    p.claim("END gets its mask", dut.o_end.payload == head["wait"], dut.o_end.valid)
    conv = descriptor_layout(CONV)(words)
    p.claim("a CONV's counts are at least 1", Cat(conv[name] != 0 for name in (
        "time_steps", "repeat", "columns", "rows", "images", "planes")).all(),
        dut.o_index.valid & (opcode == Opcode.CONV))
    broken = [C(0), C(0)]                   # of each beat, a field that breaks its limit
    for code in opcodes[2]:
        for limit in limits(code, _WIDE):
            value = descriptor_layout(FORMATS[code])(words)[limit.field]
            wrong = value[:exact_log2(limit.step)].any() | (value < limit.low if limit.low else 0)
            wrong |= C(0) if limit.high is None else value > limit.high
            matters = (opcode == code) & ~(conv.flags & limit.unless).any()
            matters &= (conv.flags & limit.only).any() if limit.only else C(1)
            broken[FORMATS[code].fields[limit.field].word // 16] |= matters & wrong
    p.claim("a CONV's and a KTV's fields keep their limits", ~Cat(broken).any(), dut.o_index.valid)
    over = p.register(1, "over")
    m.d.sync += over.eq(over | (dut.o_end.valid & dut.o_end.ready) | (dut.error.code != 0))
    p.claim("nothing after END or an error", ~Cat(o.valid for o in (
        *outputs, dut.o_compute)).any() & ~dut.i.ready, over)
    told = dut.error.as_value()
    p.claim("a program without END is reported", dut.error.code == ErrorCode.NO_END,
            p.past(p.state("BEATS") & dut.exhausted & ~dut.i.valid))
    decided = p.past(p.state("ROUTE"))
    late = "WATCH" in p.inner("").generated["fsm"].encoding
    behind = [p.past(put & second)]         # 1 cycle behind the last beat, 2, ...
    for _ in range(4 if late else 3):
        behind.append(p.past(behind[-1]))
    p.claim("after the checks a descriptor is given to its unit, or reported",
            p.past(Cat(o.valid for o in outputs).any()) | (dut.error.code != 0), behind[-1])
    p.claim("a malformed descriptor is reported, the first fault of it",
            dut.error.code == ErrorCode.BAD_OPCODE,
            decided & ((opcode < min(Opcode)) | (opcode > max(Opcode))))
    transfer = (opcode == Opcode.LOAD) | (opcode == Opcode.STORE)
    p.claim("a malformed descriptor is reported, the first fault of it",
            dut.error.code == ErrorCode.ADDRESS_HIGH,
            decided & transfer & head["address_high"].any())
    p.claim("with its index and layer", (dut.error.index == index)
            & (dut.error.layer == head["layer"]), decided & (dut.error.code != 0))
    p.claim("an error is held", told == p.past(told), p.past(dut.error.code != 0))

    # beats for compute
    out = dut.o_compute.valid & dut.o_compute.ready
    given = p.register(2, "given")          # of the descriptor at hand
    done = p.register(1, "numbered")        # its number was taken
    with m.If(put & ~second):
        m.d.sync += [given.eq(0), done.eq(0)]
    with m.Else():
        m.d.sync += [given.eq(given + out), done.eq(done | (dut.o_index.valid & dut.o_index.ready))]
    compute = Cat(opcode == code for code in opcodes[2]).any()
    p.claim("compute gets the beats of CONVs and KTVs, in order",
            compute & (dut.o_compute.payload == words.word_select(given[0], 512)) & (given < 2),
            dut.o_compute.valid)
    p.claim("the last one after the checks, when the number was taken", done,
            dut.o_compute.valid & (given == 1))
    p.claim("and all of them", given == 2, done & put)
    p.holds("compute", dut.o_compute)

    state = {name: p.state(name) for name in (
        "BEATS", "CHECK", "DECIDE", "ROUTE", "LAST-BEAT", "STOP")}
    early = state["CHECK"] | state["DECIDE"] | (p.state("WATCH") if late else 0)
    kept = p.signal("kept")
    held, for_compute = p.signal("held"), p.signal("for_compute")
    states = len(p.inner("").generated["fsm"].encoding)
    p.invariant(p.signal("fsm_state") < states)
    p.invariant(p.signal("place") == Mux(second, 2, 1))
    p.invariant(p.signal("begun") == second)
    p.invariant(~second, ~state["BEATS"] & ~state["STOP"])
    p.invariant(whole, early | state["ROUTE"])
    p.invariant(~whole, state["BEATS"] | state["LAST-BEAT"])
    p.invariant(state["STOP"], over)
    p.invariant(dut.index == index, early | state["ROUTE"] | state["LAST-BEAT"] | second)
    p.invariant(kept[:512] == words[:512], second | early | state["ROUTE"] | state["LAST-BEAT"])
    p.invariant(kept[512:] == words[512:len(kept)], early | state["ROUTE"] | state["LAST-BEAT"])
    p.invariant(p.signal("last") == Mux(second, words[:512], words[512:]),
                (second & (held | p.past(put))) | early | state["ROUTE"] | state["LAST-BEAT"])
    p.invariant(for_compute == compute, second | early | state["ROUTE"] | state["LAST-BEAT"])
    p.invariant(p.signal("faulty") == (p.signal("fault") != 0))
    came = p.signal("came")
    p.invariant(came == Mux(p.past(put), Mux(p.past(second), 2, 1), 0))
    p.invariant(second | behind[0], p.past(put))
    for here, name in zip(behind, (*(("WATCH",) if late else ()), "CHECK", "DECIDE"),
                          strict=False):
        p.invariant(here == p.state(name))
    p.invariant(state["ROUTE"], behind[3 if late else 2])
    for number, wrong in enumerate(broken):
        seen = p.signal("broken")[number]
        p.invariant(seen, wrong & (whole if number else second | whole) & ~came[number])
    route = p.signal("route")
    p.invariant(route == Cat(Cat(opcode == code for code in codes).any() for codes in opcodes),
                state["ROUTE"])
    p.invariant(p.signal("given") == Mux(state["ROUTE"] & ~p.signal("faulty"), route, 0))
    p.invariant(compute & done & (given == 1), state["LAST-BEAT"])
    p.invariant(~done, second)
    p.invariant(~done, early | state["ROUTE"])
    p.invariant(given == ~held, second & compute)
    p.invariant(~done & (given == 1), compute & (early | state["ROUTE"]))
    p.invariant(held == 0, ~state["BEATS"] & ~state["STOP"])
    p.invariant((given == 2) | ~done, state["BEATS"] & ~second)
    p.invariant(~held, state["BEATS"] & ~second)
    p.invariant((dut.error.code == 0), ~state["STOP"])
    p.cover("a LOAD and END", dut.o_end.valid & p.count(
        dut.o_load.valid & dut.o_load.ready).any())
    p.cover("a KTV, whole", out & (given == 1))


@proof(Sequencer, k=1, reach=24, bugs=[
    Bug("starts without its semaphores", "begun.eq(granted & ~under_way",
        "begun.eq(loaded & ~under_way"),
    Bug("starts while pixels are to come", "Cat(self.conv_start, self.walking, self.count_start",
        "Cat(self.conv_start, self.count_start"),
    Bug("hands on the other descriptor", "started.eq(Mux(slot, contexts[1], contexts[0]))",
        "started.eq(Mux(slot, contexts[0], contexts[1]))"),
    Bug("hands on the next one during the walk", "with m.If(~under_way):",
        "with m.If(~self.conv_start & ~self.count_start):"),
    Bug("takes the other context's opcode", "opcode = Mux(slot, views[1].opcode, views[0].opcode)",
        "opcode = Mux(slot, views[0].opcode, views[1].opcode)"),
    Bug("ready is not taken back at the last beat", "used[0]) & ~last", "used[0])"),
    Bug("ready comes back while the last beat is being written", "ready.eq(~loaded & ~arrived",
        "ready.eq(~loaded"),
    Bug("ready before what was loaded has begun", "ready.eq(~loaded & ~arrived",
        "ready.eq(~arrived"),
    Bug("a beat is written to the other context", "Mux(take & (slot == index), beat, 0)",
        "Mux(take & (slot != index), beat, 0)"),
    Bug("a beat is written to both contexts", "Mux(take & (slot == index), beat, 0)",
        "Mux(take, beat, 0)"),
    Bug("what was not taken is written", "Mux(take & (slot == index), beat, 0)",
        "Mux(slot == index, beat, 0)"),
    Bug("the beat behind is written", "word_select(number, bits).eq(content)",
        "word_select(number, bits).eq(self.i_beat.payload)"),
    Bug("asks before the last beat is written", "with m.If(arrived):", "with m.If(last):"),
    Bug("idle while the last beat is being written", "~loaded & ~arrived & beat[0]",
        "~loaded & beat[0]"),
    Bug("ends while results are under way", "(units[index] == 0) & ~self.active[index]",
        "~self.active[index]"),
])
def _sequencer(p: Properties, block: type) -> None:
    """Each descriptor starts once, after its grant, and ends once, in order; none is overwritten.

    A descriptor here is two beats.
    """
    _sequence(p, block)


@proof(Sequencer, k=1, reach=24, bugs=[
    Bug("ignores FENCE", "& (~fenced | (used == 0))", ""),
    Bug("mixes PAIRED with others", "fence | (pairs != paired)", "fence"),
    Bug("forgets that the last one was PAIRED", "paired.eq(pairs), ", ""),
    Bug("a KTV starts beside a CONV", "fenced.eq(~is_conv | fence", "fenced.eq(fence"),
    Bug("overwrites a descriptor at work", "~arrived & ~Mux(slot, used[1], used[0]) & ~last",
        "~arrived & ~last"),
    Bug("posts the other context's", "Mux(oldest, views[1].post, views[0].post)",
        "Mux(oldest, views[0].post, views[1].post)"),
])
def _sequencer_order(p: Properties, block: type) -> None:
    """The same of descriptors with an opcode, a post, FENCE and PAIRED only.

    Bugs that take two of them are found sooner so.
    """
    layout = CONV.fields
    kept = sum(1 << bit for bit in (
        *range(layout["opcode"].width), 32 * layout["post"].word + layout["post"].lsb,
        *(32 * layout["flags"].word + exact_log2(int(flag)) for flag in (Flag.FENCE, Flag.PAIRED))))
    dut = _sequence(p, block)
    p.assume("nothing else is set", (dut.i_beat.payload & ~C(kept, _WIDE.axi_bits)) == 0)


def _sequence(p: Properties, block: type) -> Component:
    dut, m = p.add(block(_WIDE)), p.m
    put = dut.i_beat.valid & dut.i_beat.ready
    p.assume("a grant answers a request", dut.request & ~p.past(dut.grant), dut.grant)
    layout = descriptor_layout(CONV)
    views = [layout(value) for value in dut.descriptors]
    second, whole, granted = (p.register(1, name) for name in ("second", "whole", "granted"))
    head = p.register(96, "head")           # of the last descriptor, as it came
    slot = p.register(1, "slot")            # where the next one comes
    starts = dut.conv_start | dut.count_start
    begun = p.signal("begun")
    used = p.signal("used")                 # under way: from the start to the end
    here = Mux(slot, dut.descriptors[1], dut.descriptors[0])
    m.d.sync += second.eq(second ^ put)
    with m.If(put & ~second):
        m.d.sync += head.eq(dut.i_beat.payload)
    fields = layout(Cat(head, C(0, 1024 - len(head))))
    writing = p.past(put & second)          # the last beat
    with m.If(writing):
        m.d.sync += whole.eq(1)
    with m.If(dut.grant):
        m.d.sync += granted.eq(1)
    with m.If(begun):
        m.d.sync += [whole.eq(0), granted.eq(0), slot.eq(~slot)]
    p.claim("a beat is taken only for a context that is free",
            ~whole & ~writing & ~used.bit_select(slot, 1), put)
    p.claim("while there is room beats are taken, from the next cycle on", dut.i_beat.ready,
            p.past(~whole & ~writing & ~used.bit_select(slot, 1) & ~(put & second)))
    p.claim("asks for the semaphores of a descriptor that is whole, once it is written",
            dut.request == (whole & ~granted))
    p.claim("for those of its mask", dut.wait == fields["wait"], dut.request)
    payload = p.past(dut.i_beat.payload)
    places = [[p.past(put & (slot == n) & (second == k)) for k in range(2)] for n in range(2)]
    earlier = p.past(payload)
    awake = p.past(C(1))                    # no reset in the cycle before
    for n, k in product(range(2), repeat=2):
        now = dut.descriptors[n].word_select(k, 512)
        p.claim("a beat is written two cycles after it is taken, to its place, and nothing else",
                now == Mux(p.past(places[n][k]), earlier, p.past(now)), awake)
    p.claim("a start is one of the two", ~(dut.conv_start & dut.count_start))
    p.claim("a start follows a grant", p.past(granted & whole), starts)
    p.claim("not while the walk or the count before is under way",
            ~p.past(dut.walking | dut.counting | starts), starts)
    mine = Mux(dut.context, dut.descriptors[1], dut.descriptors[0])
    p.claim("CONVs walk, others count", dut.conv_start == (layout(mine).opcode == Opcode.CONV),
            starts)
    p.claim("what is handed on is the descriptor of the start", dut.started == mine, starts)
    p.claim("its head is as it came", mine[:len(head)] == head, starts)
    p.claim("with its layer", dut.layer == fields.layer, starts)
    p.claim("and stays while its walk or count is under way", dut.started == p.past(dut.started),
            p.past(dut.walking | dut.counting | starts))
    ended = p.signal("ended")
    waiting, before, element, level = follow_one(
        p, begun, ended, fields.post,
        Mux(p.signal("oldest"), views[1].post, views[0].post), 2, "descriptors: ")
    p.claim("an end is told with the posts of the oldest", (dut.done_valid == p.past(ended)) & (
        ~dut.done_valid | (dut.done_post == p.past(Mux(
            p.signal("oldest"), views[1].post, views[0].post)))))
    fence = exact_log2(int(Flag.FENCE))
    paired = exact_log2(int(Flag.PAIRED))
    p.claim("PAIRED and others are not under way together", p.past(level == 0)
            | (views[0].flags[paired] == views[1].flags[paired]), dut.conv_start)
    p.claim("with FENCE, and a KTV, only when nothing else is under way",
            p.past(level == 0) | (dut.conv_start & ~layout(mine).flags[fence]), starts)
    for n in range(2):
        p.claim("a descriptor at work is not overwritten",
                dut.descriptors[n] == p.past(dut.descriptors[n]), p.past(used[n]))
        p.claim("the context of a start holds it", dut.context == n, starts & p.past(slot == n))
    p.claim("idle only with nothing here", (level == 0) & ~whole & ~writing & ~second
            & ~dut.i_beat.valid, dut.idle)
    units = [p.register(16, f"to_come_{n}") for n in range(2)]
    counts = p.signal("counts")
    for n in range(2):
        m.d.sync += units[n].eq(units[n] + (dut.unit_valid & (dut.unit_context == n))
                                - (dut.finished & (dut.finished_context == n)))
        p.claim("a CONV ends when all its results are written",
                p.past((units[n] == 0) & ~dut.active[n]),
                ended & (p.signal("oldest") == n) & ~counts[n])
        p.invariant(units[n] == p.signal(f"units_{n}"))
    oldest = p.signal("oldest")
    p.invariant((p.signal("loaded") == whole) & (p.signal("arrived") == writing)
                & (p.signal("granted") == granted) & (p.signal("slot") == slot))
    p.invariant(p.signal("beat") == Mux(second, 2, 1))
    came = p.past(put)
    p.invariant(second | writing, came)
    p.invariant(~second & ~dut.i_beat.ready, whole | writing)
    p.invariant(came & ~second, writing)
    p.invariant(~whole, came)
    p.invariant(whole, granted)
    p.invariant(~used.bit_select(slot, 1), whole | writing | second | dut.i_beat.ready)
    for n in range(2):
        p.invariant(p.signal(f"places_{n}") == Cat(places[n]))
        p.invariant(Cat(places[n]) == Mux(came & (slot == n), Mux(second, 1, 2), 0))
    p.invariant(p.signal("content") == payload, came)
    p.invariant(payload[:len(head)] == head, came & second)
    p.invariant(here[:len(head)] == head, (second & ~came) | writing | whole)
    p.invariant((p.signal("is_conv") == (fields.opcode == Opcode.CONV))
                & (p.signal("fence") == fields.flags[fence])
                & (p.signal("pairs") == fields.flags[paired]), granted)
    p.invariant((dut.context == ~slot) & (p.signal("paired") == layout(mine).flags[paired]),
                level != 0)
    p.invariant(level == used[0] + used[1])
    p.invariant(used.bit_select(oldest, 1), ended)
    p.invariant(used == Mux(level == 0, 0, Mux(level == 2, 3, 1 << oldest)))
    p.invariant(slot == (oldest ^ level[0]))
    place = oldest ^ before[0]
    p.invariant(Mux(place, views[1].post, views[0].post) == element, waiting)
    p.invariant(used.bit_select(dut.context, 1) & (dut.context == ~slot), starts)
    p.invariant(dut.conv_start == (layout(mine).opcode == Opcode.CONV), starts)
    p.invariant(dut.started == mine, starts)
    p.cover("two descriptors end", p.count(dut.done_valid) == 2)
    return dut


PROOFS = (_dispatcher, _sequencer, _sequencer_order)
