# SPDX-License-Identifier: Apache-2.0
"""The spike convolution core: from maps, weights and CONV descriptors to sums."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from hw.conv.group import Group
from hw.conv.map_buffer import MapBuffer
from hw.conv.tag_store import TagStore
from hw.conv.walker import PixelWalker
from hw.conv.weight_buffer import WeightBuffer
from hw.conv.window import WindowReader
from hw.descriptor import DESCRIPTOR_WORDS
from hw.payloads import TagLayout
from hw.presets import WORD_BITS, Preset

__all__ = ["ConvEngine"]


class ConvEngine(wiring.Component):
    """Map buffer, weight buffer, window reader and accumulator groups.

    For each output pixel and time step of a CONV, one result of ``lanes`` sums, as
    ``docs/program.md`` says; each group delivers its results in order, groups in any order. A
    second CONV may start in the other context while the first one's last results are still under
    way.

    Members
    -------
    start, context : In
        Begins the walk of ``descriptors[context]``, which holds until its last result is taken.
    started : In
        That descriptor, from the start to the end of the walk.
    walking : Out
        Pixels of the walk are still to be handed to groups; no ``start`` meanwhile.
    active : Out
        For each context: windows are still being read.
    unit_valid, unit_context : Out
        A result of this context is to come (one for each pixel and step).
    result_valid, results, result_contexts, free : arrays of groups, or one bit a group; see Lanes
    tag_group, tag : In, Out
        The oldest tag of a group, a cycle later.
    map_write_* : In
        A beat for the map buffer.
    weight_* : In
        A beat for the weight buffer, see WeightBuffer.
    other_* : In, Out
        Another reader of the two buffers, while no result is under way (``other_busy``).
    adding : Out
        Groups that add a weight row now; ``skipped``: zero words dropped now; ``waits``: for each
        group, bits idle, result not taken, weights being written.
    exceeded, exceeded_context : Out
        A window took more reads than ``window_reads``.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        groups, rows = preset.groups, exact_log2(preset.weight_rows)
        words = exact_log2(preset.map_words)
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "start": In(1),
            "started": In(32 * DESCRIPTOR_WORDS),
            "context": In(1),
            "walking": Out(1),
            "active": Out(2),
            "unit_valid": Out(1),
            "unit_context": Out(1),
            "result_valid": Out(groups),
            "results": Out(preset.lanes * preset.acc_width).array(groups),
            "result_contexts": Out(groups),
            "tag_group": In(range(groups)),
            "tag": Out(TagLayout(preset)),
            "free": In(groups),
            "map_write_valid": In(1),
            "map_write_beat": In(words - exact_log2(preset.beat_words)),
            "map_write_data": In(preset.axi_bits),
            "weight_valid": In(1),
            "weight_row": In(rows),
            "weight_part": In(preset.weight_row_bits // preset.axi_bits),
            "weight_same": In(1),
            "weight_data": In(preset.weight_row_bits),
            "other_busy": In(1),
            "other_map_enable": In(1),
            "other_map_address": In(words),
            "other_map_data": Out(data.ArrayLayout(WORD_BITS, preset.map_banks)),
            "other_row_enable": In(1),
            "other_row": In(rows),
            "other_row_data": Out(preset.weight_row_bits),
            "adding": Out(range(groups + 1)),
            "skipped": Out(range(2 * preset.map_banks + 1)),
            "waits": Out(3).array(groups),
            "exceeded": Out(1),
            "exceeded_context": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        row_bits = preset.weight_row_bits
        m.submodules.map_buffer = maps = MapBuffer(preset)
        m.submodules.weight_buffer = weights = WeightBuffer(preset)
        m.submodules.walker = walker = PixelWalker(preset)
        m.submodules.reader = reader = WindowReader(preset)
        m.submodules.tags = tags = TagStore(preset)
        connect(m, walker.o, reader.i)
        for index in range(2):
            m.d.comb += reader.descriptors[index].eq(self.descriptors[index])
        m.d.comb += [
            walker.start.eq(self.start), walker.context.eq(self.context),
            walker.descriptor.eq(self.started),
            self.walking.eq(self.start | walker.busy),
            self.active.eq(reader.active), self.skipped.eq(reader.skipped),
            self.exceeded.eq(reader.exceeded),
            self.exceeded_context.eq(reader.exceeded_context),
            self.unit_valid.eq(reader.tag_valid), self.unit_context.eq(reader.tag.context),
            tags.push_valid.eq(reader.tag_valid), tags.push_group.eq(reader.tag_group),
            tags.push.eq(reader.tag), tags.group.eq(self.tag_group), self.tag.eq(tags.tag),
            tags.pop.eq(self.free), reader.tag_popped.eq(self.free),
            maps.write_enable.eq(self.map_write_valid), maps.write_beat.eq(self.map_write_beat),
            maps.write_data.eq(self.map_write_data),
            maps.read_enable.eq(reader.read_enable | self.other_map_enable),
            maps.read_address.eq(Mux(self.other_busy, self.other_map_address,
                                     reader.read_address)),
            reader.read_data.eq(maps.read_data), reader.read_nonzero.eq(maps.read_nonzero),
            self.other_map_data.eq(maps.read_data),
            weights.write_valid.eq(self.weight_valid), weights.write_row.eq(self.weight_row),
            weights.write_part.eq(self.weight_part), weights.write_data.eq(self.weight_data),
            weights.write_same.eq(self.weight_same),
            self.other_row_data.eq(Mux(weights.upper[1], weights.read_data[1][row_bits:],
                                       weights.read_data[1][:row_bits])),
        ]
        groups = [Group(preset) for _ in range(preset.groups)]
        held = Signal(preset.groups)
        for index, group in enumerate(groups):
            m.submodules[f"group_{index}"] = group
            other = self.other_busy if index == 1 else C(0)  # the port that no write disturbs
            m.d.comb += [
                group.entry_valid.eq(reader.entry_valid[index]),
                group.entry.eq(reader.entry),
                group.nonzero.eq(reader.odd_nonzero if index % 2 else reader.nonzero),
                *([group.entry.row.eq(reader.odd_row), group.entry.single.eq(reader.odd_single)]
                  if index % 2 else []),
                reader.entry_popped[index].eq(group.entry_popped),
                weights.wants[index].eq(group.wants),
                weights.row[index].eq(Mux(other, self.other_row, group.row)),
                weights.next_enable[index].eq(
                    Mux(other, self.other_row_enable, group.next_enable)),
                group.hold.eq(weights.hold[index]), group.weights.eq(weights.read_data[index]),
                group.upper.eq(weights.upper[index]),
                self.result_valid[index].eq(group.result_valid),
                self.results[index].eq(group.result),
                self.result_contexts[index].eq(group.result_context),
                group.free.eq(self.free[index]),
                self.waits[index].eq(Cat(~group.adding & group.enable,
                                         ~group.enable & ~held[index], held[index])),
            ]
            m.d.sync += held[index].eq(weights.hold[index])
        m.d.sync += self.adding.eq(sum(group.adding for group in groups))
        return m
