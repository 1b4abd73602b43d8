# SPDX-License-Identifier: Apache-2.0
"""Synthesises a preset, or a component of it, for a target; places and routes it on an ECP5.

    python -m sw.fpga.synth --preset tiny --target ecp5-85k

The ports lie in registers (`hw.frame`), so that the clock rate is that of the paths inside. Writes
``build/synth/PRESET-TARGET.json``, and a line into ``docs/synthesis.csv`` when the whole
accelerator's figures are others than in its last line. What was done once is taken from
``build/synth/cache``, by the hash of the netlist, the target, the options and the tools.
"""

import argparse
import csv
import dataclasses
import hashlib
import importlib
import inspect
import io
import json
import sys
import time
from pathlib import Path

from rich.table import Table

from hw.presets import Preset, PresetError, get_preset
from sw.display import out, progress
from sw.export import write_bytes, write_json
from sw.fpga import flattening, folding, lut_sites, output_registers, pairing, tools
from sw.fpga.census import RESOURCES, census
from sw.fpga.place import SITES, known_sites, place_and_route
from sw.fpga.targets import TARGETS, Target, TargetError, get_target

__all__ = ["COMPONENTS", "main", "synthesise"]

COMPONENTS = ("accelerator", "compute", "control", "counts", "engine", "epilogue", "group",
              "maps", "output", "walker", "weights", "window")
"""What can be synthesised; see hw.frame."""
OUTPUT = Path("build/synth")
HISTORY = Path("docs/synthesis.csv")
_COLUMNS = ("preset", "target", "adders", *RESOURCES, "fmax_mhz", "speed_grade", "hardware")


def synthesise(component: str, preset: Preset, target: Target, name: str, step: tools.Step, *,
               megahertz: float = 100, seed: int = 1, options: tuple[str, ...] = (),
               place: bool = True, tries: int = 1, routes: int = 1,
               sites: dict[str, str] | None = None) -> dict[str, object]:
    """The figures of a component of ``hw.frame.COMPONENTS``, also in ``OUTPUT/NAME.json``.

    ``options`` are more arguments for nextpnr. The first placement is the one of ``tries``, with
    a seed each, that has the shortest nets. With ``sites`` for the block RAMs it is made with
    these; the sites that they have at the end are in ``OUTPUT/NAME.sites.json``. The last placement
    is made and routed ``routes`` times, with a seed each, and the fastest counts. Without ``place``
    nothing is placed. Where it is, the sums are nextpnr's, and ``per_module`` still of the netlist.
    Raises SynthesisError.
    """
    place = place and bool(target.place)
    step(f"{name}: generating RTLIL", 0, 0)
    text = importlib.import_module("hw.frame").framed(component, preset)  # needs Amaranth
    programs = ["yosys", *([target.place[0]] if place else [])]
    versions = {tool: tools.version(tool) for tool in programs}
    hardware = hashlib.sha256(text.encode()).hexdigest()[:12]
    improvers = {
        "ecp5": (output_registers.absorb, folding.fold, flattening.flatten, pairing.pair),
        "xilinx": (lut_sites.share,)}[target.logic]
    folder = OUTPUT / "cache" / tools.digest([
        text, target.script(), versions["yosys"],
        *(inspect.getsource(inspect.getmodule(improve)) for improve in improvers)])
    netlist, figures = folder / "netlist.json", folder / "figures.json"
    if not figures.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "source.il"
        write_bytes(source, text.encode())
        started = time.monotonic()
        partial = folder / "netlist.partial"
        script = f"read_rtlil {source}; {target.script()}; write_json {partial}"
        tools.run("yosys", ["-p", script], folder / "yosys.log", step, seconds=tools.LIMIT)
        cells = json.loads(partial.read_text())
        for improve in improvers:
            improve(cells)
        write_bytes(partial, json.dumps(cells).encode())
        partial.replace(netlist)
        source.unlink()
        write_json(figures, {"seconds": round(time.monotonic() - started)})
    seconds = json.loads(figures.read_text())["seconds"]
    cells = json.loads(netlist.read_text())
    found = census(cells, target)
    result = {
        "preset": preset.name, "component": component, "target": target.name,
        "device": target.device, "adders": preset.adders,
        **{key: found[key] for key in RESOURCES}, "lut_pairs": lut_sites.pairs(cells),
        "lut_per_adder": round(found["lut"] / preset.adders, 1),
        "available": target.available, "fmax_mhz": None, "speed_grade": target.speed_grade or None,
        "seconds": seconds, "tool_versions": versions, "hardware": hardware,
        "per_module": found["per_module"], "critical_path": []}
    if place:
        missing = [key for key in RESOURCES if found[key] > target.available[key]]
        if missing:
            raise tools.SynthesisError(f"{name} does not fit {target.device}: " + ", ".join(
                f"{found[key]} of {target.available[key]} {key}" for key in missing))
        result |= place_and_route(
            target, netlist, cells, step, megahertz=megahertz, options=options, sites=sites,
            seeds=(range(seed, seed + tries), range(seed, seed + routes)),
            kept=OUTPUT / f"{name}.sites.json")
        result["seconds"] += seconds
    write_json(OUTPUT / f"{name}.json", result)
    return result


