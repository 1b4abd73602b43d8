# SPDX-License-Identifier: Apache-2.0
"""Runs of memory to AXI bursts."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.dma.payloads import BURST, MAX_BURST, run

__all__ = ["Bursts"]


class Bursts(wiring.Component):
    """Splits runs at multiples of MAX_BURST beats and merges what is contiguous between them.

    A burst thus never crosses a 4 KB boundary. Runs of one transfer that follow each other in
    memory share bursts; runs of different transfers don't. Latency two cycles, one run (or
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
        i, o = self.i.payload, self.o.payload

        # the rest of a run, in beats
        rest = Signal(run(32 - shift))
        rest_valid = Signal()
        room = Signal(range(MAX_BURST + 1))
        piece = Signal(range(MAX_BURST + 1))
        ends = Signal()
        take = Signal()
        m.d.comb += [
            room.eq(MAX_BURST - rest.start[:block]),
            ends.eq(rest.length <= room),
            piece.eq(Mux(ends, rest.length, room)),
            self.i.ready.eq(~rest_valid | (take & ends)),
        ]
        with m.If(take):
            m.d.sync += [rest.start.eq(rest.start + piece), rest.length.eq(rest.length - piece)]
        with m.If(self.i.ready):
            m.d.sync += [
                rest_valid.eq(self.i.valid), rest.start.eq(i.start[shift:]),
                rest.length.eq(i.length), rest.last.eq(i.last),
                rest.index.eq(i.index), rest.layer.eq(i.layer)]

        # the burst that grows
        grown = Signal(BURST)
        grown_valid = Signal()
        next_start = Signal(32 - shift)
        complete = Signal()
        merges = Signal()
        emit = Signal()
        m.d.comb += [
            complete.eq(grown.last | (next_start[:block] == 0)),
            merges.eq(~complete & (rest.start == next_start)),
            emit.eq(grown_valid & (complete | (rest_valid & ~merges))
                    & (~self.o.valid | self.o.ready)),
            take.eq(rest_valid & (~grown_valid | merges | emit)),
        ]
        with m.If(take):
            m.d.sync += [
                grown_valid.eq(1), next_start.eq(rest.start + piece),
                grown.last.eq(rest.last & ends)]
            with m.If(grown_valid & merges):
                m.d.sync += grown.beats.eq(grown.beats + piece)
            with m.Else():
                m.d.sync += [grown.address.eq(Cat(C(0, shift), rest.start)),
                             grown.beats.eq(piece), grown.index.eq(rest.index),
                             grown.layer.eq(rest.layer)]
        with m.Elif(emit):
            m.d.sync += grown_valid.eq(0)

        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(emit), o.eq(grown)]
        return m
