# SPDX-License-Identifier: Apache-2.0
"""A group (scanner and lanes) on a weight memory, against ``sw.golden.conv``."""

from __future__ import annotations

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hw.payloads import EntryLayout
from hw.presets import WORD_BITS
from tb.cocotb_bench import STALLS, bench, generator, pack, pauses, preset, reset, signed, start
from tb.conv.windows import MODES, Mode, random_maps, random_weights, sums, to_words, weight_rows

LIMIT = 20_000
"""Cycles of a run, at most."""

CORNERS = {"lowest": (-128, 1.0), "highest": (127, 1.0), "empty": (None, 0.0)}
"""Weights (None: random) and density."""


class Work:
    """Units of one weight set: entries to push, sums and additions to expect."""

    def __init__(self, random: np.random.Generator, mode: Mode, units: int, density: float,
                 extreme: int | None = None):
        p = preset()
        kernel, words = (3, 3) if mode.depthwise else (2, 3), 1
        taps = kernel[0] * kernel[1] * words
        weights = random_weights(random, mode, p.lanes, words, kernel, extreme)
        rows = weight_rows(mode, weights)
        per_word = 1 if mode.depthwise else WORD_BITS
        places = p.weight_rows // per_word // len(rows) - taps
        base = int(random.integers(places + 1)) * len(rows)
        self.memory = random.integers(0, 256, (p.weight_rows, p.lanes), dtype=np.uint8)
        for part, content in enumerate(rows):
            first = (base + part * taps) * per_word
            self.memory[first:first + len(content)] = content
        mask_bit = int(random.integers(WORD_BITS // p.lanes)) * p.lanes
        maps = random_maps(random, mode, (units, WORD_BITS * words, *kernel), density)
        seen = maps.values
        if mode.depthwise:  # one output tile's channels
            maps.values = seen[:, mask_bit:mask_bit + p.lanes]
        expected = sums(mode, maps, weights).reshape(units, p.lanes)
        strings = to_words(maps.planes).reshape(units, mode.planes, kernel[0], -1)
        self.entries: deque[tuple[int, int]] = deque()
        self.results: deque[tuple[int, list[int]]] = deque()
        self.additions = 0
        fixed = {"depthwise": mode.depthwise, "unsigned": mode.counts, "mask_bit": mask_bit}
        for unit in range(units):
            context = int(random.integers(2))
            self.results.append((context, expected[unit].tolist()))
            for plane in range(mode.planes):
                final = plane == mode.planes - 1
                first = base + (plane * taps if mode.counts else 0)
                double = 0 if final or (mode.digits and plane % 2 == 0) else mode.plane_shift
                self._plane(strings[unit, plane], first, double, {
                    **fixed, "context": context, "minus": mode.digits and plane % 2,
                    "end": final})

    def _plane(self, strings: np.ndarray, first: int, double: int,
               fields: dict[str, int]) -> None:
        """Cut the words of a plane into entries, and drop those that say nothing."""
        layout, banks = EntryLayout(preset()), preset().map_banks
        pieces = [(row * strings.shape[1] + place, string[place:place + banks])
                  for row, string in enumerate(strings)
                  for place in range(0, strings.shape[1], banks)]
        for place, words in pieces:
            last = place == pieces[-1][0]
            nonzero = sum(int(word != 0) << n for n, word in enumerate(words))
            self.additions += (nonzero if fields["depthwise"] else np.bitwise_or.reduce(
                words.astype(object) << 32 * np.arange(len(words), dtype=object))).bit_count()
            marks = last and (fields["end"] or double)
            if not nonzero and not marks:
                continue
            self.entries.append((pack(layout, {
                **fields, "words": [*words, *[0] * (banks - len(words))], "row": first + place,
                "single": nonzero.bit_count() < 2, "double": double if last else 0,
                "end": fields["end"] if last else 0}), nonzero))


async def run(dut: object, work: Work, random: np.random.Generator, stall: float,
              cycles: int = LIMIT) -> int:
    """Push all entries, take and compare all results; return the cycles, or -1 when cut off."""
    p = preset()
    push, hold, rest = (pauses(random, stall) for _ in range(3))
    level, additions, freed = 0, 0, False
    row_s0 = row_s1 = row_s2 = 0
    for cycle in range(cycles):
        pushes = bool(work.entries) and level < p.fifo_depth and not next(push)
        if pushes:
            entry, nonzero = work.entries.popleft()
            dut.entry.value, dut.nonzero.value = entry, nonzero
        dut.entry_valid.value = pushes
        dut.hold.value = next(hold)
        await RisingEdge(dut.clk)
        level += pushes - int(dut.entry_popped.value)
        additions += int(dut.adding.value)
        if int(dut.enable.value):  # a memory of two stages, behind a register
            row_s2, row_s1 = row_s1, row_s0
            half = p.weight_rows // 2
            banks = work.memory[row_s2 % half], work.memory[row_s2 % half + half]
            dut.weights.value = int.from_bytes(b"".join(map(bytes, banks)), "little")
            dut.upper.value = row_s2 >= half
        row_s0 = int(dut.row.value)
        ready = int(dut.result_valid.value) and not freed
        freed = bool(ready) and not next(rest)
        dut.free.value = freed
        if freed:
            context, expected = work.results.popleft()
            bits, width = int(dut.result.value), p.acc_width
            found = [signed(bits >> width * lane & (1 << width) - 1, width)
                     for lane in range(p.lanes)]
            assert found == expected, f"{len(work.results)} results before the last"
            assert int(dut.result_context.value) == context
            if not work.results:
                await RisingEdge(dut.clk)
                dut.free.value = 0
                assert additions == work.additions
                return cycle
    assert cycles < LIMIT, f"{len(work.results)} results are missing"
    return -1


@bench
@cocotb.parametrize(stall=STALLS, mode=list(MODES))
async def sums_equal_golden(dut: object, stall: float, mode: str) -> None:
    """Several weight sets and densities, one behind the other without a reset."""
    await start(dut)
    for density in (0.02, 0.2, 0.7):
        random = generator("group", stall, mode, density)
        await run(dut, Work(random, MODES[mode], 12, density), random, stall)


@bench
@cocotb.parametrize(stall=STALLS, mode=["spikes", "digits", "depthwise_digits"],
                    corner=list(CORNERS))
async def corners(dut: object, stall: float, mode: str, corner: str) -> None:
    """All weights at a limit and all inputs at the largest digit; or nothing to add."""
    random = generator("corner", stall, mode, corner)
    extreme, density = CORNERS[corner]
    await start(dut)
    await run(dut, Work(random, MODES[mode], 4, density, extreme), random, stall)


@bench
async def one_addition_a_cycle(dut: object) -> None:
    """Without pauses the lanes add in every cycle but for the first few."""
    random = generator("throughput")
    work = Work(random, MODES["spikes"], 8, 1.0)
    await start(dut)
    cycles = await run(dut, work, random, 0.0)
    assert cycles - work.additions < 24, f"{cycles} cycles for {work.additions} additions"


@bench
async def reset_between(dut: object) -> None:
    """A reset in the middle of a run leaves nothing behind."""
    random = generator("reset")
    await start(dut)
    for cycles in (60, 200):
        work = Work(random, MODES["digits"], 20, 0.5)
        assert await run(dut, work, random, 0.3, cycles) < 0
        await reset(dut)
        await run(dut, Work(random, MODES["digits"], 6, 0.3), random, 0.3)
