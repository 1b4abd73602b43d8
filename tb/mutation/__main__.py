# SPDX-License-Identifier: Apache-2.0
"""Plants random faults in the netlist, and counts those that the fast tests see.

    python -m tb.mutation --count 200 --seed 1

A mutant is *killed* when one of the checks fails that `make test` runs on the Verilated
accelerator (tb/mutation/checks.py): a wrong tensor, counter or error code, a broken rule of AXI,
no end. What survives must be in tb/mutation/survivors.toml, with what it means. Prints a table and
writes build/mutation/mutation.json. What was found is kept: a second start goes on from there, and
after a change of the tests each mutant meets its last killer first.
Exit code 1 if fewer than 90 % are killed, or the list does not hold.
"""

import argparse
import functools
import hashlib
import json
import sys
import time
from pathlib import Path
from unittest import mock

from rich.table import Table

from sim import build as builder
from sim.build import ROOT
from sw.display import out, progress
from sw.export import write_json
from tb.mutation.campaign import Outcome, baseline, try_mutant
from tb.mutation.checks import checks
from tb.mutation.netlist import FOLDER, Mutant, draw
from tb.mutation.survivors import survivors

__all__ = ["main"]

GOAL = 0.9


def _tests_digest() -> str:
    """Return a hash of all that decides whether a mutant is killed."""
    total = hashlib.sha256()
    for package in ("hw", "sim", "sw", "tb"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".cpp") and path.is_file():
                total.update(path.read_bytes())
    return total.hexdigest()[:16]


def _kept(path: Path, tests: str) -> tuple[dict[int, Outcome], dict[int, str]]:
    """Return the outcomes of earlier starts with the same tests, and what killed with any."""
    if not path.exists():
        return {}, {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return ({line["number"]: Outcome(line["killer"], line["said"], line["seconds"])
             for line in lines if line["tests"] == tests},
            {line["number"]: line["killer"] for line in lines})


def main(count: int = 200, seed: int = 1, fresh: bool = False) -> int:
    """Run the campaign; return the exit code."""
    start = time.monotonic()
    drawn, tests = draw(count, seed), _tests_digest()
    path = FOLDER / drawn.digest / "outcomes.jsonl"
    found, killers = ({}, {}) if fresh else _kept(path, tests)
    # one look at the cache: sources may change while this runs
    with progress() as step, mock.patch.object(builder, "build", functools.cache(builder.build)):
        step("checks without a mutant", 0, count)
        ordered = baseline(checks(drawn)) if len(found) < count else []
        for done, mutant in enumerate(drawn.mutants):
            killed = sum(bool(outcome.killer) for outcome in found.values())
            step(f"mutants, {killed} killed", done, count)
            if mutant.number not in found:
                # what killed it last time comes first
                likely = sorted(ordered, key=lambda check, number=mutant.number: (
                    check.name != killers.get(number)))
                found[mutant.number] = outcome = try_mutant(mutant, likely)
                with open(path, "a") as file:
                    file.write(json.dumps({"number": mutant.number, "tests": tests,
                                           **vars(outcome)}) + "\n")
    return _report(drawn.mutants, found, seed, time.monotonic() - start)


def _report(mutants: tuple[Mutant, ...], found: dict[int, Outcome], seed: int,
            seconds: float) -> int:
    alive = [mutant for mutant in mutants if not found[mutant.number].killer]
    listed = survivors()
    keys = {mutant.key for mutant in alive}
    equivalent = [key for key in keys if key in listed and listed[key].equivalent]
    killed = len(mutants) - len(alive)
    share = killed / len(mutants)
    table = Table("mutant", "cell", "source", "meaning", title="survivors", show_lines=True)
    for mutant in alive:
        entry = listed.get(mutant.key)
        table.add_row(mutant.key, mutant.kind + " " + mutant.wire, mutant.source,
                      entry.reason if entry else "NOT LISTED")
    out.print(table)
    unlisted = sorted(keys - listed.keys())
    own = {mutant.key for mutant in mutants}
    now_killed = sorted((listed.keys() & own) - keys)
    changing = len(mutants) - len(equivalent)
    out.print(f"{killed} of {len(mutants)} mutants killed: {share:.1%}; {len(equivalent)} of the "
              f"survivors change nothing (without them {killed / changing:.1%}); {seconds:.0f} s")
    for key in unlisted:
        out.print(f"survives, and is not listed: {key}")
    for key in now_killed:
        out.print(f"listed as a survivor, but killed: {key}")
    write_json(FOLDER / "mutation.json", {
        "seed": seed, "mutants": len(mutants), "killed": killed, "share": share,
        "equivalent": len(equivalent), "seconds": seconds,
        "outcomes": [{**vars(mutant), **vars(found[mutant.number])} for mutant in mutants]})
    return int(share < GOAL or bool(unlisted) or bool(now_killed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tb.mutation")
    parser.add_argument("--count", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--fresh", action="store_true", help="forget earlier outcomes")
    sys.exit(main(**vars(parser.parse_args())))
