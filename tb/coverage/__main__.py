# SPDX-License-Identifier: Apache-2.0
"""Reports which conditional lines of the hardware the tests reached, and which bits toggled.

    ADDEND_COVERAGE=build/coverage/data python -m pytest ...     # any tests
    python -m tb.coverage                                        # what they reached

sim/coverage.py says what a conditional line is. Prints a table and writes
build/coverage/coverage.json. Exit code 1 if less than 95 % of the lines are reached, if one isn't
and tb/coverage/uncovered.toml does not say why, or if it says so of one that is.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from rich.table import Table

from sim.coverage import ROOT
from sw.display import out
from sw.export import write_json
from tb.coverage.points import Counts, Uncovered, read_counts, source_line, stale, uncovered

__all__ = ["judge", "main"]

GOAL = 0.95
DATA, OUTPUT = ROOT / "build" / "coverage" / "data", ROOT / "build" / "coverage" / "coverage.json"


def judge(counts: Counts, listed: list[Uncovered], root: Path = ROOT) -> list[str]:
    """List what is wrong: lines that are not reached nor listed, and entries that don't hold."""
    wrong = [text for entry in listed if (text := stale(entry, root))]
    missed = {(file, source_line(file, line, root)): line
              for (file, line), count in counts.lines.items() if not count}
    reached = {(file, source_line(file, line, root))
               for (file, line), count in counts.lines.items() if count}
    known = {(entry.file, entry.text) for entry in listed}
    wrong += [f"not reached, and not listed: {file}:{line}: {text}"
              for (file, text), line in sorted(missed.items()) if (file, text) not in known]
    wrong += [f"listed, but reached: {file}: {text}"
              for file, text in sorted(known & reached - missed.keys())]
    return wrong


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def main(data: Path = DATA, output: Path = OUTPUT) -> int:
    """Report; return the exit code."""
    paths = sorted(data.glob("*.dat"))
    if not paths:
        out.print(f"no coverage in {data}: run tests with ADDEND_COVERAGE={data}")
        return 1
    counts = read_counts(paths)
    files: dict[str, list[int]] = defaultdict(list)
    for (file, _), count in sorted(counts.lines.items()):
        files[file].append(count)
    table = Table("file", "conditional lines", "reached", "share", title="lines")
    for file, found in files.items():
        reached = sum(map(bool, found))
        table.add_row(file, str(len(found)), str(reached), _share(reached, len(found)))
    whole, reached = len(counts.lines), sum(map(bool, counts.lines.values()))
    table.add_row("all", str(whole), str(reached), _share(reached, whole), style="bold")
    out.print(table)
    toggles = Table("module", "bits and directions", "seen", "share", title="toggles")
    for name, bits in sorted(counts.toggles.items()):
        seen = sum(bits.values())
        toggles.add_row(name, str(len(bits)), str(seen), _share(seen, len(bits)))
    bits = sum(map(len, counts.toggles.values()))
    seen = sum(sum(found.values()) for found in counts.toggles.values())
    toggles.add_row("all", str(bits), str(seen), _share(seen, bits), style="bold")
    out.print(toggles)
    wrong = judge(counts, uncovered())
    for text in wrong:
        out.print(text, markup=False, emoji=False, soft_wrap=True)
    out.print(f"{reached} of {whole} conditional lines reached: {_share(reached, whole)}; "
              f"toggles {_share(seen, bits)}; {len(paths)} models")
    write_json(output, {
        "models": len(paths), "lines": whole, "reached": reached, "share": reached / whole,
        "files": {file: {"lines": len(found), "reached": sum(map(bool, found))}
                  for file, found in files.items()},
        "not_reached": [f"{file}:{line}" for (file, line), count in sorted(counts.lines.items())
                        if not count],
        "toggle_points": bits, "toggle_seen": seen, "toggle_share": seen / bits if bits else None,
        "toggles": {name: {"points": len(found), "seen": sum(found.values())}
                    for name, found in sorted(counts.toggles.items())}, "wrong": wrong})
    return int(whole == 0 or reached / whole < GOAL or bool(wrong))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tb.coverage")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the models' files")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file to write")
    sys.exit(main(**vars(parser.parse_args())))
