# SPDX-License-Identifier: Apache-2.0
"""The compute unit: buffers, window reader, groups, epilogue and count matrix."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from hw.conv.group import Group
from hw.conv.map_buffer import MapBuffer
from hw.conv.walker import PixelWalker
from hw.conv.weight_buffer import WeightBuffer
from hw.conv.window import WindowReader
from hw.descriptor import CONV, DESCRIPTOR_WORDS, Flag, Opcode, Target
from hw.lif.epilogue import Epilogue
from hw.lif.out_buffer import OutBuffer
from hw.payloads import descriptor_layout
from hw.presets import Preset
from hw.sdsa.count_matrix import CountMatrix

__all__ = ["ERROR_RESIDUAL", "STALL_CAUSES", "Compute"]

ERROR_RESIDUAL = 1
STALL_CAUSES = ("idle", "epilogue", "weights", "spikes")


class Compute(wiring.Component):
    """Runs CONV and KTV descriptors on data in its buffers.

    Two CONVs overlap: the jobs of the second are handed to groups while the last results of the
    first are still on their way, unless the second needs the first's partial sums. KTV runs alone.
    Posts come in order.

    Members
    -------
    load_* : In, Out
        A beat for a buffer (see hw.descriptor.Target).
    store_beat, store_enable, store_data : the output buffer's read port, 2 cycles
    i_descriptor : descriptors whose waits are over
    done_valid, done_post : Out
        A descriptor ended; the semaphores to raise.
    error, error_layer : Out
        Sticky: ERROR_RESIDUAL, a residual word that does not fit 16 bits.
    count_additions, count_skipped : Out
        Adder slots used, zero words skipped, in this cycle.
    stall_cause : Out
        Bit n: cause n of STALL_CAUSES holds at least one group.
    soft_reset : In
    idle : Out
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "load_valid": In(1),
            "load_target": In(2),
            "load_beat": In(24),
            "load_data": In(preset.axi_bits),
            "load_ready": Out(1),
            "store_beat": In(24),
            "store_enable": In(1),
            "store_data": Out(preset.axi_bits),
            "i_descriptor": In(stream.Signature(32 * DESCRIPTOR_WORDS)),
            "done_valid": Out(1),
            "done_post": Out(16),
            "error": Out(4),
            "error_layer": Out(16),
            "count_additions": Out(16),
            "count_skipped": Out(8),
            "stall_cause": Out(8),
            "soft_reset": In(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        inner = self._elaborate()
        return ResetInserter(self.soft_reset)(inner)

    def _elaborate(self):
        m = Module()
        preset = self._preset
        m.submodules.map_buffer = map_buffer = MapBuffer(preset)
        m.submodules.weight_buffer = weight_buffer = WeightBuffer(preset)
        m.submodules.out_buffer = out_buffer = OutBuffer(preset)
        m.submodules.walker = walker = PixelWalker(preset)
        m.submodules.reader = reader = WindowReader(preset)
        m.submodules.epilogue = epilogue = Epilogue(preset)
        m.submodules.counts = counts = CountMatrix(preset)
        groups = []
        for index in range(preset.groups):
            group = Group(preset)
            m.submodules[f"group_{index}"] = group
            groups.append(group)
        connect(m, walker.o, reader.i)
        self._connect_groups(m, groups, reader, weight_buffer, epilogue, counts)
        self._connect_load(m, map_buffer, weight_buffer, epilogue, counts)
        m.d.comb += [
            map_buffer.read_enable.eq(reader.read_enable | counts.map_enable),
            map_buffer.read_address.eq(Mux(counts.busy, counts.map_address,
                                           reader.read_address)),
            reader.read_data.eq(map_buffer.read_data), counts.map_data.eq(map_buffer.read_data),
            out_buffer.read_enable.eq(self.store_enable),
            out_buffer.read_beat.eq(self.store_beat), self.store_data.eq(out_buffer.read_data),
        ]
        for bank in range(preset.out_banks):
            for name in ("write_enable", "write_row", "write_data"):
                m.d.comb += getattr(out_buffer, name)[bank].eq(getattr(epilogue, name)[bank])
        self._sequence(m, walker, reader, epilogue, counts)
        self._count(m, groups, reader)
        return m

    def _connect_groups(self, m, groups, reader, weight_buffer, epilogue, counts):
        for index, group in enumerate(groups):
            uses = counts.busy if index == 1 else C(0)
            m.d.comb += [
                group.entry_valid.eq(reader.entry_valid & (reader.entry_group == index)),
                group.entry.eq(reader.entry), group.nonzero.eq(reader.nonzero),
                reader.entry_popped[index].eq(group.entry_popped),
                group.tag_valid.eq(reader.tag_valid & (reader.tag_group == index)),
                group.tag.eq(reader.tag), reader.tag_popped[index].eq(epilogue.free[index]),
                weight_buffer.read_valid[index].eq(group.row_valid),
                weight_buffer.read_row[index].eq(Mux(uses, counts.read_row, group.row)),
                weight_buffer.read_enable[index].eq(Mux(uses, counts.read_enable, group.enable)),
                group.hold.eq(weight_buffer.hold[index]),
                group.weights.eq(weight_buffer.read_data[index]),
                epilogue.result_valid[index].eq(group.result_valid),
                epilogue.results[index].eq(group.result),
                epilogue.tags[index].eq(group.result_tag),
                group.take.eq(epilogue.take[index]), group.free.eq(epilogue.free[index]),
            ]
        m.d.comb += counts.read_data.eq(weight_buffer.read_data[1])

    def _connect_load(self, m, map_buffer, weight_buffer, epilogue, counts):
        preset = self._preset
        parts = preset.weight_row_bits // preset.axi_bits
        part_bits = exact_log2(parts)
        is_weight = Signal()
        m.d.comb += [
            is_weight.eq(self.load_target == Target.WEIGHT),
            map_buffer.write_enable.eq(self.load_valid & (self.load_target == Target.MAP)),
            map_buffer.write_beat.eq(self.load_beat), map_buffer.write_data.eq(self.load_data),
            epilogue.load_data.eq(self.load_data),
            epilogue.load_param.eq(self.load_valid & (self.load_target == Target.PARAM)),
            epilogue.load_param_beat.eq(self.load_beat),
            epilogue.load_residual.eq(self.load_valid & (self.load_target == Target.RESIDUAL)),
            epilogue.load_residual_beat.eq(self.load_beat),
        ]
        with m.If(counts.write_valid):
            m.d.comb += [
                weight_buffer.write_valid.eq(1), weight_buffer.write_row.eq(counts.write_row),
                weight_buffer.write_part.eq(~0), weight_buffer.write_data.eq(counts.write_data),
                self.load_ready.eq(~is_weight),
            ]
        with m.Else():
            m.d.comb += [
                weight_buffer.write_valid.eq(self.load_valid & is_weight),
                weight_buffer.write_row.eq(self.load_beat[part_bits:]),
                weight_buffer.write_part.eq(1 << self.load_beat[:part_bits] if part_bits else 1),
                weight_buffer.write_data.eq(self.load_data.replicate(parts)),
                self.load_ready.eq(~is_weight | weight_buffer.write_ready),
            ]

    def _sequence(self, m, walker, reader, epilogue, counts):
        """Two contexts: ``newest`` takes the next CONV, the other one may still be draining."""
        opcode = self.i_descriptor.payload[:8]
        conv = Signal(descriptor_layout(CONV))
        m.d.comb += conv.as_value().eq(self.i_descriptor.payload)
        contexts = [Signal(32 * DESCRIPTOR_WORDS, name=f"context_{n}") for n in range(2)]
        used = Signal(2)
        oldest, newest = Signal(), Signal()
        walking = Signal()
        units = [Signal(16, name=f"units_{n}") for n in range(2)]
        for index in range(2):
            m.d.comb += [reader.descriptors[index].eq(contexts[index]),
                         epilogue.descriptors[index].eq(contexts[index])]
            m.d.sync += units[index].eq(
                units[index]
                + (reader.tag_valid & (reader.tag.context == index))
                - (epilogue.finished & (epilogue.finished_context == index)))
        alone = Signal()  # nothing is under way
        counting = Signal()
        m.d.comb += alone.eq((used == 0) & ~counting)
        after_psum = conv.flags[exact_log2(int(Flag.PSUM_IN))]
        free = Signal()
        m.d.comb += free.eq(~used.all() & ~counting & ~walking & (~after_psum | alone))
        is_conv = opcode == Opcode.CONV
        start = Signal()
        m.d.comb += [
            start.eq(self.i_descriptor.valid & is_conv & free),
            self.i_descriptor.ready.eq(Mux(is_conv, free, alone)),
        ]
        begun = Signal()
        m.d.sync += begun.eq(start)
        m.d.comb += [walker.start.eq(begun), walker.context.eq(newest),
                     walker.descriptor.eq(Mux(newest, contexts[1], contexts[0])),
                     walking.eq(begun | walker.busy)]
        slot = Signal()
        m.d.comb += slot.eq(Mux(used == 0, oldest, ~oldest))
        with m.If(start):
            m.d.sync += newest.eq(slot)
            for index in range(2):
                with m.If(slot == index):
                    m.d.sync += [contexts[index].eq(self.i_descriptor.payload),
                                 used[index].eq(1)]
        ended = Signal()
        for index in range(2):
            with m.If((oldest == index) & used[index]):
                m.d.comb += ended.eq((units[index] == 0) & ~reader.active[index]
                                     & ~(walking & (newest == index)))
                with m.If(ended):
                    m.d.sync += [used[index].eq(0), oldest.eq(~oldest)]
        m.d.comb += counts.start.eq(self.i_descriptor.valid & ~is_conv & alone)
        count_descriptor = Signal(32 * DESCRIPTOR_WORDS)
        with m.If(counts.start):
            m.d.sync += [count_descriptor.eq(self.i_descriptor.payload), counting.eq(1)]
        m.d.comb += counts.descriptor.eq(
            Mux(counting, count_descriptor, self.i_descriptor.payload))
        count_ended = Signal()
        m.d.comb += count_ended.eq(counting & ~counts.busy)
        with m.If(count_ended):
            m.d.sync += counting.eq(0)
        post = conv_post(contexts[0], contexts[1], oldest)
        m.d.sync += [
            self.done_valid.eq(ended | count_ended),
            self.done_post.eq(Mux(count_ended, count_descriptor[48:64], post)),
        ]
        layer = Mux(epilogue.overflow_context, contexts[1][16:32], contexts[0][16:32])
        with m.If(epilogue.overflow & (self.error == 0)):
            m.d.sync += [self.error.eq(ERROR_RESIDUAL), self.error_layer.eq(layer)]
        m.d.comb += self.idle.eq(alone & ~self.i_descriptor.valid)

    def _count(self, m, groups, reader):
        lane_bits = exact_log2(self._preset.lanes)
        adding = Signal(range(len(groups) + 1))
        m.d.sync += adding.eq(sum(group.adding for group in groups))
        m.d.comb += [
            self.count_additions.eq(adding << lane_bits),
            self.count_skipped.eq(reader.skipped),
        ]
        idle = Cat(~group.adding & group.enable for group in groups)
        m.d.sync += self.stall_cause.eq(Cat(
            idle.any(), Cat(~g.enable & ~g.hold for g in groups).any(),
            Cat(g.hold for g in groups).any(), idle.all()))


def conv_post(first, second, index):
    """Return the post mask of the descriptor in context ``index``."""
    return Mux(index, second[48:64], first[48:64])
