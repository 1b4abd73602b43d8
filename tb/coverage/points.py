# SPDX-License-Identifier: Apache-2.0
"""Reads the files that Verilated models leave, and the list of lines that no test reaches."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from sim.coverage import ROOT

__all__ = ["Counts", "Uncovered", "read_counts", "source_line", "stale", "uncovered"]

LIST = Path(__file__).with_name("uncovered.toml")
_POINT = re.compile(r"C '(.*)' (\d+)$")


@dataclasses.dataclass
class Counts:
    """What was counted: times that each (file, line) of hw/ was active, and bits that toggled.

    ``toggles`` has, for each kind of module (its instance's name), each bit that has been seen and
    whether it rose and fell in some model.
    """

    lines: dict[tuple[str, int], int]
    toggles: dict[str, dict[str, bool]]


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a point."""
    return dict(part.split("\x02", 1) for part in text.split("\x01")[1:])


def read_counts(paths: Iterable[Path]) -> Counts:
    """Add up all files."""
    lines: dict[tuple[str, int], int] = defaultdict(int)
    toggles: dict[str, dict[str, bool]] = defaultdict(dict)
    for path in paths:
        for text in path.read_text(errors="replace").splitlines():
            match = _POINT.match(text)
            if match is None:
                continue
            point, count = _fields(match[1]), int(match[2])
            kind, _, module = point["page"].partition("/")
            if kind in ("v_line", "v_branch") and point["f"].startswith("hw/"):
                if point["o"] == "if":
                    lines[point["f"], int(point["l"])] += count
            elif kind == "v_toggle":
                name = re.sub(r"_?\d+$", "", re.split(r"[./]", module)[-1].strip("\\ "))
                bit = point["o"]
                if "cover@" not in bit:
                    toggles[name][bit] = toggles[name].get(bit, False) or count > 0
    return Counts(dict(lines), dict(toggles))


@dataclasses.dataclass(frozen=True)
class Uncovered:
    """An entry of uncovered.toml: a line of a file of hw/, its text, and why no test reaches it."""

    file: str
    text: str
    reason: str


def source_line(file: str, line: int, root: Path = ROOT) -> str:
    """Return the text of a line, stripped."""
    return (root / file).read_text().splitlines()[line - 1].strip()


def uncovered(path: Path = LIST) -> list[Uncovered]:
    """Return the entries."""
    return [Uncovered(**entry) for entry in tomllib.loads(path.read_text()).get("line", [])]


def stale(entry: Uncovered, root: Path = ROOT) -> str:
    """Say why an entry no longer holds, or ""."""
    path = root / entry.file
    if not entry.reason.strip():
        return f"{entry.file}: {entry.text!r} has no reason"
    if not entry.file.startswith("hw/") or not path.is_file():
        return f"{entry.file} does not exist"
    if entry.text not in [line.strip() for line in path.read_text().splitlines()]:
        return f"{entry.file} has no line {entry.text!r}"
    return ""
