# SPDX-License-Identifier: Apache-2.0
"""The collector brings the part that was asked for, of every number of groups."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.lif.result_collector import ResultCollector
from hw.presets import get_preset

LATENCY, BEATS = 4, 60


@pytest.mark.parametrize("epilogue_lanes", [4, 8])
@pytest.mark.parametrize("groups", [1, 2, 6, 7, 8, 12, 16])
def test_sums(groups: int, epilogue_lanes: int) -> None:
    """Joined at once up to 6 groups, in two steps behind that; 0 where nothing is asked for."""
    preset = dataclasses.replace(get_preset("tiny"), groups=groups, epilogue_lanes=epilogue_lanes,
                                 out_banks=2)
    random = np.random.default_rng([groups, epilogue_lanes])
    width = preset.acc_width * epilogue_lanes
    dut = ResultCollector(preset)
    asked: list[int] = []

    async def stream(ctx) -> None:
        """A part a cycle; results stay the same."""
        results = [int.from_bytes(random.bytes(preset.lanes * preset.acc_width // 8), "little")
                   for _ in range(groups)]
        for group, result in enumerate(results):
            ctx.set(dut.results[group], result)
        for beat in range(BEATS + LATENCY):
            if beat >= LATENCY:
                assert ctx.get(dut.sums) == asked[beat - LATENCY], f"beat {beat - LATENCY}"
            group, part = int(random.integers(groups)), int(random.integers(preset.beats_per_tile))
            issue = bool(random.random() < 0.7)
            ctx.set(dut.issue, issue)
            ctx.set(dut.group, group)
            ctx.set(dut.part, part)
            asked.append(results[group] >> part * width & (1 << width) - 1 if issue else 0)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(stream)
    simulator.run()
    assert len(asked) == BEATS + LATENCY
