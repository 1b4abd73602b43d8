# SPDX-License-Identifier: Apache-2.0
"""How the driver reaches an accelerator: one small abstract class."""

from __future__ import annotations

import abc

import numpy as np

from sw.remote_memory import RemoteMemory

__all__ = ["Transport"]


class Transport(abc.ABC):
    """Registers, memory and the interrupt of one accelerator.

    Implementations: ``sim.verilated.VerilatedTransport``, ``sw.uio.UioTransport``,
    ``sw.uartbone.UartTransport``.
    """

    @property
    @abc.abstractmethod
    def memory(self) -> np.ndarray | RemoteMemory:
        """The accelerator's memory, as bytes that may be read and written while it is idle.

        Where it isn't this machine's, in slices only.
        """

    @property
    def base(self) -> int:
        """Address of the memory's first byte, as the accelerator sees it."""
        return 0

    @abc.abstractmethod
    def read32(self, address: int) -> int:
        """Return the register at byte ``address``."""

    @abc.abstractmethod
    def write32(self, address: int, value: int) -> None:
        """Write the register at byte ``address``."""

    @abc.abstractmethod
    def wait(self, timeout: int) -> bool:
        """Wait up to ``timeout`` clock cycles for the interrupt; return whether it came."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release what the transport holds."""

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
