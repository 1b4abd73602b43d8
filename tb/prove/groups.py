# SPDX-License-Identifier: Apache-2.0
"""Proofs of what shares units, results and weights among groups."""

import dataclasses

from amaranth import *

from hw.conv.unit_picker import UnitPicker
from hw.conv.weight_buffer import WeightBuffer
from hw.descriptor import CONV, Flag
from hw.lif.plan import RECURRENCE
from hw.lif.result_arbiter import ResultArbiter
from hw.payloads import JobLayout, descriptor_layout
from tb.prove.ports import in_queue, queue_sound
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties
from tb.prove.queues import follow_one

__all__ = ["PROOFS"]

_PARTS = MINUTE.beats_per_tile


@proof(ResultArbiter, k=5, reach=18, bugs=[
    Bug("a repeat too few", "last_repeat.eq(repeats == 1)", "last_repeat.eq(repeats <= 2)"),
    Bug("the repeats of the context behind", "once = contexts.derived(\n            then_context",
        "once = contexts.derived(\n            ~then_context"),
    Bug("a beat before the writer is free", "go.eq(ready_next & following_valid)",
        "go.eq(following_valid)"),
    Bug("a result is chosen twice", "& ~self.free)", "& ~Mux(finished, now, 0))"),
    Bug("the result at hand is chosen again", "self.valid & ~(chosen | then)",
        "self.valid & ~then"),
    Bug("the result that waits is chosen again", "self.valid & ~(chosen | then)",
        "self.valid & ~chosen"),
    Bug("what moves on stays ahead", "m.d.sync += [then.eq(0), then_valid.eq(0)]", "pass"),
    Bug("the context is that of the one behind", "now_context.eq(then_context)",
        "now_context.eq((chooser.grant & offered_contexts).any())"),
    Bug("the plan is that of the other context", "Mux(then_context, *plan.cycles_last[::-1])",
        "Mux(then_context, *plan.cycles_last)"),
    Bug("a result is freed with every part", "self.free.eq(Mux(finished, now, 0))",
        "self.free.eq(Mux(go, now, 0))"),
    Bug("another group takes over within a result", "move.eq(~now_valid | finished)",
        "move.eq(1)"),
])
def _result_arbiter(p: Properties, block: type) -> None:
    """All parts and repeats of a result in order and in their time, then it is freed, once."""
    dut, m = p.add(block(MINUTE)), p.m
    views = [descriptor_layout(CONV)(p.steady("a descriptor", value)) for value in dut.descriptors]
    up = p.register(3, "up")
    m.d.sync += up.eq(up + (up != 4))
    p.assume("results come when the descriptors have settled", up == 4, dut.valid != 0)
    for group in range(MINUTE.groups):
        here = p.past(dut.valid[group] & ~dut.free[group])
        p.assume("a result stays until it is freed",
                 dut.valid[group] & (dut.contexts[group] == p.past(dut.contexts[group])), here)
        p.assume("and is then gone", ~dut.valid[group], p.past(dut.free[group]))
    part, repeat = p.register(1, "part"), p.register(8, "repeat")
    under_way, group = p.register(1, "under_way"), p.register(1, "group")
    context = p.register(1, "context")
    ends = part == _PARTS - 1
    repeats = [Mux((view.flags & int(Flag.PSUM_OUT)) != 0, 0, view.repeat - 1)[:8]
               for view in views]
    last = ends & (repeat == Mux(dut.context, repeats[1], repeats[0]))
    following = Mux(last, 0, Mux(ends, repeat + 1, repeat))[:8]
    with m.If(dut.issue):
        m.d.sync += [part.eq(part + 1), repeat.eq(following), under_way.eq(~last),
                     group.eq(dut.group), context.eq(dut.context)]
    p.claim("parts and repeats come in order", (dut.part == part) & (dut.repeat == repeat),
            dut.issue)
    p.claim("first and last are marked", (dut.first == (repeat == 0)) & (dut.last == last),
            dut.issue)
    p.claim("a result is finished before the next is begun",
            (dut.group == group) & (dut.context == context), dut.issue & under_way)
    p.claim("only a result that is there is read, with its context",
            dut.valid.bit_select(dut.group, 1)
            & (dut.contexts.bit_select(dut.group, 1) == dut.context), dut.issue)
    p.claim("a result is freed with its last beat, and only then",
            dut.free == Mux(dut.issue & dut.last, 1 << dut.group, 0))
    plan = {name: [p.signal(f"{name}_{n}") for n in range(2)]
            for name in ("cycles_last", "repeat_last")}
    pause = Mux(ends & ~last, Mux(dut.context, *plan["repeat_last"][::-1]),
                Mux(dut.context, *plan["cycles_last"][::-1]))
    wait = p.register(5, "wait")        # until the next beat may come
    m.d.sync += wait.eq(Mux(dut.issue, pause, wait - (wait != 0)))
    p.claim("a beat comes only when the writer is done with the one before", wait == 0, dut.issue)

    for who in range(MINUTE.groups):
        for number in range(_PARTS):
            read = dut.issue & (dut.group == who) & (dut.part == number)
            recent = [read]
            for _ in range(RECURRENCE - 1):
                recent.append(p.past(recent[-1]))
            p.claim(f"part {number} of group {who} is read again when its membrane is back",
                    ~Cat(recent[1:]).any(), read)

    now, now_valid, index = p.signal("now"), p.signal("now_valid"), p.signal("index")
    now_context, ready, gap = p.signal("now_context"), p.signal("ready"), p.signal("gap")
    p.invariant(p.signal("part") == (part ^ dut.issue))
    p.invariant(p.signal("repeat") == Mux(dut.issue, following, repeat))
    p.invariant(now == Mux(now_valid, 1 << index, 0))
    then, then_valid = p.signal("then"), p.signal("then_valid")
    p.invariant((then_valid == then.any()) & ~then.all() & ((then & now) == 0))
    p.invariant((then & ~dut.valid) == 0)
    p.invariant(p.signal("then_context") == (then & dut.contexts).any(), then_valid)
    p.invariant((then & dut.free) == 0)
    p.invariant(up == 4, then_valid)
    for name, zero, mine in (("cycles_last", "no_pause", plan["cycles_last"]),
                             ("repeat_pause", "no_repeat_pause", plan["repeat_last"])):
        of_now = Mux(now_context, *mine[::-1])
        p.invariant((p.signal(f"now_{name}") == of_now) & (
            p.signal(f"now_{zero}") == (of_now == 0)), now_valid)
    p.invariant(p.signal("go") == now_valid & ready)
    p.invariant(dut.valid.bit_select(index, 1)
                & (dut.contexts.bit_select(index, 1) == now_context), now_valid)
    p.invariant(now_valid & (index == dut.group) & (now_context == dut.context),
                dut.issue & ~last)
    p.invariant(now_valid & (index == group) & (now_context == context), under_way & ~dut.issue)
    p.invariant((part == 0) & (repeat == 0), ~under_way)
    p.invariant(dut.valid.bit_select(dut.group, 1)
                & (dut.contexts.bit_select(dut.group, 1) == dut.context), dut.issue)
    p.invariant(~(now_valid & (index == dut.group)), dut.issue & last)
    p.invariant(up == 4, now_valid | dut.issue)
    p.invariant(ready == (gap == 0))
    p.invariant(gap == Mux(dut.issue, pause, wait - (wait != 0))[:5])
    p.invariant((wait == 0) | (up == 4))
    register = [p.signal(f"repeats_last_{n}") for n in range(2)]
    p.invariant(Cat(a == b for a, b in zip(register, repeats, strict=True)).all(), up != 0)
    for number, of in enumerate(repeats):
        p.invariant(p.signal(f"once_{number}") == (of == 0), up != 0)
    behind = p.signal("repeats")
    p.invariant(behind == (Mux(now_context, *repeats[::-1]) - p.signal("repeat"))[:8], now_valid)
    p.invariant(p.signal("last_repeat") == (behind == 0), now_valid)
    # who is at hand, waits or was just freed isn't offered
    chosen, offered = p.signal("chosen"), p.signal("offered")
    p.invariant(chosen == now | dut.free | (then & chosen))
    p.invariant((offered & ~p.past(dut.valid)) == 0)
    p.invariant((offered & (now | dut.free | p.past(dut.free))) == 0)
    p.invariant(p.signal("offered_contexts") == p.past(dut.contexts), p.past(dut.valid) != 0)
    p.cover("a result of two repeats is freed, and one of the other group",
            p.count(dut.free == 1).any() & (dut.free == 2) & (dut.repeat == 1))