def _record(result: dict[str, object]) -> None:
    """Add the figures to the history, where they differ from those that it ends with."""
    rows = []
    if HISTORY.exists():
        rows = list(csv.DictReader(io.StringIO(HISTORY.read_text())))
    row = {key: str(result[key]) if result[key] is not None else "" for key in _COLUMNS}
    kind = ("preset", "target", "speed_grade")
    same = [old for old in rows if [old[key] for key in kind] == [row[key] for key in kind]]
    if same and same[-1] == row:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    write_bytes(HISTORY, text.getvalue().encode())


def _show(result: dict[str, object]) -> None:
    table = Table(title=f"{result['component']} of {result['preset']} on {result['target']}")
    shown = [key for key in RESOURCES if result["available"][key]]
    for column in ("module", *shown):
        table.add_column(column, justify="left" if column == "module" else "right")
    for module, part in result["per_module"].items():
        table.add_row(module or "(ports)", *(f"{part[key]:,}" for key in shown))
    table.add_section()
    table.add_row("all", *(f"{result[key]:,}" for key in shown))
    table.add_row(f"of {result['device']}", *(f"{result[key] / result['available'][key]:.0%}"
                                              for key in shown))
    out.print(table)
    out.print(f"LUT per adder: {result['lut_per_adder']}; {result['seconds']} s; "
              + ", ".join(result["tool_versions"].values()))
    if result["fmax_mhz"] is not None:
        out.print(f"Fmax: {result['fmax_mhz']} MHz, speed grade {result['speed_grade']}")
        for step in result["critical_path"]:
            out.print(f"  {step['ns']:6.2f} ns {step['kind']:10} {step['to']}", markup=False)


def _sites(given: argparse.Namespace) -> dict[str, str] | None:
    """Sites of block RAMs that are known for a command line. Raises SynthesisError."""
    file = given.sites or SITES / f"{given.preset}-{given.target}.json"
    return known_sites(file) if given.sites or file.exists() else None


def main(arguments: list[str] | None = None) -> int:
    """Synthesise, print the figures; exit code 1 where placed and below ``--mhz``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--target", default="ecp5-85k", help=", ".join(TARGETS))
    parser.add_argument("--component", default="accelerator", choices=COMPONENTS)
    parser.add_argument("--groups", type=int, help="groups, instead of the preset's")
    parser.add_argument("--mhz", type=float, default=100, help="clock rate to aim at")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tries", type=int, default=1, help="first placements to choose from")
    parser.add_argument("--routes", type=int, default=1,
                        help="last placements to route; the fastest counts")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--sites", type=Path, help="where block RAMs are in the first placement: "
                       "NAME.sites.json of another run; if not said, what sw/fpga/sites knows")
    known.add_argument("--free-sites", action="store_true", help="place the block RAMs, too")
    parser.add_argument("--speed-grade", help="of an ECP5: 6 (if not said), 7 or 8")
    parser.add_argument("--no-place", action="store_true", help="only synthesise")
    parser.add_argument("options", nargs="*", help="more options of nextpnr, behind --")
    given = parser.parse_args(arguments)
    for name in ("tries", "routes"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(given, name)}")
    try:
        preset, target = get_preset(given.preset), get_target(given.target)
        name = f"{preset.name}-{target.name}"
        if given.speed_grade is not None:
            target = target.graded(given.speed_grade)
            name += f"-grade-{given.speed_grade}"
        if given.groups is not None:
            preset = dataclasses.replace(preset, groups=given.groups)
            name += f"-{given.groups}"
        if given.component != "accelerator":
            name = f"{given.component}-{name}"
        sites = None if given.free_sites else _sites(given)
        with progress() as step:
            result = synthesise(given.component, preset, target, name, step,
                                megahertz=given.mhz, seed=given.seed,
                                options=tuple(given.options), place=not given.no_place,
                                tries=given.tries, routes=given.routes, sites=sites)
    except (PresetError, TargetError, tools.SynthesisError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.component == "accelerator" and given.groups is None and not given.no_place:
        _record(result)
    _show(result)
    return 0 if result["fmax_mhz"] is None or result["fmax_mhz"] >= given.mhz else 1


if __name__ == "__main__":
    sys.exit(main())
