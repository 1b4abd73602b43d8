# SPDX-License-Identifier: Apache-2.0
"""UioTransport on the Verilated accelerator, and its use of the interrupt's file."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hw.presets import get_preset
from hw.regmap import ErrorCode, address
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw import uio
from sw.device import Device
from sw.driver import DeviceError, DeviceTimeout, Driver
from sw.images import Images
from sw.run import run
from sw.uio import UioTransport
from sw.uio_files import UioError
from tb.driver import test_system as system
from tb.driver.uio_model import ModelFiles, word
from tb.random_model import random_image, random_model

BASE = system.PROGRAM
CLOCK_HZ = 20_000
"""Cycles a second of the model that are surely reached."""
LINE = "raised its interrupt, but none came; needed: its line in the device tree"
Make = Callable[..., tuple[Driver, ModelFiles]]


@pytest.fixture
def uio_driver(stub_driver: Callable) -> Iterator[Make]:
    """Return a function that makes a driver behind UIO of the stub system, and its files."""
    with contextlib.ExitStack() as opened:
        def make(clock_hz: float = CLOCK_HZ, **options: object) -> tuple[Driver, ModelFiles]:
            files = ModelFiles(stub_driver().transport, BASE, **options)
            transport = opened.enter_context(UioTransport(files, clock_hz))
            return Driver(transport, get_preset("tiny")), files

        yield make


def test_programs(uio_driver: Make, stub_driver: Callable) -> None:
    """Several runs: results and counters are those of the model by itself."""
    driver, files = uio_driver()
    assert driver.transport.base == BASE
    counters = [system.good(driver) for _ in range(3)]
    assert counters == [system.good(stub_driver())] * 3
    assert files.enables == [1, 1, 1]


def test_errors(uio_driver: Make) -> None:
    driver, _ = uio_driver()
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            system.run(driver, [system.load(), system.load(opcode=9), system.end()])
        assert (caught.value.code, caught.value.index) == (ErrorCode.BAD_OPCODE, 1)
        system.good(driver)


def test_timeout(uio_driver: Make) -> None:
    """A program that waits for ever; the next run works."""
    driver, _ = uio_driver()
    begin = time.monotonic()
    with pytest.raises(DeviceTimeout, match="no END after 5000 cycles"):
        system.run(driver, [system.end(wait=2)], timeout=5000, watchdog=0)
    assert 5000 / CLOCK_HZ <= time.monotonic() - begin < 5000 / CLOCK_HZ + 5
    system.good(driver)


def test_an_old_interrupt_ends_no_run(uio_driver: Make) -> None:
    driver, files = uio_driver()
    files.spurious()
    system.good(driver)
    files.spurious()
    with pytest.raises(DeviceTimeout):
        system.run(driver, [system.end(wait=2)], timeout=1000, watchdog=0)
    system.good(driver)


def test_a_line_that_is_not_connected(uio_driver: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uio, "_GRACE", 200_000_000)
    driver, _ = uio_driver(wired=False)
    with pytest.raises(UioError, match=f"^/dev/model: .*{LINE}"):
        system.run(driver, [system.end()], timeout=2 * CLOCK_HZ)


@pytest.mark.parametrize("wrong", [word(0), None])
def test_an_interrupt_that_is_not_enabled_is_seen(
        uio_driver: Make, monkeypatch: pytest.MonkeyPatch, wrong: bytes | None) -> None:
    """A 0 is written, or nothing: the second run hears nothing."""
    monkeypatch.setattr(uio, "_GRACE", 200_000_000)
    driver, _ = uio_driver()
    system.good(driver)
    if wrong is None:
        monkeypatch.setattr(uio, "os", SimpleNamespace(
            read=os.read, write=lambda _, data: len(data)))
    else:
        monkeypatch.setattr(uio, "_ENABLE", wrong)
    with pytest.raises(UioError, match=LINE):
        system.run(driver, [system.end()], timeout=2 * CLOCK_HZ)


@pytest.mark.parametrize("first", [0x4_0000, 0x4_0040])
def test_a_network(first: int) -> None:
    """Two images on the accelerator: every tensor is the golden model's."""
    model = random_model(0, time_steps=1, blocks=("mlp",), channels=8)
    pixels = torch.stack([random_image(model, seed) for seed in range(2)]).double()
    images = Images(["a", "b"], pixels.squeeze(1) * model.input.scale)

    def open_device(program) -> Device:
        size = -(-(program.base + program.size) // 4096) * 4096
        inner = VerilatedTransport(program.preset, memory_bytes=size, effort=QUICK)
        return Device(program, UioTransport(ModelFiles(inner, first), 1e6))

    report = run(model, images, get_preset("tiny"), backend="board", open_device=open_device,
                 memory_base=first)
    assert report.bit_exact is True and report.tensors_compared > 10
    alone = run(model, images, get_preset("tiny"), effort=QUICK)
    assert [image.logits for image in report.images] == [image.logits for image in alone.images]


# The interrupt's file alone -----------------------------------------------------------------

class Files:
    """Files whose interrupt is a descriptor, and whose registers all read as ``status``."""

    path = Path("/dev/some")

    def __init__(self, interrupt: int, status: int = 8) -> None:
        self.interrupt, self.status = interrupt, status

    def read32(self, register: int) -> int:
        assert register == address("status")
        return self.status


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The host's end of the interrupt's file, and the kernel's."""
    host, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield host, kernel
    host.close()
    kernel.close()


def test_protocol(pair: tuple[socket.socket, socket.socket]) -> None:
    host, kernel = pair
    transport = UioTransport(Files(host.fileno()), 100e6)
    kernel.send(word(7))
    assert transport.wait(1000) is True
    assert kernel.recv(64) == word(1)
    with pytest.raises(BlockingIOError):
        kernel.setblocking(False)
        kernel.recv(64)


@pytest.mark.parametrize(("given", "message"), [
    (b"\x01\0", "/dev/some: gave 2 bytes, must be the 4 of an interrupt count"),
    (b"", "/dev/some: gave 0 bytes")])
def test_a_short_read(pair: tuple[socket.socket, socket.socket], given: bytes,
                      message: str) -> None:
    host, kernel = pair
    kernel.send(given)
    with pytest.raises(UioError, match=message):
        UioTransport(Files(host.fileno()), 100e6).wait(1000)


def test_a_device_without_interrupt() -> None:
    """UIO answers such reads and writes with an error."""
    with open("/dev/null", "rb") as file, \
            pytest.raises(UioError, match="/dev/some: Bad file descriptor; needed: a UIO device "
                                          "with an interrupt"):
        UioTransport(Files(file.fileno()), 100e6).wait(1000)


def test_interrupts_without_end() -> None:
    """A line that is always high, and not the accelerator's, is a timeout all the same."""
    zeros = os.open("/dev/zero", os.O_RDWR)
    try:
        assert UioTransport(Files(zeros, status=0), 1000).wait(50) is False
    finally:
        os.close(zeros)


@pytest.mark.parametrize(("cycles", "clock_hz", "milliseconds"), [
    (1, 3, 334), (1, 1e9, 1), (1_000_000, 1e9, 1), (1_000_001, 1e9, 2), (0, 1, 0),
    (250, 100, 2500), (3_000_001, 3e9, 2), (10**10, 1, (1 << 31) - 1)])
def test_cycles_to_milliseconds(monkeypatch: pytest.MonkeyPatch, cycles: int, clock_hz: float,
                                milliseconds: int) -> None:
    """Rounded up; more than poll can wait is waited for in parts."""
    asked, now = [], [0]

    class Poll:
        def register(self, *_: object) -> None:
            pass

        def poll(self, wanted: int) -> list:
            asked.append(wanted)
            now[0] += wanted * 1_000_000
            return []

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    zeros = os.open("/dev/zero", os.O_RDWR)
    try:
        assert UioTransport(Files(zeros, status=0), clock_hz).wait(cycles) is False
    finally:
        os.close(zeros)
    assert asked[0] == milliseconds
    assert now[0] * clock_hz >= cycles * 1_000_000_000


def test_a_clock_that_stands() -> None:
    with pytest.raises(UioError, match="/dev/some: clock_hz is 0, must be above 0"):
        UioTransport(Files(0), 0)
