# SPDX-License-Identifier: Apache-2.0
"""The Verilated accelerator as a Transport."""

from __future__ import annotations

import ctypes
import re
import threading
from pathlib import Path

import numpy as np
import pyverilator

from hw import regmap
from hw.presets import Preset
from sim import build as builder
from sim import coverage, monitors, probes
from sw.transport import Transport

__all__ = ["ProtocolError", "VerilatedTransport"]

_CHUNK = 1 << 20
"""Cycles between two chances for Python to see an interrupt of the user."""
_STATUS, _DONE = regmap.address("status"), 2
_ASSERTION = re.compile(r"assertion failed \((\w+)\)")
_OPENING = threading.Lock()
"""Models are built and opened one at a time."""


class ProtocolError(RuntimeError):
    """The hardware broke a rule of a bus or stream: a defect of the hardware, not of the input."""


class VerilatedTransport(Transport):
    """A model of ``preset`` with ``memory_bytes`` of memory, built when it isn't in the cache.

    Memory answers ``latency`` cycles later and moves ``bandwidth`` bytes a cycle, reads and
    writes together (None: one beat). ``stall`` (0 to 255, of 256) pauses each channel at random,
    by ``seed``. ``trace`` writes a VCD, with a slower model. With ``power_up``, a seed above 0,
    whatever has no initial value in the Verilog begins with a random one, memories too.
    ``generator`` is "module:function" of other hardware with the same ports: a stub, or a variant
    with a fault; of one that has many, ``mutant`` plants one (0: none).
    """

    _handle = None
    _covered: Path | None = None

    def __init__(self, preset: Preset, *, memory_bytes: int = 1 << 26, latency: int = 100,
                 bandwidth: float | None = None, stall: int = 0, seed: int = 0,
                 trace: str | Path | None = None, generator: str = builder.GENERATOR,
                 effort: str = builder.FAST, power_up: int | None = None,
                 mutant: int | None = None) -> None:
        if memory_bytes % 4096 or not 0 < memory_bytes < 1 << 32:
            raise ValueError(f"memory_bytes must be a multiple of 4096 below 2^32, "
                             f"not {memory_bytes}")
        if power_up is not None and not 0 < power_up < 1 << 31:
            raise ValueError(f"power_up must be 1 to 2^31 - 1, not {power_up}")
        self._memory = np.zeros(memory_bytes, np.uint8)
        self._source = preset.name, generator
        with _OPENING:
            library = builder.build(preset.name, generator, effort, trace is not None,
                                    power_up is not None, mutant is not None)
            ctypes.CDLL(str(library)).harness_context(ctypes.c_uint32(power_up or 0))
            self._model = pyverilator.PyVerilator(str(library))
            self._library = _declare(self._model.lib)
            self._handle = self._library.harness_open(
                self._model.model, self._memory.ctypes.data, memory_bytes, mutant or 0)
        self._covered = coverage.new_file()
        self._library.harness_regions(self._handle, *map(regmap.address, (
            "read_base", "read_limit", "write_base", "write_limit")))
        self.set_timing(latency, preset.beat_bytes if bandwidth is None else bandwidth,
                        stall, seed)
        if trace is not None:
            self._library.harness_trace(self._handle, str(trace).encode())

    def set_timing(self, latency: int, bandwidth: float, stall: int = 0, seed: int = 0) -> None:
        """Change the memory's timing, between runs."""
        if not 0 <= stall < 256 or latency < 1 or bandwidth <= 0:
            raise ValueError(f"stall must be 0 to 255, latency at least 1, bandwidth above 0, "
                             f"not {stall}, {latency}, {bandwidth}")
        self._library.harness_timing(self._handle, latency, round(256 * bandwidth), stall, seed)

    def set_fault(self, base: int, limit: int) -> None:
        """Let memory answer bursts that touch ``base .. limit - 1`` with an error."""
        self._library.harness_fault(self._handle, base, limit)

    def lose_read(self, address: int) -> None:
        """Lose the next read beat at ``address``: its burst ends one beat short.

        The last beat of a burst can't get lost: that is a protocol error.
        """
        self._library.harness_lose(self._handle, address, 0)

    def lose_write(self, address: int) -> None:
        """Lose the next write beat at ``address``: taken and answered, but not stored."""
        self._library.harness_lose(self._handle, address, 1)

    @property
    def memory(self) -> np.ndarray:
        return self._memory

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        return self._library.harness_cycle(self._handle)

    def set_mute(self, *channels: str) -> None:
        """Let memory no longer answer on these channels, of "ar", "r", "aw", "w", "b"."""
        mask = sum(1 << ("ar", "r", "aw", "w", "b").index(channel) for channel in channels)
        self._library.harness_mute(self._handle, mask)

    def read32(self, address: int) -> int:
        value = self._library.harness_read32(self._handle, address)
        self._check("register")
        if address == _STATUS and value & _DONE and self.pending:
            raise ProtocolError(f"the run has ended, but {self.pending} bursts are under way")
        return value

    def write32(self, address: int, value: int) -> None:
        self._library.harness_write32(self._handle, address, value)
        self._check("register")

    def step(self, cycles: int) -> None:
        """Let ``cycles`` clock cycles pass."""
        self._library.harness_step(self._handle, cycles)

    def wait(self, timeout: int) -> bool:
        outcome = 0
        while outcome == 0 and timeout > 0:
            outcome = self._library.harness_run(self._handle, min(timeout, _CHUNK))
            timeout -= _CHUNK
        self._check("")
        return outcome == 1

    @property
    def pending(self) -> int:
        """Bursts that memory has not finished."""
        return self._library.harness_pending(self._handle)

    def profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Profile of the last run of a model with probes (`sim.probes`).

        Returns cycles of groups in each of `STATES`, `[1 + compute descriptors, STATES]` (the
        first row: before any), and events `[N, 2]`: cycle of the run, and bits of `EVENTS`.
        """
        found = []
        for which in range(2):
            count = ctypes.c_uint64()
            start = self._library.harness_profile(self._handle, which, ctypes.byref(count))
            found.append(np.ctypeslib.as_array(start, (count.value,)).copy() if count.value
                         else np.zeros(0, np.uint64))
        states, events = found
        return states.reshape(-1, len(probes.STATES)), np.stack([events >> 16, events & 0xffff], 1)

    def _check(self, part: str) -> None:
        """Raise the error that the harness noted, if ``part`` is in its text."""
        error = self._library.harness_error(self._handle).decode()
        failed = _ASSERTION.search(error)
        if failed:
            text = builder.verilog(*self._source)
            error = f"{error[:failed.start()]}{monitors.describe(text, int(failed[1], 16))}"
        if error and part in error:
            raise ProtocolError(error)

    def close(self) -> None:
        if self._handle is not None:
            if self._covered is not None:
                self._library.harness_coverage(self._handle, str(self._covered).encode())
                coverage.thin(self._covered)
            self._library.harness_close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Give the harness functions their types."""
    pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, *arguments in (
            ("open", pointer, pointer, pointer, u64, u32), ("close", None, pointer),
            ("timing", None, pointer, u64, u64, u32, u64), ("fault", None, pointer, u64, u64),
            ("lose", None, pointer, u64, ctypes.c_int),
            ("mute", None, pointer, u32), ("coverage", None, pointer, ctypes.c_char_p),
            ("profile", ctypes.POINTER(u64), pointer, ctypes.c_int, ctypes.POINTER(u64)),
            ("regions", None, pointer, u32, u32, u32, u32), ("pending", u32, pointer),
            ("trace", None, pointer, ctypes.c_char_p), ("error", ctypes.c_char_p, pointer),
            ("cycle", u64, pointer), ("run", ctypes.c_int, pointer, u64),
            ("step", None, pointer, u64), ("read32", u32, pointer, u32),
            ("write32", None, pointer, u32, u32)):
        function = getattr(library, f"harness_{name}")
        function.restype, function.argtypes = result, arguments
    return library
