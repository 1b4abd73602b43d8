# SPDX-License-Identifier: Apache-2.0
"""Coverage of the hardware's lines, measured by Verilator on the generated Verilog.

With the environment variable ADDEND_COVERAGE (a folder) every Verilated model counts, and writes
what it counted to a new file there when it is closed. With ADDEND_TOGGLES too, it also counts the
bits that rise and fall: that takes minutes more to build, and tens of megabytes for each model.

Verilog has no lines of its own worth counting: it is generated. What counts is a *conditional
line* of ``hw/``: a line with an assignment inside a ``with m.If``, ``m.Elif``, ``m.Else``,
``m.Case``, ``m.Default`` or ``m.State`` (``m.next = ...`` too). A point (an ``if``, at that line of
that file) sees at each clock edge whether the condition of the assignment holds. Lines without a
condition always run and do not count.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import _nir

__all__ = ["FLAGS", "TOGGLES", "VARIABLE", "folder", "new_file", "points", "thin", "with_points"]

VARIABLE = "ADDEND_COVERAGE"
TOGGLES = bool(os.environ.get("ADDEND_TOGGLES"))
FLAGS = ("--coverage-line", *(["--coverage-toggle"] if TOGGLES else []))
ROOT = Path(__file__).resolve().parent.parent
_WIRE = re.compile(r"^  (?:wire|reg) \\(cover@(hw/[^@]+)@(\d+)@\d+) ", re.MULTILINE)
_CLOCK = re.compile(r"^  input (clk|units_clk);", re.MULTILINE)


def folder() -> Path | None:
    """Return the folder for coverage, absolute; None where none is asked for."""
    name = os.environ.get(VARIABLE)
    return Path(name).resolve() if name else None


def new_file() -> Path | None:
    """Return a name of a file that doesn't exist yet, in the folder."""
    place = folder()
    if place is None:
        return None
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{uuid.uuid4().hex}.dat"


def thin(path: Path) -> None:
    """Leave only the points of hw/ in a file; with toggles, all."""
    if TOGGLES or not path.exists():
        return
    partial = path.with_suffix(".partial")
    with open(path, errors="replace") as file, open(partial, "w") as kept:
        kept.writelines(line for line in file if "\x01f\x02hw/" in line)
    partial.replace(path)


@contextlib.contextmanager
def points() -> Iterator[None]:
    """Let ``amaranth.back`` add a wire to each conditional assignment of ``hw/``, high where its
    condition holds."""
    emit_list, assign = rtlil.ModuleEmitter.emit_assignment_list, rtlil.Case.assign
    state: list = []

    def emit_assignment_list(emitter, cell_idx, cell):
        marks = []
        for number, assignment in enumerate(cell.assignments):
            name, line = assignment.src_loc or ("", 0)
            path = Path(name)
            if (assignment.cond == _nir.Net.from_const(1)
                    or not path.is_relative_to(ROOT / "hw")):
                marks.append(None)
                continue
            wire = emitter.builder.wire(
                1, name=f"cover@{path.relative_to(ROOT)}@{line}@{cell_idx * 10000 + number}")
            marks.append(wire.name)
        state[:] = [None, *marks]
        try:
            emit_list(emitter, cell_idx, cell)
        finally:
            state.clear()

    def marked_assign(case, lhs, rhs):
        assign(case, lhs, rhs)
        if not state:
            return
        mark = state.pop(0)
        if mark is not None:
            assign(case, mark, "1'1")

    process = rtlil.Process.assign

    def marked_process(proc, lhs, rhs):
        process(proc, lhs, rhs)
        if state and state[0] is None and len(state) > 1:       # the default comes first
            for mark in state[1:]:
                if mark is not None:
                    process(proc, mark, "1'0")
        if state:
            state.pop(0)

    rtlil.ModuleEmitter.emit_assignment_list = emit_assignment_list
    rtlil.Case.assign, rtlil.Process.assign = marked_assign, marked_process
    try:
        yield
    finally:
        rtlil.ModuleEmitter.emit_assignment_list = emit_list
        rtlil.Case.assign, rtlil.Process.assign = assign, process


def with_points(verilog: str) -> str:
    """Return Verilog with a point for each of the wires; Verilator counts lines as in this text."""
    parts, done = [], 0
    for module in re.split(r"(?<=^endmodule\n)", verilog, flags=re.MULTILINE):
        clock = _CLOCK.search(module)
        when = f"@(posedge {clock[1]})" if clock else "@*"
        lines = []
        for wire, path, line in _WIRE.findall(module):
            lines += [f'`line {line} "{path}" 0', f"  always {when} if (\\{wire} ) begin end"]
        if lines:
            end = module.rindex("endmodule")
            following = done + module[:end].count("\n") + len(lines) + 2
            lines.append(f'`line {following} "addend.v" 0')
            module = module[:end] + "\n".join(lines) + "\n" + module[end:]
        parts.append(module)
        done += module.count("\n")
    return "".join(parts)
