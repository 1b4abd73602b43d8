# SPDX-License-Identifier: Apache-2.0
"""A simulated accelerator that runs one compiled program for one batch after the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from sw.compile.program import Program
from sw.driver import Counters, DeviceError, DeviceTimeout, Driver, Region
from sw.layer_clock import LayerClock

__all__ = ["POISON", "STALL", "Device", "OpenDevice"]

STALL = 64
"""Of 256 cycles, those in which `stalls` pauses each channel of the memory port."""
POISON = 0xA5
"""What fills the writable memory before each image: a tensor that is not written differs."""


class Device:
    """A simulated accelerator with a program in its memory.

    `layers` counts the model's layers; `stalls` is the seed of random pauses on the memory port,
    `latency` the memory's in cycles, `effort` the C++ compiler's for the simulation (default: for
    long runs), `generator` the "module:function" of its Verilog (default: the accelerator's).
    """

    failures: tuple[type[Exception], ...]
    """What `run` raises when the accelerator, not the input, is at fault."""
    failed = False
    """A run failed: the accelerator is not to be used again."""

    def __init__(self, program: Program, layers: int, *, stalls: int | None = None,
                 latency: int = 100, effort: str | None = None,
                 generator: str | None = None) -> None:
        # not at the top: the simulator needs Amaranth
        from sim.build import FAST, GENERATOR
        from sim.verilated import ProtocolError, VerilatedTransport

        self.failures = DeviceError, DeviceTimeout, ProtocolError
        self.program, self.latency, self.stalls = program, latency, stalls
        self.transport = LayerClock(VerilatedTransport(
            program.preset, memory_bytes=-(-(program.base + program.size) // 4096) * 4096,
            effort=effort or FAST, generator=generator or GENERATOR), layers)
        self.driver = Driver(self.transport, program.preset)
        self.driver.load(program.segments)

    @cached_property
    def transfers(self) -> list[tuple[int, int]]:
        """Bytes that each layer reads and writes."""
        return self.program.transfers()

    def close(self) -> None:
        self.transport.close()

    def run(self, given: Sequence[Mapping[str, torch.Tensor]],
            number: int) -> tuple[Counters, list[int]]:
        """Run the batch from image `number` on, from the tensors `given` of each image.

        Returns counters, and cycles of each layer, of the whole batch. Raises one of `failures`;
        what was written until then can be read all the same.
        """
        program, memory = self.program, self.transport.memory
        readable, writable = Region(*program.read_region), Region(*program.write_region)
        memory[writable.base:writable.limit] = POISON
        for place, tensors in enumerate(given):
            for name, value in tensors.items():
                program.write_tensor(memory, name, value.numpy(), number=place)
        self.transport.start()
        # every image has a seed of its own, whichever device runs it, and whenever
        self.transport.inner.set_timing(
            self.latency, program.preset.beat_bytes, 0 if self.stalls is None else STALL,
            0 if self.stalls is None else self.stalls + number)
        try:
            counters = self.driver.run(
                program.address, program.count, readable, writable,
                timeout=100 * program.predicted_cycles + 10_000_000)
        except self.failures:
            self.failed = True
            raise
        return counters, self.transport.layers(counters.cycles)

    def tensors(self, names: Iterable[str], place: int = 0) -> dict[str, torch.Tensor]:
        """Tensors of an image of the batch, as they are in memory now."""
        memory = self.transport.memory
        return {name: torch.from_numpy(np.ascontiguousarray(
            self.program.read_tensor(memory, name, number=place))) for name in names}


OpenDevice = Callable[[Program], Device]
"""Makes the device that is to run a program."""
