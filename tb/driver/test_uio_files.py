# SPDX-License-Identifier: Apache-2.0
"""UioFiles on plain files that pose as /sys and /dev."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hw.regmap import ADDRESS_BITS, REGISTERS, address
from sw import uio_files
from sw.uio import UioTransport
from sw.uio_files import UioError, UioFiles

PAGE = mmap.PAGESIZE
SPACE = 1 << ADDRESS_BITS
CONTENT = np.random.default_rng(3).integers(0, 256, 4 * PAGE, dtype=np.uint8)
UIO, UDMABUF = "sys/class/uio/uio1", "sys/class/u-dma-buf/udmabuf0"
Open = Callable[..., UioFiles]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with sys/ and dev/: three UIO devices, the second the accelerator's."""
    texts = {f"sys/class/uio/{device}/name": name for device, name in (
        ("uio0", "fan"), ("uio1", "addend"), ("uio10", "addend-old"))}
    texts |= {f"{UIO}/maps/{name}": text for name, text in (
        ("map0/addr", "0x00000000a0000000"), ("map0/size", "0x0000000000010000"),
        ("map0/offset", "0x0"), ("map1/addr", "0x0000000070000000"),
        ("map1/size", f"{2 * PAGE:#018x}"), ("map1/offset", "0x0"))}
    texts |= {f"{UDMABUF}/{name}": text for name, text in (
        ("phys_addr", "0x000000007e900000"), ("size", str(3 * PAGE)), ("sync_mode", "2"))}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "dev").mkdir()
    for device in ("uio0", "uio1", "udmabuf0"):
        (tmp_path / "dev" / device).write_bytes(
            CONTENT[::-1 if device == "udmabuf0" else 1].tobytes())
    return tmp_path


@pytest.fixture
def opened(root: Path) -> Open:
    return lambda *arguments: UioFiles(*arguments, sys=root / "sys", dev=root / "dev")


class Opened:
    """Stands for `os` in sw.uio_files, and notes what is open."""

    O_RDWR, O_SYNC = os.O_RDWR, os.O_SYNC

    def __init__(self, refused: str = "") -> None:
        self.refused, self.flags, self.names = refused, {}, {}

    def open(self, path: Path, flags: int) -> int:
        if path.name == self.refused:
            raise PermissionError(13, "Permission denied")
        descriptor = os.open(path, flags)
        self.flags[path.name], self.names[descriptor] = flags, path.name
        return descriptor

    def close(self, descriptor: int) -> None:
        del self.names[descriptor]
        os.close(descriptor)


def on_disk(root: Path, device: str = "uio1") -> np.ndarray:
    return np.fromfile(root / "dev" / device, np.uint8)


def test_registers(root: Path, opened: Open) -> None:
    """Each in its place, 32 bits, little endian; a write changes nothing else."""
    files = opened()
    assert files.path == root / "dev" / "uio1"
    wanted = CONTENT.copy()
    for register in REGISTERS:
        at = address(register.name)
        assert files.read32(at) == int.from_bytes(CONTENT[at:at + 4].tobytes(), "little")
        value = 0xFEDC_BA98 ^ at
        files.write32(at, value)
        assert files.read32(at) == value
        wanted[at:at + 4] = list(value.to_bytes(4, "little"))
    np.testing.assert_array_equal(on_disk(root), wanted)
    np.testing.assert_array_equal(on_disk(root, "uio0"), CONTENT)
    files.close()


def test_an_access_is_one_of_32_bits(opened: Open) -> None:
    """NumPy takes one load or store for an element that is aligned and in native order."""
    registers = opened()._registers
    assert registers.dtype == np.dtype("<u4") and registers.size == SPACE // 4
    assert registers.flags.aligned and registers.flags.writeable


@pytest.mark.parametrize(("buffer", "device", "start", "base", "size"), [
    ("udmabuf0", "udmabuf0", 0, 0x7E90_0000, 3 * PAGE), ("map1", "uio1", PAGE, 0x7000_0000,
                                                         2 * PAGE)])
def test_memory(root: Path, opened: Open, buffer: str, device: str, start: int, base: int,
                size: int) -> None:
    files = opened("addend", buffer, size)
    before = on_disk(root, device)
    assert files.base == base
    assert files.memory.dtype == np.uint8
    np.testing.assert_array_equal(files.memory, before[start:start + size])
    files.memory[[0, size - 1]] ^= 0xFF
    before[[start, start + size - 1]] ^= 0xFF
    np.testing.assert_array_equal(on_disk(root, device), before)


def test_maps_that_begin_inside_a_page(root: Path, opened: Open) -> None:
    for name, text in (("map0/addr", "0xa0000100"), ("map0/offset", "0x100"),
                       ("map1/offset", "0x40")):
        (root / UIO / "maps" / name).write_text(text)
    files = opened("addend", "map1")
    assert files.read32(8) == int.from_bytes(CONTENT[0x108:0x10C].tobytes(), "little")
    assert files.base == 0x7000_0040
    np.testing.assert_array_equal(files.memory, CONTENT[PAGE + 0x40:3 * PAGE])


