# SPDX-License-Identifier: Apache-2.0
"""Runs an integer model on the Verilated accelerator and compares every tensor."""

from __future__ import annotations

import numpy as np
import torch

from hw.presets import Preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.compile.compiler import compile_model
from sw.driver import Counters, Driver, Region
from sw.golden.network import evaluate
from sw.model_file import IntegerModel

__all__ = ["differing_tensors"]

POISON = 0xA5
"""Fills the memory: a tensor that is not written differs."""


def differing_tensors(model: IntegerModel, preset: Preset, images: list[torch.Tensor], *,
                      latency: int = 100, stall: int = 0, seed: int = 0,
                      level_mode: str = "planes", batch: int = 1,
                      **options: object) -> tuple[list[str], list[Counters]]:
    """Run integer ``images``, batches one behind the other, without a reset between them.

    ``options`` are those of VerilatedTransport, such as other Verilog of the same design.
    Returns "image/tensor" of all that differ from the golden model, and the counters.
    """
    program = compile_model(model, preset, level_mode=level_mode, batch=batch)
    size = -(-(program.base + program.size) // 4096) * 4096
    wrong, counters = [], []
    with VerilatedTransport(preset, memory_bytes=size, latency=latency, stall=stall, seed=seed,
                            **{"effort": QUICK} | options) as transport:
        driver = Driver(transport, preset)
        for first in range(0, len(images), batch):
            transport.memory[:] = POISON
            driver.load(program.segments)
            for place in range(batch):
                program.write_input(transport.memory, images[first + place].numpy(), number=place)
            counters.append(driver.run(
                program.address, program.count, Region(*program.read_region),
                Region(*program.write_region),
                timeout=100 * program.predicted_cycles + 1_000_000))
            for place in range(batch):
                golden = evaluate(model, images[first + place])
                for name in program.tensors:
                    got = program.read_tensor(transport.memory, name, number=place)
                    if not np.array_equal(got, golden[name].numpy()):
                        wrong.append(f"{first + place}/{name}")
    return wrong, counters
