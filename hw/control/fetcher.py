# SPDX-License-Identifier: Apache-2.0
"""Reads the program."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.descriptor import DESCRIPTOR_BYTES
from hw.dma.payloads import BURST, INDEX_BITS, REPORT, read_beat
from hw.dma.queue import Queue
from hw.regmap import ErrorCode

__all__ = ["FETCHED", "Fetcher"]

FETCHED = data.StructLayout({"data": 8 * DESCRIPTOR_BYTES, "index": INDEX_BITS})
"""A descriptor as read, and its number in the program."""

_AHEAD = 4
"""Descriptors asked for and not yet assembled."""


class Fetcher(wiring.Component):
    """Reads ``count`` descriptors from ``address`` on, ahead of their use.

    Up to four are on their way or waiting; one takes a cycle for each of its beats and two more. An address that isn't a multiple of 128 and an error
    answer are reported. Reset makes it ready for the next ``start``.

    Parameters: ``axi_bits``.

    Members: ``start`` strobe; ``address``, ``count``, constant from then on; ``o_burst``,
    ``i_data`` the memory port; ``o`` descriptors; ``exhausted`` all have been taken; ``error`` a
    report for one cycle.
    """

    def __init__(self, axi_bits):
        self.axi_bits = axi_bits
        super().__init__({
            "start": In(1), "address": In(32), "count": In(INDEX_BITS),
            "o_burst": Out(stream.Signature(BURST)),
            "i_data": In(stream.Signature(read_beat(axi_bits))),
            "o": Out(stream.Signature(FETCHED)), "exhausted": Out(1), "error": Out(REPORT)})

    def elaborate(self, platform):
        m = Module()
        bits = self.axi_bits
        beats = 8 * DESCRIPTOR_BYTES // bits
        shape = read_beat(bits)
        m.submodules.queue = queue = Queue(shape, _AHEAD * beats)
        wiring.connect(m, wiring.flipped(self.i_data), queue.i)

        # requests
        left = Signal(INDEX_BITS)
        ahead = Signal(range(_AHEAD + 1))
        asked = Signal()
        assembled = Signal()
        burst = self.o_burst.payload
        running = Signal()
        m.d.comb += [
            self.o_burst.valid.eq(running & (left != 0) & (ahead != _AHEAD)),
            asked.eq(self.o_burst.valid & self.o_burst.ready),
            burst.beats.eq(beats), burst.last.eq(1),
        ]
        m.d.sync += ahead.eq(ahead + asked - assembled)
        with m.If(self.start):
            m.d.sync += [running.eq(self.address[:7] == 0), burst.address.eq(self.address),
                         left.eq(self.count), burst.index.eq(0)]
        with m.Elif(asked):
            m.d.sync += [burst.address.eq(burst.address + DESCRIPTOR_BYTES),
                         burst.index.eq(burst.index + 1), left.eq(left - 1)]

        # assembly: beat by beat, each at its place
        beat = Signal(beats, init=1)  # one-hot
        move = Signal()
        m.d.comb += [
            queue.o.ready.eq(~self.o.valid), move.eq(queue.o.valid & ~self.o.valid),
            assembled.eq(move & beat[-1]),
            self.exhausted.eq(running & (self.o.payload.index == self.count)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.o.valid.eq(0), self.o.payload.index.eq(self.o.payload.index + 1)]
        with m.If(move):
            m.d.sync += [beat.eq(beat.rotate_left(1)), self.o.valid.eq(beat[-1])]
        for number in range(beats):
            with m.If(move & beat[number]):
                m.d.sync += self.o.payload.data.word_select(number, bits).eq(
                    queue.o.payload.data)

        m.d.sync += [self.error.index.eq(self.o.payload.index), self.error.code.eq(0)]
        with m.If(self.start & (self.address[:7] != 0)):
            m.d.sync += self.error.code.eq(ErrorCode.MISALIGNED)
        with m.Elif(move & queue.o.payload.error):
            m.d.sync += self.error.code.eq(ErrorCode.READ_RESPONSE)
        return m
