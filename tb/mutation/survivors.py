# SPDX-License-Identifier: Apache-2.0
"""The list of mutants that survive, survivors.toml, and what each of them means."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from sim.build import ROOT

__all__ = ["Survivor", "stale", "survivors"]

LIST = Path(__file__).with_name("survivors.toml")


@dataclasses.dataclass(frozen=True)
class Survivor:
    """One entry: the mutant's key, where its cell comes from, and why no test sees it.

    ``source`` is "file:line" and ``text`` that line, stripped. ``equivalent``: no program
    and no input can tell the mutant from the original.
    """

    key: str
    source: str
    text: str
    reason: str
    equivalent: bool = False


def survivors(path: Path = LIST) -> dict[str, Survivor]:
    """Return the entries by key."""
    entries = [Survivor(**entry) for entry in tomllib.loads(path.read_text()).get("survivor", [])]
    found = {entry.key: entry for entry in entries}
    if len(found) < len(entries):
        raise ValueError(f"{path}: a mutant is listed twice")
    return found


def stale(entry: Survivor, root: Path = ROOT) -> str:
    """Say why an entry no longer holds, or ""."""
    name, _, line = entry.source.rpartition(":")
    if not entry.reason.strip():
        return f"{entry.key}: no reason"
    if not name.startswith("hw/"):
        return ""                           # in Amaranth's library, whose version is pinned
    if not (root / name).is_file():
        return f"{entry.key}: {name} does not exist"
    lines = (root / name).read_text().splitlines()
    if not 0 < int(line) <= len(lines) or lines[int(line) - 1].strip() != entry.text:
        return f"{entry.key}: line {line} of {name} is not {entry.text!r}"
    return ""
