# SPDX-License-Identifier: Apache-2.0
"""Proves the handshake blocks, and shows that planted bugs break the proofs.

    python -m tb.prove [--no-bugs] [--list] [NAMES...]

Prints a table and writes ``build/prove/proofs.json``. Exit code 1 if a proof fails or a bug is not
caught, 2 for a name that is not known, a tool that is missing or fails, or a stale bug.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from rich.table import Table

from sw.display import out, progress
from sw.export import write_json
from tb.prove.check import Result, check
from tb.prove.engine import FOLDER, EngineError
from tb.prove.proof import Proof, StaleBugError
from tb.prove.proofs import PROOFS

__all__ = ["main"]

OUTPUT = FOLDER / "proofs.json"


def main(arguments: list[str] | None = None, proofs: tuple[Proof, ...] = PROOFS,
         output: Path = OUTPUT) -> int:
    """Decide the proofs asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tb.prove",
                                     description="Proves the handshake blocks by k-induction.")
    parser.add_argument("names", nargs="*", help="proofs (all if none is named)")
    parser.add_argument("--no-bugs", action="store_true", help="don't plant bugs")
    parser.add_argument("--list", action="store_true", help="list the proofs and what they claim")
    parser.add_argument("--limit", type=int, default=300, help="seconds for one run of a tool")
    options = parser.parse_args(arguments)
    known = {proof.name: proof for proof in proofs}
    for name in options.names:
        if name not in known:
            print(f"no proof {name!r}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    chosen = [known[name] for name in options.names] or list(proofs)
    if options.list:
        for proof in chosen:
            out.print(f"{proof.name}: {proof.claim.splitlines()[0]}", markup=False)
        return 0

    results = []
    with progress() as step:
        for done, proof in enumerate(chosen):
            step(f"proving: {proof.name}", done, len(chosen))
            try:
                results.append(check(proof, not options.no_bugs, options.limit))
            except (EngineError, StaleBugError) as error:
                print(f"{proof.name}: {error}", file=sys.stderr)
                return 2
    out.print(_table(results, not options.no_bugs))
    for result in results:
        for line in _complaints(result):
            out.print(line, markup=False)
    write_json(output, {"proofs": [dataclasses.asdict(result) for result in results]})
    return 0 if all(result.good for result in results) else 1


def _table(results: list[Result], bugs: bool) -> Table:
    claims = sum(len(result.claims) for result in results)
    planted = sum(len(result.bugs) for result in results)
    table = Table("proof", "block", "claims", "k", "seconds", "holds", "bugs caught",
                  title=f"{len(results)} proofs, {claims} claims"
                  + (f", {planted} planted bugs" if bugs else ""))
    for result in results:
        caught = sum(bug.caught for bug in result.bugs)
        table.add_row(result.proof, result.block, str(len(result.claims)), str(result.k),
                      f"{result.seconds:.1f}", "yes" if result.holds else "NO",
                      f"{caught} of {len(result.bugs)}" if bugs else "-")
    return table


def _complaints(result: Result) -> list[str]:
    lines = [] if result.holds else [f"{result.proof}: {result.said}"]
    return lines + [f"{result.proof}: not caught: {bug.bug}: {bug.said}"
                    for bug in result.bugs if not bug.caught]


if __name__ == "__main__":
    sys.exit(main())
