# SPDX-License-Identifier: Apache-2.0
"""Holds a stream back until its semaphores allow it."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Gate"]


class Gate(wiring.Component):
    """Lets one payload pass for each grant. Latency: that of the grant and one cycle.

    Parameters: ``shape`` of the payload.

    Members: ``i``, ``o`` streams; ``request`` a payload waits; ``grant`` strobe.
    """

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)),
                          "request": Out(1), "grant": In(1)})

    def elaborate(self, platform):
        m = Module()
        is_open = Signal()
        m.d.comb += [
            self.o.payload.eq(self.i.payload), self.o.valid.eq(self.i.valid & is_open),
            self.i.ready.eq(self.o.ready & is_open), self.request.eq(self.i.valid & ~is_open),
        ]
        with m.If(self.grant):
            m.d.sync += is_open.eq(1)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += is_open.eq(0)
        return m
