# SPDX-License-Identifier: Apache-2.0
"""Runs programs on an accelerator behind any Transport."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from hw import regmap
from hw.descriptor import DESCRIPTOR_BYTES
from hw.limits import broken_limit
from hw.presets import Preset
from hw.regmap import ErrorCode
from sw.errors import AddendError
from sw.transport import Transport

__all__ = ["Counters", "DeviceError", "DeviceMismatch", "DeviceTimeout", "Driver", "Region",
           "RegionError"]

_START, _SOFT_RESET, _IRQ_CLEAR = 1, 2, 4
_BUSY, _DONE, _ERROR = 1, 2, 4
_RESET_POLLS = 10_000


class DeviceError(AddendError):
    """The accelerator stopped a program: ``code``, descriptor ``index``, ``layer``.

    ``detail`` says more, such as the field that is outside its limits.
    """

    def __init__(self, code: int, index: int, layer: int, detail: str | None = None) -> None:
        known = {int(value) for value in ErrorCode}
        self.code = ErrorCode(code) if code in known else code
        self.index = index
        self.layer = layer
        name = self.code.name if isinstance(self.code, ErrorCode) else f"code {code}"
        super().__init__(f"{name} at descriptor {index}, layer {layer}"
                         + (f": {detail}" if detail else ""))


class DeviceTimeout(AddendError):
    """The accelerator did not end in time."""


class DeviceMismatch(AddendError):
    """The accelerator is of another preset or version than the host expects."""


class RegionError(AddendError):
    """A memory region or segment that isn't in the accelerator's memory."""


@dataclasses.dataclass(frozen=True)
class Region:
    """Bytes ``base .. limit - 1`` of memory."""

    base: int
    limit: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counters:
    """What a run did; see hw.regmap.COUNTERS."""

    cycles: int
    additions: int
    skipped: int
    bytes_read: int
    bytes_written: int
    stalls: dict[str, int]
    """Cycles by cause; see hw.regmap.STALL_CAUSES."""


class Driver:
    """One accelerator of a known preset.

    Addresses are the accelerator's: memory begins at ``transport.base``. Raises DeviceMismatch
    when the hardware isn't of ``preset``.
    """

    def __init__(self, transport: Transport, preset: Preset) -> None:
        self.transport = transport
        self.preset = preset
        found, expected = self.register("identity"), regmap.identity(preset)
        if found != expected:
            raise DeviceMismatch(f"identity is {found:#010x}, but preset {preset.name} of this "
                                 f"version is {expected:#010x}")

    def register(self, name: str) -> int:
        """Return the register called ``name``."""
        return self.transport.read32(regmap.address(name))

    def set_register(self, name: str, value: int) -> None:
        """Write the register called ``name``."""
        self.transport.write32(regmap.address(name), value)

    def load(self, segments: Iterable[tuple[int, bytes | np.ndarray]]) -> None:
        """Copy (address, content) segments to memory."""
        memory, base = self.transport.memory, self.transport.base
        for address, content in segments:
            if isinstance(content, np.ndarray):
                content = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
            else:
                content = np.frombuffer(content, np.uint8)
            self._demand("segment", Region(address, address + content.size))
            memory[address - base:address - base + content.size] = content

    def read(self, address: int, count: int) -> np.ndarray:
        """Return a copy of ``count`` bytes of memory."""
        self._demand("segment", Region(address, address + count))
        start = address - self.transport.base
        return self.transport.memory[start:start + count].copy()

    def run(self, program: int, count: int, readable: Region, writable: Region, *,
            timeout: int = 1_000_000_000, watchdog: int = 1 << 20) -> Counters:
        """Run ``count`` descriptors at address ``program`` to their END.

        The accelerator reads only in ``readable`` and writes only in ``writable``. Raises
        DeviceError when it stops the run, DeviceTimeout after ``timeout`` cycles; the
        accelerator can be used again after either.
        """
        self._demand("program", Region(program, program + count * DESCRIPTOR_BYTES))
        self._demand("readable region", readable)
        self._demand("writable region", writable)
        if self.register("status") & (_BUSY | _ERROR):
            self.reset()
        for name, value in (
                ("program_address", program), ("program_count", count),
                ("read_base", readable.base), ("read_limit", readable.limit),
                ("write_base", writable.base), ("write_limit", writable.limit),
                ("watchdog_cycles", watchdog), ("irq_enable", 3), ("control", _START)):
            self.set_register(name, value)
        arrived = self.transport.wait(timeout)
        status = self.register("status")
        if status & _ERROR:
            code, index, layer = (self.register(f"error_{name}")
                                  for name in ("code", "index", "layer"))
            error = DeviceError(code, index, layer, self._broken_limit(program, count, index))
            try:
                self.reset()
            except DeviceTimeout as late:
                raise DeviceTimeout(f"{error}; {late}") from error
            raise error
        if not arrived or not status & _DONE:
            layer = self.register("layer")
            self.reset()
            raise DeviceTimeout(f"no END after {timeout} cycles; last layer {layer}")
        self.set_register("control", _IRQ_CLEAR)
        return self.counters()

    def reset(self) -> None:
        """Stop whatever runs and clear errors."""
        self.set_register("control", _SOFT_RESET)
        for _ in range(_RESET_POLLS):
            if not self.register("status"):
                return
        raise DeviceTimeout("the accelerator does not end its memory transactions")

    def counters(self) -> Counters:
        """Return the counters of the last run."""
        values = {}
        for name in regmap.COUNTERS:
            low = self.register(f"{name}_low")
            values[name] = low | self.register(f"{name}_high") << 32
        stalls = {cause: values.pop(f"stall_{cause}") for cause in regmap.STALL_CAUSES}
        return Counters(**values, stalls=stalls)

    def _broken_limit(self, program: int, count: int, index: int) -> str | None:
        """Say what is wrong with a descriptor as it is in memory, if its fields are."""
        if index >= count:
            return None
        start = program + index * DESCRIPTOR_BYTES
        return broken_limit(self.read(start, DESCRIPTOR_BYTES).tobytes(), self.preset)

    def _demand(self, what: str, region: Region) -> None:
        base, size = self.transport.base, self.transport.memory.size
        if not base <= region.base <= region.limit <= base + size:
            raise RegionError(f"{what} {region.base:#x} to {region.limit:#x} isn't in the "
                              f"{size:#x} bytes of memory at {base:#x}")