@proof(UnitPicker, k=5, reach=18, bugs=[
    Bug("picks without room", "busy & room & ~(recent", "busy & ~(recent"),
    Bug("a pair without room in the neighbour", "(~pairs | other)", "1"),
    Bug("a pair's job for a group that has no neighbour", "fits.eq(~paired | slot_pairs)",
        "fits.eq(1)"),
    Bug("a pair has one tag", "second_valid.eq(first_tag & job.two)", "second_valid.eq(0)"),
    Bug("one unit too many on its way", "free.eq(next_inflight < _AHEAD)",
        "free.eq(next_inflight < _AHEAD + 1)"),
    Bug("picks what was just picked", "~(recent[0] | recent[1] |", "~(recent[1] |"),
    Bug("a job for a group that has one", "chooser.request.eq(~busy &", "chooser.request.eq("),
    Bug("a state and a job are written at once", "slot_valid & ~after_valid", "slot_valid"),
    Bug("a state is read before it is written", "recent[1] | recent[2])),", "recent[1])),"),
])
def _unit_picker(p: Properties, block: type) -> None:
    """One group at a time, with a job and room; its units in the order of picks, none lost."""
    dut = p.add(block(MINUTE))
    busy, o = p.signal("busy"), dut.o.payload
    accept, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    picked = dut.picked.any()
    p.claim("at most one group is picked", ~dut.picked.all())
    p.claim("only one that had a job and room", (dut.picked & ~p.past(busy & dut.room)) == 0)
    earlier = [p.past(dut.picked)]
    for _ in range(2):
        earlier.append(p.past(earlier[-1]))
    p.claim("none twice within four cycles, before its state is back",
            (dut.picked & (earlier[0] | earlier[1] | earlier[2])) == 0)
    group = p.signal("index", "")
    job_valid, job_group = p.signal("job_valid"), p.signal("job_group")
    waiting, before, element, level = follow_one(
        p, picked, get, group, o.group, 4, "units: ")
    queued = queue_sound(p, "queue", 4)
    p.claim("a unit always finds room in the queue", p.signal("not_full", "queue"), job_valid)
    p.holds("output", dut.o)
    pairs, paired = p.signal("pairs"), p.signal("paired")
    p.claim("the neighbour joins a pair's unit, and had room",
            (dut.joined == (dut.picked << 1)[:2]) & ~(dut.joined & ~p.past(dut.room)).any(),
            pairs & p.past(pairs))
    p.claim("no neighbour joins else", ~dut.joined.any(), ~pairs)
    p.claim("a pair's job goes to the even group", p.signal("given") == 1,
            accept & paired)
    first = p.signal("first_tag")
    job = JobLayout(MINUTE)(p.signal("job"))
    p.claim("the second pixel has a tag behind the first's, with the neighbour",
            dut.tag_valid & dut.tag_group[0], p.past(p.past(first & job.two)))
    one = p.any(range(MINUTE.groups))
    content = Signal(len(job.as_value()), reset_less=True)  # of that group, as it was written last
    writes = p.signal("writes") & (p.signal("place") == one)
    state = Mux(writes, p.signal("kept"), content)
    p.m.d.sync += content.eq(state)
    p.invariant(p.row("jobs", one) == content)
    p.claim("a unit sees what the one before it left", job.as_value() == p.past(state),
            job_valid & (job_group == one))
    p.claim("a job goes to a group without one",
            ((p.signal("given") & busy) == 0) & (p.signal("given") != 3)
            & p.signal("given").any(), accept)
    p.claim("no job is taken while a state is written", ~p.signal("after_valid"), accept)
    p.claim("both contexts' activity covers the groups' jobs",
            Cat(dut.active).any() == 1, busy.any())
    slot, slot_valid = p.signal("slot"), p.signal("slot_valid")
    p.invariant(((slot & busy) == 0) & (slot != 0) & (slot != 3), slot_valid)
    p.invariant(p.signal("slot_index") == slot[1], slot_valid)
    p.invariant(p.signal("slot_pairs") == slot[0], slot_valid)
    p.invariant(level == queued + job_valid)
    p.invariant(p.signal("inflight") == level + picked)
    p.invariant(level + picked <= 4)
    p.invariant(p.signal("free") == (p.signal("inflight") < 4))
    p.invariant((dut.picked & ~p.signal("recent_0")) == 0)
    p.invariant((earlier[0] & ~p.signal("recent_1")) == 0)
    p.invariant((earlier[1] & ~p.signal("recent_2")) == 0)
    row = in_queue(p, "queue", before[:2])
    width = len(o.group)
    p.invariant(row[:width] == element, waiting & (before < queued))
    p.invariant(job_group == element, waiting & (before >= queued))
    p.cover("both groups are picked and a unit leaves", p.count(dut.picked[0]).any()
            & p.count(dut.picked[1]).any() & p.count(get).any())


