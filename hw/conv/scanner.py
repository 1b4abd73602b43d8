# SPDX-License-Identifier: Apache-2.0
"""Turns the words of a window into additions: one set bit a cycle, zero words skipped."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.mux import at_most_one, select
from hw.payloads import EntryLayout, TokenLayout, WordLayout
from hw.presets import WORD_BITS, Preset

__all__ = ["Scanner"]

_BIT_BITS = exact_log2(WORD_BITS)


class Scanner(wiring.Component):
    """Emits one token for each set bit of each word of each entry, in ascending order.

    A token names the weight row ``32 * (entry.row + word) + bit``. A depthwise entry gives one
    token for each nonzero word instead: row ``entry.row + word``, mask ``word >> mask_bit``. Zero
    words cost nothing; an entry without a set bit costs a cycle if it carries ``end`` or
    ``double`` (an empty token carries them), else it must not be sent. ``entry.double`` doublings
    follow the entry's last addition; the last of them rides on the next token, except with
    `Preset.wide_luts`; nothing is doubled before the first addition.

    **Throughput** one token a cycle, without a gap between words or entries. **Latency** 4 cycles.

    Members
    -------
    enable : In
        Everything moves, else everything stands.
    i_valid, i, nonzero, i_take : In, Out
        Entries of a unit in order; bit w of ``nonzero``: word w has a set bit. ``i_take``: the
        entry was taken.
    o_valid, o : Out
        Tokens.
    busy : Out
        An entry, word or token is inside.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "enable": In(1),
            "i_valid": In(1),
            "i": In(EntryLayout(preset)),
            "nonzero": In(preset.map_banks),
            "i_take": Out(1),
            "o_valid": Out(1),
            "o": Out(TokenLayout(preset)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        banks = preset.map_banks
        layout = EntryLayout(preset)
        advance = Signal()  # the word at hand is finished; all that comes behind it moves up

        # Stage A: an entry; hands its nonzero words on, lowest first.
        entry = Signal(layout, reset_less=True)
        pending = Signal(banks)  # words of the entry still to be handed on
        entry_valid, last_word = Signal(), Signal()  # at most one word is pending
        word_index = Signal(exact_log2(banks), reset_less=True)  # of the lowest
        rest_words = Signal(banks)
        m.d.comb += [
            rest_words.eq(pending & ~(pending & -pending)[:banks]),
            self.i_take.eq(advance & self.i_valid & (~entry_valid | last_word)),
        ]
        with m.If(advance):
            with m.If(~entry_valid | last_word):
                m.d.sync += [entry_valid.eq(self.i_valid), entry.eq(self.i),
                             pending.eq(self.nonzero), last_word.eq(self.i.single),
                             word_index.eq(_lowest(self.nonzero))]
            with m.Else():
                m.d.sync += [pending.eq(rest_words), last_word.eq(at_most_one(rest_words)),
                             word_index.eq(_lowest(rest_words))]

        # Stage B: one of its words, and what belongs to it.
        ahead = Signal(WordLayout(preset), reset_less=True)
        # Words whose lowest bit is to go are held inverted: an addition of 1 fills the ones below
        # it, and needs no inverters, as a subtraction does.
        ahead_clear = Signal(WORD_BITS, reset_less=True)  # bits of the word that are 0
        ahead_valid = Signal()
        with m.If(advance):
            m.d.sync += [
                ahead_valid.eq(entry_valid), ahead.row.eq(entry.row + word_index),
                ahead.last.eq(last_word), ahead.empty.eq(pending == 0),
                ahead_clear.eq(~select(word_index, [entry.words[n] for n in range(banks)])),
            ]
            for name in ("depthwise", "minus", "unsigned", "context", "mask_bit", "double", "end"):
                m.d.sync += ahead[name].eq(entry[name])

        # Stage C: the word at hand: its set bits, those without the lowest, whether those are none.
        word, clear = (Signal(WORD_BITS, name=name, reset_less=True)
                       for name in ("word", "rest_clear"))
        single = Signal(reset_less=True)
        now = Signal(WordLayout(preset), reset_less=True)
        word_valid = Signal()
        doubling = Signal(4)  # doublings that the next tokens must carry
        extra = Signal()  # one more than the next token may carry, so in a token of its own
        doubling_next = Signal(4)
        next_clear, ahead_next = Signal(WORD_BITS), Signal(WORD_BITS)
        next_single, ahead_single = Signal(), Signal()  # at most one bit of the word is set
        m.d.comb += [
            next_clear.eq(clear | (clear + 1)[:WORD_BITS]),
            ahead_next.eq(ahead_clear | (ahead_clear + 1)[:WORD_BITS]),
            advance.eq(self.enable & (~word_valid | (single & ~extra))),
            # few LUTs where they are wide, else early
            *(is_single.eq(following.all() if preset.wide_luts else at_most_one(~now_clear))
              for is_single, now_clear, following in (
                  (ahead_single, ahead_clear, ahead_next), (next_single, clear, next_clear))),
        ]
        with m.If(advance):
            m.d.sync += [
                word_valid.eq(ahead_valid), now.eq(ahead), word.eq(~ahead_clear),
                # an empty entry holds any word: one token for it, whatever its bits
                clear.eq(ahead_next),
                single.eq(ahead_single | ahead.depthwise | ahead.empty),
            ]
        with m.Elif(self.enable & ~extra):
            m.d.sync += [word.eq(~clear), clear.eq(next_clear), single.eq(next_single)]

        # Stage D: the token.
        token, token_valid = Signal(self.o.shape(), name="token", reset_less=True), self.o_valid
        m.d.comb += self.o.eq(token)
        fresh = Signal(init=1)  # nothing was added yet in this unit
        ends = Signal()  # of the entry
        drop = Signal()  # nothing added yet, and nothing to add: not even worth a token
        lowest = Signal(WORD_BITS)
        bit = Signal(_BIT_BITS)
        m.d.comb += [
            ends.eq(single & ~extra & now.last), lowest.eq(word & clear),
            drop.eq(fresh & now.empty & ~now.end),
        ]
        for index in range(_BIT_BITS):
            m.d.comb += bit[index].eq(Cat(
                lowest[b] for b in range(WORD_BITS) if b >> index & 1).any())
        shift = 0 if preset.lanes == WORD_BITS else now.mask_bit
        with m.If(self.enable):
            m.d.sync += [
                token_valid.eq(word_valid & ~drop),
                token.row.eq(Mux(now.depthwise, now.row, Cat(bit, now.row))),
                token.mask.eq(Mux(now.depthwise, word >> shift, ~0)),
                token.add.eq(~now.empty & ~extra),
                token.minus.eq(now.minus), token.unsigned.eq(now.unsigned),
                token.context.eq(now.context),
                token.double.eq(doubling != 0),
                token.end.eq(ends & now.end),
            ]
            with m.If(word_valid):
                with m.If(~drop):
                    m.d.sync += fresh.eq(ends & now.end)
                with m.If(ends):
                    m.d.comb += doubling_next.eq(Mux(now.end | drop, 0, now.double))
                with m.Elif(extra):
                    m.d.comb += doubling_next.eq(doubling - 1)
                alone = doubling_next if preset.wide_luts else doubling_next[1:]
                m.d.sync += [doubling.eq(doubling_next), extra.eq(alone.any())]
        m.d.comb += self.busy.eq(entry_valid | ahead_valid | word_valid | token_valid)
        return m


def _lowest(bits):
    """Return the number of the lowest set bit, 0 without one."""
    number = C(0, 0)
    for index in reversed(range(len(bits))):
        number = Mux(bits[index], index, number)
    return number
