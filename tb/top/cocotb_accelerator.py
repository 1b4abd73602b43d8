# SPDX-License-Identifier: Apache-2.0
"""The whole accelerator between cocotbext-axi's models, driven by the driver, against golden."""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.task import bridge

from sw.compile.compiler import compile_model
from sw.driver import DeviceTimeout, Driver, Region
from sw.golden.network import evaluate
from sw.model_file import IntegerModel
from tb.cocotb_bench import STALLS, bench, generator, preset, start
from tb.random_model import random_image, random_model
from tb.top.cocotb_transport import CocotbTransport

POISON = 0xA5
"""Fills the memory: a tensor that is not written differs."""

MODELS = {
    "all_layers": dict(size=(4, 5), channels=10, heads=2, time_steps=2, kernel=3, expansion=2),
    "events": dict(size=(5, 3), channels=12, heads=3, time_steps=3, kernel=3, expansion=1,
                   blocks=("channel", "down", "attention"), event_frames=True, integer_bits=5),
    "one_step": dict(size=(3, 4), channels=33, heads=1, time_steps=1, kernel=3, expansion=1,
                     blocks=("attention", "sep"), integer_bits=12),
}


class Host:
    """A compiled model on a driver."""

    def __init__(self, dut: object, model: IntegerModel, random: np.random.Generator,
                 stall: float):
        self.model = model
        self.program = compile_model(model, preset())
        size = -(-(self.program.base + self.program.size) // 4096) * 4096
        self.transport = CocotbTransport(dut, size)
        self.transport.stall(random, stall)
        self.driver: Driver | None = None

    def run(self, image: np.ndarray, timeout: int = 500_000) -> None:
        """Run one image; blocks."""
        program, memory = self.program, self.transport.memory
        self.driver = self.driver or Driver(self.transport, preset())
        memory[:] = POISON
        self.driver.load(program.segments)
        program.write_input(memory, image)
        self.driver.run(program.address, program.count, Region(*program.read_region),
                        Region(*program.write_region), timeout=timeout)

    async def check(self, seed: int) -> None:
        """Run a random image and compare every tensor with the golden model's."""
        image = random_image(self.model, seed)
        golden = evaluate(self.model, image)
        await bridge(self.run)(image.numpy())
        wrong = [name for name in self.program.tensors if not np.array_equal(
            self.program.read_tensor(self.transport.memory, name), golden[name].numpy())]
        assert wrong == []


@bench
@cocotb.parametrize(stall=STALLS, model=list(MODELS))
async def tensors_equal_golden(dut: object, stall: float, model: str) -> None:
    """Two images one behind the other, without a reset between them."""
    random = generator("top", stall, model)
    await start(dut)
    host = Host(dut, random_model(int(random.integers(1000)), **MODELS[model]), random, stall)
    for _ in range(2):
        await host.check(int(random.integers(1000)))


@bench
@cocotb.parametrize(stall=STALLS)
async def soft_reset_between(dut: object, stall: float) -> None:
    """The driver gives up in the middle of a run, resets, and runs again."""
    random = generator("soft reset", stall)
    await start(dut)
    host = Host(dut, random_model(3, **MODELS["all_layers"]), random, stall)
    image = random_image(host.model, 1).numpy()
    for timeout in random.integers(100, 6000, 3).tolist():
        try:
            await bridge(host.run)(image, timeout)
        except DeviceTimeout:
            continue
        raise AssertionError(f"the run took less than {timeout} cycles")
    await host.check(2)
