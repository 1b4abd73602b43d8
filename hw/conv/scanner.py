# SPDX-License-Identifier: Apache-2.0
"""Turns the words of a window into additions: one set bit a cycle, zero words skipped."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.payloads import EntryLayout, TokenLayout
from hw.presets import WORD_BITS, Preset

__all__ = ["Scanner"]


class Scanner(wiring.Component):
    """Emits one token for each set bit of each word of each entry, in ascending order.

    A token names the weight row ``entry.row + 32 * word + bit``. A depthwise entry gives one token
    for each nonzero word instead: row ``entry.row + word``, mask ``word >> mask_bit``. Zero words
    cost nothing; an entry without a set bit costs a cycle if it carries ``end`` or ``double``
    (an empty token carries them), else it must not be sent. ``entry.double`` doublings follow the
    entry's last addition; the last of them rides on the next token. The first token
    after ``end`` clears the accumulators.

    **Throughput** one token a cycle, without a gap between words or entries. **Latency** 3 cycles.

    Members
    -------
    i : entries of a unit in order
    nonzero : In
        Bit w: word w of ``i.payload`` has a set bit; valid with it.
    o : tokens
    busy : Out
        An entry, word or token is inside.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "i": In(stream.Signature(EntryLayout(preset))),
            "nonzero": In(preset.map_banks),
            "o": Out(stream.Signature(TokenLayout(preset))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        banks = preset.map_banks

        # Stage A: one entry; hands its nonzero words on, lowest first.
        entry = Signal(EntryLayout(preset))
        pending = Signal(banks)  # words of the entry still to be handed on
        entry_valid = Signal()
        word_index = Signal(exact_log2(banks))
        for index in reversed(range(banks)):
            with m.If(pending[index]):
                m.d.comb += word_index.eq(index)
        last_word = Signal()
        m.d.comb += last_word.eq((pending & (pending - 1)[:banks]) == 0)
        take_word = Signal()
        m.d.comb += self.i.ready.eq(~entry_valid | (take_word & last_word))
        with m.If(self.i.ready):
            m.d.sync += [entry_valid.eq(self.i.valid), entry.eq(self.i.payload),
                         pending.eq(self.nonzero)]
        with m.Elif(take_word):
            m.d.sync += pending.eq(pending & (pending - 1)[:banks])

        # Stage B: one word; hands its bits on, lowest first.
        word = Signal(WORD_BITS)
        word_valid = Signal()
        row = Signal.like(entry.row)
        meta = Signal(EntryLayout(preset))
        last_of_entry = Signal()
        rest = Signal(WORD_BITS)
        m.d.comb += rest.eq(word & (word - 1)[:WORD_BITS])
        doubling = Signal(4)  # doublings that the next tokens must carry
        fresh = Signal(init=1)  # the next token is the first of its unit
        extra_doubling = Signal()
        m.d.comb += extra_doubling.eq(doubling > 1)
        last_bit = Signal()
        m.d.comb += last_bit.eq((rest == 0) | meta.depthwise)
        move = Signal()
        finish_word = Signal()
        m.d.comb += finish_word.eq(move & word_valid & ~extra_doubling & last_bit)
        m.d.comb += take_word.eq(entry_valid & (~word_valid | finish_word))
        with m.If(~word_valid | finish_word):
            m.d.sync += [
                word_valid.eq(entry_valid),
                word.eq(Array(entry.words[index] for index in range(banks))[word_index]),
                row.eq(entry.row + Mux(entry.depthwise, word_index, word_index << 5)),
                meta.eq(entry),
                last_of_entry.eq(last_word),
            ]
        with m.Elif(move & ~extra_doubling):
            m.d.sync += word.eq(rest)

        # Stage C: the token, its row still in two parts.
        token = Signal(TokenLayout(preset))
        token_valid = Signal()
        lowest = Signal(WORD_BITS)
        bit = Signal(exact_log2(WORD_BITS))
        m.d.comb += lowest.eq(word & ~rest)
        for index in range(len(bit)):
            m.d.comb += bit[index].eq(Cat(
                lowest[b] for b in range(WORD_BITS) if b >> index & 1).any())
        base = Signal.like(row)
        offset = Signal.like(bit)
        ends = Signal()
        m.d.comb += ends.eq(finish_word & last_of_entry)
        m.d.comb += move.eq(~token_valid | self.o.ready)
        lane_mask = Signal(preset.lanes)
        if preset.lanes == WORD_BITS:
            m.d.comb += lane_mask.eq(word)
        else:
            m.d.comb += lane_mask.eq(word >> meta.mask_bit)
        with m.If(move):
            m.d.sync += [
                token_valid.eq(word_valid),
                base.eq(row),
                offset.eq(Mux(meta.depthwise, 0, bit)),
                token.mask.eq(Mux(meta.depthwise, lane_mask, ~0)),
                token.add.eq((word != 0) & ~extra_doubling),
                token.minus.eq(meta.minus),
                token.unsigned.eq(meta.unsigned),
                token.clear.eq(fresh),
                token.double.eq(doubling != 0),
                token.end.eq(ends & meta.end),
            ]
            with m.If(word_valid):
                m.d.sync += fresh.eq(ends & meta.end)
                with m.If(ends & ~meta.end):
                    m.d.sync += doubling.eq(meta.double)
                with m.Elif(extra_doubling):
                    m.d.sync += doubling.eq(doubling - 1)
                with m.Else():
                    m.d.sync += doubling.eq(0)
        m.d.comb += self.busy.eq(entry_valid | word_valid | token_valid)
        m.d.comb += [self.o.valid.eq(token_valid), self.o.payload.eq(token),
                     self.o.payload.row.eq(base + offset)]
        return m
