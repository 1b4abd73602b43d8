# SPDX-License-Identifier: Apache-2.0
"""Runs checks on mutants, each mutant in a process of its own, until one fails."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

import torch

torch.set_num_threads(1)        # its threads do not outlive a fork; the checks may start them

from tb.mutation.checks import Check  # noqa: E402
from tb.mutation.netlist import Mutant  # noqa: E402

__all__ = ["STUBBED", "BaselineError", "Outcome", "baseline", "try_mutant"]

STUBBED = ("addend.control", "addend.load", "addend.store", "addend.read_port",
           "addend.write_port", "addend.registers")
"""Modules (and what is in them) that the stub system has too."""
PATIENCE = 60.0
"""Seconds that one check may take: each has its own limit of cycles, which comes first."""


class BaselineError(RuntimeError):
    """A check fails without any mutant."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a mutant: the check that failed ("" if none), what it said, and seconds."""

    killer: str
    said: str
    seconds: float


def _work(checks: list[Check], number: int, connection: Connection) -> None:
    """Run the checks; send the name of each before it starts, then how it ended."""
    for check in checks:
        connection.send(("start", check.name, ""))
        start = time.monotonic()
        try:
            check.run(number)
        except BaseException as error:      # pytest's own failures are no Exceptions
            text = " ".join(f"{type(error).__name__}: {error}".split())
            connection.send(("fail", check.name, text[:200]))
            return
        connection.send(("pass", check.name, f"{time.monotonic() - start:.4f}"))
    connection.send(("end", "", ""))


def _run(checks: list[Check], number: int,
         seen: Callable[[str, float], None] = lambda *_: None) -> Outcome:
    """Run checks on a mutant in a forked process. A process that dies or hangs failed too."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(checks, number, theirs), daemon=True)
    start, current = time.monotonic(), "the start"
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(PATIENCE):
                return Outcome(current, f"no end after {PATIENCE:.0f} s",
                               time.monotonic() - start)
            try:
                kind, name, text = ours.recv()
            except EOFError:
                process.join(10)
                return Outcome(current, f"the simulation died, exit code {process.exitcode}",
                               time.monotonic() - start)
            current = name
            if kind == "pass":
                seen(name, float(text))
            elif kind != "start":
                return Outcome(name, text, time.monotonic() - start)
    finally:
        process.kill()
        process.join(10)
        ours.close()


def baseline(checks: list[Check]) -> list[Check]:
    """Run all checks without a mutant; return them, the quickest first. Raises BaselineError."""
    seconds: dict[str, float] = {}
    outcome = _run(checks, 0, seconds.__setitem__)
    if outcome.killer:
        raise BaselineError(f"{outcome.killer} fails without a mutant: {outcome.said}")
    return sorted(checks, key=lambda check: seconds[check.name])


def try_mutant(mutant: Mutant, checks: Iterable[Check]) -> Outcome:
    """Run on a mutant those checks that can see it, in order, until one fails."""
    parts = mutant.module.split(".")
    stubbed = ".".join(parts[:2]) in STUBBED or len(parts) == 1
    return _run([check for check in checks if stubbed or not check.stub], mutant.number)
