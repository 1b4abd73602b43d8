# SPDX-License-Identifier: Apache-2.0
"""The files by which Linux shows an accelerator: a UIO device, and a buffer for its memory."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hw.regmap import ADDRESS_BITS
from sw.errors import AddendError

__all__ = ["DEFAULT_BUFFER", "DEFAULT_NAME", "UioError", "UioFiles", "naming"]

DEFAULT_NAME, DEFAULT_BUFFER = "addend", "udmabuf0"

_REGISTERS = 1 << ADDRESS_BITS
_ADDRESSES = 1 << 32
_UNCACHED = (2, 3, 6, 7)
"""Sync modes of u-dma-buf in which memory opened with O_SYNC is neither cached nor a device's."""


class UioError(AddendError):
    """A file of a UIO device or buffer is missing, or isn't what the accelerator needs."""


@contextlib.contextmanager
def naming(path: Path, needed: str) -> Iterator[None]:
    """Turn what the system says of ``path`` into a UioError that also says what is ``needed``."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UioError(f"{path}: {reason}; needed: {needed}") from None


class UioFiles:
    """Registers, memory and interrupt of one accelerator, as files of Linux.

    ``name`` is the UIO device's, as `/sys/class/uio/uio*/name` says it; its map 0 holds the
    registers. ``buffer`` is physically contiguous memory: the name of a u-dma-buf device, or
    "map1" for map 1 of the UIO device. At least ``memory_bytes`` of it are needed. Addresses of
    the accelerator have 32 bits: the buffer must end below 4 GiB.

    Everything is opened with O_SYNC, so that the processor's caches hold nothing of it. u-dma-buf
    must be in a sync mode without caches in which any access is allowed: `echo 2 >
    /sys/class/u-dma-buf/udmabuf0/sync_mode`. Linux maps map 1 as device memory; on ARM an unaligned
    access there, such as most copies make, ends the program: take u-dma-buf.

    ``sys`` and ``dev`` stand for `/sys` and `/dev`. Raises UioError, which names the file.

    Not yet tried on a board.
    """

    path: Path
    """The device file of registers and interrupt."""
    base: int
    """Physical address of the memory's first byte."""
    memory: np.ndarray
    """The buffer's bytes."""
    interrupt: int
    """Descriptor of the interrupt: ready when it came, then a 4-byte count is read; a 4-byte 1
    that is written enables the next."""

    def __init__(self, name: str = DEFAULT_NAME, buffer: str = DEFAULT_BUFFER,
                 memory_bytes: int = 1, *, sys: Path = Path("/sys"),
                 dev: Path = Path("/dev")) -> None:
        device = _find(sys / "class" / "uio", name)
        self.path = file = dev / device.name
        _, skip, size = _uio_map(device / "maps" / "map0")
        _demand(device / "maps" / "map0" / "size", size, _REGISTERS, "the registers")
        if buffer == "map1":
            place, page = device / "maps" / "map1", mmap.PAGESIZE
            self.base, offset, size = _uio_map(place)
        else:
            place, file, page, offset = sys / "class" / "u-dma-buf" / buffer, dev / buffer, 0, 0
            self.base, size = _number(place / "phys_addr"), _number(place / "size")
            mode = _number(place / "sync_mode")
            if mode not in _UNCACHED:
                raise UioError(f"{place / 'sync_mode'}: is {mode}, must be 2 (no cache, any access "
                               f"allowed) or another of {_UNCACHED}")
        _demand(place / "size", size, memory_bytes, "the memory")
        if self.base + size >= _ADDRESSES:
            raise UioError(f"{place}: the buffer ends at {self.base + size:#x}, must end below "
                           f"{_ADDRESSES:#x}: addresses have 32 bits")
        with contextlib.ExitStack() as opened:
            self.interrupt = _open(self.path, opened)
            registers = _map(self.path, self.interrupt, 0, skip, _REGISTERS)
            self._registers = registers.view("<u4")
            shared = self.interrupt if file == self.path else _open(file, opened)
            self.memory = _map(file, shared, page, offset, size)
            self._opened = opened.pop_all()

    def read32(self, address: int) -> int:
        """Return the register at byte ``address``, by one aligned load of 32 bits."""
        return int(self._registers[self._index(address)])

    def write32(self, address: int, value: int) -> None:
        """Write the register at byte ``address``, by one aligned store of 32 bits."""
        self._registers[self._index(address)] = value

    def close(self) -> None:
        """Close the files. Mappings end with the last array that shows them."""
        self._opened.close()
        self.memory = self._registers = np.zeros(0, np.uint8)

    def _index(self, address: int) -> int:
        if address % 4 or not 0 <= address < _REGISTERS:
            raise UioError(f"{self.path}: no register at {address:#x}, must be a multiple of 4 "
                           f"below {_REGISTERS:#x}")
        return address // 4


def _find(folder: Path, name: str) -> Path:
    """Return the folder of the one UIO device of that name."""
    names = {path.parent: _text(path) for path in sorted(folder.glob("uio*/name"))}
    found = [device for device, called in names.items() if called == name]
    if len(found) != 1:
        listed = ", ".join(f"{device.name} ({called})" for device, called in names.items())
        raise UioError(f"{folder}: {len(found) or 'no'} devices are called '{name}', must be 1; "
                       f"there are: {listed or 'none'}")
    return found[0]


def _uio_map(folder: Path) -> tuple[int, int, int]:
    """Return a UIO map's address, where it begins in its first page, and its bytes from there."""
    address, offset = _number(folder / "addr"), _number(folder / "offset")
    # kernels differ in whether the address holds the offset, and the size counts it
    return address - address % mmap.PAGESIZE + offset, offset, _number(folder / "size") - offset


def _demand(path: Path, size: int, needed: int, what: str) -> None:
    if size < needed:
        raise UioError(f"{path}: {size:#x} bytes, must be at least {needed:#x} for {what}")


def _text(path: Path) -> str:
    with naming(path, "a readable text"):
        return path.read_text().strip()


def _number(path: Path) -> int:
    text = _text(path)
    with naming(path, "a number"):
        return int(text, 0)


def _open(path: Path, opened: contextlib.ExitStack) -> int:
    with naming(path, "a device that may be read and written"):
        descriptor = os.open(path, os.O_RDWR | os.O_SYNC)
    opened.callback(os.close, descriptor)
    return descriptor


def _map(path: Path, descriptor: int, start: int, offset: int, size: int) -> np.ndarray:
    """Return ``size`` bytes of a file that begin ``offset`` behind the page at ``start``."""
    with naming(path, f"{size:#x} bytes to map from {start + offset:#x} on"):
        mapped = mmap.mmap(descriptor, offset + size, offset=start)
    return np.frombuffer(mapped, np.uint8, size, offset)
