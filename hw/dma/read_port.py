# SPDX-License-Identifier: Apache-2.0
"""The read half of the AXI4 master, shared by descriptor fetch and LOAD."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.dma.axi import axi4_read
from hw.dma.payloads import BURST, REPORT, read_beat
from hw.dma.queue import Queue
from hw.dma.region_check import RegionCheck
from hw.dma.skid import Skid
from hw.regmap import ErrorCode

__all__ = ["ReadPort"]


class ReadPort(wiring.Component):
    """Issues read bursts of two clients and hands each its beats, in order.

    Fetch goes before load. Up to ``outstanding`` bursts are under way; one beat per cycle. A
    burst outside ``base .. limit - 1`` isn't issued but reported, and nothing is issued after
    it or while ``stop`` is high; bursts under way still end. Beats keep their order; a beat with
    an AXI error response is marked.

    Parameters: ``axi_bits``; ``outstanding`` bursts (a power of two).

    Members: ``i_fetch``, ``i_load`` bursts; ``o_fetch``, ``o_load`` beats; ``axi``; ``base``,
    ``limit`` in bytes; ``stop``; ``error`` a report for one cycle; ``beat`` strobe for each beat
    read; ``idle`` no transaction under way.
    """

    def __init__(self, axi_bits, outstanding=32):
        self.axi_bits = axi_bits
        self.outstanding = outstanding
        bursts, beats = stream.Signature(BURST), stream.Signature(read_beat(axi_bits))
        super().__init__({
            "i_fetch": In(bursts), "i_load": In(bursts), "o_fetch": Out(beats),
            "o_load": Out(beats), "axi": Out(axi4_read(axi_bits)),
            "base": In(32), "limit": In(32), "stop": In(1), "error": Out(REPORT),
            "beat": Out(1), "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.check = check = RegionCheck(self.axi_bits, ErrorCode.READ_REGION)
        m.submodules.owners = owners = Queue(1, self.outstanding)
        # whose beats arrive comes from a register, not from the queue's memory
        m.submodules.owner = owner = Skid(1)
        wiring.connect(m, owners.o, owner.i)
        axi = self.axi

        # the check's burst carries its owner in ``last``, which reads don't need
        fetch = self.i_fetch.valid
        m.d.comb += [
            check.base.eq(self.base), check.limit.eq(self.limit), check.stop.eq(self.stop),
            self.error.eq(check.error),
            check.i.valid.eq(self.i_fetch.valid | self.i_load.valid),
            check.i.payload.eq(Mux(fetch, self.i_fetch.payload.as_value(),
                                   self.i_load.payload.as_value())),
            check.i.payload.last.eq(fetch),
            self.i_fetch.ready.eq(check.i.ready),
            self.i_load.ready.eq(check.i.ready & ~fetch),
        ]

        # read address
        # bursts under way are counted: owners in the skid are not in the queue any more
        under_way, following = (Signal(range(self.outstanding + 1), name=name)
                                for name in ("under_way", "following"))
        ended, room = Signal(), Signal(init=1)
        m.d.comb += following.eq(under_way + owners.i.valid - ended)
        m.d.sync += [under_way.eq(following), room.eq(following != self.outstanding)]
        free = (~axi.arvalid | axi.arready) & room
        m.d.comb += [
            check.o.ready.eq(free), owners.i.valid.eq(check.o.valid & check.o.ready),
            owners.i.payload.eq(check.o.payload.last),
            axi.arsize.eq(exact_log2(self.axi_bits // 8)), axi.arburst.eq(1), axi.arcache.eq(3),
        ]
        with m.If(free):
            m.d.sync += [axi.arvalid.eq(check.o.valid),
                         axi.araddr.eq(check.o.payload.address),
                         axi.arlen.eq(check.o.payload.beats - 1)]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)

        # read data
        to_fetch = owner.o.payload
        beat = axi.rvalid & axi.rready
        for output, chosen in ((self.o_fetch, to_fetch), (self.o_load, ~to_fetch)):
            m.d.comb += [output.payload.data.eq(axi.rdata), output.payload.error.eq(axi.rresp[1]),
                         output.valid.eq(axi.rvalid & chosen & owner.o.valid)]
        m.d.comb += [
            axi.rready.eq(Mux(to_fetch, self.o_fetch.ready, self.o_load.ready) & owner.o.valid),
            owner.o.ready.eq(beat & axi.rlast),
            self.idle.eq(~axi.arvalid & ~owners.o.valid & ~owner.o.valid
                         & ~check.o.valid),
        ]
        m.d.sync += [self.beat.eq(beat), ended.eq(beat & axi.rlast)]
        return m
