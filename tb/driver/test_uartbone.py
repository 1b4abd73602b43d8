# SPDX-License-Identifier: Apache-2.0
"""UartTransport and its link: on the Verilated accelerator behind a bridge, and byte by byte."""

import contextlib
import os
import pty
import socket
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hw.presets import get_preset
from hw.regmap import ErrorCode
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.board import uart_board
from sw.device import Device
from sw.driver import DeviceError, DeviceMismatch, DeviceTimeout, Driver
from sw.images import Images
from sw.remote_memory import RemoteMemory
from sw.run import run
from sw.soc_map import SocMapError, read_soc_map
from sw.uart_link import BURST, UartError, UartLink, open_port
from sw.uartbone import UartTransport
from tb.driver import test_system as system
from tb.driver.uart_model import CLOCK_HZ, SOC, START_UP, Bridge, soc_map
from tb.random_model import random_image, random_model

TINY = get_preset("tiny")
Make = Callable[..., tuple[Driver, Bridge]]


@pytest.fixture
def uart_driver(stub_driver: Callable) -> Iterator[Make]:
    """Return a function that makes a driver behind the bridge of a stub system, and the bridge."""
    with contextlib.ExitStack() as opened:
        def make(**options: object) -> tuple[Driver, Bridge]:
            bridge = Bridge(stub_driver().transport, **options)
            opened.callback(bridge.close)
            transport = opened.enter_context(UartTransport(bridge.link(), bridge.soc()))
            return Driver(transport, TINY), bridge

        yield make


def test_programs(uart_driver: Make, stub_driver: Callable) -> None:
    """Several runs: results and counters are those of the model by itself."""
    driver, bridge = uart_driver()
    assert bridge.written == [(place, value) for place, value, _ in START_UP]
    assert [system.good(driver) for _ in range(3)] == [system.good(stub_driver())] * 3


def test_errors(uart_driver: Make) -> None:
    driver, _ = uart_driver()
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            system.run(driver, [system.load(), system.load(opcode=9), system.end()])
        assert (caught.value.code, caught.value.index) == (ErrorCode.BAD_OPCODE, 1)
        system.good(driver)


def test_timeout(uart_driver: Make) -> None:
    """A program that waits for ever; the next run works."""
    driver, _ = uart_driver()
    begin = time.monotonic()
    with pytest.raises(DeviceTimeout, match="no END after 5000 cycles"):
        system.run(driver, [system.end(wait=2)], timeout=5000, watchdog=0)
    assert 5000 / CLOCK_HZ <= time.monotonic() - begin < 5000 / CLOCK_HZ + 5
    system.good(driver)


def test_a_run_that_was_left_is_stopped(stub_driver: Callable) -> None:
    """A host that ended in the middle of a run: the next one finds the accelerator idle."""
    model = stub_driver().transport
    driver = Driver(model, TINY)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        def stop(_: int) -> bool:
            raise KeyboardInterrupt
        patch.setattr(model, "wait", stop)
        system.run(driver, [system.end(wait=2)], watchdog=0)
    assert driver.register("status") & 1
    with contextlib.closing(Bridge(model)) as bridge, \
            UartTransport(bridge.link(), bridge.soc()) as transport:
        system.good(Driver(transport, TINY))


