# SPDX-License-Identifier: Apache-2.0
"""The array of SFA neurons against ``sw.golden.sfa``: on the edges of levels, beside them, and at
the limits of current, threshold and step."""

from collections import deque

import cocotb
import numpy as np
import torch
from cocotb.triggers import RisingEdge

from hw.presets import LEVEL_BITS
from sw.golden.numbers import GUARD_BITS
from sw.golden.sfa import sfa
from tb.cocotb_bench import bench, generator, preset, start

THRESHOLD, STEP = 27, 24
"""Bits of a threshold but for its sign, and of a step: docs/numbers.md."""
LATENCY, BEATS = 6, 400
KINDS = ("edges", "limits", "wide")


def draw(random: np.random.Generator, kind: str, lanes: int) -> tuple[np.ndarray, ...]:
    """Currents, thresholds and steps of a beat, one of each a lane."""
    highest = (1 << preset().sum_width - 1) - 1
    if kind == "limits":
        def choose(low: int, high: int) -> np.ndarray:
            return random.choice([low, low + 1, 0, 1, high - 1, high], lanes)

        return (choose(-highest - 1, highest),
                choose(-1 << THRESHOLD, (1 << THRESHOLD) - 1),
                random.choice([1, 2, (1 << STEP) - 1], lanes))
    step = np.exp2(random.uniform(random.choice([0, STEP - 1], lanes), STEP)).astype(np.int64)
    step = step.clip(1, (1 << STEP) - 1)
    if kind == "wide":
        return (random.integers(-highest - 1, highest + 1, lanes),
                random.integers(-1 << THRESHOLD, 1 << THRESHOLD, lanes), step)
    # so that current * 2^GUARD_BITS - threshold is a multiple of the step, one less, or a bit more
    more = np.int64(1) << random.choice([0, 1, STEP // 2, STEP - 1], lanes)
    near = np.choose(random.integers(0, 3, lanes), [0, -1, more])
    above = step * random.integers(-2, 18, lanes) + near
    current = (above >> GUARD_BITS) + random.integers(-1000, 1000, lanes)
    return current, (current << GUARD_BITS) - above, step


@bench
@cocotb.parametrize(kind=KINDS)
async def levels_equal_golden(dut: object, kind: str) -> None:
    """A beat in each cycle, all of another kind: levels, and whether ties go to the even one."""
    await start(dut)
    random, lanes = generator("levels", kind), preset().epilogue_lanes
    flight: deque[list[int]] = deque()
    modes = deque([(1, False)] * LEVEL_BITS)
    found = set()
    for beat in range(BEATS + LATENCY):
        current, threshold, step = draw(random, kind, lanes)
        bits, even = int(random.integers(1, 5)), bool(random.integers(2))
        modes.append((bits, even))
        dut.level_bits.value, dut.ties_even.value = modes.popleft()
        for lane in range(lanes):
            getattr(dut, f"current__{lane}").value = int(current[lane])
            getattr(dut, f"threshold__{lane}").value = int(threshold[lane])
            getattr(dut, f"step__{lane}").value = int(step[lane])
        flight.append(sfa(torch.from_numpy(current)[None, :, None, None],
                          torch.from_numpy(threshold), torch.from_numpy(step), 1 << bits - 1,
                          even).flatten().tolist())
        await RisingEdge(dut.clk)
        if len(flight) > LATENCY:
            expected = flight.popleft()
            levels = [int(getattr(dut, f"levels__{lane}").value) for lane in range(lanes)]
            assert levels == expected, f"beat {beat - LATENCY}"
            found |= set(levels)
    assert found >= {0, 1, 2, 4, 8}
