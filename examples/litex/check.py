# SPDX-License-Identifier: Apache-2.0
"""Runs a small network on the simulated SoC and compares every tensor with the golden model.

    python -m examples.litex.check [--preset tiny] [--fault NAME] [--seed 0]

The host speaks to the SoC's bridge as over a serial port (`sw.uartbone`). Built files go to
build/litex. Ends with 0 where all values are equal, 1 where one differs or the accelerator fails.
"""

import argparse
import contextlib
import dataclasses
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from hw.presets import Preset, get_preset
from sim.build import environment
from sw.device import Device
from sw.driver import DeviceError, DeviceTimeout
from sw.errors import AddendError
from sw.images import Images
from sw.report import RunReport
from sw.run import run
from sw.soc_map import SocMap, read_soc_map
from sw.uart_link import UartLink
from sw.uartbone import UartTransport
from tb.random_model import random_image, random_model

__all__ = ["build", "check", "main", "simulation"]

ROOT = Path(__file__).resolve().parent.parent.parent
HARNESS = Path(__file__).with_name("harness.cpp")
FLAGS = ("--cc", "--exe", "--build", "-j", "2", "-O3", "--x-assign", "fast", "--x-initial", "fast",
         "--no-assert", "--threads", "1", "-Wno-fatal", "-Wno-lint", "-Wno-style",
         "--output-split", "20000", "--top-module", "addend_soc", "--Mdir", "obj",
         "-MAKEFLAGS", "OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1")
CLOCK_HZ = 1_000_000
"""The clock rate that the driver is told, for its time limits: ten million cycles and more for a
run of some ten thousand, so that a slower simulation does no harm."""
LIMIT = 1_000_000_000
"""Cycles after which a simulation ends by itself."""


class BuildError(AddendError):
    """LiteX or Verilator failed; the message names the log."""


def build(folder: Path, preset: Preset, fault: str | None = None) -> Path:
    """Build the simulation in ``folder`` and return the program. ``fault`` is planted."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "obj", ignore_errors=True)
    log = folder / "build.log"
    planted = ["--fault", fault] if fault else []
    for command, place, seconds in (
            ([sys.executable, "-m", "examples.litex.simulated", str(folder), "--preset",
              preset.name, *planted], ROOT, 300),
            (["verilator", *FLAGS, "addend_soc.v", "addend.v", str(HARNESS)], folder, 900)):
        with log.open("w") as output:
            done = subprocess.run(command, cwd=place, env=environment(), stdout=output,
                                  stderr=subprocess.STDOUT, timeout=seconds, check=False)
        if done.returncode:
            raise BuildError(f"{log}: the last lines of a build that failed:\n"
                             + "\n".join(log.read_text(errors="replace").splitlines()[-12:]))
    return folder / "obj" / "Vaddend_soc"


@contextlib.contextmanager
def simulation(program: Path, said: list[str]) -> Iterator[UartLink]:
    """Run a simulation for as long as its link is open; then ``said`` gets what it prints."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [str(program), str(theirs.fileno()), str(LIMIT)], cwd=program.parent.parent,
            pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
    link = UartLink(ours.detach(), "simulation", timeout=60)
    try:
        yield link
    finally:
        link.close()
        try:
            said.append(process.communicate(timeout=60)[0].strip())
        finally:
            process.kill()
            process.wait()


def check(program: Path, soc: SocMap, preset: Preset, seed: int = 0) -> tuple[RunReport, str]:
    """Run two images of a random network; return the report and what the simulation says."""
    model = random_model(seed, time_steps=1, blocks=("mlp",), channels=8)
    pixels = torch.stack([random_image(model, seed + number) for number in range(2)]).double()
    images = Images(["first", "second"], pixels.squeeze(1) * model.input.scale)
    slow = dataclasses.replace(soc, clock_hz=CLOCK_HZ)
    said: list[str] = []
    with simulation(program, said) as link:
        report = run(model, images, preset, backend="board", memory_base=soc.memory,
                     open_device=lambda compiled: Device(compiled, UartTransport(link, slow)))
    return report, said[0]


def main(arguments: list[str] | None = None) -> int:
    """Build, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--fault", help="plant this fault (examples/litex/accelerator.py)")
    parser.add_argument("--seed", type=int, default=0, help="of the random network")
    given = parser.parse_args(arguments)
    name = f"{given.preset}-{given.fault}" if given.fault else given.preset
    folder = ROOT / "build" / "litex" / name
    try:
        preset = get_preset(given.preset)
        print(f"[litex] building {folder.relative_to(ROOT)} (a minute or two)", flush=True)
        program = build(folder, preset, given.fault)
        print("[litex] running two images of a random network", flush=True)
        report, said = check(program, read_soc_map(folder / "soc.json"), preset, given.seed)
    except (AddendError, DeviceError, DeviceTimeout, subprocess.TimeoutExpired) as error:
        print(f"[litex] {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for image in report.images:
        for difference in image.differences:
            print(f"[litex] {image.name}: {difference}", file=sys.stderr)
    print(f"[litex] simulation: {said}; tensors compared: {report.tensors_compared}; "
          f"equal: {report.bit_exact}")
    return 0 if report.bit_exact else 1


if __name__ == "__main__":
    sys.exit(main())
