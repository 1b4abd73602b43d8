# SPDX-License-Identifier: Apache-2.0
"""Walks the output pixels of a CONV and makes one job of each."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.descriptor import CONV, DESCRIPTOR_WORDS, Flag
from hw.dma.skid import Skid
from hw.payloads import JobLayout, descriptor_layout
from hw.presets import Preset

__all__ = ["PixelWalker"]


class PixelWalker(wiring.Component):
    """Emits jobs in the order image, row, column (fastest).

    With PAIRED a job is two pixels of a row, or one at its end; its window is a word longer. All
    addresses grow by additions; the window is clipped to the valid words of a row here, to the
    valid rows by the reader.

    **Throughput** one job a cycle; **latency** 4 cycles from ``start``.

    Members
    -------
    start : In
        Begins the walk of ``descriptor``, which holds until ``busy`` falls.
    busy : Out
        Jobs are still to come.
    context : In
        Copied into the tags.
    o : jobs
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "start": In(1),
            "descriptor": In(32 * DESCRIPTOR_WORDS),
            "context": In(1),
            "busy": Out(1),
            "o": Out(stream.Signature(JobLayout(preset))),
        })

    def elaborate(self, platform):
        m = Module()
        d = Signal(descriptor_layout(CONV))
        m.d.comb += d.as_value().eq(self.descriptor)
        job = Signal(JobLayout(self._preset), reset_less=True)
        words = exact_log2(self._preset.map_words)

        active = Signal()
        # down to 0: what is behind the pixel at hand
        columns, rows, images = Signal(16), Signal(16), Signal(16)
        last_column, last_row, last_image = Signal(), Signal(), Signal()
        columns_last, rows_last = Signal(16), Signal(16)  # a cycle behind the descriptor
        paired, string = Signal(), Signal(17)
        m.d.sync += [columns_last.eq(d.columns - 1), rows_last.eq(d.rows - 1),
                     string.eq(d.string_words + 1)]
        m.d.comb += paired.eq(d.flags[exact_log2(int(Flag.PAIRED))])
        two = Signal()  # pixels of the job: 2
        more = Signal()  # columns != 0
        m.d.comb += two.eq(paired & more)
        few = Mux(paired, 1, 0)  # pixels behind the first of a row's last job

        def times(step):
            return Mux(two, step << 1, step)
        x = Signal(signed(words + 2))
        y = Signal(signed(words + 2))
        plane_base = Signal(words)
        psum = Signal.like(job.tag.psum)
        residual = Signal.like(job.tag.residual)
        value = Signal.like(job.tag.value)
        word = Signal.like(job.tag.word)
        row_word, image_word = Signal.like(word), Signal.like(word)

        m.submodules.skid = skid = Skid(JobLayout(self._preset))  # cuts the ready path
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        job_valid, move = Signal(), Signal()
        m.d.comb += [skid.i.valid.eq(job_valid), skid.i.payload.eq(job),
                     move.eq(~job_valid | skid.i.ready)]
        with m.If(self.start):
            m.d.sync += [
                active.eq(1), columns.eq(d.columns - 1), more.eq(d.columns != 1),
                rows.eq(d.rows - 1), images.eq(d.images - 1), last_column.eq(d.columns <= 1 + few),
                last_row.eq(d.rows == 1), last_image.eq(d.images == 1),
                x.eq(d.x_start), y.eq(d.y_start), plane_base.eq(d.map_base),
                psum.eq(d.psum_base), residual.eq(d.residual_base), value.eq(d.value_base),
                word.eq(d.word_base), row_word.eq(d.word_base), image_word.eq(d.word_base),
            ]
        with m.Elif(active & move):
            m.d.sync += [
                columns.eq(columns - 1 - few), more.eq(columns != 1 + few),
                last_column.eq(columns <= Mux(paired, 3, 1)), x.eq(x + times(d.x_step)),
                word.eq(word + times(d.word_column_step)),
                psum.eq(psum + times(d.psum_pixel_step)),
                residual.eq(residual + times(d.residual_pixel_step)),
                value.eq(value + times(d.value_pixel_step)),
            ]
            with m.If(last_column):
                m.d.sync += [
                    columns.eq(columns_last), more.eq(columns_last != 0),
                    last_column.eq(columns_last <= few), x.eq(d.x_start),
                    rows.eq(rows - 1), last_row.eq(rows == 1), y.eq(y + d.y_step),
                    word.eq(row_word + d.word_row_step), row_word.eq(row_word + d.word_row_step),
                ]
                with m.If(last_row):
                    m.d.sync += [
                        rows.eq(rows_last), last_row.eq(rows_last == 0), y.eq(d.y_start),
                        images.eq(images - 1), last_image.eq(images == 1),
                        plane_base.eq(plane_base + d.map_image_step),
                        word.eq(image_word + d.word_image_step),
                        row_word.eq(image_word + d.word_image_step),
                        image_word.eq(image_word + d.word_image_step),
                        active.eq(~last_image),
                    ]

        # a stage for the bounds: words of a row that lie in the map
        ahead = Signal(JobLayout(self._preset), reset_less=True)
        ahead_valid = Signal()
        ahead_x = Signal.like(x, reset_less=True)
        room = Signal(signed(words + 3), reset_less=True)
        with m.If(move):
            m.d.sync += [
                ahead.eq(0),  # what isn't set below; it has no reset
                ahead.two.eq(two), ahead.paired.eq(paired), ahead_valid.eq(active),
                ahead_x.eq(x), room.eq(d.row_words - x),
                ahead.origin.eq(plane_base + x), ahead.y.eq(y), ahead.weight.eq(d.weight_base),
                ahead.tag.context.eq(self.context), ahead.tag.first.eq(1),
                ahead.tag.psum.eq(psum), ahead.tag.residual.eq(residual),
                ahead.tag.word.eq(word), ahead.tag.value.eq(value),
                job_valid.eq(ahead_valid), job.eq(ahead), job.low.eq(0),
            ]
            with m.If(ahead_x < 0):
                m.d.sync += job.low.eq(-ahead_x)
            length = Mux(ahead.two, string, d.string_words)
            with m.If(room < length):
                m.d.sync += job.high.eq(Mux(room < 0, 0, room))
            with m.Else():
                m.d.sync += job.high.eq(length)
        m.d.comb += self.busy.eq(active | ahead_valid | job_valid | self.o.valid)
        return m
