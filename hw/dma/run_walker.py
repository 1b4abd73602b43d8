# SPDX-License-Identifier: Apache-2.0
"""Two nested loops over the starts of runs."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.dma.payloads import nest, run

__all__ = ["RunWalker"]


class RunWalker(wiring.Component):
    """Lists the runs of a transfer.

    For ``j2`` in 0 .. count_2 - 1, for ``j1`` in 0 .. count_1 - 1:
    ``start + j2 * step_2 + j1 * step_1``, modulo 2^width, by additions alone.

    Latency one cycle, one run per cycle, also from one transfer to the next. Counts are at
    least 1.

    Parameters: ``width`` of an address.

    Members: ``i`` transfers (``payloads.nest``), ``o`` runs (``payloads.run``), ``last`` on the
    last one of each transfer.
    """

    def __init__(self, width):
        self.width = width
        super().__init__({"i": In(stream.Signature(nest(width))),
                          "o": Out(stream.Signature(run(width)))})

    def elaborate(self, platform):
        m = Module()
        job = Signal(nest(self.width), reset_less=True)
        row_next = Signal(self.width, reset_less=True)
        repeat_next = Signal(self.width, reset_less=True)
        row_left = Signal(16, reset_less=True)
        repeat_left = Signal(16, reset_less=True)
        # whether nothing is left is a register's output, not a comparison's
        row_ends, repeat_ends = Signal(reset_less=True), Signal(reset_less=True)
        single = Signal(reset_less=True)  # rows have one run
        valid = Signal()
        i, o = self.i.payload, self.o.payload
        m.d.comb += [
            self.o.valid.eq(valid),
            o.start.eq(job.start), o.length.eq(job.length), o.beat_step.eq(job.beat_step),
            o.index.eq(job.index), o.layer.eq(job.layer),
            o.last.eq(row_ends & repeat_ends),
            self.i.ready.eq(~valid | (self.o.ready & o.last)),
        ]
        with m.If(self.o.ready):
            with m.If(~row_ends):
                m.d.sync += [job.start.eq(row_next), row_next.eq(row_next + job.step_1),
                             row_left.eq(row_left - 1), row_ends.eq(row_left == 1)]
            with m.Else():
                m.d.sync += [
                    job.start.eq(repeat_next), row_next.eq(repeat_next + job.step_1),
                    repeat_next.eq(repeat_next + job.step_2),
                    row_left.eq(job.count_1 - 1), row_ends.eq(single),
                    repeat_left.eq(repeat_left - 1), repeat_ends.eq(repeat_left == 1)]
        with m.If(self.i.ready):
            m.d.sync += [
                valid.eq(self.i.valid), job.eq(i),
                row_next.eq(i.start + i.step_1), repeat_next.eq(i.start + i.step_2),
                row_left.eq(i.count_1 - 1), row_ends.eq(i.count_1 == 1),
                single.eq(i.count_1 == 1),
                repeat_left.eq(i.count_2 - 1), repeat_ends.eq(i.count_2 == 1)]
        return m
