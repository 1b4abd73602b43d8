# SPDX-License-Identifier: Apache-2.0
"""Gives jobs to groups, and picks whose windows are read next."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.contexts import Contexts
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.dma.queue import Queue
from hw.payloads import JobLayout, TagLayout, UnitLayout
from hw.presets import Preset
from hw.round_robin import RoundRobin

__all__ = ["UnitPicker"]

_AHEAD = 4
"""Units between the choice and the end of the output queue."""


class UnitPicker(wiring.Component):
    """Splits jobs into units and hands them out, group by group.

    A *unit* is one plane of one time step of a job. A group that has been given all units of its
    job takes the next job. Units of a group follow each other in order (planes of a step, then
    steps); between groups the choice goes round. Jobs of a PAIRED CONV go to even groups only, and
    need room in the neighbour (the next group) too, which has a tag of its own for the second
    pixel; no other CONV is under way with such a one.

    **Throughput** one job and one unit a cycle, one of a group every fourth. **Latency** 6 cycles
    from a job to its first unit.

    Members
    -------
    descriptors : In
        The CONV of each of the two contexts.
    i : jobs
    o : units
    room : In, one bit a group
        A unit of ``context_of`` fits the group's queue; 2 cycles behind ``picked``.
    picked, joined : Out, one bit a group
        A unit of the group is on its way: strobe; the same for its neighbour's share of it.
    context_of : Out, one bit a group
        The context of its job.
    tag_valid, tag_group, tag : Out
        One for each (job, time step), before its first unit is at ``o``.
    active : Out
        For each context: tags are still to come.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        groups = preset.groups
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "i": In(stream.Signature(JobLayout(preset))),
            "o": Out(stream.Signature(UnitLayout(preset))),
            "room": In(groups),
            "picked": Out(groups),
            "joined": Out(groups),
            "context_of": Out(groups),
            "tag_valid": Out(1),
            "tag_group": Out(range(groups)),
            "tag": Out(TagLayout(preset)),
            "active": Out(2),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups = preset.groups
        contexts = Contexts(m, self.descriptors)
        job_layout = JobLayout(preset)
        busy = Signal(groups)  # units are to come
        # groups that were picked or given a job 1, 2, 3 cycles ago: what is known of them is old
        recent = [Signal(groups, name=f"recent_{n}") for n in range(3)]
        jobs = Memory(shape=job_layout, depth=groups, init=[])
        m.submodules.jobs = jobs
        write, read = jobs.write_port(), jobs.read_port(domain="comb")
        m.submodules.queue = queue = Queue(UnitLayout(preset), _AHEAD)
        connect(m, queue.o, flipped(self.o))

        # of the last job that came, and so of all
        pairs = Signal()
        room = Signal(groups)
        for group in range(groups):
            other = self.room[group + 1] if group % 2 == 0 and group + 1 < groups else C(1)
            m.d.comb += room[group].eq(self.room[group] & (~pairs | other))

        # pick: a group that has a job and room; pairs not one behind the other, for their tags
        m.submodules.picker = picker = RoundRobin(groups)
        inflight, free = Signal(range(_AHEAD + 1)), Signal(init=1)
        next_inflight = Signal.like(inflight)
        given = Signal(groups)
        picked_valid, may = Signal(), Signal()
        take = self.o.valid & self.o.ready
        m.d.comb += [
            picker.request.eq(busy & room & ~(recent[0] | recent[1] | recent[2])),
            may.eq(free & ~(pairs & picked_valid)),
            picker.take.eq(may), picked_valid.eq(self.picked.any()),
            self.joined.eq(Mux(pairs, self.picked << 1, 0)),
            next_inflight.eq(inflight + (may & picker.request.any()) - take),
        ]
        m.d.sync += [
            inflight.eq(next_inflight), free.eq(next_inflight < _AHEAD),
            self.picked.eq(Mux(may, picker.grant, 0)),
            recent[0].eq(Mux(may, picker.grant, 0) | given), recent[1].eq(recent[0]),
            recent[2].eq(recent[1]),
        ]

        # read its state
        index = Signal(range(groups))
        job, job_valid = Signal(job_layout, reset_less=True), Signal()
        job_group = Signal.like(index)
        m.d.comb += [index.eq(_encode(self.picked)), read.addr.eq(index)]
        kept = Signal(job_layout, reset_less=True)  # what is being written
        m.d.sync += [job.eq(read.data), job_valid.eq(picked_valid), job_group.eq(index)]

        # the unit, and the state after it
        context = job.tag.context
        last = Signal()
        after, after_valid = Signal(job_layout, reset_less=True), Signal()
        after_group = Signal.like(index)
        unit = queue.i.payload
        digits = contexts.flag(context, Flag.SIGNED_DIGITS)
        m.d.comb += [
            last.eq(job.last_plane & job.last_step), queue.i.valid.eq(job_valid),
            unit.group.eq(job_group), unit.context.eq(context),
            unit.end.eq(job.last_plane), unit.minus.eq(digits & job.plane[0]),
            unit.double.eq(Mux(job.last_plane | (digits & ~job.plane[0]), 0,
                               Mux(job.last_inner, contexts.field(context, "group_shift"),
                                   contexts.field(context, "plane_shift")))),
            *(unit[name].eq(job[name]) for name in ("origin", "low", "high", "y", "weight", "two")),
        ]
        # the tag, and that of the second pixel behind it
        second = Signal(job.tag.shape(), reset_less=True)
        second_valid, first_tag = Signal(), Signal()
        m.d.comb += first_tag.eq(job_valid & (job.plane == 0))
        m.d.sync += [
            self.tag_valid.eq(first_tag | second_valid), second_valid.eq(first_tag & job.two),
            self.tag_group.eq(Mux(second_valid, self.tag_group | 1, job_group)),
            self.tag.eq(Mux(second_valid, second, job.tag)), second.eq(job.tag),
            *(second[name].eq(job.tag[name] + contexts.field(context, field)) for name, field in (
                ("psum", "psum_pixel_step"), ("residual", "residual_pixel_step"),
                ("word", "word_column_step"), ("value", "value_pixel_step"))),
        ]
        m.d.sync += [
            after_valid.eq(job_valid & ~last), after_group.eq(job_group),
            after.eq(job),
        ]
        step = {name: Mux(job.last_plane, contexts.field(context, f"{name}_time_step"),
                          Mux(job.last_inner, contexts.field(context, f"{name}_group_step"),
                              contexts.field(context, f"{name}_plane_step")))
                for name in ("map", "weight")}
        m.d.sync += [after.origin.eq(job.origin + step["map"]),
                     after.weight.eq(job.weight + step["weight"]),
                     after.plane.eq(Mux(job.last_plane, 0, job.plane + 1)),
                     after.inner.eq(Mux(job.last_plane | job.last_inner, 0, job.inner + 1))]
        with m.If(job.last_plane):
            m.d.sync += [after.step.eq(job.step + 1), after.tag.first.eq(0)]
            m.d.sync += [
                after.tag[name].eq(job.tag[name] + contexts.field(context, f"{name}_time_step"))
                for name in ("psum", "residual", "word", "value")]

        # jobs for groups without one: the next such group is known a cycle ahead
        m.submodules.chooser = chooser = RoundRobin(groups)
        slot, slot_valid = Signal(groups, reset_less=True), Signal()
        slot_index = Signal(range(groups), reset_less=True)
        slot_pairs = Signal(reset_less=True)
        accept, fits, paired = Signal(), Signal(), Signal()
        teams = sum(1 << group for group in range(0, groups - 1, 2))  # groups with a neighbour
        m.d.comb += paired.eq(self.i.payload.paired)
        m.d.comb += [
            fits.eq(~paired | slot_pairs),
            self.i.ready.eq(slot_valid & ~after_valid & fits),
            accept.eq(self.i.valid & self.i.ready),
            given.eq(Mux(accept, slot, 0)),
            chooser.request.eq(~busy & ~Mux(slot_valid, slot, 0)),
            chooser.take.eq(~slot_valid | accept | (self.i.valid & ~fits)),
        ]
        with m.If(accept):
            m.d.sync += pairs.eq(paired)
        with m.If(chooser.take):
            m.d.sync += [slot.eq(chooser.grant), slot_valid.eq(chooser.request.any()),
                         slot_pairs.eq((chooser.grant & teams).any()),
                         slot_index.eq(_encode(chooser.grant))]
        for group in range(groups):
            with m.If(job_valid & last & (job_group == group)):
                m.d.sync += busy[group].eq(0)
            with m.If(given[group]):
                m.d.sync += busy[group].eq(1)
            with m.If(given[group] | (given[group - 1] & paired if group % 2 else C(0))):
                m.d.sync += self.context_of[group].eq(self.i.payload.tag.context)

        # one write port, from registers: states first, then new jobs
        written, place = Signal(job_layout), Signal.like(write.addr, reset_less=True)
        writes = Signal()
        owner = written.tag.context
        planes_last = contexts.derived(owner, "planes_last", 8, lambda view: view.planes - 1)
        # with 0 planes a group never ends
        inner_last = contexts.derived(owner, "inner_last", 8, lambda view: view.group_planes - 1)
        steps_last = contexts.derived(owner, "steps_last", 8, lambda view: view.time_steps - 1)
        m.d.comb += [
            written.eq(Mux(after_valid, after, self.i.payload)),
            write.en.eq(writes), write.data.eq(kept), write.addr.eq(place),
        ]
        m.d.sync += [
            writes.eq(after_valid | accept), kept.eq(written),
            kept.last_plane.eq(written.plane == planes_last),
            kept.last_inner.eq(written.inner == inner_last),
            kept.last_step.eq(written.step == steps_last),
            place.eq(Mux(after_valid, after_group, slot_index)),
        ]
        for number in range(2):
            mine = Mux(number, self.context_of, ~self.context_of)
            m.d.comb += self.active[number].eq(((busy | recent[1] | recent[2]) & mine).any())
        return m


def _encode(onehot):
    """Return the number of the one set bit."""
    width = max(1, (len(onehot) - 1).bit_length())
    return Cat(Cat(onehot[n] for n in range(len(onehot)) if n >> bit & 1).any()
               for bit in range(width))
