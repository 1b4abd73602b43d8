# SPDX-License-Identifier: Apache-2.0
"""The adders of a group."""

import itertools

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.payloads import TokenLayout
from hw.presets import Preset

__all__ = ["Lanes"]


class Lanes(wiring.Component):
    """``lanes`` accumulators; adds one weight row a cycle.

    For each token: ``acc = (clear ? 0 : double ? 2 acc : acc) + (add & mask ? +-weight : 0)``,
    the weight an int8, or 0..255 with ``unsigned``. Accumulators have ``acc_width`` bits and wrap;
    the compiler proves that they don't.

    After a token with ``end`` the accumulators move to the result, from which
    ``epilogue_lanes`` of them are read at a time (``take`` rotates). The pipeline stands while the
    previous result is not freed.

    **Latency** 6 cycles from token to result; **throughput** one token a cycle.

    Members
    -------
    i : tokens
    row_valid, row : Out
        Weight row wanted now; ``enable``: the pipeline moves. Data comes 2 enabled cycles later.
    hold : In
        The pipeline must stand.
    weights : In
    result_valid : Out
    result : Out, lowest ``epilogue_lanes`` accumulators
    take : In
        Rotates the result by ``epilogue_lanes``.
    free : In
        Frees the result.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "i": In(stream.Signature(TokenLayout(preset))),
            "row_valid": Out(1),
            "row": Out(exact_log2(preset.weight_rows)),
            "enable": Out(1),
            "hold": In(1),
            "weights": In(preset.weight_row_bits),
            "result_valid": Out(1),
            "result": Out(preset.epilogue_lanes * preset.acc_width),
            "take": In(1),
            "free": In(1),
            "adding": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        width = preset.acc_width
        tokens = [Signal(TokenLayout(preset), name=f"token_s{stage}") for stage in range(4)]
        valid = Signal(5)
        m.d.comb += self.i.ready.eq(self.enable)
        with m.If(self.enable):
            m.d.sync += [valid.eq(Cat(self.i.valid, valid[:-1])), tokens[0].eq(self.i.payload)]
            m.d.sync += [b.eq(a) for a, b in itertools.pairwise(tokens)]
        m.d.comb += [self.row.eq(tokens[0].row), self.row_valid.eq(valid[0] & tokens[0].add)]

        # s2: weights are at hand; s3: operands; s4: accumulators are complete
        token, final = tokens[2], tokens[3]
        complete = Signal()
        total = Signal(preset.lanes * width)
        for lane in range(preset.lanes):
            weight = self.weights[8 * lane:8 * lane + 8]
            operand = Signal(9, name=f"operand_{lane}")
            accumulator = Signal(signed(width), name=f"accumulator_{lane}")
            m.d.comb += total[width * lane:width * (lane + 1)].eq(accumulator)
            used = token.add & token.mask[lane]
            extended = Cat(weight, weight[7] & ~token.unsigned)
            base = Signal(signed(width), name=f"base_{lane}")
            m.d.comb += base.eq(Mux(final.clear, 0, Mux(final.double, accumulator << 1,
                                                        accumulator)))
            with m.If(self.enable):
                m.d.sync += operand.eq(
                    Mux(used, extended ^ token.minus.replicate(9), 0))
                carry = Signal(name=f"carry_{lane}")
                m.d.sync += carry.eq(used & token.minus)
                with m.If(valid[3]):
                    m.d.sync += accumulator.eq(base + operand.as_signed() + carry)
        with m.If(self.enable):
            m.d.sync += complete.eq(valid[3] & final.end)
        m.d.comb += self.adding.eq(self.enable & valid[3] & final.add)

        held = Signal(preset.lanes * width)
        m.d.comb += self.result.eq(held[:len(self.result)])
        m.d.comb += self.enable.eq(~self.hold & ~(complete & self.result_valid & ~self.free))
        with m.If(complete & (~self.result_valid | self.free)):
            m.d.sync += [held.eq(total), self.result_valid.eq(1)]
            with m.If(~self.enable):
                m.d.sync += complete.eq(0)
        with m.Else():
            with m.If(self.take):
                m.d.sync += held.eq(held.rotate_right(len(self.result)))
            with m.If(self.free):
                m.d.sync += self.result_valid.eq(0)
        return m
