# SPDX-License-Identifier: Apache-2.0
"""Reads the windows of all groups through the one map port."""

import itertools

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.contexts import Contexts
from hw.conv.row_cutter import RowCutter
from hw.conv.tag_store import TAG_DEPTH
from hw.conv.unit_picker import UnitPicker
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.dma.skid import Skid
from hw.mux import at_most_one
from hw.payloads import EntryLayout, JobLayout, TagLayout, UnitLayout
from hw.presets import WORD_BITS, Preset

__all__ = ["WindowReader"]

_LATENCY = 4
"""Cycles of a map read."""


class WindowReader(wiring.Component):
    """Gives each free group the next job and streams its windows into the group's queue.

    Whenever a group's queue has room for a unit (``window_reads`` entries), they are set aside and
    the unit's kernel rows are read, ``map_banks`` words a cycle. Entries without a set bit are
    dropped unless they end a plane. With PAIRED an even group and its neighbour get the same words,
    the neighbour for the pixel to the right: its rows are one less, and its words those behind the
    first; what the neighbour does not get counts as dropped.

    **Throughput** one read a cycle, without a gap between units of different groups.
    **Latency** 18 cycles from a job to its first entry.

    Members
    -------
    descriptors : In
        The CONV of each of the two contexts.
    i : jobs
    read_enable, read_address, read_data, read_nonzero : the map buffer's read port
    entry_valid, entry, nonzero : Out
        An entry for the groups whose bits of ``entry_valid`` are set.
    odd_row, odd_single, odd_nonzero : Out
        Of the entry, as groups of odd number see it.
    entry_popped : In, one bit a group
    tag_valid, tag_group, tag : Out
        One for each (job, time step), before its entries.
    tag_popped : In, one bit a group
    active : Out
        For each context: tags are still to come.
    skipped : Out
        Zero words of windows that were read now.
    exceeded, exceeded_context : Out
        A unit takes more reads than ``window_reads``: entries may have been lost.
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
            "read_nonzero": In(preset.map_banks),
            "entry_valid": Out(groups),
            "entry": Out(EntryLayout(preset)),
            "nonzero": Out(preset.map_banks),
            "odd_row": Out(exact_log2(preset.weight_rows)),
            "odd_single": Out(1),
            "odd_nonzero": Out(preset.map_banks),
            "entry_popped": In(groups),
            "tag_group": Out(range(groups)),
            "tag_valid": Out(1),
            "tag": Out(TagLayout(preset)),
            "tag_popped": In(groups),
            "active": Out(2),
            "skipped": Out(range(2 * preset.map_banks + 1)),
            "exceeded": Out(1),
            "exceeded_context": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups, banks = preset.groups, preset.map_banks
        contexts = Contexts(m, self.descriptors)
        m.submodules.picker = picker = UnitPicker(preset)
        m.submodules.cutter = cutter = RowCutter(preset)
        connect(m, flipped(self.i), picker.i)
        # units come from registers, not from the queue's memory
        m.submodules.unit_skid = unit_skid = Skid(UnitLayout(preset))
        connect(m, picker.o, unit_skid.i)
        connect(m, unit_skid.o, cutter.i)
        for index in range(2):
            m.d.comb += [picker.descriptors[index].eq(self.descriptors[index]),
                         cutter.descriptors[index].eq(self.descriptors[index])]
        m.d.comb += [self.tag_valid.eq(picker.tag_valid), self.tag_group.eq(picker.tag_group),
                     self.tag.eq(picker.tag), self.active.eq(picker.active)]

        # Reads: map_banks words of a row a cycle.
        row, row_valid = Signal(cutter.o.payload.shape(), reset_less=True), Signal()
        short = Signal(reset_less=True)  # this read ends the row
        rest = Signal.like(row.words)
        final = ~row_valid | short
        depthwise = contexts.flag(row.context, Flag.DEPTHWISE)
        m.d.comb += [rest.eq(row.words - banks), cutter.o.ready.eq(final)]
        with m.If(final):
            m.d.sync += [row_valid.eq(cutter.o.valid), row.eq(cutter.o.payload),
                         short.eq(cutter.o.payload.words <= banks)]
        with m.Else():
            m.d.sync += [row.address.eq(row.address + banks), row.words.eq(rest),
                         row.row.eq(row.row + banks), row.begins.eq(0),
                         short.eq(row.words <= 2 * banks)]
        stage = data.StructLayout({
            "group": groups, "joined": groups, "context": 1, "words": banks, "odd_words": banks,
            "two": 1, "row": len(row.row), "marks": 1,
            "minus": 1, "depthwise": 1, "unsigned": 1, "mask_bit": 5, "double": 4, "end": 1})
        stages = [Signal(stage, name=f"read_s{n}", reset_less=True) for n in range(_LATENCY + 2)]
        stage_valid = Signal(_LATENCY + 2)
        begun, ends = stages[0], row.last & short
        m.d.comb += [self.read_enable.eq(stage_valid[0])]
        m.d.sync += [
            self.read_address.eq(row.address), stage_valid.eq(Cat(row_valid, stage_valid[:-1])),
            begun.group.eq(1 << row.group), begun.context.eq(row.context),
            begun.joined.eq(Mux(contexts.flag(row.context, Flag.PAIRED), 2 << row.group, 0)),
            begun.two.eq(row.two),
            *(begun.words[n].eq((row.words > n) & ~(row.ends & (row.words == n + 1)))
              for n in range(banks)),
            *(begun.odd_words[n].eq((row.words > n) & ~(row.begins if n == 0 else C(0)))
              for n in range(banks)),
            begun.row.eq(row.row), begun.minus.eq(row.minus), begun.depthwise.eq(depthwise),
            begun.unsigned.eq(contexts.flag(row.context, Flag.UNSIGNED_WEIGHTS)),
            begun.mask_bit.eq(contexts.field(row.context, "mask_bit")),
            begun.double.eq(Mux(ends, row.double, 0)), begun.end.eq(ends & row.end),
            begun.marks.eq(ends & (row.end | (row.double != 0))),
        ]
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise(stages)]

        # Entries: words beyond the row count as 0; what has no set bit and no mark is dropped.
        late = stages[-2]
        joins = late.joined.any()
        words = [Signal(WORD_BITS, name=f"word_{bank}", reset_less=True) for bank in range(banks)]
        nonzero, odd_nonzero = (Signal(banks, name=name, reset_less=True)
                                for name in ("which", "odd_which"))
        m.d.sync += [word.eq(read) for word, read in zip(words, self.read_data, strict=True)]
        m.d.sync += [
            nonzero.eq(self.read_nonzero & late.words),
            odd_nonzero.eq(self.read_nonzero & Mux(joins, late.odd_words, late.words))]
        last = stages[-1]
        joins = last.joined.any()
        keep, odd_keep = Signal(), Signal()
        m.d.comb += [
            keep.eq(stage_valid[-1] & (nonzero.any() | last.marks)),
            odd_keep.eq(stage_valid[-1] & last.two & (odd_nonzero.any() | last.marks))]
        entry = Signal(self.entry.shape(), name="found", reset_less=True)
        m.d.comb += self.entry.eq(entry)
        m.d.sync += [entry.words[bank].eq(word) for bank, word in enumerate(words)]
        m.d.sync += [
            self.nonzero.eq(nonzero), self.odd_nonzero.eq(odd_nonzero),
            self.entry_valid.eq(Mux(keep, last.group, 0) | Mux(odd_keep, last.joined, 0)),
            entry.single.eq(at_most_one(nonzero)),
            self.odd_single.eq(at_most_one(odd_nonzero)), self.odd_row.eq(last.row - joins),
            *(entry[name].eq(last[name]) for name in (
                "row", "context", "minus", "depthwise", "unsigned", "mask_bit", "double", "end")),
        ]
        drop, odd_drop = Signal(), Signal()
        group, joined = Signal(groups, reset_less=True), Signal(groups, reset_less=True)
        zeros, odd_zeros = Signal(banks), Signal(banks)
        m.d.sync += [
            drop.eq(stage_valid[-1] & ~keep), group.eq(last.group),
            odd_drop.eq(stage_valid[-1] & ~odd_keep), joined.eq(last.joined),
            zeros.eq(Mux(stage_valid[-1], last.words & ~nonzero, 0)),
            odd_zeros.eq(Mux(stage_valid[-1] & last.two, last.odd_words & ~odd_nonzero, 0)),
            self.skipped.eq(sum(bit for bit in Cat(zeros, odd_zeros))),
        ]
        dropped = Mux(drop, group, 0) | Mux(odd_drop, joined, 0)
        self._count_room(m, contexts, picker, row_valid, row, ends, dropped)
        return m

    def _count_room(self, m, contexts, picker, row_valid, row, ends, dropped):
        """Per group: entries of its queue that are set aside, and results under way.

        A unit sets ``window_reads`` entries aside when it is picked; what it did not read, dropped
        or has been popped is given back.
        """
        depth = self._preset.fifo_depth
        counter = Signal(range(depth + 1))  # reads of the unit at hand
        unread = Signal.like(counter, reset_less=True)
        ended = Signal(self._preset.groups)
        joins = contexts.flag(row.context, Flag.PAIRED)
        with m.If(row_valid):
            m.d.sync += counter.eq(Mux(ends, 0, counter + 1))
        m.d.sync += unread.eq(contexts.field(row.context, "window_reads") - 1 - counter)
        reads = contexts.kept("reads", len(counter), lambda _, view: view.window_reads)
        m.d.sync += [
            self.exceeded.eq(row_valid & (counter == Mux(row.context, *reads[::-1]))),
            self.exceeded_context.eq(row.context)]
        limits = contexts.kept("limit", len(counter), lambda _, view: depth - view.window_reads)
        popped = Signal(self._preset.groups)  # groups are far away
        m.d.sync += popped.eq(self.entry_popped)
        for group in range(self._preset.groups):
            used = Signal(range(depth + 1), name=f"used_{group}")
            tags = Signal(range(TAG_DEPTH + 1), name=f"tags_{group}")
            tagged = self.tag_valid & (self.tag_group == group)
            context = picker.context_of[group]
            m.d.sync += [
                ended[group].eq(row_valid & ends & ((row.group == group) | (
                    joins & (row.group == group - 1) if group % 2 else C(0)))),
                used.eq(used + Mux(picker.picked[group] | picker.joined[group],
                                   Mux(context, *reads[::-1]), 0)
                        - Mux(ended[group], unread, 0)
                        - popped[group] - dropped[group]),
                tags.eq(tags + tagged - self.tag_popped[group]),
                # a tag of the last pick may not be counted yet
                picker.room[group].eq((used <= Mux(context, *limits[::-1]))
                                      & (tags < TAG_DEPTH - 1)),
            ]
