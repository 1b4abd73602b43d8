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
        beat = Signal(BEAT_BITS)
        left, step = Signal(16), Signal.like(self.i.payload.beat_step)
        final = Signal()
        index = Signal.like(self.i.payload.index)
        layer = Signal.like(self.i.payload.layer)
        valid = Signal()
        i = self.i.payload
        m.d.comb += [
            self.o.valid.eq(valid), self.o.payload.beat.eq(beat),
            self.o.payload.last.eq(final & (left == 0)),
            self.o.payload.index.eq(index), self.o.payload.layer.eq(layer),
            self.i.ready.eq(~valid | (self.o.ready & (left == 0))),
        ]
        with m.If(self.o.ready):
            m.d.sync += [beat.eq(beat + step), left.eq(left - 1)]
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), beat.eq(i.start), left.eq(i.length - 1),
                         step.eq(i.beat_step),
                         final.eq(i.last), index.eq(i.index), layer.eq(i.layer)]
        return m
