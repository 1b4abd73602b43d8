# SPDX-License-Identifier: Apache-2.0
"""Where a SoC has the accelerator, its memory and its interrupt: a file beside the bitstream."""

import dataclasses
import json
from pathlib import Path

from sw.errors import AddendError

__all__ = ["DEFAULT_SOC", "SocMap", "SocMapError", "read_soc_map"]

DEFAULT_SOC = Path("build/litex/ulx3s/soc.json")
"""Where `make ulx3s` writes it."""


class SocMapError(AddendError):
    """A file that doesn't describe a SoC."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SocMap:
    """A SoC as its host sees it; addresses are of bytes, and the accelerator's too."""

    preset: str
    identity: int
    clock_hz: float
    registers: int
    """Address of the accelerator's registers."""
    memory: int
    """Address of the memory's first byte."""
    memory_bytes: int
    interrupt: int
    """Address of a register whose bit 0 is the interrupt."""
    start_up: tuple[tuple[int, int, int], ...]
    """(address, value, clock cycles to wait then): what is written before memory works."""
    baud: int = 0
    """Of the host's serial port; 0 where there is none."""


def read_soc_map(path: str | Path) -> SocMap:
    """Read the JSON that a SoC's build wrote. Raises SocMapError."""
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise SocMapError(f"{path}: {error.strerror}; needed: the soc.json of the SoC's "
                          "build") from None
    except ValueError as error:
        raise SocMapError(f"{path}: no JSON: {error}") from None
    fields = {field.name: field for field in dataclasses.fields(SocMap)}
    if not isinstance(content, dict):
        raise SocMapError(f"{path}: holds no JSON object")
    optional = {name for name, field in fields.items()
                if field.default is not dataclasses.MISSING}
    for name in sorted(fields.keys() ^ content.keys()):
        if name not in optional:
            what = "lacks" if name in fields else "has unknown"
            raise SocMapError(f"{path}: {what} field {name}")
    for name, value in content.items():
        if name not in ("preset", "start_up", "clock_hz") and not (
                type(value) is int and 0 <= value < 1 << 32):
            raise SocMapError(f"{path}: {name} is {value!r}, must be 0 to 2^32 - 1")
    if not isinstance(content["clock_hz"], int | float) or not content["clock_hz"] > 0:
        raise SocMapError(f"{path}: clock_hz is {content['clock_hz']!r}, must be above 0")
    try:
        writes = tuple((int(a), int(v), int(c)) for a, v, c in content["start_up"])
    except (TypeError, ValueError):
        raise SocMapError(f"{path}: start_up must be triples of integers") from None
    return SocMap(**content | {"start_up": writes})
