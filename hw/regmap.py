# SPDX-License-Identifier: Apache-2.0
"""The registers of the accelerator, declared once.

The register bank, the driver, the C header, the Python module and docs/registers.md follow from
this list. Addresses are assigned by order, four bytes each. Imports no Amaranth.

    python -m hw.regmap            # writes docs/registers.md
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Iterator

from hw.descriptor import FORMATS
from hw.presets import Preset

__all__ = ["ADDRESS_BITS", "COUNTERS", "REGISTERS", "STALLS", "STALL_CAUSES", "VERSION", "Access",
           "ErrorCode", "Field", "Register", "address", "c_header", "identity", "markdown",
           "python_module"]

VERSION = 0x0001_0000
"""Major version in the upper half, minor in the lower."""

ADDRESS_BITS = 12
"""Address bits of the register space."""


class ErrorCode(enum.IntEnum):
    """Why a run was stopped."""

    NONE = 0
    BAD_OPCODE = 1  # unknown opcode
    ADDRESS_HIGH = 2  # address beyond 32 bits
    ZERO_COUNT = 3  # a count that must be at least 1 is 0
    BAD_TARGET = 4  # LOAD to a buffer that does not exist
    MISALIGNED = 5  # address or step isn't a multiple of the beat (program: of a descriptor)
    BUFFER_RANGE = 6  # beat outside the on-chip buffer
    READ_REGION = 7  # read outside the read region
    WRITE_REGION = 8  # write outside the write region
    READ_RESPONSE = 9  # memory answered a read with an error
    WRITE_RESPONSE = 10  # memory answered a write with an error
    NO_END = 11  # program_count descriptors and no END
    SEMAPHORE_OVERFLOW = 12  # a semaphore was raised beyond 255
    WATCHDOG = 13  # no progress for watchdog_cycles
    FIELD_RANGE = 14  # a field of a CONV or KTV breaks its limit, see hw.limits
    RESIDUAL_OVERFLOW = 16  # a residual value left its 16 bits
    WINDOW_READS = 17  # a window took more reads than window_reads
    COMPUTE_3 = 18  # reserved for the compute unit, as are the codes up to 30
    COMPUTE_4 = 19


class Access(enum.Enum):
    """Who writes a register."""

    CONSTANT = "constant"
    READ = "read"  # hardware writes
    WRITE = "read / write"  # host writes
    STROBE = "write"  # a written 1 acts once; reads as 0


@dataclasses.dataclass(frozen=True)
class Field:
    """Some bits of a register."""

    name: str
    width: int
    text: str


@dataclasses.dataclass(frozen=True)
class Register:
    """One 32-bit register. Without fields it is one number of ``width`` bits."""

    name: str
    access: Access
    text: str
    fields: tuple[Field, ...] = ()
    width: int = 32
    init: int = 0

    def ports(self) -> list[tuple[str, int, int]]:
        """Return name, lowest bit and width of each field, named as the bank's ports."""
        if not self.fields:
            return [(self.name, 0, self.width)]
        placed, lsb = [], 0
        for field in self.fields:
            placed.append((f"{self.name}_{field.name}", lsb, field.width))
            lsb += field.width
        return placed


STALL_CAUSES = ("idle", "epilogue", "weights", "spikes")
"""Bits of the compute unit's stall_cause: what keeps groups from adding."""

STALLS = tuple(f"stall_{cause}" for cause in STALL_CAUSES)
"""The counters of the stall causes."""

COUNTERS = {
    "cycles": "clock cycles of the run",
    "additions": "weights added to an accumulator",
    "skipped": "zero words skipped",
    "bytes_read": "bytes read from memory",
    "bytes_written": "bytes written to memory",
    **{f"stall_{cause}": f"cycles with stall cause {cause} in the compute unit"
       for cause in STALL_CAUSES},
}
"""Counters of a run: 48 bits each, cleared by its start."""

REGISTERS = (
    Register("identity", Access.CONSTANT, "hash of the preset, the registers and the descriptors"),
    Register("version", Access.CONSTANT, "major version (upper half) and minor version"),
    Register("control", Access.STROBE, "starts and stops", (
        Field("start", 1, "run the program; ignored while busy or after an error"),
        Field("soft_reset", 1, "stop, let memory transactions end, clear errors; then not busy"),
        Field("irq_clear", 1, "lower the interrupt"))),
    Register("status", Access.READ, "state of the run", (
        Field("busy", 1, "a run, or its stopping, is under way"),
        Field("done", 1, "the last run reached END"),
        Field("error", 1, "the last run was stopped: see error_code"),
        Field("irq", 1, "an interrupt is pending, enabled or not"))),
    Register("error_code", Access.READ, "why the run was stopped", width=8),
    Register("error_index", Access.READ, "number of the descriptor that was stopped", width=24),
    Register("error_layer", Access.READ, "its layer", width=16),
    Register("layer", Access.READ, "layer of the last CONV or KTV that began", width=16),
    Register("program_address", Access.WRITE, "byte address of the program, a multiple of 128"),
    Register("program_count", Access.WRITE, "descriptors of the program", width=24),
    Register("read_base", Access.WRITE, "first byte that may be read"),
    Register("read_limit", Access.WRITE, "first byte behind those that may be read"),
    Register("write_base", Access.WRITE, "first byte that may be written"),
    Register("write_limit", Access.WRITE, "first byte behind those that may be written"),
    Register("watchdog_cycles", Access.WRITE,
             "cycles without any progress that stop the run; 0: never", init=1 << 20),
    Register("irq_enable", Access.WRITE, "causes that raise the interrupt", (
        Field("done", 1, "END was reached"), Field("error", 1, "the run was stopped")), init=3),
    *(register for name, text in COUNTERS.items() for register in (
        Register(f"{name}_low", Access.READ, f"{text}; reading it keeps the upper half"),
        Register(f"{name}_high", Access.READ, "its upper half, as kept"))),
)


