# SPDX-License-Identifier: Apache-2.0
"""SFA neurons: from a current to a level, the number of spikes that it is worth."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.presets import LEVEL_BITS, STEP_BITS, Preset

__all__ = ["LevelArray"]

_HELD_BITS = STEP_BITS + LEVEL_BITS
"""Bits of what is left of a current: enough for the highest level's steps."""


class LevelArray(wiring.Component):
    """``epilogue_lanes`` neurons with integer activation (spike firing approximation, SFA).

    With g = ``guard_bits`` and D = 2^(level_bits - 1): ``level`` is the number of j in 1 .. D with
    ``current * 2^g - threshold >= j * step``; with ``ties_even`` an odd j asks for more than that.
    Equals ``sw.golden.sfa``. One bit a stage is found, the highest first, by subtraction (what an
    integrate-and-fire neuron with a soft reset does in D steps).

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
        1 to LEVEL_BITS; 1 bit.
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
        guard, width = preset.guard_bits, preset.sum_width + preset.guard_bits + 1
        # stage 1: current - threshold; 2: what of it counts; then a bit in each stage
        level_bits, ties_even = [self.level_bits], [self.ties_even]
        for stage in range(1, LEVEL_BITS + 2):
            for held in (level_bits, ties_even):
                now = Signal.like(held[0], name=f"{held[0].name}_{stage}", reset_less=True)
                m.d.sync += now.eq(held[-1])
                held.append(now)
        for lane in range(preset.epilogue_lanes):
            def register(name, value, shape, lane=lane):
                signal = Signal(shape, name=f"{name}_{lane}", reset_less=True)
                m.d.sync += signal.eq(value)
                return signal

            step = register("step_1", self.step[lane], STEP_BITS)
            above = register("above", (self.current[lane] << guard) - self.threshold[lane],
                             signed(width))
            step = register("step_2", step, STEP_BITS)
            over = above[_HELD_BITS:-1].any()
            left = register("left", Mux(above[-1], 0, Mux(over, ~C(0, _HELD_BITS),
                                                          above[:_HELD_BITS])), _HELD_BITS)
            level = C(0, 0)
            for stage, bit in enumerate(reversed(range(LEVEL_BITS)), 2):
                rest = Signal(signed(_HELD_BITS + 1), name=f"rest_{bit}_{lane}")
                strict = ties_even[stage] if bit == 0 else 0
                m.d.comb += rest.eq(left - (step << bit) - strict)
                fires = Signal(name=f"fires_{bit}_{lane}")
                m.d.comb += fires.eq(~rest[-1] & (level_bits[stage] > bit))
                # at the highest level nothing is left
                highest = level_bits[stage] == bit + 1
                left = register(f"left_{bit}", Mux(fires, Mux(highest, 0, rest), left), _HELD_BITS)
                level = register(f"level_{bit}", Cat(fires, level), LEVEL_BITS - bit)
                step = register(f"step_at_{bit}", step, STEP_BITS)
            m.d.comb += self.levels[lane].eq(level)
        return m
