# SPDX-License-Identifier: Apache-2.0
"""SFA neurons: from a current to a level, the number of spikes that it is worth."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.presets import LEVEL_BITS, STEP_BITS, Preset

__all__ = ["LevelArray"]


class LevelArray(wiring.Component):
    """``epilogue_lanes`` neurons with integer activation (spike firing approximation, SFA).

    With g = ``guard_bits`` and D = 2^(level_bits - 1): ``level`` is the number of j in 1 .. D with
    ``current * 2^g - threshold >= j * step``; with ``ties_even`` an odd j asks for more than that.
    Equals ``sw.golden.sfa``. It is a division without restoring: one bit of the quotient is found a
    stage, the highest first, and the divisor subtracted where what is left is not negative, else
    added. A quotient above D counts as D, and a negative one as 0.

    **Latency** 6 cycles; **throughput** one set of lanes a cycle.

    Members
    -------
    current : In
        ``sum_width`` bits signed a lane.
    threshold : In
        28 bits signed a lane, in units of 2^-g of the current.
    step : In
        STEP_BITS a lane, in the same unit; at least 1.
    level_bits, ties_even : In
        1 to LEVEL_BITS; 1 bit; LEVEL_BITS cycles behind the current that they belong to.
    levels : Out
        LEVEL_BITS a lane.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        lanes = preset.epilogue_lanes
        super().__init__({
            "current": In(signed(preset.sum_width)).array(lanes),
            "threshold": In(signed(28)).array(lanes),
            "step": In(STEP_BITS).array(lanes),
            "level_bits": In(3),
            "ties_even": In(1),
            "levels": Out(LEVEL_BITS).array(lanes),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        guard = preset.guard_bits
        # What is left is below the largest level's steps, which have this many bits, or the level
        # is known: the largest. A sign is added.
        reach = STEP_BITS + LEVEL_BITS - 1
        width = reach + 1
        # stage 1: current - threshold; then a bit in each stage; the last one: ties, and the limit
        limit, ties_even = Signal(LEVEL_BITS, reset_less=True), Signal(reset_less=True)
        m.d.sync += [limit.eq(1 << (self.level_bits - 1)[:2]), ties_even.eq(self.ties_even)]
        for lane in range(preset.epilogue_lanes):
            def register(name, value, shape, lane=lane):
                signal = Signal(shape, name=f"{name}_{lane}", reset_less=True)
                m.d.sync += signal.eq(value)
                return signal

            step = register("step_1", self.step[lane], STEP_BITS)
            above = register("above", (self.current[lane] << guard) - self.threshold[lane],
                             signed(preset.sum_width + guard + 1))
            below = above[-1]  # 0, whatever the divisions say
            beyond = above[reach:].any()
            left = Cat(above[:reach], C(0, 1))
            rest, fires = C(0, 0), C(1)  # the quotient's bits, inverted: signs of what is left
            for bit in reversed(range(LEVEL_BITS)):
                # Bits below the divisor's lowest stay. The sum is written with its carry, and the
                # divisor a bit wider than what is left: yosys gives the narrower operand the
                # carry chain's own input, and would give an inverted one LUTs there.
                wide = width - bit
                turned = Cat(step, C(0, wide + 1 - STEP_BITS)) ^ fires.replicate(wide + 1)
                total = Signal(signed(wide + 2), name=f"total_{bit}_{lane}")
                m.d.comb += total.eq(Cat(fires, left[bit:]).as_signed()
                                     + Cat(fires, turned).as_signed())
                left = register(f"left_{bit}", Cat(left[:bit], total[1:wide], total[-1]),
                                signed(width))
                step = register(f"step_at_{bit}", step, STEP_BITS)
                below = register(f"below_{bit}", below, 1)
                beyond = register(f"beyond_{bit}", beyond, 1)
                fires = ~left[-1]
                if bit < LEVEL_BITS - 1:
                    rest = register(f"rest_{bit}", rest, LEVEL_BITS - 1 - bit)
                rest = Cat(left[-1], rest)
            quotient = ~rest
            # An odd level asks for more than that many steps where ties go to the even one.
            # Nothing is left then; where the quotient counts, that has no more bits than a step.
            tie = ties_even & (left[:STEP_BITS] == 0)
            # bit 0 is above the limit only where that is 1: then it is the level itself
            above_limit = beyond | (quotient[1:] & (-limit)[1:LEVEL_BITS]).any()
            level = Mux(above_limit, limit, Cat(quotient[0] & ~tie, quotient[1:]))
            m.d.comb += self.levels[lane].eq(
                register("level", Mux(below, 0, level), LEVEL_BITS))
        return m
