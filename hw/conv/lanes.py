# SPDX-License-Identifier: Apache-2.0
"""The adders of a group."""

import itertools

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.payloads import TokenLayout
from hw.presets import Preset

__all__ = ["Lanes"]


class Lanes(wiring.Component):
    """``lanes`` accumulators; adds one weight row a cycle.

    For each token: ``acc = (double ? 2 acc : acc) + (add & mask ? +-weight : 0)``, the weight an
    int8, or 0..255 with ``unsigned``; with `Preset.wide_luts` one that doubles adds nothing.
    Accumulators have ``acc_width`` bits and wrap; the compiler proves that they don't.

    The sum of a token with ``end`` is the result, and the accumulators start at 0 again. While the
    result before it is not freed, that token waits, and the group stands.

    **Latency** 5 cycles from token to result; **throughput** one token a cycle.

    Members
    -------
    enable : Out
        The group moves in this cycle: the lanes, and what feeds them. A register.
    i_valid, i : In
        A token, taken with ``enable``.
    i_wants : In
        The bank of the weight buffer that it reads, one-hot; 0 if it adds nothing.
    next_enable : Out
        ``enable`` of the next cycle.
    wants, row : Out
        The bank of the weight buffer that is to be read in the next cycle, one-hot, and the row.
        Data comes 3 enabled cycles later.
    hold : In
        The group must stand in the next cycle.
    weights, upper : In
        Rows of both banks, and which of them is meant.
    result_valid, result, result_context : Out
        ``lanes`` sums of ``acc_width`` bits, and the context that they belong to.
    free : In
        Frees the result.
    adding : Out
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "enable": Out(1),
            "i_valid": In(1),
            "i": In(TokenLayout(preset)),
            "i_wants": In(2),
            "next_enable": Out(1),
            "wants": Out(2),
            "row": Out(exact_log2(preset.weight_rows)),
            "hold": In(1),
            "weights": In(2 * preset.weight_row_bits),
            "upper": In(1),
            "result_valid": Out(1),
            "result": Out(preset.lanes * preset.acc_width),
            "result_context": Out(1),
            "free": In(1),
            "adding": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        width = preset.acc_width
        tokens = [Signal(TokenLayout(preset), name=f"token_s{stage}", reset_less=True)
                  for stage in range(4)]
        # without a token, and after a reset, nothing may happen to the accumulators
        layout = data.StructLayout(dict.fromkeys(("add", "double", "end"), 1))
        strobes = [Signal(layout, name=f"strobes_s{stage}") for stage in range(4)]
        reads, wanted = self.i_valid & self.i.add, Signal(2)
        m.d.comb += self.wants.eq(Mux(
            self.enable, self.i_wants & self.i_valid.replicate(2), wanted))
        m.d.sync += wanted.eq(self.wants)
        with m.If(self.enable):
            m.d.sync += [tokens[0].eq(self.i),
                         *(strobes[0][name].eq(self.i_valid & self.i[name])
                           for name in layout.members),
                         # from here on the mask says which lanes add
                         tokens[0].mask.eq(Mux(reads, self.i.mask, 0))]
            for pipeline in (tokens, strobes):
                m.d.sync += [b.eq(a) for a, b in itertools.pairwise(pipeline)]
        m.d.comb += self.row.eq(Mux(self.enable, self.i.row, tokens[0].row))

        # s2: weights are at hand; s3: operands, and with them the sums
        final = strobes[3]
        total = Signal(preset.lanes * width)
        clear = Signal(init=1)  # the accumulators: a token with ``end`` is added in this cycle
        addends = self._chosen_late if preset.wide_luts else self._chosen_early
        for lane, (accumulator, first, second) in enumerate(addends(m, tokens[2], strobes)):
            # a carry enters below: a sum of two, the register first, is a LUT a bit on Xilinx
            total_bits = Signal(width + 1, name=f"total_bits_{lane}")
            m.d.comb += [
                total_bits.eq(first + second),
                total[width * lane:width * (lane + 1)].eq(total_bits[1:])]
            with m.If(self.enable):
                m.d.sync += accumulator.eq(total_bits[1:])
            with m.If(clear):
                m.d.sync += accumulator.eq(0)

        ends = Signal()  # what is at s3 in the next cycle ends a unit
        vacant, next_vacant = Signal(init=1), Signal()  # ~result_valid, of our own
        enable, next_enable = Signal(init=1), Signal()  # found a cycle before, as it goes far
        m.d.comb += [
            self.enable.eq(enable), self.next_enable.eq(next_enable),
            self.adding.eq(enable & final.add),
            ends.eq(Mux(enable, strobes[2].end, final.end)),
            next_vacant.eq(Mux(enable & final.end, 0, vacant | self.free)),
            next_enable.eq(~self.hold & (~ends | next_vacant)),
        ]
        m.d.sync += [vacant.eq(next_vacant), self.result_valid.eq(~next_vacant),
                     enable.eq(next_enable), clear.eq(next_enable & ends)]
        held = Signal(preset.lanes * width, reset_less=True)
        held_context = Signal(reset_less=True)
        with m.If(vacant):
            m.d.sync += [held.eq(total), held_context.eq(tokens[3].context)]
        m.d.comb += [self.result.eq(held), self.result_context.eq(held_context)]
        return m

    def _weights(self, lane):
        """Return a lane's byte of both banks."""
        return [self.weights.word_select(bank * self._preset.lanes + lane, 8) for bank in (0, 1)]

    def _chosen_early(self, m, token, strobes):
        """Yield each lane's accumulator, and the two that are added, with a carry below each.

        An operand has a register: a choice for each bit there, and one in front of the adder.
        """
        width = self._preset.acc_width
        for lane in range(self._preset.lanes):
            weight = Mux(self.upper, *self._weights(lane)[::-1])
            operand = Signal(9, name=f"operand_{lane}", reset_less=True)
            carry = Signal(name=f"carry_{lane}", reset_less=True)
            accumulator = Signal(signed(width), name=f"accumulator_{lane}", reset_less=True)
            used = token.mask[lane]
            extended = Cat(weight, weight[7] & ~token.unsigned)
            base = Signal(width, name=f"base_{lane}")
            m.d.comb += base.eq(Mux(strobes[3].double, accumulator << 1, accumulator))
            with m.If(self.enable):
                m.d.sync += operand.eq((extended ^ token.minus.replicate(9))
                                       & used.replicate(9))
                m.d.sync += carry.eq(used & token.minus)
            yield accumulator, Cat(carry, operand).as_signed(), Cat(carry, base)

    def _chosen_late(self, m, token, strobes):
        """The same, with all choices in front of the adder, a LUT of six inputs for each bit.

        To the accumulator is added, by ``used`` and ``carry``: the weight (1, 0); its complement
        and 1 (1, 1); -1 and 1, which is nothing (0, 1); itself, which doubles it (0, 0).
        """
        lanes, width = self._preset.lanes, self._preset.acc_width
        upper = Signal(name="upper_s3", reset_less=True)
        signs = [Signal(lanes, name=f"signs_{bank}", reset_less=True) for bank in (0, 1)]
        with m.If(self.enable):
            m.d.sync += upper.eq(self.upper)
            for bank, sign in enumerate(signs):  # all at once: it is a reset then
                m.d.sync += sign.eq(Mux(token.unsigned, 0, Cat(
                    self._weights(lane)[bank][7] for lane in range(lanes))))
        for lane in range(lanes):
            banks = [Signal(8, name=f"weight_{lane}_{bank}", reset_less=True) for bank in (0, 1)]
            used, carry = (Signal(name=f"{name}_{lane}", reset_less=True)
                           for name in ("used", "carry"))
            accumulator = Signal(signed(width), name=f"accumulator_{lane}", reset_less=True)
            with m.If(self.enable):
                m.d.sync += [used.eq(token.mask[lane]), carry.eq(
                    ~strobes[2].double & (token.minus | ~token.mask[lane]))]
                m.d.sync += [bank.eq(weight) for bank, weight in zip(
                    banks, self._weights(lane), strict=True)]
            weight = Mux(upper, *(Cat(bank, sign[lane].replicate(width - 8))
                                  for bank, sign in zip(banks[::-1], signs[::-1], strict=True)))
            operand = Signal(width, name=f"operand_{lane}")
            m.d.comb += operand.eq(Mux(used, weight ^ carry.replicate(width),
                                       Mux(carry, ~0, accumulator)))
            # the accumulator is to be the narrower one; its top bit needs no carry out
            yield (accumulator, Cat(carry, accumulator[:-1]),
                   Cat(carry, operand[:-1], operand[-1] ^ accumulator[-1]))