def test_opened_without_caches_and_closed(opened: Open, root: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device with O_SYNC, none left open; arrays outlive the files."""
    system = Opened()
    monkeypatch.setattr(uio_files, "os", system)
    files = opened()
    assert system.flags == dict.fromkeys(("uio1", "udmabuf0"), os.O_RDWR | os.O_SYNC)
    assert sorted(system.names.values()) == ["udmabuf0", "uio1"]
    memory = files.memory
    files.close()
    files.close()
    assert not system.names and files.memory.size == 0
    np.testing.assert_array_equal(memory, on_disk(root, "udmabuf0")[:3 * PAGE])


def test_interrupt(root: Path, opened: Open) -> None:
    """A plain file is always ready: the 1 goes to its begin, the count is read behind it."""
    with UioTransport(opened(), 100e6) as transport:
        transport.write32(address("status"), 8)
        assert transport.wait(1000) is True
        assert transport.base == 0x7E90_0000 and transport.memory.size == 3 * PAGE
        assert on_disk(root)[:4].tobytes() == b"\1\0\0\0"


def edited(name: str, text: str | bytes | None) -> Callable[[Path], None]:
    """Return what replaces or removes a file."""
    def edit(root: Path) -> None:
        if text is None:
            (root / name).unlink()
        else:
            (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return edit


@pytest.mark.parametrize(("edit", "buffer", "message"), [
    (edited(f"{UIO}/name", "other\n"), "udmabuf0",
     r"class/uio: no devices are called 'addend', must be 1; there are: uio0 \(fan\), .*\(other\)"),
    (edited("sys/class/uio/uio0/name", "addend\n"), "udmabuf0",
     "class/uio: 2 devices are called 'addend', must be 1"),
    (edited("dev/uio1", None), "udmabuf0",
     "dev/uio1: No such file or directory; needed: a device that may be read and written"),
    (edited("dev/udmabuf0", None), "udmabuf0", "dev/udmabuf0: No such file"),
    (edited(f"{UIO}/maps/map0/size", None), "udmabuf0", "map0/size: No such file"),
    (edited(f"{UIO}/maps/map0/size", "0xfff"), "udmabuf0",
     "map0/size: 0xfff bytes, must be at least 0x1000 for the registers"),
    (edited(f"{UIO}/maps/map0/size", "big"), "udmabuf0", "map0/size: .*'big'; needed: a number"),
    (edited(f"{UIO}/maps/map1/addr", None), "map1", "map1/addr: No such file"),
    (edited(f"{UIO}/maps/map1/size", "0x400"), "map1",
     "map1/size: 0x400 bytes, must be at least 0x800 for the memory"),
    (edited(f"{UIO}/maps/map1/addr", f"{(1 << 32) - PAGE:#x}"), "map1",
     f"map1: the buffer ends at {(1 << 32) + PAGE:#x}, must end below 0x100000000"),
    (edited(f"{UDMABUF}/phys_addr", f"{(1 << 32) - 3 * PAGE:#x}"), "udmabuf0",
     "u-dma-buf/udmabuf0: the buffer ends at 0x100000000, must end below 0x100000000"),
    (edited(f"{UDMABUF}/phys_addr", "0x800000000"), "udmabuf0", "udmabuf0: the buffer ends at 0x8"),
    (edited(f"{UDMABUF}/size", "2047"), "udmabuf0",
     "udmabuf0/size: 0x7ff bytes, must be at least 0x800 for the memory"),
    (edited(f"{UDMABUF}/sync_mode", "1"), "udmabuf0", "udmabuf0/sync_mode: is 1, must be 2 "),
    (edited(f"{UDMABUF}/sync_mode", "0"), "udmabuf0", "udmabuf0/sync_mode: is 0, must be 2 "),
    (edited("dev/udmabuf0", b"short"), "udmabuf0",
     "dev/udmabuf0: .*; needed: 0x.* bytes to map from 0x0 on"),
    (edited("dev/uio1", bytes(PAGE + 1)), "map1",
     f"dev/uio1: .*; needed: {2 * PAGE:#x} bytes to map from {PAGE:#x} on"),
    (lambda _: None, "udmabuf7", "u-dma-buf/udmabuf7/phys_addr: No such file"),
])
def test_each_error(root: Path, opened: Open, monkeypatch: pytest.MonkeyPatch,
                    edit: Callable[[Path], None], buffer: str, message: str) -> None:
    """One sentence that names the file and what was needed; nothing stays open."""
    opened("addend", "map1" if buffer == "map1" else "udmabuf0", 0x800).close()
    edit(root)
    system = Opened()
    monkeypatch.setattr(uio_files, "os", system)
    with pytest.raises(UioError, match=message) as caught:
        opened("addend", buffer, 0x800)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)
    assert not system.names


@pytest.mark.parametrize("device", ["uio1", "udmabuf0"])
def test_no_permission(opened: Open, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """The system's answer is planted: tests may run as root, who may do anything."""
    system = Opened(refused=device)
    monkeypatch.setattr(uio_files, "os", system)
    with pytest.raises(UioError, match=f"dev/{device}: Permission denied; needed: a device that "
                                       "may be read and written"):
        opened()
    assert not system.names


@pytest.mark.parametrize("wrong", [2, -4, SPACE, SPACE + 4])
def test_registers_that_are_none(opened: Open, wrong: int) -> None:
    files = opened()
    for access in (files.read32, lambda at: files.write32(at, 0)):
        with pytest.raises(UioError, match=f"dev/uio1: no register at {wrong:#x}, must be a"):
            access(wrong)
