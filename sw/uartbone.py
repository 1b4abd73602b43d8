# SPDX-License-Identifier: Apache-2.0
"""An accelerator in a LiteX SoC without a processor, as a Transport: its host is at the UART."""

import time

import numpy as np

from hw.regmap import ADDRESS_BITS, address
from sw.remote_memory import RemoteMemory
from sw.soc_map import SocMap
from sw.transport import Transport
from sw.uart_link import UartError, UartLink

__all__ = ["UartTransport"]

_STATUS, _IRQ = address("status"), 8
_CONTROL, _SOFT_RESET = address("control"), 2
_POLLS = 100
"""Reads of the status in which a run of an earlier program must have stopped."""


class UartTransport(Transport):
    """The accelerator of the SoC that ``soc`` describes, behind ``link``.

    Stops what runs, and starts the SoC's memory. Programs must be compiled for the memory's place:
    ``compile_model(..., memory_base=base)``. The link is closed with the transport, and where the
    SoC doesn't answer. The memory can be read and written in slices only (`RemoteMemory`).

    Raises UartError, which names the port. Not yet tried on a board.
    """

    def __init__(self, link: UartLink, soc: SocMap) -> None:
        self._link, self.soc = link, soc
        self._memory = RemoteMemory(link, soc.memory, soc.memory_bytes)
        try:
            self._start_up()
        except BaseException:
            link.close()
            raise

    @property
    def memory(self) -> RemoteMemory:
        return self._memory

    @property
    def base(self) -> int:
        return self.soc.memory

    def read32(self, address: int) -> int:
        return int(self._link.read(self._place(address), 1)[0])

    def write32(self, address: int, value: int) -> None:
        self._link.write(self._place(address), np.array([value], np.uint32))

    def wait(self, timeout: int) -> bool:
        """Wait up to ``timeout`` clock cycles for the interrupt, by reading where it arrives.

        Raises UartError when the accelerator has raised it and it doesn't arrive.
        """
        end = time.monotonic() + timeout / self.soc.clock_hz
        while True:
            late = time.monotonic() >= end
            if self._link.read(self.soc.interrupt, 1)[0] & 1:
                return True
            if late:
                break
        if self.read32(_STATUS) & _IRQ and not self._link.read(self.soc.interrupt, 1)[0] & 1:
            raise UartError(f"{self._link.name}: the accelerator has raised its interrupt, but "
                            f"none came at {self.soc.interrupt:#x}; needed: the soc.json of this "
                            "bitstream")
        return bool(self.read32(_STATUS) & _IRQ)

    def close(self) -> None:
        self._link.close()

    def _start_up(self) -> None:
        self.write32(_CONTROL, _SOFT_RESET)
        for _ in range(_POLLS):
            if not self.read32(_STATUS):
                break
        else:
            raise UartError(f"{self._link.name}: the accelerator does not stop (status "
                            f"{self.read32(_STATUS):#x}); needed: the bitstream of this soc.json")
        for place, value, cycles in self.soc.start_up:
            self._link.write(place, np.array([value], np.uint32))
            time.sleep(cycles / self.soc.clock_hz)

    def _place(self, address: int) -> int:
        if address % 4 or not 0 <= address < 1 << ADDRESS_BITS:
            raise UartError(f"{self._link.name}: no register at {address:#x}, must be a multiple "
                            f"of 4 below {1 << ADDRESS_BITS:#x}")
        return self.soc.registers + address
