# SPDX-License-Identifier: Apache-2.0
"""The Verilated accelerator as UioTransport sees one on a board: its clock runs by itself."""

import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

from sim.verilated import VerilatedTransport

__all__ = ["ModelFiles", "word"]

_CYCLES = 500
"""Clock cycles between two looks at what the host wants."""


def word(value: int) -> bytes:
    """Return an interrupt count as UIO gives it."""
    return value.to_bytes(4, sys.byteorder)


class ModelFiles:
    """What `sw.uio_files.UioFiles` is to UioTransport, of a model; memory is shown from ``base``.

    A thread is the board and the kernel: it lets the clock run, and when the interrupt is high and
    enabled, disables it and sends the count; so the host must enable it before each run but the
    first. Not ``wired``, the kernel never sees it.
    """

    path = Path("/dev/model")

    def __init__(self, model: VerilatedTransport, base: int = 0, *, wired: bool = True) -> None:
        self.model, self.base, self.wired = model, base, wired
        self.memory: np.ndarray = model.memory[base:]
        self.enables: list[int] = []
        """What the host wrote to the interrupt's file."""
        self._host, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._kernel.setblocking(False)
        self.interrupt = self._host.fileno()
        self._enabled, self._count, self._error = True, 0, None
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def read32(self, address: int) -> int:
        with self._lock:
            return self.model.read32(address)

    def write32(self, address: int, value: int) -> None:
        with self._lock:
            self.model.write32(address, value)

    def spurious(self) -> None:
        """Count an interrupt that the accelerator did not raise."""
        self._count += 1
        self._kernel.send(word(self._count))

    def close(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(timeout=60)
            for end in (self._host, self._kernel):
                end.close()
            self.model.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    high = self.model.wait(_CYCLES)
                self._take()
                if high and self._enabled and self.wired:
                    self._enabled = False
                    self.spurious()
                time.sleep(0.0005)          # the host gets the lock
        except Exception as error:          # said when the files are closed
            self._error = error

    def _take(self) -> None:
        """Take what the host wrote since the last look."""
        while True:
            try:
                written = self._kernel.recv(64)
            except BlockingIOError:
                return
            assert len(written) == 4, written
            self.enables.append(int.from_bytes(written, sys.byteorder))
            self._enabled = self.enables[-1] != 0