@proof(WeightBuffer, k=1, reach=10, bugs=[
    Bug("a write is made twice", "go.eq(waiting & ~joins)", "go.eq(waiting)"),
    Bug("a beat of another row joins", "& self.write_same)", ")"),
    Bug("the first beat of a row is lost", "Mux(joins, first.part, 0)", "0"),
    Bug("a group moves while its bank is written",
        "(old.banks & self.wants[2 * copy]).any()",
        "(old.banks == self.wants[2 * copy]) & 0"),
    Bug("a write goes to the other bank", "(first.row[-1] == bank)", "(first.row[-1] != bank)"),
    Bug("a write goes to both banks", "go & (first.row[-1] == bank)", "go"),
    Bug("a write is lost on its way to the copy", "new.take(old.row, old.enables, ",
        "new.take(old.row, [C(0, 1)] * 2, "),
    Bug("a write goes to the group's row", "Mux(old.banks[index], old.row, ",
        "Mux(0, old.row, "),
    Bug("the copy's banks are swapped", "new.take(old.row, old.enables, ",
        "new.take(old.row, old.enables[::-1], "),
])
def _weight_buffer(p: Properties, block: type) -> None:
    """Each beat reaches the copy once, alone or with the next one of its row, in its bank; who
    would read that stands."""
    preset = dataclasses.replace(MINUTE, lanes=16)      # a row of two beats
    dut = p.add(block(preset))
    size = preset.axi_bits
    up = p.register(1, "up")
    p.m.d.sync += up.eq(1)
    p.assume("a beat has one part", (dut.write_part == 1) | (dut.write_part == 2))
    waiting, row, part, word = (p.signal(name) for name in (
        "waiting", "write_in_row", "write_in_part", "write_in_word"))
    enables, copied = ([p.signal(f"write_{name}_enables_{bank}") for bank in range(2)]
                       for name in ("gathered", "0"))
    banks, writes = (Cat(parts.any() for parts in of) for of in (enables, copied))
    for name, of in (("gathered", banks), ("0", writes)):
        p.claim("a bank's address is a write's where its enables are",
                p.signal(f"write_{name}_banks") == of)
    made, upper = banks.any(), p.signal("write_gathered_row")[-1]
    written = Cat(p.signal("write_gathered_row"), enables[0] | enables[1])
    p.assume("what joins a part is of its row", dut.write_row == row,
             waiting & dut.write_valid & ~part.all() & dut.write_same)
    joined = p.past(waiting & dut.write_valid & ~part.all() & dut.write_same)
    put = p.past(dut.write_valid)
    p.claim("a beat waits in the cycle behind", waiting == put)
    p.claim("with its row", row == p.past(dut.write_row), put)
    p.claim("alone, or with the part that waited", part == p.past(dut.write_part)
            | Mux(joined, p.past(part), 0), put)
    p.invariant(part != 0, waiting)
    for number in range(2):
        data, held = (value.word_select(number, size)[:2] for value in (dut.write_data, word))
        p.claim(f"part {number} is what was given", held == p.past(data),
                put & p.past(dut.write_part[number]))
        p.claim(f"part {number} is kept", held == p.past(held),
                put & ~p.past(dut.write_part[number]))
        p.claim(f"part {number} is written as it waited",
                p.signal("write_gathered_word").word_select(number, size)[:2] == p.past(held),
                made)
    p.claim("what waited is written, unless a beat joins it", made == p.past(waiting) & ~joined)
    p.claim("to its row and parts", written == Cat(p.past(row), p.past(part)), made)
    p.claim("a write goes to the bank of its row", banks == Mux(upper, 2, 1), made)
    for number in range(2):
        old, new = (p.signal(f"write_{name}_word").word_select(number, size)[:2]
                    for name in ("gathered", "0"))
        p.claim(f"the copy gets part {number} a cycle later", new == p.past(old), writes.any())
    p.claim("the copy is written a cycle later, with the same row", p.signal("write_0_row")
            == p.past(p.signal("write_gathered_row")), writes.any())
    p.claim("and the same parts, in the same bank", Cat(copied) == p.past(Cat(enables)))
    for index in range(2):
        writing = writes[index]
        p.claim(f"bank {index} gets the address of the write, or of the group's row",
                p.signal(f"address_0_{index}") == Mux(
                    writing, p.signal("write_0_row"), p.past(dut.row[0]))[:-1], up)
    p.claim("the other group reads as it moves, the row that it named",
            p.signal("row_1") == p.past(dut.row[1]), up)
    p.claim("the group that wants that bank stands in that cycle", p.past(dut.hold[0])
            == (writes & p.past(dut.wants[0])).any())
    p.claim("the other group never stands", ~dut.hold[1])
    p.cover("two writes are made, the second of a whole row",
            (p.count(made) == 2) & (written[-2:] == 3))


PROOFS = (_result_arbiter, _unit_picker, _weight_buffer)
