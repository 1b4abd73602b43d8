# SPDX-License-Identifier: Apache-2.0
"""A register slice of one register."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["HalfSkid"]


class HalfSkid(wiring.Component):
    """Registers payload, valid and ready, as Skid does, in half of its registers.

    Latency one cycle, one transfer every second cycle.

    Parameters: ``shape`` of the payload.

    Members: ``i``, ``o`` streams.
    """

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        held = Signal(Shape.cast(self.shape), reset_less=True)
        m.d.comb += [self.i.ready.eq(~self.o.valid), Value.cast(self.o.payload).eq(held)]
        with m.If(~self.o.valid):
            m.d.sync += [held.eq(Value.cast(self.i.payload)), self.o.valid.eq(self.i.valid)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
