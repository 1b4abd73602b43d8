# SPDX-License-Identifier: Apache-2.0
"""Brings the sums of one group at a time to the epilogue."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.mux import select, union
from hw.presets import Preset

__all__ = ["ResultCollector"]

_FAN_IN = 6
"""Values that are joined at once: the inputs of a LUT, of the larger kind."""


class ResultCollector(wiring.Component):
    """Chooses ``epilogue_lanes`` sums: one part of the result of one group.

    Every group, or two neighbours where a result has two parts, have a register, which is to lie
    beside them: the part that was asked for, or 0 where another group was. What these hold is
    joined on the way to the epilogue, in two steps, so that no wire crosses the device with a
    group's whole result.

    **Latency** 4 cycles; **throughput** one part a cycle.

    Members
    -------
    issue, group, part : In
        A part is asked for. The result must stay for one more cycle.
    results : In, array of groups
        ``lanes`` sums of ``acc_width`` bits, lane 0 lowest.
    sums : Out
        ``epilogue_lanes`` of them; 0 where none was asked for.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "issue": In(1),
            "group": In(range(preset.groups)),
            "part": In(range(max(2, preset.beats_per_tile))),
            "results": In(preset.lanes * preset.acc_width).array(preset.groups),
            "sums": Out(preset.epilogue_lanes * preset.acc_width),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        parts, width = preset.beats_per_tile, len(self.sums)

        def register(name, value):
            signal = Signal(len(value), name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        level = []
        count = 2 if parts == 2 else 1  # groups that share a register: of four values, one LUT
        for first in range(0, preset.groups, count):
            asked = Signal(name=f"asked_{first}")
            m.d.comb += asked.eq(
                self.issue & (self.group[exact_log2(count):] == first // count))
            here = register(f"here_{first}", asked)
            # lines of its own: of equal ones, synthesis would make one net of thousands
            line = Cat(self.part, self.group[:exact_log2(count)])
            line = register(f"line_{first}", Mux(asked, line, 0))
            values = [result.word_select(n, width)
                      for result in self.results[first:first + count] for n in range(parts)]
            picked = select(line, values)
            # as a reset where the choice fills a LUT
            picked = Mux(here, picked, 0) if parts <= 2 else here.replicate(width) & picked
            level.append(register(f"picked_{first}", picked))
        # as few are joined first as leave no more than the second step takes; the others wait
        joins = -(-max(0, len(level) - _FAN_IN) // (_FAN_IN - 1))
        values = [union(level[n * _FAN_IN:(n + 1) * _FAN_IN]) for n in range(joins)]
        level = [register(f"joined_{n}", value)
                 for n, value in enumerate(values + level[joins * _FAN_IN:])]
        m.d.comb += self.sums.eq(register("all_joined", union(level)))
        return m
