# SPDX-License-Identifier: Apache-2.0
"""Whose result enters the epilogue next."""

import itertools

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import Contexts
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.lif.plan import RECURRENCE, BeatPlan
from hw.mux import union
from hw.presets import Preset
from hw.round_robin import RoundRobin

__all__ = ["ResultArbiter"]


class ResultArbiter(wiring.Component):
    """Issues the beats of the groups' results: parts, and repeats of all parts, in order.

    Groups take turns. A beat follows another after as many cycles as the writer needs for it
    (``hw.lif.plan.BeatPlan``), so that nothing behind ever has to wait; the same part of the
    same group after at least RECURRENCE cycles, so that its membrane is back in memory.

    **Throughput** one beat a cycle where the writer needs one, but a result of one beat every
    second cycle only.
    **Latency** 4 cycles.

    Members
    -------
    descriptors : In
    valid, contexts : In, one bit a group
        A result is there, and the context that it belongs to. Looked at a cycle later.
    free : Out, one bit a group
        The result was read in the cycle before.
    next_group : Out
        ``group`` of the next cycle.
    issue, group, part, context, first, last, repeat : Out
        A beat of the group's result, to be read in this cycle. ``first``: of repeat 0;
        ``last``: the final beat of the result; ``repeat``: its number.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        groups = preset.groups
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "valid": In(groups),
            "contexts": In(groups),
            "free": Out(groups),
            "next_group": Out(range(groups)),
            "issue": Out(1),
            "group": Out(range(groups)),
            "part": Out(range(max(2, preset.beats_per_tile))),
            "context": Out(1),
            "first": Out(1),
            "last": Out(1),
            "repeat": Out(8),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups, parts = preset.groups, preset.beats_per_tile
        contexts = Contexts(m, self.descriptors)

        offered, offered_contexts = Signal(groups), Signal(groups, reset_less=True)
        m.d.sync += [offered.eq(self.valid), offered_contexts.eq(self.contexts)]
        # the group behind the one at hand; both are 0 where there is none
        m.submodules.chooser = chooser = RoundRobin(groups)
        now, now_valid, now_context = Signal(groups), Signal(), Signal()
        then, then_valid, then_context = Signal(groups), Signal(), Signal()
        index = Signal(range(groups))
        recent = [Signal(groups, name=f"recent_{n}") for n in range(RECURRENCE)]
        move, finished = Signal(), Signal()
        m.d.comb += [
            chooser.request.eq(offered & ~union([now, *recent])),
            move.eq(~now_valid | finished),
            chooser.take.eq(~then_valid),  # in time for results of two beats and more
        ]
        m.d.sync += [recent[0].eq(Mux(finished, now, 0))]
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise(recent)]
        with m.If(move):
            m.d.sync += [then.eq(0), then_valid.eq(0)]
        with m.If(chooser.take):
            m.d.sync += [then.eq(chooser.grant), then_valid.eq(chooser.request.any()),
                         then_context.eq((chooser.grant & offered_contexts).any())]
        # what its context says of it is at hand with it
        plan = BeatPlan(m, contexts, preset)
        repeats_last = contexts.derived(
            then_context, "repeats_last", 8,
            lambda view: Mux(contexts.wants(view, Flag.PSUM_OUT), 0, view.repeat - 1))
        once = contexts.derived(
            then_context, "once", 1,
            lambda view: contexts.wants(view, Flag.PSUM_OUT) | (view.repeat == 1))
        of_then = [Mux(then_context, *plan.cycles_last[::-1]),
                   Mux(then_context, *plan.repeat_last[::-1])]
        of_now = [Signal(len(value), name=f"now_{name}", reset_less=True) for name, value in zip(
            ("cycles_last", "repeat_pause"), of_then, strict=True)]
        with m.If(move):
            m.d.sync += [now.eq(then), now_valid.eq(then_valid), now_context.eq(then_context),
                         *(here.eq(value) for here, value in zip(of_now, of_then, strict=True)),
                         index.eq(Cat(Cat(then[g] for g in range(groups) if g >> bit & 1).any()
                                      for bit in range(len(index))))]

        # its beats
        part, repeat = Signal.like(self.part), Signal(8)
        gap, ready = Signal(5), Signal(init=1)
        last_part, go = Signal(), Signal()
        repeats, last_repeat = Signal(8), Signal()  # behind this one; there are none
        cycles_last, repeat_pause = of_now
        pause = Signal(5)
        m.d.comb += [
            go.eq(now_valid & ready), last_part.eq(part == parts - 1),
            finished.eq(go & last_part & last_repeat),
            pause.eq(Mux(last_part & ~last_repeat, repeat_pause, cycles_last)),
        ]
        with m.If(go):
            m.d.sync += [part.eq(Mux(last_part, 0, part + 1)), gap.eq(pause),
                         ready.eq(pause == 0)]
            with m.If(last_part):
                m.d.sync += [repeat.eq(Mux(last_repeat, 0, repeat + 1)),
                             repeats.eq(repeats - 1), last_repeat.eq(repeats == 1)]
        with m.Elif(~ready):
            m.d.sync += [gap.eq(gap - 1), ready.eq(gap == 1)]
        with m.If(move):
            m.d.sync += [repeats.eq(repeats_last), last_repeat.eq(once)]
        m.d.comb += self.next_group.eq(index)
        m.d.sync += [
            self.issue.eq(go), self.group.eq(index), self.part.eq(part),
            self.context.eq(now_context), self.first.eq(repeat == 0), self.repeat.eq(repeat),
            self.last.eq(last_part & last_repeat), self.free.eq(Mux(finished, now, 0)),
        ]
        return m
