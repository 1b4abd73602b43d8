# SPDX-License-Identifier: Apache-2.0
"""The write half of the AXI4 master."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.dma.axi import axi4_write
from hw.dma.payloads import BURST, MAX_BURST, REPORT
from hw.dma.queue import Queue
from hw.dma.region_check import RegionCheck
from hw.dma.skid import Skid
from hw.regmap import ErrorCode

__all__ = ["WritePort"]


class WritePort(wiring.Component):
    """Writes bursts to memory.

    Up to ``outstanding`` bursts are under way; one beat per cycle, straight from ``i_data``; data
    isn't offered before its address. A burst outside ``base .. limit - 1`` isn't issued but
    reported, and nothing is issued after it or while ``stop`` is high; bursts under way still end,
    with data from ``i_data``.

    Parameters: ``axi_bits``; ``outstanding`` bursts (a power of two).

    Members: ``i_burst``; ``i_data`` their beats in order; ``axi``; ``base``, ``limit`` in bytes;
    ``stop``; ``done`` strobe when the last burst of a transfer was answered; ``failed`` strobe
    for an error answer; ``error`` a report for one cycle; ``beat`` strobe for each beat written,
    one cycle later; ``idle`` no transaction under way.
    """

    def __init__(self, axi_bits, outstanding=32):
        self.axi_bits = axi_bits
        self.outstanding = outstanding
        super().__init__({
            "i_burst": In(stream.Signature(BURST)), "i_data": In(stream.Signature(axi_bits)),
            "axi": Out(axi4_write(axi_bits)), "base": In(32), "limit": In(32), "stop": In(1),
            "done": Out(1), "failed": Out(1), "error": Out(REPORT), "beat": Out(1),
            "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.check = check = RegionCheck(self.axi_bits, ErrorCode.WRITE_REGION)
        m.submodules.lengths = lengths = Queue(range(MAX_BURST), self.outstanding)
        # what is sent follows a register beside the data, not the queue
        m.submodules.length = length = Skid(
            data.StructLayout({"length": range(MAX_BURST), "single": 1}))
        m.d.comb += [length.i.valid.eq(lengths.o.valid), lengths.o.ready.eq(length.i.ready),
                     length.i.payload.length.eq(lengths.o.payload),
                     length.i.payload.single.eq(lengths.o.payload == 0)]
        m.submodules.answers = answers = Queue(1, self.outstanding)
        axi = self.axi
        burst = check.o.payload
        wiring.connect(m, wiring.flipped(self.i_burst), check.i)
        m.d.comb += [
            check.base.eq(self.base), check.limit.eq(self.limit), check.stop.eq(self.stop),
            self.error.eq(check.error),
        ]

        # write address
        # no more lengths are waiting than answers: data come before their answer
        free = (~axi.awvalid | axi.awready) & answers.i.ready
        issue = check.o.valid & free
        m.d.comb += [
            check.o.ready.eq(free),
            lengths.i.valid.eq(issue), lengths.i.payload.eq(burst.beats - 1),
            answers.i.valid.eq(issue), answers.i.payload.eq(burst.last),
            axi.awsize.eq(exact_log2(self.axi_bits // 8)), axi.awburst.eq(1), axi.awcache.eq(3),
            axi.wstrb.eq(~0),
        ]
        with m.If(issue):
            m.d.sync += [axi.awvalid.eq(1), axi.awaddr.eq(burst.address),
                         axi.awlen.eq(burst.beats - 1)]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)

        # write data: the queue that they wait in holds them, so that few registers look at ready
        sent = Signal(range(MAX_BURST))
        first, ends = Signal(init=1), Signal()  # nothing of the burst was sent; all but one beat
        last = Signal()
        give = Signal()
        m.d.comb += [
            last.eq(Mux(first, length.o.payload.single, ends)),
            axi.wvalid.eq(self.i_data.valid & length.o.valid),
            axi.wdata.eq(self.i_data.payload), axi.wlast.eq(last),
            self.i_data.ready.eq(length.o.valid & axi.wready),
            give.eq(axi.wvalid & axi.wready),
            length.o.ready.eq(give & last),
        ]
        m.d.sync += self.beat.eq(give)
        with m.If(give):
            m.d.sync += [sent.eq(Mux(last, 0, sent + 1)), first.eq(last),
                         ends.eq(sent + 1 == length.o.payload.length)]

        # write response
        m.d.comb += [axi.bready.eq(1), answers.o.ready.eq(axi.bvalid),
                     self.idle.eq(~answers.o.valid & ~axi.awvalid & ~check.o.valid)]
        m.d.sync += [self.done.eq(axi.bvalid & answers.o.payload),
                     self.failed.eq(axi.bvalid & axi.bresp[1])]
        return m
