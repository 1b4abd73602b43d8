# SPDX-License-Identifier: Apache-2.0
"""An accelerator on the board of a SoC that runs Linux, as a Transport."""

import math
import os
import select
import sys
import time

import numpy as np

from hw.regmap import address
from sw.transport import Transport
from sw.uio_files import UioError, UioFiles, naming

__all__ = ["UioTransport"]

_STATUS, _IRQ = address("status"), 8
_ENABLE = (1).to_bytes(4, sys.byteorder)
_GRACE = 1_000_000_000
"""Nanoseconds that Linux may take to say that an interrupt came."""
_LONGEST = (1 << 31) - 1
"""Milliseconds that poll can wait."""


class UioTransport(Transport):
    """The accelerator of ``files``, whose clock has ``clock_hz`` cycles a second.

    Programs must be compiled for the buffer's place: ``compile_model(..., memory_base=base)``.
    `UioFiles` says how caches are kept away from it. No barrier is between writes to the buffer
    and those to registers; the driver reads and writes several registers before it starts a run.

    Raises UioError, which names the file. Not yet tried on a board.
    """

    def __init__(self, files: UioFiles, clock_hz: float) -> None:
        if not clock_hz > 0:
            raise UioError(f"{files.path}: clock_hz is {clock_hz}, must be above 0")
        self._files, self.clock_hz = files, clock_hz
        self._poll = select.poll()
        self._poll.register(files.interrupt, select.POLLIN)

    @property
    def memory(self) -> np.ndarray:
        return self._files.memory

    @property
    def base(self) -> int:
        return self._files.base

    def read32(self, address: int) -> int:
        return self._files.read32(address)

    def write32(self, address: int, value: int) -> None:
        self._files.write32(address, value)

    def wait(self, timeout: int) -> bool:
        """Wait up to ``timeout`` clock cycles, rounded up to milliseconds, for the interrupt.

        Raises UioError when the accelerator has raised it and Linux does not say so.
        """
        end = time.monotonic_ns() + math.ceil(timeout * 1_000_000_000 / self.clock_hz)
        late = False
        while not late:
            if self._event(end) and self._pending():
                return True     # else it was that of a run which is over
            late = time.monotonic_ns() >= end
        if self._pending() and not self._event(time.monotonic_ns() + _GRACE):
            raise UioError(f"{self._files.path}: the accelerator has raised its interrupt, but "
                           "none came; needed: its line in the device tree")
        return self._pending()

    def close(self) -> None:
        self._files.close()

    def _pending(self) -> bool:
        return bool(self.read32(_STATUS) & _IRQ)

    def _event(self, end: int) -> bool:
        """Enable the interrupt, and wait for it until the clock of the system says ``end``."""
        path, descriptor = self._files.path, self._files.interrupt
        with naming(path, "a UIO device with an interrupt"):
            taken = os.write(descriptor, _ENABLE)
            left = max(0, end - time.monotonic_ns())
            while not self._poll.poll(min(-(-left // 1_000_000), _LONGEST)):
                left = end - time.monotonic_ns()
                if left <= 0:
                    return False
            count = os.read(descriptor, len(_ENABLE))
        for what, size in (("took", taken), ("gave", len(count))):
            if size != len(_ENABLE):
                raise UioError(f"{path}: {what} {size} bytes, must be the {len(_ENABLE)} of an "
                               "interrupt count")
        return True
