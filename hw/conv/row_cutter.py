# SPDX-License-Identifier: Apache-2.0
"""The kernel rows of a window, cut to the map and to the chunk."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import Contexts
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.payloads import RowLayout, UnitLayout
from hw.presets import Preset

__all__ = ["RowCutter"]


class RowCutter(wiring.Component):
    """Lists the kernel rows of each unit that lie in the map and in the chunk.

    Row ky of a unit covers window words ``chunk_first + ky * string_words ...``; what is left of
    it are the words inside the map row (``low`` to ``high`` of the job), inside the map
    (``0 <= y < rows_words``) and with window word 0 to ``chunk_words - 1``. Rows without a word
    are left out, but for the last one of a unit. The window of two pixels is a word longer.

    **Throughput** a row a cycle, also those left out. **Latency** 4 cycles.

    Members: ``descriptors`` of the two contexts; ``i`` units; ``o`` rows.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "i": In(stream.Signature(UnitLayout(preset))),
            "o": Out(stream.Signature(RowLayout(preset))),
        })

    def elaborate(self, platform):
        m = Module()
        contexts = Contexts(m, self.descriptors)
        unit = self.i.payload
        move = Signal()
        m.d.comb += move.eq(~self.o.valid | self.o.ready)

        # s0: one row of the unit
        stage = data.StructLayout({
            "unit": unit.shape(), "last": 1, "y": unit.y.shape(), "first": signed(17),
            "y_inside": 1, "place": len(unit.origin), "weight": len(unit.weight),
            "low": signed(18), "high": signed(19)})
        row = [Signal(stage, name=f"row_s{n}", reset_less=True) for n in range(4)]
        valid = Signal(3)
        context = unit.context
        fresh = Signal(init=1)  # the unit's first row
        left = Signal(8, reset_less=True)  # rows behind this one
        y, first = Signal.like(unit.y, reset_less=True), Signal(signed(17), reset_less=True)
        row_y, row_first, rows_left = Signal.like(y), Signal.like(first), Signal.like(left)
        rows_last = contexts.derived(
            context, "rows_last", 8,
            lambda view: Mux(view.kernel_rows == 0, 0, view.kernel_rows - 1))
        m.d.comb += [
            row_y.eq(Mux(fresh, unit.y, y)), rows_left.eq(Mux(fresh, rows_last, left)),
            row_first.eq(Mux(fresh, contexts.field(context, "chunk_first"), first)),
            row[0].unit.eq(unit), row[0].last.eq(rows_left == 0), row[0].y.eq(row_y),
            row[0].first.eq(row_first), self.i.ready.eq(move & row[0].last),
        ]
        with m.If(move):
            m.d.sync += valid.eq(Cat(self.i.valid, valid[:-1]))
            with m.If(self.i.valid):
                m.d.sync += [
                    fresh.eq(row[0].last), left.eq(rows_left - 1),
                    y.eq(row_y + contexts.field(context, "row_pitch")),
                    first.eq(row_first + contexts.field(context, "string_words"))]

        # s1: the chunk's bounds; s2: the row's bounds; s3: addresses
        old, new = row[1], row[2]
        context = old.unit.context
        depthwise = contexts.flag(context, Flag.DEPTHWISE)
        row_low, row_high = Signal(signed(18)), Signal(signed(19))
        m.d.comb += [row_low.eq(-old.first),
                     row_high.eq(contexts.field(context, "chunk_words") - old.first + old.unit.two)]
        with m.If(move):
            m.d.sync += [
                old.eq(row[0]), new.eq(old), row[3].eq(new),
                new.low.eq(row_low), new.high.eq(row_high),
                new.y_inside.eq((old.y >= 0) & (old.y < contexts.field(context, "rows_words"))
                                & (contexts.field(context, "kernel_rows") != 0)),
                new.place.eq(old.unit.origin + old.y),
                new.weight.eq(Mux(depthwise, old.unit.weight, old.unit.weight[5:]) + old.first),
                row[3].low.eq(Mux(new.low > new.unit.low, new.low, new.unit.low)),
                row[3].high.eq(Mux(new.high < new.unit.high, new.high, new.unit.high)),
            ]
        cut, o = row[3], self.o.payload
        length = Signal(signed(20))
        inside = Signal()
        m.d.comb += [length.eq(cut.high - cut.low),
                     inside.eq(cut.y_inside & (length > 0))]
        with m.If(move):
            m.d.sync += [
                self.o.valid.eq(valid[2] & (inside | cut.last)),
                o.words.eq(Mux(inside, length, 0)), o.address.eq(cut.place + cut.low),
                o.row.eq(cut.weight + cut.low), o.last.eq(cut.last),
                *(o[name].eq(cut.unit[name])
                  for name in ("group", "context", "minus", "two", "double", "end")),
                o.begins.eq(cut.unit.two & (cut.low == 0)),
                o.ends.eq(cut.unit.two & (cut.high > contexts.field(
                    cut.unit.context, "string_words")))]
        return m
