# SPDX-License-Identifier: Apache-2.0
"""A register slice that cuts a stream's ready path."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid"]


class Skid(wiring.Component):
    """Registers payload, valid and ready. Latency one cycle, one transfer per cycle.

    Parameters: ``shape`` of the payload.

    Members: ``i``, ``o`` streams.
    """

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        first = Signal(Shape.cast(self.shape), reset_less=True)
        spare = Signal(Shape.cast(self.shape), reset_less=True)
        spare_valid = Signal()
        payload = Value.cast(self.i.payload)
        m.d.comb += [self.i.ready.eq(~spare_valid), Value.cast(self.o.payload).eq(first)]
        with m.If(~spare_valid):  # whether it is needed or not: only valid bits look at ready
            m.d.sync += spare.eq(payload)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [first.eq(Mux(spare_valid, spare, payload)),
                         self.o.valid.eq(self.i.valid | spare_valid), spare_valid.eq(0)]
        with m.Elif(self.i.valid):
            m.d.sync += spare_valid.eq(1)
        return m
