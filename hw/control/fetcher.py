# SPDX-License-Identifier: Apache-2.0
"""Reads the program."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.descriptor import DESCRIPTOR_BYTES
from hw.dma.payloads import BURST, INDEX_BITS, REPORT, read_beat
from hw.dma.queue import Queue
from hw.dma.skid import Skid
from hw.regmap import ErrorCode

__all__ = ["Fetcher", "fetched"]

_AHEAD = 4
"""Descriptors asked for that have not all been taken."""


def fetched(axi_bits):
    """A beat of a descriptor, whether it is the last, and the descriptor's number."""
    return data.StructLayout({"data": axi_bits, "last": 1, "index": INDEX_BITS})


class Fetcher(wiring.Component):
    """Reads ``count`` descriptors from ``address`` on, ahead of their use, as beats.

    Up to four are on their way or waiting. An address that isn't a multiple of 128 and an error
    answer are reported. Reset makes it ready for the next ``start``.

    Parameters: ``axi_bits``.

    Members: ``start`` strobe; ``address``, ``count``, constant from then on; ``o_burst``,
    ``i_data`` the memory port; ``o`` beats; ``exhausted`` all have been taken; ``error`` a
    report for one cycle.
    """

    def __init__(self, axi_bits):
        self.axi_bits = axi_bits
        super().__init__({
            "start": In(1), "address": In(32), "count": In(INDEX_BITS),
            "o_burst": Out(stream.Signature(BURST)),
            "i_data": In(stream.Signature(read_beat(axi_bits))),
            "o": Out(stream.Signature(fetched(axi_bits))), "exhausted": Out(1),
            "error": Out(REPORT)})

    def elaborate(self, platform):
        m = Module()
        beats = 8 * DESCRIPTOR_BYTES // self.axi_bits
        m.submodules.queue = queue = Queue(read_beat(self.axi_bits), _AHEAD * beats)
        m.submodules.skid = skid = Skid(read_beat(self.axi_bits))
        wiring.connect(m, wiring.flipped(self.i_data), queue.i)
        wiring.connect(m, queue.o, skid.i)

        # requests
        left = Signal(INDEX_BITS)
        ahead = Signal(range(_AHEAD + 1))
        asked, ended = Signal(), Signal()
        burst = self.o_burst.payload
        running = Signal()
        m.d.comb += [
            self.o_burst.valid.eq(running & (left != 0) & (ahead != _AHEAD)),
            asked.eq(self.o_burst.valid & self.o_burst.ready),
            burst.beats.eq(beats), burst.last.eq(1),
        ]
        m.d.sync += ahead.eq(ahead + asked - ended)
        with m.If(self.start):
            m.d.sync += [running.eq(self.address[:7] == 0), burst.address.eq(self.address),
                         left.eq(self.count), burst.index.eq(0)]
        with m.Elif(asked):
            m.d.sync += [burst.address.eq(burst.address + DESCRIPTOR_BYTES),
                         burst.index.eq(burst.index + 1), left.eq(left - 1)]

        # answers
        beat = Signal(range(beats))
        index = Signal(INDEX_BITS)
        move = Signal()
        m.d.comb += [
            self.o.valid.eq(skid.o.valid), skid.o.ready.eq(self.o.ready),
            self.o.payload.data.eq(skid.o.payload.data), self.o.payload.index.eq(index),
            self.o.payload.last.eq(beat == beats - 1), move.eq(self.o.valid & self.o.ready),
            ended.eq(move & self.o.payload.last),
        ]
        m.d.sync += self.exhausted.eq(running & (index == self.count))
        with m.If(move):
            m.d.sync += [beat.eq(Mux(self.o.payload.last, 0, beat + 1)), index.eq(index + ended)]

        m.d.sync += [self.error.index.eq(index), self.error.code.eq(0)]
        with m.If(self.start & (self.address[:7] != 0)):
            m.d.sync += self.error.code.eq(ErrorCode.MISALIGNED)
        with m.Elif(move & skid.o.payload.error):
            m.d.sync += self.error.code.eq(ErrorCode.READ_RESPONSE)
        return m
