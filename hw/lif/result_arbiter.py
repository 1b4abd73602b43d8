# SPDX-License-Identifier: Apache-2.0
"""Whose result enters the epilogue next."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import Contexts
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.lif.plan import RECURRENCE, BeatPlan
from hw.presets import Preset
from hw.round_robin import RoundRobin

__all__ = ["ResultArbiter"]

_SEEN, _AHEAD = 2, 3
"""Cycles from a group's last beat to its next choice, and from there to the first beat."""


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

        # the group behind the one at hand; both are 0 where there is none
        m.submodules.chooser = chooser = RoundRobin(groups)
        now, now_valid, now_context = Signal(groups), Signal(), Signal()
        then, then_valid, then_context = Signal(groups), Signal(), Signal()
        index = Signal(range(groups))
        move, finished = Signal(), Signal()
        m.d.comb += [
            move.eq(~now_valid | finished),
            chooser.take.eq(~then_valid),  # in time for results of two beats and more
        ]
        # a group is chosen again when its next result can be seen; the way from there to its
        # first beat, _AHEAD cycles, is long enough for its membranes
        assert _SEEN + _AHEAD >= RECURRENCE
        offered, offered_contexts = Signal(groups), Signal(groups, reset_less=True)
        chosen = Signal(groups)  # and not freed
        m.d.comb += chooser.request.eq(offered)
        m.d.sync += [chosen.eq((chosen | then) & ~self.free), offered_contexts.eq(self.contexts),
                     offered.eq(self.valid & ~(chosen | then))]
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
        of_then += [value == 0 for value in of_then]
        of_now = [Signal(len(value), name=f"now_{name}", reset_less=True) for name, value in zip(
            ("cycles_last", "repeat_pause", "no_pause", "no_repeat_pause"), of_then, strict=True)]
        following_valid = Signal()
        m.d.comb += following_valid.eq(Mux(move, then_valid, now_valid))
        m.d.sync += now_valid.eq(following_valid)
        with m.If(move):
            m.d.sync += [now.eq(then), now_context.eq(then_context),
                         *(here.eq(value) for here, value in zip(of_now, of_then, strict=True)),
                         index.eq(Cat(Cat(then[g] for g in range(groups) if g >> bit & 1).any()
                                      for bit in range(len(index))))]

        # its beats
        part, repeat = Signal.like(self.part), Signal(8)
        gap, ready, ready_next = Signal(5), Signal(init=1), Signal()
        # a beat goes: a register, and all that moves with it is a LUT away
        last_part, go = Signal(), Signal()
        repeats, last_repeat = Signal(8), Signal()  # behind this one; there are none
        cycles_last, repeat_pause, no_pause, no_repeat_pause = of_now
        repeated = last_part & ~last_repeat
        m.d.comb += [
            last_part.eq(part == parts - 1), finished.eq(go & last_part & last_repeat),
            ready_next.eq(Mux(go, Mux(repeated, no_repeat_pause, no_pause), ready | (gap == 1))),
        ]
        m.d.sync += [ready.eq(ready_next), go.eq(ready_next & following_valid)]
        with m.If(go):
            m.d.sync += [part.eq(Mux(last_part, 0, part + 1)),
                         gap.eq(Mux(repeated, repeat_pause, cycles_last))]
            with m.If(last_part):
                m.d.sync += [repeat.eq(Mux(last_repeat, 0, repeat + 1)),
                             repeats.eq(repeats - 1), last_repeat.eq(repeats == 1)]
        with m.Elif(~ready):
            m.d.sync += gap.eq(gap - 1)
        with m.If(move):
            m.d.sync += [repeats.eq(repeats_last), last_repeat.eq(once)]
        m.d.comb += self.next_group.eq(index)
        m.d.sync += [
            self.issue.eq(go), self.group.eq(index), self.part.eq(part),
            self.context.eq(now_context), self.first.eq(repeat == 0), self.repeat.eq(repeat),
            self.last.eq(last_part & last_repeat), self.free.eq(Mux(finished, now, 0)),
        ]
        return m
