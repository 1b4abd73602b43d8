# SPDX-License-Identifier: Apache-2.0
"""Reads and writes on the bus of a LiteX SoC through its bridge of bytes (UARTBone)."""

import math
import os
import select
import termios
import time
from pathlib import Path

import numpy as np

from sw.errors import AddendError

__all__ = ["BURST", "READ", "WRITE", "UartError", "UartLink", "open_port"]

WRITE, READ = 0x01, 0x02
"""Commands: words from one address on. Then follow the count (a byte), the word address (4 bytes)
and what is written, words of 4 bytes; the answer to a read is its words. All big-endian."""
BURST = 255
"""Words of a command, at most."""
_LONGEST = 0.04
"""Seconds that the bytes of a command may take: the bridge forgets one that takes 100 ms."""
_FORGOTTEN = 0.12
"""Seconds after which the bridge surely waits for a command."""


class UartError(AddendError):
    """A serial port, or the SoC behind it, doesn't do what is needed."""


class UartLink:
    """The bridge at the other end of ``descriptor``: a serial port, or a socket.

    ``name`` is for messages, ``timeout`` the seconds within which bytes must go or come, ``baud``
    the port's rate (0: as fast as bytes go). The bridge doesn't acknowledge writes: what is wrong
    with one shows in the next read. Raises UartError.
    """

    def __init__(self, descriptor: int, name: str, *, timeout: float = 2.0,
                 baud: int = 0) -> None:
        if not timeout > 0:
            raise UartError(f"{name}: timeout is {timeout}, must be above 0")
        self.name, self.timeout, self._descriptor = name, timeout, descriptor
        self._burst = BURST if not baud else max(1, min(BURST, int(baud / 10 * _LONGEST / 4)))
        os.set_blocking(descriptor, False)

    def write(self, address: int, words: np.ndarray) -> None:
        """Write ``words`` (32 bits each) from byte ``address`` on."""
        for start in range(0, words.size, self._burst):
            part = words[start:start + self._burst]
            self._send(self._command(WRITE, address + 4 * start, part.size)
                       + part.astype(">u4").tobytes())

    def read(self, address: int, count: int) -> np.ndarray:
        """Return ``count`` words of 32 bits from byte ``address`` on."""
        parts = [np.zeros(0, np.uint32)]
        for start in range(0, count, self._burst):
            size = min(self._burst, count - start)
            self._nothing_waits()
            self._send(self._command(READ, address + 4 * start, size))
            answer = self._receive(4 * size, address + 4 * start)
            parts.append(np.frombuffer(answer, ">u4").astype(np.uint32))
        return np.concatenate(parts)

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _command(self, command: int, address: int, count: int) -> bytes:
        if address % 4 or not 0 <= address <= (1 << 32) - 4 * count:
            raise UartError(f"{self.name}: no {count} words at {address:#x}, must be a multiple "
                            "of 4, and all below 2^32")
        return bytes((command, count)) + (address // 4).to_bytes(4, "big")

    def _ready(self, event: int, end: float) -> bool:
        """Wait until bytes can go or come; whether they can."""
        poll = select.poll()
        poll.register(self._descriptor, event)
        return bool(poll.poll(max(0, math.ceil(1000 * (end - time.monotonic())))))

    def _send(self, data: bytes) -> None:
        end, sent = time.monotonic() + self.timeout, 0
        while sent < len(data):
            if not self._ready(select.POLLOUT, end):
                raise UartError(f"{self.name}: took {sent} of {len(data)} bytes in "
                                f"{self.timeout:g} s")
            try:
                taken = os.write(self._descriptor, data[sent:])
            except BlockingIOError:
                continue
            except OSError as error:
                raise UartError(f"{self.name}: {error.strerror}; needed: the SoC") from None
            if taken:       # as long as some go, the timeout begins again
                sent, end = sent + taken, time.monotonic() + self.timeout

    def _receive(self, count: int, address: int) -> bytes:
        end, data = time.monotonic() + self.timeout, b""
        while len(data) < count:
            if not self._ready(select.POLLIN, end):
                raise UartError(
                    f"{self.name}: {len(data)} of {count} bytes came in {self.timeout:g} s in "
                    f"answer to a read at {address:#x}; needed: the SoC, at the port's baud rate")
            part = self._take(count - len(data))
            if part:
                data, end = data + part, time.monotonic() + self.timeout
        return data

    def _take(self, count: int) -> bytes:
        try:
            part = os.read(self._descriptor, count)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise UartError(f"{self.name}: {error.strerror}; needed: the SoC") from None
        if not part:
            raise UartError(f"{self.name}: was closed from the other end")
        return part

    def _nothing_waits(self) -> None:
        if self._ready(select.POLLIN, 0):
            came = self._take(4 * BURST)
            if came:
                raise UartError(f"{self.name}: {len(came)} bytes came that nobody asked for; "
                                "needed: the SoC alone at this port, at its baud rate")


def open_port(path: str | Path, baud: int, timeout: float = 2.0) -> UartLink:
    """Open a serial port for a SoC's bridge: 8 bits, no parity, no flow control.

    Raises UartError, which names the port. Not yet tried on a board.
    """
    speed = getattr(termios, f"B{baud}", None) if baud else None
    if speed is None:
        rates = sorted(int(name[1:]) for name in dir(termios)
                       if name[0] == "B" and name[1:].isdigit() and name != "B0")
        raise UartError(f"{path}: baud is {baud}, must be one of {', '.join(map(str, rates))}")
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        control = termios.CS8 | termios.CREAD | termios.CLOCAL
        characters = termios.tcgetattr(descriptor)[6]
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        termios.tcsetattr(descriptor, termios.TCSANOW,
                          [0, 0, control, 0, speed, speed, characters])
        time.sleep(_FORGOTTEN)      # what an earlier program had begun
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except (OSError, termios.error) as error:
        if descriptor >= 0:
            os.close(descriptor)
        reason = getattr(error, "strerror", None) or error.args[-1]
        raise UartError(f"{path}: {reason}; needed: a serial port") from None
    return UartLink(descriptor, str(path), timeout=timeout, baud=baud)