@pytest.mark.parametrize("first", [0x4_0000, 0x4_0040])
def test_a_network(first: int) -> None:
    """Two images on the accelerator: every tensor is the golden model's."""
    model = random_model(0, time_steps=1, blocks=("mlp",), channels=8)
    pixels = torch.stack([random_image(model, seed) for seed in range(2)]).double()
    images = Images(["a", "b"], pixels.squeeze(1) * model.input.scale)
    with contextlib.ExitStack() as opened:
        def open_device(program) -> Device:
            size = -(-(program.base + program.size) // 4096) * 4096
            inner = VerilatedTransport(TINY, memory_bytes=size, effort=QUICK)
            opened.callback(inner.close)
            bridge = Bridge(inner, first)
            opened.callback(bridge.close)
            return Device(program, UartTransport(bridge.link(), bridge.soc()))

        report = run(model, images, TINY, backend="board", open_device=open_device,
                     memory_base=first)
    assert report.bit_exact is True and report.tensors_compared > 10


def test_bytes_in_the_wrong_order_are_seen(uart_driver: Make) -> None:
    with pytest.raises((UartError, DeviceMismatch)):
        uart_driver(order="little")


# A serial port ------------------------------------------------------------------------------

def test_a_port(stub_driver: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo terminal: all bytes pass, what an earlier program left doesn't disturb."""
    (tmp_path / "soc.json").write_text(SOC)
    bridge_end, port = pty.openpty()
    tty.setraw(port)
    os.write(bridge_end, b"left")
    with contextlib.closing(Bridge(stub_driver().transport, end=bridge_end)) as bridge:
        soc = read_soc_map(tmp_path / "soc.json")
        with UartTransport(open_port(os.ttyname(port), soc.baud, 20), soc) as transport:
            system.good(Driver(transport, TINY))
            data = np.arange(4096, dtype=np.int32).astype(np.uint8)
            transport.memory[0x2000:0x3000] = data
            assert np.array_equal(transport.memory[0x2000:0x3000], data)
        assert max(count for _, count in bridge.commands) == 115     # 40 ms at 115,200 baud
    os.close(port)


@pytest.mark.parametrize(("path", "baud", "message"), [
    ("/dev/no such port", 115200, "/dev/no such port: No such file or directory; needed: a serial"),
    ("/dev/null", 115200, "/dev/null: .*; needed: a serial port"),
    ("/dev/null", 12345, "/dev/null: baud is 12345, must be one of .*115200, .*1000000"),
    ("/dev/null", 0, "/dev/null: baud is 0, must be one of 50, ")])
def test_no_port(path: str, baud: int, message: str) -> None:
    with pytest.raises(UartError, match=message):
        open_port(path, baud)


def test_uart_board(tmp_path: Path) -> None:
    with pytest.raises(SocMapError, match="soc.json: No such file or directory; needed: the soc"):
        uart_board("/dev/null", tmp_path / "soc.json")
    (tmp_path / "soc.json").write_text(SOC)
    given = uart_board("/dev/no such port", tmp_path / "soc.json")
    assert (given["backend"], given["memory_base"]) == ("board", soc_map().memory)
    with pytest.raises(UartError, match="/dev/no such port: No such file"):
        given["open_device"](None)


# The link alone -----------------------------------------------------------------------------

@pytest.fixture
def pair() -> Iterator[tuple[UartLink, socket.socket]]:
    """The host's end, and a bridge that a test plays."""
    host, bridge = socket.socketpair()
    bridge.settimeout(5)
    link = UartLink(host.detach(), "port", timeout=0.2)
    yield link, bridge
    link.close()
    bridge.close()


def test_protocol(pair: tuple[UartLink, socket.socket]) -> None:
    """Worked by hand from LiteX's Stream2Wishbone."""
    link, bridge = pair
    link.write(0x4000_0010, np.array([0x01020304, 0xA0B0C0D0], np.uint32))
    assert bridge.recv(64) == bytes.fromhex("01 02 10000004 01020304 A0B0C0D0")
    bridge.send(bytes.fromhex("11223344 FFEEDDCC"))
    time.sleep(0.05)
    with pytest.raises(UartError, match="port: 8 bytes came that nobody asked for"):
        link.read(0x8000_000C, 2)
    bridge.send(bytes.fromhex("11223344"))
    with pytest.raises(UartError, match="4 bytes came that nobody"):
        link.read(0x8000_000C, 1)


def test_reads(pair: tuple[UartLink, socket.socket]) -> None:
    link, bridge = pair
    answered = []

    def answer(data: bytes) -> None:
        answered.append(data)
        bridge.send(bytes.fromhex("11223344 FFEEDDCC"))

    send = link._send
    link._send = lambda data: (send(data), answer(data))
    assert link.read(0x8000_000C, 2).tolist() == [0x11223344, 0xFFEEDDCC]
    assert bridge.recv(64) == answered[0] == bytes.fromhex("02 02 20000003")


def test_bursts(pair: tuple[UartLink, socket.socket]) -> None:
    link, bridge = pair
    link.write(0x100, np.arange(BURST + 3, dtype=np.uint32))
    data = b""
    while len(data) < 12 + 4 * (BURST + 3):
        data += bridge.recv(4096)
    assert data[:6] == bytes.fromhex("01 FF 00000040")
    second = 6 + 4 * BURST
    assert data[second:second + 6] == bytes((1, 3)) + (0x40 + BURST).to_bytes(4, "big")
    assert data[-4:] == (BURST + 2).to_bytes(4, "big")


@pytest.mark.parametrize(("given", "message"), [
    (b"", r"port: 0 of 8 bytes came in 0.2 s in answer to a read at 0x40; needed: the SoC, at"),
    (b"12345", "port: 5 of 8 bytes came in 0.2 s in answer to a read at 0x40")])
def test_an_answer_that_is_short(pair: tuple[UartLink, socket.socket], given: bytes,
                                 message: str) -> None:
    link, bridge = pair
    send = link._send
    link._send = lambda data: (send(data), bridge.send(given) if given else None)
    begin = time.monotonic()
    with pytest.raises(UartError, match=message):
        link.read(0x40, 2)
    assert 0.2 <= time.monotonic() - begin < 5


def test_the_other_end_is_closed(pair: tuple[UartLink, socket.socket]) -> None:
    link, bridge = pair
    bridge.close()
    with pytest.raises(UartError, match=r"port: (was closed|Broken pipe)"):
        link.read(0, 1)
    with pytest.raises(UartError, match="port: Broken pipe; needed: the SoC"):
        link.write(0, np.zeros(1, np.uint32))


def test_a_peer_that_takes_nothing(pair: tuple[UartLink, socket.socket]) -> None:
    link, _ = pair
    with pytest.raises(UartError, match=r"port: took \d+ of 1026 bytes in 0.2 s"):
        link.write(0, np.zeros(1 << 20, np.uint32))


@pytest.mark.parametrize(("address", "count"), [(2, 1), (0xFFFF_FFFC, 2), (-4, 1)])
def test_addresses(pair: tuple[UartLink, socket.socket], address: int, count: int) -> None:
    with pytest.raises(UartError, match=f"port: no {count} words at .*, must be a multiple of 4"):
        pair[0].read(address, count)


def test_a_timeout_that_is_none() -> None:
    with pytest.raises(UartError, match="port: timeout is 0, must be above 0"):
        UartLink(0, "port", timeout=0)


# Memory and description ---------------------------------------------------------------------

class Words:
    """A link to words that begin at 0x100, which counts the words that are read and written."""

    def __init__(self, size: int) -> None:
        self.words = np.arange(size // 4, dtype=np.uint32) * 0x01010101
        self.moved = 0

    def read(self, address: int, count: int) -> np.ndarray:
        self.moved += count
        return self.words[(address - 0x100) // 4:][:count].copy()

    def write(self, address: int, words: np.ndarray) -> None:
        self.moved += words.size
        self.words[(address - 0x100) // 4:][:words.size] = words


def test_memory_is_as_an_array() -> None:
    """Random slices, written and read, empty ones and open ends too."""
    random, size = np.random.default_rng(0), 256
    link = Words(size)
    memory, expected = RemoteMemory(link, 0x100, size), link.words.copy().view(np.uint8)
    for _ in range(500):
        start, stop = (int(value) for value in random.integers(0, size + 8, 2))
        place = (slice(start, stop), slice(start, None), slice(None, stop))[random.integers(3)]
        length = expected[place].size
        value = random.integers(0, 256, length, dtype=np.uint8) if random.integers(2) else 0xA5
        memory[place] = value
        expected[place] = value
        assert np.array_equal(link.words.view(np.uint8), expected)
        start, stop = (int(value) for value in random.integers(0, size + 8, 2))
        assert np.array_equal(memory[start:stop], expected[start:stop])
    link.moved = 0
    memory[8:64] = 0
    assert link.moved == 14         # whole words aren't read before


def test_memory_has_slices_only() -> None:
    memory = RemoteMemory(Words(64), 0x100, 64)
    with pytest.raises(TypeError, match="read in slices, not by 3"):
        memory[3]
    with pytest.raises(ValueError, match="step must be 1, not 2"):
        memory[::2] = 0
    with pytest.raises(ValueError, match="broadcast"):
        memory[0:8] = np.zeros(4, np.uint8)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("{", "[", "soc.json: no JSON: "),
    ('"registers"', '"register"', "soc.json: has unknown field register"),
    ('"identity": ', '"identity": -', "soc.json: identity is -"),
    (f'"clock_hz": {CLOCK_HZ}', '"clock_hz": 0', "soc.json: clock_hz is 0, must be above 0"),
    ("[2056, 1, 0]", "[2056, 1]", "soc.json: start_up must be triples of integers"),
    ('"baud": 115200', '"baud": 1.5', "soc.json: baud is 1.5, must be 0 to")])
def test_descriptions(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SOC
    (tmp_path / "soc.json").write_text(SOC.replace(old, new, 1))
    with pytest.raises(SocMapError, match=message):
        read_soc_map(tmp_path / "soc.json")
