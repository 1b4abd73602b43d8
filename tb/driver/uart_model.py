# SPDX-License-Identifier: Apache-2.0
"""A SoC behind LiteX's bridge of bytes: the Verilated accelerator, its memory and its interrupt."""

import dataclasses
import json
import os
import select
import socket
import threading

from hw.presets import get_preset
from hw.regmap import identity
from sim.verilated import VerilatedTransport
from sw.soc_map import SocMap
from sw.uart_link import UartLink

__all__ = ["CLOCK_HZ", "MEMORY", "REGISTERS", "SOC", "Bridge", "soc_map"]

REGISTERS, MEMORY = 0x8000_0000, 0x1000
CLOCK_HZ = 20_000
"""Cycles a second of the model that are surely reached."""
START_UP = [[0x800, 14, 0], [0x804, 0x400, 2], [0x808, 1, 0]]
SOC = json.dumps({
    "preset": "tiny", "identity": identity(get_preset("tiny")), "clock_hz": CLOCK_HZ,
    "registers": REGISTERS, "memory": MEMORY, "memory_bytes": (1 << 20) - MEMORY, "interrupt": 4,
    "start_up": START_UP, "baud": 115200})
_CYCLES = 500
"""Clock cycles between two looks at the host's bytes."""


def soc_map(**fields: object) -> SocMap:
    """Return what `read_soc_map` reads of SOC, with other ``fields``."""
    content = json.loads(SOC) | {"start_up": tuple(map(tuple, START_UP))}
    return dataclasses.replace(SocMap(**content), **fields)


class Bridge:
    """What is at the other end of a link, as LiteX documents it: a thread that lets the clock run.

    The model's memory from ``first`` on is on the bus, at its own addresses. Not ``wired``, the
    interrupt never arrives. ``order`` of the bytes on the line is "big"; another is a fault.
    ``end`` is the descriptor of the bridge's end of the line (default: of a pair of sockets).
    """

    def __init__(self, model: VerilatedTransport, first: int = MEMORY, *, wired: bool = True,
                 order: str = "big", end: int | None = None) -> None:
        self.model, self.first, self.wired, self.order = model, first, wired, order
        self.written: list[tuple[int, int]] = []
        """(address, value) of writes to other registers than the accelerator's."""
        self.commands: list[tuple[int, int]] = []
        """(command, words) that came."""
        self._host = None
        if end is None:
            self._host, other = socket.socketpair()
            end = other.detach()
        self._end, self._held, self._error = end, b"", None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def link(self, timeout: float = 20) -> UartLink:
        """Return the host's end."""
        return UartLink(self._host.detach(), "bridge", timeout=timeout)

    def soc(self) -> SocMap:
        """Return what the host is told."""
        return soc_map(memory=self.first, memory_bytes=self.model.memory.size - self.first)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=60)
        if self._host is not None:
            self._host.close()
        os.close(self._end)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.model.step(_CYCLES)
                self._serve()
        except Exception as error:          # said when the bridge is closed
            self._error = error

    def _serve(self) -> None:
        """Take bytes, if there are any, and do the commands that are whole."""
        if select.select([self._end], [], [], 0.0005)[0]:
            part = os.read(self._end, 1 << 16)
            if not part:
                self._stop.set()
                return
            self._held += part
            while self._command():
                pass

    def _command(self) -> bool:
        held = self._held
        size = 6 + 4 * held[1] if len(held) > 1 and held[0] == 1 else 6
        if len(held) < size:
            return False
        self._held = held[size:]
        command, count = held[0], held[1]
        self.commands.append((command, count))
        first = 4 * int.from_bytes(held[2:6], self.order)
        places = range(first, first + 4 * count, 4)
        if command == 1:
            for number, place in enumerate(places):
                start = 6 + 4 * number
                self._write(place, int.from_bytes(held[start:start + 4], self.order))
        elif command == 2:
            answer = b"".join(self._read(place).to_bytes(4, self.order) for place in places)
            while answer:
                answer = answer[os.write(self._end, answer):]
        return True

    def _write(self, place: int, value: int) -> None:
        if 0 <= place - REGISTERS < 4096:
            self.model.write32(place - REGISTERS, value)
        elif self.first <= place < self.model.memory.size:
            self.model.memory[place:place + 4] = list(value.to_bytes(4, "little"))
        else:
            self.written.append((place, value))

    def _read(self, place: int) -> int:
        if 0 <= place - REGISTERS < 4096:
            return self.model.read32(place - REGISTERS)
        if self.first <= place < self.model.memory.size:
            return int.from_bytes(self.model.memory[place:place + 4].tobytes(),
                                  "little")
        return int(place == 4 and self.wired and self.model.wait(1))
