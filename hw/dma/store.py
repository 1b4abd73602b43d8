# SPDX-License-Identifier: Apache-2.0
"""The STORE unit: output buffer to memory."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.dma.payloads import BEAT_BITS, BURST, REPORT, TRANSFER
from hw.dma.queue import Queue
from hw.dma.transfer_walker import TransferWalker
from hw.regmap import ErrorCode

__all__ = ["Store"]

_DEPTH = 8
"""Beats on their way from the output buffer to the memory port."""


class Store(wiring.Component):
    """Reads the runs of transfers from the output buffer and writes them to memory.

    One beat per cycle. A transfer posts when memory has answered all its bursts. A beat outside
    the output buffer and an error answer are reported. Transfers that were begun still deliver
    their data after an error, so that the bursts under way can end.

    Parameters: ``preset``.

    Members: ``i`` transfers whose waits are satisfied; ``o_burst``, ``o_data``, ``done``,
    ``failed`` the memory port; ``store_beat``, ``store_enable``, ``store_data`` the output buffer,
    data three cycles after enable; ``post`` semaphores to raise; ``error`` a report for one cycle;
    ``idle`` all have ended.
    """

    def __init__(self, preset):
        self.preset = preset
        bits = preset.axi_bits
        super().__init__({
            "i": In(stream.Signature(TRANSFER)), "o_burst": Out(stream.Signature(BURST)),
            "o_data": Out(stream.Signature(bits)), "done": In(1), "failed": In(1),
            "store_beat": Out(BEAT_BITS), "store_enable": Out(1), "store_data": In(bits),
            "post": Out(16), "error": Out(REPORT), "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = TransferWalker(self.preset.axi_bits)
        m.submodules.data = data = Queue(self.preset.axi_bits, _DEPTH)
        connect(m, flipped(self.i), walker.i)
        connect(m, walker.o_burst, flipped(self.o_burst))
        connect(m, data.o, flipped(self.o_data))
        owner, beat = walker.o_owner.payload, walker.o_beat

        # reading ahead only as far as the queue has room
        room = Signal(range(_DEPTH + 1), init=_DEPTH)
        ask = Signal()
        given = data.o.valid & data.o.ready
        arriving = Signal(3)
        m.d.comb += [
            ask.eq(beat.valid & (room != 0)), beat.ready.eq(room != 0),
            data.i.valid.eq(arriving[-1]), data.i.payload.eq(self.store_data),
        ]
        m.d.sync += [
            self.store_enable.eq(ask), self.store_beat.eq(beat.payload.beat),
            arriving.eq(Cat(self.store_enable, arriving)), room.eq(room - ask + given),
        ]

        m.d.comb += [
            walker.o_owner.ready.eq(self.done),
            self.idle.eq(walker.idle),
            self.post.eq(Mux(self.done, owner.post, 0)),
        ]
        outside = Signal()
        m.d.comb += outside.eq(ask & (beat.payload.beat >= self.preset.out_beats))
        m.d.sync += self.error.code.eq(0)
        with m.If(outside):
            m.d.sync += [self.error.code.eq(ErrorCode.BUFFER_RANGE),
                         self.error.index.eq(beat.payload.index),
                         self.error.layer.eq(beat.payload.layer)]
        with m.If(self.failed):
            m.d.sync += [self.error.code.eq(ErrorCode.WRITE_RESPONSE),
                         self.error.index.eq(owner.index), self.error.layer.eq(owner.layer)]
        return m
