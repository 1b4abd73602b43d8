# SPDX-License-Identifier: Apache-2.0
"""A simulated accelerator that runs one compiled program for one batch after the other."""

from collections.abc import Mapping, Sequence

import torch

from sw.compile.program import Program
from sw.device import Device
from sw.driver import Counters
from sw.layer_clock import LayerClock

__all__ = ["STALL", "SimulatedDevice"]

STALL = 64
"""Of 256 cycles, those in which `stalls` pauses each channel of the memory port."""


class SimulatedDevice(Device):
    """A simulated accelerator with a program in its memory.

    `layers` counts the model's layers; `stalls` is the seed of random pauses on the memory port,
    `latency` the memory's in cycles, `effort` the C++ compiler's for the simulation (default: for
    long runs), `generator` the "module:function" of its Verilog (default: the accelerator's).
    """

    transport: LayerClock

    def __init__(self, program: Program, layers: int, *, stalls: int | None = None,
                 latency: int = 100, effort: str | None = None,
                 generator: str | None = None) -> None:
        # not at the top: the simulator needs Amaranth
        from sim.build import FAST, GENERATOR
        from sim.verilated import ProtocolError, VerilatedTransport

        self.failures = *Device.failures, ProtocolError
        self.latency, self.stalls = latency, stalls
        super().__init__(program, LayerClock(VerilatedTransport(
            program.preset, memory_bytes=-(-(program.base + program.size) // 4096) * 4096,
            effort=effort or FAST, generator=generator or GENERATOR), layers))

    def run(self, given: Sequence[Mapping[str, torch.Tensor]],
            number: int) -> tuple[Counters, list[int]]:
        """Run a batch as `Device.run` does; the cycles of each layer are sampled."""
        self.transport.start()
        # every image has a seed of its own, whichever device runs it, and whenever
        self.transport.inner.set_timing(
            self.latency, self.program.preset.beat_bytes, 0 if self.stalls is None else STALL,
            0 if self.stalls is None else self.stalls + number)
        counters, _ = super().run(given, number)
        return counters, self.transport.layers(counters.cycles)
