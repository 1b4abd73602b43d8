# SPDX-License-Identifier: Apache-2.0
"""The neuron array against ``sw.golden.lif``: random and extreme sequences, all addresses mixed."""

from collections import deque

import cocotb
import numpy as np
import torch
from cocotb.triggers import RisingEdge

from sw.golden.lif import lif
from tb.cocotb_bench import STALLS, bench, generator, pauses, preset, reset, start

LIMIT = (1 << 27) - 1
KINDS = {"limits": ((LIMIT, -LIMIT, 0), (-LIMIT - 1, -LIMIT, -1, 0, 1, LIMIT), 13),
         "decay": ((0, 1), (-1, 0, 0, 0, 0, 1), 30)}
"""Thresholds and currents to choose from, and steps. Decay: halved so often that bits get lost."""

SPACING = 4
"""Cycles from a step of an address to its next."""


class Array:
    """Sequences of currents for each address, in order, and the spikes that must come."""

    def __init__(self, dut: object, random: np.random.Generator, sequences: int, kind: str):
        self.dut, self.random = dut, random
        self.lanes = preset().epilogue_lanes
        self.width = preset().sum_width
        slots = preset().groups * preset().beats_per_tile
        self.steps = {address: deque() for address in range(slots)}
        self.sent = 0
        for address in self.steps:
            for _ in range(sequences):
                self._add(address, kind)
        self.total = sum(map(len, self.steps.values()))

    def _add(self, address: int, kind: str) -> None:
        levels, values, most = KINDS.get(kind, ((), (), 13))
        steps, lanes = int(self.random.integers(1, most)), self.lanes
        if kind == "random":
            scale = 10 ** self.random.uniform(1, 8)
            threshold = self.random.normal(scale / 2, scale / 4, lanes)
            currents = self.random.normal(scale / 3, scale, (steps, lanes))
        else:
            threshold = self.random.choice(levels, lanes)
            currents = self.random.choice(values, (steps, lanes))
        threshold = threshold.clip(-LIMIT, LIMIT).astype(np.int64)
        currents = currents.clip(-LIMIT - 1, LIMIT).astype(np.int64)
        spikes = lif(torch.from_numpy(currents)[:, :, None, None], torch.from_numpy(threshold))
        for step in range(steps):
            fired = sum(int(spike) << lane for lane, spike in enumerate(spikes[step].flatten()))
            self.steps[address].append((step == 0, currents[step], threshold, fired))

    async def run(self, stall: float, cycles: int | None = None) -> None:
        """Send all steps, or for some cycles only, and compare."""
        dut, random, pause = self.dut, self.random, pauses(self.random, stall)
        resting = dict.fromkeys(self.steps, 0)
        flight = deque([None, None])  # what was sent in the last two cycles
        while cycles is None or cycles > 0:
            cycles = None if cycles is None else cycles - 1
            free = [address for address, steps in self.steps.items()
                    if steps and not resting[address]]
            resting = {address: max(0, left - 1) for address, left in resting.items()}
            chosen = None
            if free and not next(pause):
                address = int(random.choice(free))
                resting[address] = SPACING - 1
                chosen = self.steps[address].popleft()
                self.sent += 1
                dut.address.value = address
                dut.first.value = chosen[0]
                for lane in range(self.lanes):
                    getattr(dut, f"current__{lane}").value = int(chosen[1][lane])
            dut.valid.value = chosen is not None
            now = flight.popleft()
            for lane in range(self.lanes):
                value = random.integers(-LIMIT, LIMIT) if now is None else now[2][lane]
                getattr(dut, f"threshold__{lane}").value = int(value)
            flight.append(chosen)
            await RisingEdge(dut.clk)
            if now is not None:
                assert int(dut.spikes.value) == now[3], f"step {self.sent} of {self.total}"
            if not any(self.steps.values()) and not any(flight):
                return


@bench
@cocotb.parametrize(stall=STALLS, kind=["random", *KINDS])
async def neurons_equal_golden(dut: object, stall: float, kind: str) -> None:
    """Sequence follows sequence at every address, without a reset."""
    await start(dut)
    for run in range(2):
        await Array(dut, generator("lif", stall, kind, run), 10, kind).run(stall)


@bench
async def reset_between(dut: object) -> None:
    """A reset in the middle of a run leaves nothing behind."""
    random = generator("reset")
    await start(dut)
    await Array(dut, random, 5, "random").run(0.2, cycles=50)
    await reset(dut)
    await Array(dut, random, 5, "random").run(0.2)
