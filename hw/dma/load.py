# SPDX-License-Identifier: Apache-2.0
"""The LOAD unit: memory to on-chip buffers."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.descriptor import Target
from hw.dma.payloads import BEAT_BITS, BURST, REPORT, TRANSFER, read_beat
from hw.dma.skid import Skid
from hw.dma.transfer_walker import TransferWalker
from hw.regmap import ErrorCode

__all__ = ["Load"]


class Load(wiring.Component):
    """Reads the runs of transfers from memory and writes them to a buffer.

    Beat k of a transfer in memory order goes to beat k of it in buffer order (see
    docs/program.md). One beat per cycle; the bursts of up to four further transfers are asked
    for meanwhile. A transfer posts two cycles after the buffer took its last beat. A beat
    outside the target buffer isn't written but reported, as is a beat that memory answered with
    an error; after ``stop`` or an error nothing is written any more and arriving data is dropped.

    Parameters: ``preset``.

    Members: ``i`` transfers whose waits are satisfied; ``o_burst``, ``i_data`` the memory port;
    ``load_*`` the buffers: a beat is taken when ``load_valid`` and ``load_ready``; ``post``
    semaphores to raise; ``stop``; ``error`` a report for one cycle; ``idle`` all have ended,
    none with an error.
    """

    def __init__(self, preset):
        self.preset = preset
        bits = preset.axi_bits
        super().__init__({
            "i": In(stream.Signature(TRANSFER)), "o_burst": Out(stream.Signature(BURST)),
            "i_data": In(stream.Signature(read_beat(bits))),
            "load_valid": Out(1), "load_target": Out(2), "load_beat": Out(BEAT_BITS),
            "load_data": Out(bits), "load_ready": In(1),
            "post": Out(16), "stop": In(1), "error": Out(REPORT), "idle": Out(1)})

    def target_beats(self):
        """Return the depth of each buffer in beats, by Target."""
        preset = self.preset
        bits = {Target.MAP: preset.map_rows * preset.map_row_bits,
                Target.WEIGHT: preset.weight_rows * preset.weight_row_bits,
                Target.PARAM: preset.param_rows * preset.param_row_bits,
                Target.RESIDUAL: preset.residual_rows * preset.residual_row_bits}
        return {target: size // preset.axi_bits for target, size in bits.items()}

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = TransferWalker(self.preset.axi_bits)
        connect(m, flipped(self.i), walker.i)
        connect(m, walker.o_burst, flipped(self.o_burst))
        m.submodules.skid = skid = Skid(read_beat(self.preset.axi_bits))
        connect(m, flipped(self.i_data), skid.i)
        owner, beat, word = walker.o_owner.payload, walker.o_beat.payload, skid.o.payload

        failed = Signal()
        closed = self.stop | failed
        outside = Signal()
        with m.Switch(owner.target):
            for target, beats in self.target_beats().items():
                with m.Case(target):
                    m.d.comb += outside.eq(beat.beat >= beats)

        free = ~self.load_valid | self.load_ready
        both = walker.o_beat.valid & skid.o.valid
        move = Signal()
        m.d.comb += [
            move.eq(both & free & ~closed),
            walker.o_beat.ready.eq(move),
            walker.o_owner.ready.eq(move & beat.last),
            skid.o.ready.eq(move | closed),
            self.idle.eq(walker.idle & ~self.load_valid & ~failed),
        ]
        post = Signal(16)
        m.d.sync += [self.error.code.eq(0), self.post.eq(0)]
        with m.If(free):
            m.d.sync += [
                self.load_valid.eq(move & ~outside & ~word.error),
                self.load_target.eq(owner.target), self.load_beat.eq(beat.beat),
                self.load_data.eq(word.data), self.post.eq(post),
                post.eq(Mux(move & beat.last & ~outside & ~word.error, owner.post, 0))]
        with m.If(move & (outside | word.error)):
            m.d.sync += [failed.eq(1), self.error.code.eq(Mux(
                word.error, ErrorCode.READ_RESPONSE, ErrorCode.BUFFER_RANGE))]
        with m.If(~failed):  # so it is the one that failed
            m.d.sync += [self.error.index.eq(owner.index), self.error.layer.eq(owner.layer)]
        return m
