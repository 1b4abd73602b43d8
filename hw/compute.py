# SPDX-License-Identifier: Apache-2.0
"""The compute unit: spike convolution, epilogue, count matrix, and their order."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.conv.engine import ConvEngine
from hw.descriptor import Target
from hw.lif.epilogue import Epilogue
from hw.lif.out_buffer import OutBuffer
from hw.presets import Preset
from hw.sdsa.count_matrix import CountMatrix
from hw.sequencer import Sequencer

__all__ = ["ERROR_READS", "ERROR_RESIDUAL", "STALL_CAUSES", "Compute"]

ERROR_RESIDUAL, ERROR_READS = 1, 2
STALL_CAUSES = ("idle", "epilogue", "weights", "spikes")


class Compute(wiring.Component):
    """Runs CONV and KTV descriptors on data in its buffers.

    Two CONVs overlap: the jobs of the second are handed to groups while the last results of the
    first are still on their way, and may overtake them, unless the second has a FENCE. KTV runs
    alone. Posts come in order. See Sequencer.

    Members
    -------
    load_* : In, Out
        A beat for a buffer (see hw.descriptor.Target).
    store_beat, store_enable, store_data : the output buffer's read port, 2 cycles
    i_beat : beats of descriptors
    request, wait, grant : Out, Out, In
        A descriptor asks for its semaphores; its ``wait`` mask; strobe: they are lowered.
    layer : Out
        Layer of the last descriptor that began.
    done_valid, done_post : Out
        A descriptor ended; the semaphores to raise.
    error, error_layer : Out
        Sticky: ERROR_RESIDUAL, a residual word that does not fit 16 bits; ERROR_READS, a window
        that took more reads than ``window_reads``.
    count_additions, count_skipped : Out
        Adder slots used, zero words skipped, in this cycle.
    stall_cause : Out
        Bit n: cause n of STALL_CAUSES holds at least one group.
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
            "i_beat": In(stream.Signature(preset.axi_bits)),
            "request": Out(1),
            "wait": Out(16),
            "grant": In(1),
            "layer": Out(16),
            "done_valid": Out(1),
            "done_post": Out(16),
            "error": Out(4),
            "error_layer": Out(16),
            "count_additions": Out(16),
            "count_skipped": Out(8),
            "stall_cause": Out(8),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        m.submodules.engine = engine = ConvEngine(preset)
        m.submodules.out_buffer = out_buffer = OutBuffer(preset)
        m.submodules.epilogue = epilogue = Epilogue(preset)
        m.submodules.counts = counts = CountMatrix(preset)
        for index in range(preset.groups):
            m.d.comb += epilogue.results[index].eq(engine.results[index])
        for name in ("result_valid", "result_contexts", "tag"):
            m.d.comb += getattr(epilogue, name).eq(getattr(engine, name))
        for name in ("tag_group", "free"):
            m.d.comb += getattr(engine, name).eq(getattr(epilogue, name))
        m.d.comb += [
            engine.other_map_enable.eq(counts.map_enable),
            engine.other_map_address.eq(counts.map_address),
            engine.other_row_enable.eq(counts.read_enable),
            engine.other_row.eq(counts.read_row),
            counts.map_data.eq(engine.other_map_data),
            counts.read_data.eq(engine.other_row_data),
            out_buffer.read_enable.eq(self.store_enable),
            out_buffer.read_beat.eq(self.store_beat), self.store_data.eq(out_buffer.read_data),
        ]
        m.d.sync += engine.other_busy.eq(counts.busy)  # reads begin some cycles later
        for bank in range(preset.out_banks):
            for name in ("write_enable", "write_row", "write_data"):
                m.d.comb += getattr(out_buffer, name)[bank].eq(getattr(epilogue, name)[bank])
        self._connect_load(m, engine, epilogue, counts)
        self._sequence(m, engine, epilogue, counts)
        waits = engine.waits
        m.d.comb += [
            self.count_additions.eq(engine.adding << exact_log2(preset.lanes)),
            self.count_skipped.eq(engine.skipped),
        ]
        m.d.sync += self.stall_cause.eq(Cat(
            *(Cat(wait[cause] for wait in waits).any() for cause in range(3)),
            Cat(wait[0] for wait in waits).all()))
        return m

    def _connect_load(self, m, engine, epilogue, counts):
        preset = self._preset
        parts = preset.weight_row_bits // preset.axi_bits
        part_bits = exact_log2(parts)
        is_weight = Signal()
        m.d.comb += [
            is_weight.eq(self.load_target == Target.WEIGHT),
            engine.map_write_valid.eq(self.load_valid & (self.load_target == Target.MAP)),
            engine.map_write_beat.eq(self.load_beat), engine.map_write_data.eq(self.load_data),
            epilogue.load_data.eq(self.load_data),
            epilogue.load_param.eq(self.load_valid & (self.load_target == Target.PARAM)),
            epilogue.load_param_beat.eq(self.load_beat),
            epilogue.load_residual.eq(self.load_valid & (self.load_target == Target.RESIDUAL)),
            epilogue.load_residual_beat.eq(self.load_beat),
        ]
        # compared beside the choice of the write, not behind it; a write of counts joins nothing
        row = self.load_beat[part_bits:][:exact_log2(preset.weight_rows)]
        row_before = Signal.like(row, name="row_before", reset_less=True)
        m.d.sync += row_before.eq(row)
        m.d.comb += engine.weight_same.eq(~counts.write_valid & (row == row_before))
        with m.If(counts.write_valid):
            m.d.comb += [
                engine.weight_valid.eq(1), engine.weight_row.eq(counts.write_row),
                engine.weight_part.eq(~0), engine.weight_data.eq(counts.write_data),
                self.load_ready.eq(~is_weight),
            ]
        with m.Else():
            m.d.comb += [
                engine.weight_valid.eq(self.load_valid & is_weight),
                engine.weight_row.eq(row),
                engine.weight_part.eq(1 << self.load_beat[:part_bits] if part_bits else 1),
                engine.weight_data.eq(self.load_data.replicate(parts)),
                self.load_ready.eq(1),
            ]

    def _sequence(self, m, engine, epilogue, counts):
        m.submodules.sequencer = sequencer = Sequencer(self._preset)
        connect(m, flipped(self.i_beat), sequencer.i_beat)
        for index in range(2):
            m.d.comb += [engine.descriptors[index].eq(sequencer.descriptors[index]),
                         epilogue.descriptors[index].eq(sequencer.descriptors[index])]
        m.d.comb += [
            counts.descriptor.eq(sequencer.started), engine.started.eq(sequencer.started),
            engine.start.eq(sequencer.conv_start), engine.context.eq(sequencer.context),
            counts.start.eq(sequencer.count_start),
            sequencer.walking.eq(engine.walking), sequencer.counting.eq(counts.busy),
            sequencer.active.eq(engine.active), sequencer.unit_valid.eq(engine.unit_valid),
            sequencer.unit_context.eq(engine.unit_context),
            sequencer.finished.eq(epilogue.finished),
            sequencer.finished_context.eq(epilogue.finished_context),
            self.request.eq(sequencer.request), self.wait.eq(sequencer.wait),
            sequencer.grant.eq(self.grant), self.layer.eq(sequencer.layer),
            self.done_valid.eq(sequencer.done_valid), self.done_post.eq(sequencer.done_post),
            self.idle.eq(sequencer.idle),
        ]
        layers = [descriptor[16:32] for descriptor in sequencer.descriptors]
        for found, context, code in (
                (epilogue.overflow, epilogue.overflow_context, ERROR_RESIDUAL),
                (engine.exceeded, engine.exceeded_context, ERROR_READS)):
            with m.If(found & (self.error == 0)):
                m.d.sync += [self.error.eq(code),
                             self.error_layer.eq(Mux(context, *layers[::-1]))]