def address(name: str) -> int:
    """Return the byte address of the register called ``name``."""
    for index, register in enumerate(REGISTERS):
        if register.name == name:
            return 4 * index
    raise KeyError(f"no register {name!r}")


def identity(preset: Preset) -> int:
    """Return the 32 bits by which the driver knows its hardware."""
    registers = [(register.name, register.access.value, register.ports()) for register in REGISTERS]
    descriptors = [(name, field.word, field.lsb, field.width)
                   for form in FORMATS.values() for name, field in form.fields.items()]
    digest = hashlib.sha256(repr((registers, descriptors)).encode()).digest()
    return preset.identity() ^ int.from_bytes(digest[:4], "little")


def markdown() -> str:
    """Return docs/registers.md."""
    lines = ["# Registers", "", "Generated by `python -m hw.regmap`; do not edit.",
             "AXI4-Lite, 32 bits, byte addresses. Other addresses read 0.", "",
             "| address | name | bits | access | reset | meaning |", "|---|---|---|---|---|---|"]
    for register in REGISTERS:
        reset = "preset" if register.name == "identity" else f"{register.init:#x}"
        if register.name == "version":
            reset = f"{VERSION:#010x}"
        bits = "" if register.fields else f"{register.width - 1}:0"
        lines.append(f"| {address(register.name):#05x} | {register.name} | {bits} | "
                     f"{register.access.value} | {reset} | {register.text} |")
        for field, (_, lsb, width) in zip(register.fields, register.ports(), strict=False):
            bits = str(lsb) if width == 1 else f"{lsb + width - 1}:{lsb}"
            lines.append(f"| | .{field.name} | {bits} | | | {field.text} |")
    lines += ["", "## Error codes", "", "| code | name |", "|---|---|"]
    lines += [f"| {code.value} | {code.name} |" for code in ErrorCode]
    return "\n".join(lines) + "\n"


def _constants() -> Iterator[tuple[str, str, str]]:
    """Yield name, value and meaning of each address, mask and lowest bit."""
    for register in REGISTERS:
        yield register.name, f"{address(register.name):#05x}", register.text
        for field, (name, lsb, width) in zip(register.fields, register.ports(), strict=False):
            yield f"{name}_mask", f"{((1 << width) - 1) << lsb:#x}", field.text
            yield f"{name}_shift", f"{lsb}", ""


def _values(preset: Preset) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and meaning of what constant registers read as."""
    yield "identity_value", f"{identity(preset):#010x}", "what identity reads as"
    yield "version_value", f"{VERSION:#010x}", "what version reads as"


def c_header(preset: Preset) -> str:
    """Return the registers of a preset's accelerator as a C header.

    Byte addresses, the mask and lowest bit of each field, error codes, and what identity and
    version must read as. The preprocessor alone understands it: it suits assembler, too.
    """
    def define(name: str, value: str, text: str = "") -> str:
        return f"#define ADDEND_{name.upper()} {value}u" + (f" /* {text} */" if text else "")

    lines = ["/* SPDX-License-Identifier: Apache-2.0",
             f" * Registers of Addend, preset {preset.name}. Generated from hw/regmap.py. */",
             "#ifndef ADDEND_REGISTERS_H", "#define ADDEND_REGISTERS_H", "",
             *(define(*constant) for constant in _constants()), "",
             *(define(*constant) for constant in _values(preset)), "",
             *(define(f"error_{code.name}", f"{code.value}") for code in ErrorCode), "", "#endif"]
    return "\n".join(lines) + "\n"


def python_module(preset: Preset) -> str:
    """Return the registers of a preset's accelerator as a Python module of its own.

    What the C header has, under the same names without ADDEND_, and the error codes as an
    ``enum.IntEnum``. It imports nothing else, so that it can be copied to a board.
    """
    def assign(name: str, value: str, text: str = "") -> str:
        return f"{name.upper()} = {value}" + (f"  # {text}" if text else "")

    lines = ["# SPDX-License-Identifier: Apache-2.0",
             f'"""Registers of Addend, preset {preset.name}. Generated from hw/regmap.py.',
             "", "Byte addresses, the mask and lowest bit of each field, what identity and version",
             'must read as, and the error codes."""', "", "import enum", "",
             *(assign(*constant) for constant in _constants()), "",
             *(assign(*constant) for constant in _values(preset)), "", "",
             "class ErrorCode(enum.IntEnum):",
             '    """Why a run was stopped: what error_code reads as."""', "",
             *(f"    {code.name} = {code.value}" for code in ErrorCode)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import pathlib

    pathlib.Path("docs/registers.md").write_text(markdown())
