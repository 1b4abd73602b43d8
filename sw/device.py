# SPDX-License-Identifier: Apache-2.0
"""An accelerator that runs one compiled program for one batch after the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from sw.compile.program import Program
from sw.driver import Counters, DeviceError, DeviceTimeout, Driver, Region
from sw.transport import Transport

__all__ = ["POISON", "Device", "OpenDevice"]

POISON = 0xA5
"""What fills the writable memory before each image: a tensor that is not written differs."""


class Device:
    """An accelerator behind `transport` with a program in its memory.

    The program is compiled for that memory: its addresses lie there.
    """

    failures: tuple[type[Exception], ...] = (DeviceError, DeviceTimeout)
    """What `run` raises when the accelerator, not the input, is at fault."""
    failed = False
    """A run failed: the accelerator is not to be used again."""

    def __init__(self, program: Program, transport: Transport) -> None:
        self.program, self.transport = program, transport
        self.driver = Driver(transport, program.preset)
        self.driver.load(program.segments)

    @cached_property
    def transfers(self) -> list[tuple[int, int]]:
        """Bytes that each layer reads and writes."""
        return self.program.transfers()

    def close(self) -> None:
        self.transport.close()

    def run(self, given: Sequence[Mapping[str, torch.Tensor]],
            number: int) -> tuple[Counters, list[int] | None]:
        """Run the batch from image `number` on, from the tensors `given` of each image.

        Returns counters, and cycles of each layer where they are known, of the whole batch. Raises
        one of `failures`; what was written until then can be read all the same.
        """
        program, memory, origin = self.program, self.transport.memory, self.transport.base
        readable, writable = Region(*program.read_region), Region(*program.write_region)
        memory[writable.base - origin:writable.limit - origin] = POISON
        for place, tensors in enumerate(given):
            for name, value in tensors.items():
                program.write_tensor(memory, name, value.numpy(), origin, place)
        try:
            counters = self.driver.run(
                program.address, program.count, readable, writable,
                timeout=100 * program.predicted_cycles + 10_000_000)
        except self.failures:
            self.failed = True
            raise
        return counters, None

    def tensors(self, names: Iterable[str], place: int = 0) -> dict[str, torch.Tensor]:
        """Tensors of an image of the batch, as they are in memory now."""
        memory, origin = self.transport.memory, self.transport.base
        return {name: torch.from_numpy(np.ascontiguousarray(
            self.program.read_tensor(memory, name, origin, place))) for name in names}


OpenDevice = Callable[[Program], Device]
"""Makes the device that is to run a program."""
