# SPDX-License-Identifier: Apache-2.0
"""Runs yosys and nextpnr: native ones when they are on the PATH, else those of YoWASP."""

import functools
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["LIMIT", "SynthesisError", "digest", "find", "run", "version"]

LIMIT = 4 * 3600
"""Seconds that a tool may take."""
INTERVAL = 10
"""Seconds between two stages that are shown, at least."""
Step = Callable[[str, int, int], None]
_STAGE = re.compile(r"^(?:\d+(?:\.\d+)*\. Executing (.*?)(?: pass)?\.?$|Info: ([A-Z][a-z]+ing .*))")


class SynthesisError(RuntimeError):
    """A tool is missing, failed, or took too long; the message names it and its log."""


@functools.cache
def find(tool: str) -> str:
    """Return the program to run for ``yosys`` or ``nextpnr-ecp5``; raise SynthesisError."""
    native = shutil.which(tool)
    if native:
        return native
    wheel = Path(sys.executable).with_name(f"yowasp-{tool}")
    if wheel.exists():
        return str(wheel)
    raise SynthesisError(f"no {tool}: install the project with [fpga], or put {tool} on the PATH")


@functools.cache
def version(tool: str) -> str:
    """Return what a tool says of its version."""
    done = subprocess.run([find(tool), "--version"], capture_output=True, text=True, check=False,
                          timeout=300)
    return (done.stdout + done.stderr).strip().splitlines()[0].partition(", ")[0]


def digest(parts: list[str]) -> str:
    """Return a name for what depends on these texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def run(tool: str, arguments: list[str], log: Path, step: Step, *, seconds: float) -> None:
    """Run a tool, its output into ``log``, and show the stage it is in.

    Raises SynthesisError where it fails, or takes longer than ``seconds``.
    """
    with log.open("w") as output:
        process = subprocess.Popen([find(tool), *arguments], stdout=output,
                                   stderr=subprocess.STDOUT)
    begin, shown, last = time.monotonic(), "", 0.0
    try:
        while True:
            try:
                process.wait(2)
                break
            except subprocess.TimeoutExpired:
                pass
            passed = time.monotonic() - begin
            if passed > seconds:
                raise SynthesisError(f"{tool} took more than {seconds:.0f} s: see {log}")
            stage = _stage(log)
            if stage and stage != shown and passed > last + INTERVAL:
                shown, last = stage, passed
                step(f"{tool}: {stage}", 0, 0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise SynthesisError(f"{tool} failed with exit code {process.returncode}: see {log}")


def _stage(log: Path) -> str:
    """The last stage that a log tells of."""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 20000))
        lines = file.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        found = _STAGE.match(line)
        if found:
            return (found[1] or found[2]).strip(". ")
    return ""
