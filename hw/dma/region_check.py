# SPDX-License-Identifier: Apache-2.0
"""Lets only bursts inside a region of memory pass."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.dma.payloads import BURST, REPORT

__all__ = ["RegionCheck"]


class RegionCheck(wiring.Component):
    """Passes bursts that lie in ``base <= byte < limit``; swallows and reports others.

    Latency two cycles, one burst per cycle. While ``stop`` is high, and after an error, no
    further burst passes.

    Parameters: ``axi_bits``; ``code``, the error reported.

    Members: ``i``, ``o`` bursts; ``base``, ``limit`` in bytes; ``stop``; ``error``, a report
    for one cycle.
    """

    def __init__(self, axi_bits, code):
        self.axi_bits = axi_bits
        self.code = code
        super().__init__({
            "i": In(stream.Signature(BURST)), "o": Out(stream.Signature(BURST)),
            "base": In(32), "limit": In(32), "stop": In(1), "error": Out(REPORT)})

    def elaborate(self, platform):
        m = Module()
        burst = Signal(BURST, reset_less=True)
        end = Signal(33, reset_less=True)
        valid = Signal()
        failed = Signal()
        out_free = ~self.o.valid | self.o.ready
        closed = self.stop | failed
        inside = (burst.address >= self.base) & (end <= self.limit)
        i = self.i.payload
        m.d.comb += self.i.ready.eq(~valid | (out_free & ~closed))
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), burst.eq(i),
                         end.eq(i.address + (i.beats << exact_log2(self.axi_bits // 8)))]
        passed = Signal(BURST, reset_less=True)
        told = Signal()
        m.d.comb += self.o.payload.eq(passed)
        m.d.sync += [self.error.code.eq(Mux(failed & ~told, self.code, 0)), told.eq(failed)]
        with m.If(out_free):
            m.d.sync += [self.o.valid.eq(valid & inside & ~closed), passed.eq(burst)]
            with m.If(valid & ~inside & ~closed):
                m.d.sync += failed.eq(1)
        with m.If(~failed):  # so it is the one outside
            m.d.sync += [self.error.index.eq(burst.index), self.error.layer.eq(burst.layer)]
        return m
