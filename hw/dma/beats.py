# SPDX-License-Identifier: Apache-2.0
"""Runs of a buffer to single beat addresses."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.dma.payloads import BEAT, BEAT_BITS, run

__all__ = ["Beats"]


class Beats(wiring.Component):
    """Lists the beats ``start + n * beat_step``, n below ``length``, of each run.

    Latency one cycle, one beat per cycle, also from run to run. Lengths are at least 1.

    Members: ``i`` runs, ``o`` beats, ``last`` on the last beat of the last run of a transfer.
    """

    i: In(stream.Signature(run(BEAT_BITS)))
    o: Out(stream.Signature(BEAT))

    def elaborate(self, platform):
        m = Module()
        i = self.i.payload
        beat = Signal(BEAT_BITS, reset_less=True)
        left, step = Signal(16, reset_less=True), Signal.like(i.beat_step, reset_less=True)
        ends = Signal(reset_less=True)  # no beat of the run is left behind this one
        final = Signal(reset_less=True)
        index = Signal.like(i.index, reset_less=True)
        layer = Signal.like(i.layer, reset_less=True)
        valid = Signal()
        m.d.comb += [
            self.o.valid.eq(valid), self.o.payload.beat.eq(beat),
            self.o.payload.last.eq(final & ends),
            self.o.payload.index.eq(index), self.o.payload.layer.eq(layer),
            self.i.ready.eq(~valid | (self.o.ready & ends)),
        ]
        with m.If(self.o.ready):
            m.d.sync += [beat.eq(beat + step), left.eq(left - 1), ends.eq(left == 1)]
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), beat.eq(i.start), left.eq(i.length - 1),
                         ends.eq(i.length == 1), step.eq(i.beat_step),
                         final.eq(i.last), index.eq(i.index), layer.eq(i.layer)]
        return m
