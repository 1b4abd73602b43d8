# SPDX-License-Identifier: Apache-2.0
"""Cycles of each layer, sampled from the accelerator's `layer` register while it runs."""

import numpy as np

from hw.regmap import address
from sw.transport import Transport

__all__ = ["LayerClock"]


class LayerClock(Transport):
    """A simulated transport that reads the `layer` register every `period` cycles of a run.

    The cycles between two readings belong to the layer read last: from its first CONV or KTV to
    that of the next layer, waits included. The readings don't disturb the run. `inner` must count
    clock cycles in its attribute `cycle`.
    """

    def __init__(self, inner: Transport, layers: int, period: int = 64) -> None:
        self.inner, self.period = inner, period
        self._cycles = [0] * layers

    def start(self) -> None:
        """Forget what was sampled: the next run begins."""
        self._cycles = [0] * len(self._cycles)

    def layers(self, total: int) -> list[int]:
        """Cycles of each layer; they add up to the run's `total`."""
        rest = self._cycles[:-1]
        return [*rest, max(0, total - sum(rest))]

    @property
    def memory(self) -> np.ndarray:
        return self.inner.memory

    @property
    def base(self) -> int:
        return self.inner.base

    def read32(self, address: int) -> int:
        return self.inner.read32(address)

    def write32(self, address: int, value: int) -> None:
        self.inner.write32(address, value)

    def wait(self, timeout: int) -> bool:
        begin = last = self.inner.cycle
        current = 0                     # the register keeps the last run's layer at first
        while True:
            arrived = self.inner.wait(min(self.period, max(1, begin + timeout - last)))
            now = self.inner.cycle
            self._cycles[current] += now - last
            last = now
            if arrived or now - begin >= timeout:
                return arrived
            layer = self.inner.read32(address("layer"))
            if current <= layer < len(self._cycles) and (current or self._is_new(layer)):
                current = layer

    def close(self) -> None:
        self.inner.close()

    def _is_new(self, layer: int) -> bool:
        """A run can't reach its last layer before any other was seen."""
        return layer < len(self._cycles) - 1 or len(self._cycles) == 1
