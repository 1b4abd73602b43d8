# SPDX-License-Identifier: Apache-2.0
"""Run programs on a board instead of a simulation: what `sw.run.run` needs for it."""

from sw.compile.program import Program
from sw.device import Device
from sw.uio import UioTransport
from sw.uio_files import UioFiles

__all__ = ["board"]


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
