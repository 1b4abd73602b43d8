# SPDX-License-Identifier: Apache-2.0
"""Transfers to bursts on the memory side and beats on the buffer side."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.dma.beats import Beats
from hw.dma.bursts import Bursts
from hw.dma.half_skid import HalfSkid
from hw.dma.payloads import (
    BEAT,
    BEAT_BITS,
    BURST,
    INDEX_BITS,
    LAYER_BITS,
    TRANSFER,
    nest,
)
from hw.dma.queue import Queue
from hw.dma.run_walker import RunWalker
from hw.dma.skid import Skid

__all__ = ["OWNER", "TransferWalker"]

OWNER = data.StructLayout({"post": 16, "index": INDEX_BITS, "layer": LAYER_BITS, "target": 2})
"""What is needed of a transfer until its end."""

_NEST = ("length", "count_1", "count_2", "beat_step", "index", "layer")


class TransferWalker(wiring.Component):
    """Lists the bursts of transfers in memory and, independently, their beats in the buffer.

    The memory side may be up to four transfers ahead of the buffer side. One burst and one beat
    per cycle, also from transfer to transfer; a transfer in two cycles.

    Parameters: ``axi_bits``.

    Members: ``i`` transfers; ``o_burst``; ``o_beat``; ``o_owner`` the transfers taken, in order;
    its transfer tells that one has ended; ``idle`` all have ended.
    """

    def __init__(self, axi_bits):
        self.axi_bits = axi_bits
        super().__init__({
            "i": In(stream.Signature(TRANSFER)), "o_burst": Out(stream.Signature(BURST)),
            "o_beat": Out(stream.Signature(BEAT)), "o_owner": Out(stream.Signature(OWNER)),
            "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory_jobs = memory_jobs = HalfSkid(nest(32))
        m.submodules.memory_runs = memory_runs = RunWalker(32)
        m.submodules.bursts = bursts = Bursts(self.axi_bits)
        # cut the ready paths from the memory port and from the buffer
        m.submodules.burst_skid = burst_skid = Skid(BURST)
        m.submodules.beat_skid = beat_skid = Skid(BEAT)
        m.submodules.buffer_jobs = buffer_jobs = Queue(nest(BEAT_BITS), 4)
        m.submodules.buffer_runs = buffer_runs = RunWalker(BEAT_BITS)
        m.submodules.beats = beats = Beats()
        m.submodules.owners = owners = Queue(OWNER, 16)
        connect(m, memory_jobs.o, memory_runs.i)
        connect(m, memory_runs.o, bursts.i)
        connect(m, bursts.o, burst_skid.i)
        connect(m, burst_skid.o, flipped(self.o_burst))
        connect(m, buffer_jobs.o, buffer_runs.i)
        connect(m, buffer_runs.o, beats.i)
        connect(m, beats.o, beat_skid.i)
        connect(m, beat_skid.o, flipped(self.o_beat))
        connect(m, owners.o, flipped(self.o_owner))

        # one transfer goes to all three at once, out of a register: its queue is far away
        takers = (memory_jobs.i, buffer_jobs.i, owners.i)
        i, held, goes = Signal(TRANSFER, reset_less=True), Signal(), Signal()
        m.d.comb += [self.i.ready.eq(~held),
                     goes.eq(held & Cat(taker.ready for taker in takers).all())]
        m.d.sync += held.eq(Mux(held, ~goes, self.i.valid))
        with m.If(~held):
            m.d.sync += i.eq(self.i.payload)
        for taker in takers:
            m.d.comb += taker.valid.eq(goes)
        for name in _NEST:
            m.d.comb += [memory_jobs.i.payload[name].eq(i[name]),
                         buffer_jobs.i.payload[name].eq(i[name])]
        for name in ("post", "index", "layer", "target"):
            m.d.comb += owners.i.payload[name].eq(i[name])
        m.d.comb += [
            memory_jobs.i.payload.start.eq(i.address), buffer_jobs.i.payload.start.eq(i.buffer),
            memory_jobs.i.payload.step_1.eq(i.step_1), memory_jobs.i.payload.step_2.eq(i.step_2),
            buffer_jobs.i.payload.step_1.eq(i.buffer_step_1),
            buffer_jobs.i.payload.step_2.eq(i.buffer_step_2),
            self.idle.eq(~owners.o.valid & ~held),
        ]
        return m
