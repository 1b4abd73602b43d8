# SPDX-License-Identifier: Apache-2.0
"""Reads the windows of all groups through the one map port."""

import itertools

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.descriptor import CONV, DESCRIPTOR_WORDS, Flag
from hw.payloads import EntryLayout, JobLayout, TagLayout, descriptor_layout
from hw.presets import WORD_BITS, Preset

__all__ = ["TAG_DEPTH", "WindowReader"]

TAG_DEPTH = 8
"""Units of a group between the start of its window reads and the end of its epilogue."""


class WindowReader(wiring.Component):
    """Gives each free group the next job and streams its windows into the group's queue.

    A *unit* is one plane of one time step of a job. Units of a group follow each other in order
    (planes of a step, then steps). Whenever a group has room for a unit (half of
    its queue), the unit's kernel rows are cut to the map and to the chunk and read, ``map_banks``
    words a cycle. Entries without a set bit are dropped unless they end a plane.

    **Throughput** one read a cycle, without a gap between units of different groups.
    **Latency** 8 cycles from a job to its first entry.

    Members
    -------
    descriptors : In
        The CONV of each of the two contexts.
    i : jobs
    read_enable, read_address, read_data : the map buffer's read port
    entry_group, entry_valid, entry, nonzero : Out
        An entry for group ``entry_group``.
    entry_popped : In, one bit a group
    tag_group, tag_valid, tag : Out
        One for each (job, time step), before its entries.
    tag_popped : In, one bit a group
    active : Out
        For each context: a job is still being read.
    skipped : Out
        Zero words that were read now.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        groups = preset.groups
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "i": In(stream.Signature(JobLayout(preset))),
            "read_enable": Out(1),
            "read_address": Out(exact_log2(preset.map_words)),
            "read_data": In(data.ArrayLayout(WORD_BITS, preset.map_banks)),
            "entry_group": Out(range(groups)),
            "entry_valid": Out(1),
            "entry": Out(EntryLayout(preset)),
            "nonzero": Out(preset.map_banks),
            "entry_popped": In(groups),
            "tag_group": Out(range(groups)),
            "tag_valid": Out(1),
            "tag": Out(TagLayout(preset)),
            "tag_popped": In(groups),
            "active": Out(2),
            "skipped": Out(range(preset.map_banks + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups = preset.groups
        words = exact_log2(preset.map_words)
        views = []
        for context in range(2):
            view = Signal(descriptor_layout(CONV), name=f"conv_{context}")
            m.d.comb += view.as_value().eq(self.descriptors[context])
            views.append(view)

        def field(context, name):
            return Mux(context, views[1][name], views[0][name])

        def flag(context, name):
            index = exact_log2(int(name))
            return field(context, "flags")[index]

        busy = Signal(groups)  # has a job with units still to be read
        contexts = Signal(groups)
        pending = Signal(groups)  # its unit is on the way to the read port
        done = Signal(groups)  # one-hot: the unit's last read is issued now
        read_done = Signal(groups)
        room = Signal(groups)
        used_up = []
        for group in range(groups):
            used = Signal(range(preset.fifo_depth + 1), name=f"used_{group}")
            tags = Signal(range(TAG_DEPTH + 1), name=f"tags_{group}")
            used_up.append((used, tags))
            m.d.comb += room[group].eq((used <= preset.fifo_depth // 2) & (tags < TAG_DEPTH))

        # Pick: a group that has a job, room, and no unit on the way; round robin.
        jobs = Memory(shape=JobLayout(preset), depth=groups, init=[])
        m.submodules.jobs = jobs
        job_write, job_read = jobs.write_port(), jobs.read_port(domain="comb")
        candidates, turn = Signal(groups), Signal(groups, init=1)
        chosen = Signal(groups)
        m.d.comb += candidates.eq(busy & room & ~pending)
        doubled = Cat(candidates, candidates)
        lowest = Signal(2 * groups)
        m.d.comb += [lowest.eq(doubled & ~(doubled - turn)),
                     chosen.eq(lowest[:groups] | lowest[groups:])]
        pick_valid, pick = Signal(), Signal(range(groups))
        pick_move = Signal()
        with m.If(pick_move):
            m.d.sync += pick_valid.eq(candidates.any())
            with m.If(candidates.any()):
                m.d.sync += turn.eq(chosen.rotate_left(1))
                for bit in range(len(pick)):
                    m.d.sync += pick[bit].eq(
                        Cat(chosen[g] for g in range(groups) if g >> bit & 1).any())
        taken = Signal(groups)
        m.d.comb += taken.eq(Mux(pick_move, chosen, 0))
        m.d.sync += pending.eq((pending | taken) & ~done)

        # Unit: the picked job's next plane; the job moves on to the plane after it.
        job, after = Signal(JobLayout(preset)), Signal(JobLayout(preset))
        context = Signal()
        unit_valid, unit_free = Signal(), Signal()
        unit = Signal(JobLayout(preset))
        m.d.comb += [job_read.addr.eq(pick), job.eq(job_read.data),
                     context.eq(job.tag.context)]
        last_plane, last_step = Signal(), Signal()
        m.d.comb += [
            last_plane.eq(job.plane == field(context, "planes") - 1),
            last_step.eq(job.step == field(context, "time_steps") - 1),
            after.eq(job),
        ]
        with m.If(last_plane):
            m.d.comb += [
                after.plane.eq(0), after.step.eq(job.step + 1),
                after.origin.eq(job.origin + field(context, "map_time_step")),
                after.weight.eq(job.weight + field(context, "weight_time_step")),
                after.tag.first.eq(0),
                after.tag.psum.eq(job.tag.psum + field(context, "psum_time_step")),
                after.tag.residual.eq(job.tag.residual + field(context, "residual_time_step")),
                after.tag.word.eq(job.tag.word + field(context, "word_time_step")),
                after.tag.value.eq(job.tag.value + field(context, "value_time_step")),
            ]
        with m.Else():
            m.d.comb += [
                after.plane.eq(job.plane + 1),
                after.origin.eq(job.origin + field(context, "map_plane_step")),
                after.weight.eq(job.weight + field(context, "weight_plane_step")),
            ]
        unit_group, unit_context = Signal(range(groups)), Signal()
        unit_end, unit_minus = Signal(), Signal()
        unit_double = Signal(4)
        issue = Signal()
        m.d.comb += [issue.eq(pick_valid & (~unit_valid | unit_free)),
                     pick_move.eq(~pick_valid | issue)]
        digits = flag(context, Flag.SIGNED_DIGITS)
        with m.If(issue):
            m.d.sync += [
                unit_valid.eq(1), unit.eq(job), unit_group.eq(pick), unit_context.eq(context),
                unit_end.eq(last_plane), unit_minus.eq(digits & job.plane[0]),
                unit_double.eq(Mux(last_plane | (digits & ~job.plane[0]), 0,
                                   field(context, "plane_shift"))),
            ]
        with m.Elif(unit_free):
            m.d.sync += unit_valid.eq(0)
        m.d.comb += [self.tag_valid.eq(issue & (job.plane == 0)), self.tag_group.eq(pick),
                     self.tag.eq(job.tag)]

        # A free group takes the next job, in a cycle in which no unit is issued.
        free = Signal(groups)
        free_group = Signal(range(groups))
        m.d.comb += free.eq(~busy & ~pending)
        for group in reversed(range(groups)):
            with m.If(free[group]):
                m.d.comb += free_group.eq(group)
        m.d.comb += self.i.ready.eq(~issue & free.any())
        accept = Signal()
        m.d.comb += accept.eq(self.i.valid & self.i.ready)
        m.d.comb += [
            job_write.en.eq(issue | accept),
            job_write.addr.eq(Mux(issue, pick, free_group)),
            job_write.data.eq(Mux(issue, after, self.i.payload)),
        ]
        for group in range(groups):
            with m.If(issue & (pick == group) & last_plane & last_step):
                m.d.sync += busy[group].eq(0)
            with m.If(accept & (free_group == group)):
                m.d.sync += [busy[group].eq(1), contexts[group].eq(self.i.payload.tag.context)]

        # Rows: one kernel row of the unit a cycle, cut to the map and to the chunk.
        kernel_row = Signal(16)
        y, first = Signal(signed(words + 2)), Signal(signed(17))
        row_y, row_first = Signal.like(y), Signal.like(first)
        m.d.comb += [row_y.eq(Mux(kernel_row == 0, unit.y, y)),
                     row_first.eq(Mux(kernel_row == 0, field(unit_context, "chunk_first"),
                                      first))]
        rows = field(unit_context, "kernel_rows")
        last_row = Signal()
        m.d.comb += last_row.eq(kernel_row + 1 >= rows)
        low, high = Signal(signed(17)), Signal(signed(17))
        chunk_room = Signal(signed(18))
        m.d.comb += [
            chunk_room.eq(field(unit_context, "chunk_words") - row_first),
            low.eq(Mux(-row_first > unit.low, -row_first, unit.low)),
            high.eq(Mux(chunk_room < unit.high, chunk_room, unit.high)),
        ]
        inside = Signal()
        m.d.comb += inside.eq((row_y >= 0) & (row_y < field(unit_context, "rows_words"))
                              & (low < high) & (rows != 0))
        cut = Signal(data.StructLayout({
            "group": range(groups), "context": 1, "address": words, "row": len(unit.weight),
            "left": 16, "empty": 1, "last": 1, "end": 1, "minus": 1, "double": 4}))
        cut_valid, cut_free = Signal(), Signal()
        step_row = Signal()
        m.d.comb += [step_row.eq(unit_valid & (~cut_valid | cut_free)),
                     unit_free.eq(step_row & last_row)]
        weight_word = Signal(signed(18))
        m.d.comb += weight_word.eq(row_first + low)
        depthwise = flag(unit_context, Flag.DEPTHWISE)
        with m.If(step_row):
            m.d.sync += [
                kernel_row.eq(Mux(last_row, 0, kernel_row + 1)),
                y.eq(row_y + field(unit_context, "row_pitch")),
                first.eq(row_first + field(unit_context, "string_words")),
                cut_valid.eq(inside | last_row),
                cut.group.eq(unit_group), cut.context.eq(unit_context),
                cut.address.eq(unit.origin + row_y + low),
                cut.row.eq(unit.weight + Mux(depthwise, weight_word, weight_word << 5)),
                cut.left.eq(high - low), cut.empty.eq(~inside),
                cut.last.eq(last_row), cut.end.eq(unit_end), cut.minus.eq(unit_minus),
                cut.double.eq(unit_double),
            ]
        with m.Elif(cut_free):
            m.d.sync += cut_valid.eq(0)

        # Reads: map_banks words of the cut row a cycle.
        banks = preset.map_banks
        final = Signal()
        m.d.comb += [final.eq(cut.empty | (cut.left <= banks)), cut_free.eq(cut_valid & final)]
        cut_depthwise = flag(cut.context, Flag.DEPTHWISE)
        with m.If(cut_valid & ~final):
            m.d.sync += [cut.address.eq(cut.address + banks), cut.left.eq(cut.left - banks),
                         cut.row.eq(cut.row + Mux(cut_depthwise, banks, 32 * banks))]
        for group in range(groups):
            m.d.comb += done[group].eq(cut_free & cut.last & (cut.group == group))
            m.d.comb += read_done[group].eq(cut_valid & (cut.group == group))

        stage = data.StructLayout({
            "valid": 1, "group": range(groups), "count": range(banks + 1),
            "row": len(unit.weight), "marks": 1, "minus": 1, "depthwise": 1, "unsigned": 1,
            "mask_bit": 5, "double": 4, "end": 1})
        stages = [Signal(stage, name=f"read_s{n}") for n in range(4)]
        plane_ends = cut.last & final
        m.d.comb += [
            self.read_enable.eq(stages[0].valid),
        ]
        address = Signal(words)
        m.d.comb += self.read_address.eq(address)
        m.d.sync += [
            address.eq(cut.address),
            stages[0].valid.eq(cut_valid), stages[0].group.eq(cut.group),
            stages[0].count.eq(Mux(cut.empty, 0, Mux(cut.left < banks, cut.left, banks))),
            stages[0].row.eq(cut.row), stages[0].minus.eq(cut.minus),
            stages[0].depthwise.eq(cut_depthwise),
            stages[0].unsigned.eq(flag(cut.context, Flag.UNSIGNED_WEIGHTS)),
            stages[0].mask_bit.eq(field(cut.context, "mask_bit")),
            stages[0].double.eq(Mux(plane_ends, cut.double, 0)),
            stages[0].end.eq(plane_ends & cut.end),
            stages[0].marks.eq(plane_ends & (cut.end | (cut.double != 0))),
        ]
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise(stages)]

        # Entries: words beyond the row are 0; what has no set bit and no mark is dropped.
        last = stages[3]
        entry = Signal(EntryLayout(preset))
        nonzero = Signal(banks)
        for bank in range(banks):
            used_word = Mux(last.count > bank, self.read_data[bank], 0)
            m.d.comb += [entry.words[bank].eq(used_word), nonzero[bank].eq(used_word.any())]
        keep = Signal()
        m.d.comb += keep.eq(last.valid & (nonzero.any() | last.marks))
        m.d.comb += [entry.row.eq(last.row), entry.minus.eq(last.minus),
                     entry.depthwise.eq(last.depthwise), entry.unsigned.eq(last.unsigned),
                     entry.mask_bit.eq(last.mask_bit), entry.double.eq(last.double),
                     entry.end.eq(last.end)]
        m.d.sync += [self.entry.eq(entry), self.nonzero.eq(nonzero),
                     self.entry_valid.eq(keep), self.entry_group.eq(last.group)]
        dropped = Signal(groups)
        for group in range(groups):
            m.d.comb += dropped[group].eq(last.valid & ~keep & (last.group == group))
        m.d.sync += self.skipped.eq(Mux(
            last.valid, last.count - sum(nonzero[bank] for bank in range(banks)), 0))

        for group, (used, tags) in enumerate(used_up):
            m.d.sync += used.eq(used + read_done[group] - self.entry_popped[group]
                                - dropped[group])
            m.d.sync += tags.eq(tags + (self.tag_valid & (pick == group))
                                - self.tag_popped[group])
        for index in range(2):
            m.d.comb += self.active[index].eq(
                ((busy | pending) & Mux(index, contexts, ~contexts)).any())
        return m
