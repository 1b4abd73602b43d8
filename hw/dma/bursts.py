# SPDX-License-Identifier: Apache-2.0
"""Runs of memory to AXI bursts."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.dma.payloads import BURST, MAX_BURST, run
from hw.dma.skid import Skid

__all__ = ["Bursts"]


class Bursts(wiring.Component):
    """Splits runs at multiples of MAX_BURST beats and merges what is contiguous between them.

    A burst thus never crosses a 4 KB boundary. Runs of one transfer that follow each other in
    memory share bursts; runs of different transfers don't. Latency three cycles, one run (or
    MAX_BURST beats of it) per cycle.

    Parameters: ``axi_bits``, width of a beat.

    Members: ``i`` runs (start in bytes, a multiple of the beat; length in beats), ``o`` bursts.
    """

    def __init__(self, axi_bits):
        self.axi_bits = axi_bits
        super().__init__({"i": In(stream.Signature(run(32))), "o": Out(stream.Signature(BURST))})

    def elaborate(self, platform):
        m = Module()
        shift = exact_log2(self.axi_bits // 8)
        block = exact_log2(MAX_BURST)

        # whether a run follows the one before it in memory is found on its way in
        layout = data.StructLayout({"run": run(32 - shift), "follows": 1})
        m.submodules.skid = skid = Skid(layout)
        arriving, behind = skid.i.payload, Signal(32 - shift, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(skid.i.ready), skid.i.valid.eq(self.i.valid),
            arriving.run.start.eq(self.i.payload.start[shift:]),
            arriving.follows.eq(arriving.run.start == behind),
            *(arriving.run[name].eq(self.i.payload[name])
              for name in arriving.run.shape().members if name != "start")]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += behind.eq(arriving.run.start + arriving.run.length)
        i, o = skid.o.payload.run, Signal(BURST, reset_less=True)

        # the rest of a run, in beats; the piece that a burst takes of it next
        rest = Signal(layout, reset_less=True)
        start, length = rest.run.start, rest.run.length
        rest_valid = Signal()
        piece = Signal(range(MAX_BURST + 1), reset_less=True)
        ends = Signal(reset_less=True)  # it is all that is left
        take = Signal()
        m.d.comb += skid.o.ready.eq(~rest_valid | (take & ends))
        with m.If(take):
            left = Signal(17)  # less what one more whole piece takes
            m.d.comb += left.eq(length - piece)
            m.d.sync += [start.eq(start + piece), length.eq(left), ends.eq(left <= MAX_BURST),
                         piece.eq(Mux(left <= MAX_BURST, left, MAX_BURST))]
        with m.If(skid.o.ready):
            room = Signal(range(MAX_BURST + 1))
            m.d.comb += room.eq(MAX_BURST - i.start[:block])
            m.d.sync += [
                rest_valid.eq(skid.o.valid), rest.eq(skid.o.payload), ends.eq(i.length <= room),
                piece.eq(Mux(i.length <= room, i.length, room))]

        # the burst that grows
        grown = Signal(BURST, reset_less=True)
        grown_valid = Signal()
        complete = Signal(reset_less=True)  # it may not grow any more
        merges = Signal()
        emit, free = Signal(), Signal()
        m.d.comb += [
            self.o.payload.eq(o),
            merges.eq(~complete & rest.follows),
            free.eq(~self.o.valid | self.o.ready),
            emit.eq(grown_valid & (complete | (rest_valid & ~rest.follows)) & free),
            take.eq(rest_valid & (~grown_valid | merges | free)),
        ]
        with m.If(take):
            reached = Signal(block)
            final = rest.run.last & ends
            m.d.comb += reached.eq(start + piece)
            m.d.sync += [grown_valid.eq(1), grown.last.eq(final),
                         complete.eq(final | (reached == 0))]
            with m.If(grown_valid & merges):
                m.d.sync += grown.beats.eq(grown.beats + piece)
            with m.Else():
                m.d.sync += [grown.address.eq(Cat(C(0, shift), start)),
                             grown.beats.eq(piece), grown.index.eq(rest.run.index),
                             grown.layer.eq(rest.run.layer)]
        with m.Elif(emit):
            m.d.sync += grown_valid.eq(0)

        with m.If(free):
            m.d.sync += [self.o.valid.eq(emit), o.eq(grown)]
        return m
