# SPDX-License-Identifier: Apache-2.0
"""The register list and what is generated from it."""

import ast
import dataclasses
import enum
import pathlib
import re
import subprocess
import sys

import pytest

from hw import regmap
from hw.presets import PRESETS

ROOT = pathlib.Path(regmap.__file__).parent.parent


def test_document_is_up_to_date():
    found = (ROOT / "docs" / "registers.md").read_text()
    assert found == regmap.markdown(), "run: python -m hw.regmap"


def test_addresses():
    addresses = [regmap.address(register.name) for register in regmap.REGISTERS]
    assert addresses == list(range(0, 4 * len(addresses), 4))
    assert addresses[-1] < 1 << regmap.ADDRESS_BITS
    assert regmap.address("identity") == 0
    with pytest.raises(KeyError, match="no register 'nothing'"):
        regmap.address("nothing")


def test_fields_fit():
    for register in regmap.REGISTERS:
        assert sum(width for _, _, width in register.ports()) <= 32, register.name


def test_identity_names_the_preset():
    identities = {regmap.identity(preset) for preset in PRESETS.values()}
    assert len(identities) == len(PRESETS)
    changed = dataclasses.replace(PRESETS["tiny"], guard_bits=7)
    assert regmap.identity(changed) not in identities


def exported(preset):
    """Return what any export must say, by name: addresses, fields, codes and identity."""
    values = {register.name: regmap.address(register.name) for register in regmap.REGISTERS}
    values |= {f"error_{code.name}": code.value for code in regmap.ErrorCode}
    values |= {"identity_value": regmap.identity(preset), "version_value": regmap.VERSION}
    for register in regmap.REGISTERS:
        for name, lsb, width in register.ports() if register.fields else ():
            values |= {f"{name}_mask": ((1 << width) - 1) << lsb, f"{name}_shift": lsb}
    return {name.upper(): value for name, value in values.items()}


def in_c(header):
    """Return the numbers of a C header, by name."""
    return {name: int(value, 0) for name, value in re.findall(
        r"^#define ADDEND_(\w+) (\w+)u\b", header, re.MULTILINE)}


def in_python(text):
    """Run a module by itself and return its numbers, by name as in the C header."""
    imported = [alias.name for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    assert imported == ["enum"]
    found = {}
    exec(compile(text, "registers", "exec"), found)
    codes = found["ErrorCode"]
    assert issubclass(codes, enum.IntEnum)
    return ({name: value for name, value in found.items() if isinstance(value, int)}
            | {f"ERROR_{code.name}": code.value for code in codes})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_python_module(preset):
    """It says what the register list says, and what the C header says."""
    text = regmap.python_module(preset)
    assert in_python(text) == exported(preset) == in_c(regmap.c_header(preset))


@pytest.mark.parametrize(("right", "wrong"), [
    ("STATUS = 0x00c", "STATUS = 0x010"), ("_IRQ_MASK = 0x8", "_IRQ_MASK = 0x4"),
    ("_IRQ_SHIFT = 3", "_IRQ_SHIFT = 2"), ("NO_END = 11", "NO_END = 12"),
    ("LAYER = 0x01c", "LEVEL = 0x01c"), ("VERSION_VALUE = 0x0001", "VERSION_VALUE = 0x0002")])
def test_a_wrong_python_module_is_seen(right, wrong):
    preset = PRESETS["tiny"]
    text = regmap.python_module(preset)
    assert right in text
    assert in_python(text.replace(right, wrong)) != exported(preset)


def test_c_header(tmp_path):
    """A C compiler sees the addresses, fields, codes and identity that the driver uses."""
    preset = PRESETS["tiny"]
    values = exported(preset)
    header = regmap.c_header(preset)
    assert header.count("#define") == len(values) + 1     # and the guard
    (tmp_path / "registers.h").write_text(header)
    program = tmp_path / "check.c"
    program.write_text('#include "registers.h"\n#include "registers.h"\n' + "".join(
        f"_Static_assert(ADDEND_{name} == {value}u, \"{name}\");\n"
        for name, value in values.items()))
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", program]
    subprocess.run(command, check=True)
    subprocess.run(["g++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++",
                    tmp_path / "registers.h"], check=True)
    program.write_text(program.read_text().replace(f"{regmap.identity(preset)}u", "7u"))
    assert subprocess.run(command, capture_output=True, check=False).returncode    # it can fail


def test_host_side_needs_no_amaranth():
    code = ("import sys; sys.modules['amaranth'] = None; "
            "import sw.driver, sw.transport, hw.regmap, hw.presets, hw.descriptor")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_stall_causes_are_those_of_the_compute_unit():
    compute = pytest.importorskip("hw.compute")
    assert regmap.STALL_CAUSES == compute.STALL_CAUSES
