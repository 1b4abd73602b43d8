# SPDX-License-Identifier: Apache-2.0
"""How many cycles a beat of the epilogue takes in the writer."""

from amaranth import *
from amaranth.utils import exact_log2

from hw.descriptor import Flag

__all__ = ["RECURRENCE", "BeatPlan"]

RECURRENCE = 5
"""Cycles from the read of a partial sum to the first read that sees its new value; a membrane is
back a cycle earlier."""

_SETTLE = 4
"""Cycles from a descriptor to its plan."""


class BeatPlan:
    """Registers of each context, _SETTLE cycles behind the descriptors, that say for a beat:

    values : cycles that write residual words (1) or raw sums (2)
    planes : planes of digits or levels
    cycles_last : cycles of the beat (1 to 9) - 1: residual words one, raw sums two, spikes one,
        planes ``out_banks`` a cycle; sums that pooling adds up come back after RECURRENCE
    repeat_last : cycles from the last part of a repeat to the first part of the next - 1
    """

    def __init__(self, m, contexts, preset):
        banks, parts = preset.out_banks, preset.beats_per_tile
        wants = contexts.wants

        self.values = contexts.kept("values", 2, lambda _, view: wants(view, Flag.OUT_RESIDUAL)
                                    + (wants(view, Flag.OUT_RAW) << 1))
        self.planes = contexts.kept("planes", 5, lambda _, view: Mux(
            wants(view, Flag.OUT_INTEGER), view.integer_bits, Mux(
                wants(view, Flag.OUT_LEVELS), Mux(
                    wants(view, Flag.ONES), 1 << (view.level_bits[:3] - 1)[:2],
                    view.level_bits), 0)))
        planes = contexts.kept("plane_cycles", 5, lambda index, _: (
            self.planes[index] + (banks - 1)) >> exact_log2(banks))
        writes = contexts.kept("writes", 5, lambda index, view: Mux(
            wants(view, Flag.PSUM_OUT), 0,
            self.values[index] + planes[index] + wants(view, Flag.OUT_SPIKES)))

        def cycles(index, view):
            pools = wants(view, Flag.RESIDUAL_SUM) & (writes[index] < RECURRENCE)
            return Mux(pools, RECURRENCE, Mux(writes[index] == 0, 1, writes[index]))

        def repeat(index, view):
            result = cycles(index, view)
            for few in range(1, RECURRENCE):
                least = max(few, RECURRENCE - (parts - 1) * few)
                result = Mux(cycles(index, view) == few, least, result)
            return result

        self.cycles_last = contexts.kept("cycles_last", 5,
                                         lambda index, view: cycles(index, view) - 1)
        self.repeat_last = contexts.kept("repeat_last", 5,
                                         lambda index, view: repeat(index, view) - 1)
