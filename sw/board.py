# SPDX-License-Identifier: Apache-2.0
"""Run programs on a board instead of a simulation: what `sw.run.run` needs for it."""

from pathlib import Path

from sw.compile.program import Program
from sw.device import Device
from sw.soc_map import read_soc_map
from sw.uart_link import open_port
from sw.uartbone import UartTransport
from sw.uio import UioTransport
from sw.uio_files import UioFiles

__all__ = ["board", "uart_board"]


def board(name: str, buffer: str, clock_hz: float) -> dict[str, object]:
    """Options of `sw.run.run` for the accelerator behind a UIO device.

    The parameters are those of `UioFiles` and `UioTransport`. Raises UioError.
    """
    with UioTransport(UioFiles(name, buffer), clock_hz) as transport:
        base = transport.base

    def open_device(program: Program) -> Device:
        return Device(program, UioTransport(
            UioFiles(name, buffer, program.base + program.size - base), clock_hz))

    return {"backend": "board", "memory_base": base, "open_device": open_device}


def uart_board(port: str, soc_file: Path) -> dict[str, object]:
    """Options of `sw.run.run` for the accelerator in a SoC of LiteX at a serial port.

    ``soc_file`` is the one that the bitstream's build wrote. Raises SocMapError; opening a device
    raises UartError.
    """
    soc = read_soc_map(soc_file)

    def open_device(program: Program) -> Device:
        return Device(program, UartTransport(open_port(port, soc.baud), soc))

    return {"backend": "board", "memory_base": soc.memory, "open_device": open_device}
