# SPDX-License-Identifier: Apache-2.0
"""Places a netlist on an ECP5 as often as its block RAMs need, and routes it."""

import concurrent.futures
import inspect
import json
import os
import time
from pathlib import Path

from sw.export import write_bytes, write_json
from sw.fpga import floorplan, replication, tools
from sw.fpga.census import module_of
from sw.fpga.targets import Target

__all__ = ["SITES", "known_sites", "place_and_route"]

SITES = Path(__file__).parent / "sites"
"""Sites that suited block RAMs before: ``PRESET-TARGET.json``, by the names of the cells."""
_CHOICES = {"--router": "router2", "--placer": "static"}
"""Of nextpnr, where ``options`` don't choose. Its default placer, HeAP, leaves longer nets:
docs/synthesis.md."""
_CROWDED = 0.75
"""Share of the block RAMs from which on nextpnr's static placer places them, too, before
`sw.fpga.floorplan` gives them their sites. Where they are few, it may look for good ones without
end, as it asks for less overlap than one of them makes; HeAP does it then."""
_FLOORPLAN, _KEPT = "floorplan.json", "sites.json"


def known_sites(file: Path) -> dict[str, str]:
    """Read a file of sites: a BEL for the name of each block RAM. Raises SynthesisError."""
    try:
        sites = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise tools.SynthesisError(
            f"{file}: not readable as sites of block RAMs: {error}") from None
    if not isinstance(sites, dict) or not all(isinstance(site, str) for site in sites.values()):
        raise tools.SynthesisError(f"{file}: not a site for each name of a block RAM")
    return sites


def place_and_route(target: Target, netlist: Path, cells: dict, step: tools.Step, *,
                    megahertz: float, seeds: tuple[range, range], options: tuple[str, ...],
                    sites: dict[str, str] | None, kept: Path) -> dict[str, object]:
    """Return what placing and routing changes of a netlist's figures; ``cells`` is its content.

    ``seeds`` of the first placement, of which the one with the shortest nets counts, and of the
    last, of which the fastest counts. ``options`` are more arguments for nextpnr. Block RAMs begin
    at ``sites``, where these are of theirs; their last sites go to ``kept``. Raises SynthesisError.
    """
    memories = set(floorplan.memories(cells))
    crowded = len(memories) > _CROWDED * target.available["block_ram"]
    placers = ("static", "static") if crowded else ("heap",)
    if sites and sites.keys() == memories:
        step(f"block RAMs begin at {len(sites)} sites that are known", 0, 0)
        placers = ("static",)
    elif sites:
        step("the sites that are known belong to other block RAMs, and are not used", 0, 0)
        sites = None
    first, last = seeds
    tool, *arguments = target.place
    arguments += ["--freq", str(megahertz)]
    chosen = {given.partition("=")[0] for given in options}
    beginnings = [[[*arguments, "--seed", str(seed), "--placer", placer,
                    *_without(options, "--placer")]
                   for seed in (first if number == 0 else first[:1])]
                  for number, placer in enumerate(placers)]
    for option, choice in _CHOICES.items():
        arguments += [] if option in chosen else [option, choice]
    arguments += options
    work = netlist.parent / tools.digest([
        *arguments, str(seeds), tools.version(tool), *placers, json.dumps(sites),
        inspect.getsource(floorplan), inspect.getsource(replication)])
    if not (work / "figures.json").exists():
        work.mkdir(exist_ok=True)
        started = time.monotonic()
        netlist = _floorplan(tool, beginnings, netlist, sites, work, step)
        told = _routed(tool, arguments, last, netlist, work, step)
        (work / _FLOORPLAN).unlink(missing_ok=True)
        used = {cell: entry["used"] for cell, entry in told["utilization"].items()}
        figures = {resource: used.get(cell, 0) for resource, cell in (
            ("lut", "TRELLIS_COMB"), ("ff", "TRELLIS_FF"), ("block_ram", "DP16KD"),
            ("dsp", "MULT18X18D"))}
        figures["fmax_mhz"] = round(_fmax(told), 1)
        figures["critical_path"] = _critical(told)
        figures["seconds"] = round(time.monotonic() - started)
        write_json(work / "figures.json", figures)
    write_bytes(kept, (work / _KEPT).read_bytes())
    return json.loads((work / "figures.json").read_text())


def _floorplan(tool: str, beginnings: list[list[list[str]]], netlist: Path,
               sites: dict[str, str] | None, work: Path, step: tools.Step) -> Path:
    """Place a netlist several times, and return it with the sites that its block RAMs are to have
    then, and copies of what reaches far. ``beginnings``: for each time lists of
    arguments, of which the one that gives the shortest nets counts; ``sites`` at first."""
    result = work / _FLOORPLAN
    cells = json.loads(netlist.read_text())
    if sites:
        floorplan.constrain(cells, sites)
        write_bytes(result, json.dumps(cells).encode())
        netlist = result
    for number, choices in enumerate(beginnings):
        placed = _shortest(tool, choices, netlist, work / f"placer-{number}", step)
        design = json.loads(placed.read_text())
        sites, before, after = floorplan.assign(design)
        step(f"nets of block RAMs: {before:,} tiles before, {after:,} at their best sites", 0, 0)
        floorplan.constrain(cells, sites)
        if number == len(beginnings) - 1:
            step(f"{replication.replicate(cells, design):,} copies", 0, 0)
        write_bytes(result, json.dumps(cells).encode())
        placed.unlink()
        netlist = result
    write_json(work / _KEPT, sites)
    return result


def _shortest(tool: str, choices: list[list[str]], netlist: Path, stem: Path,
              step: tools.Step) -> Path:
    """Place a netlist with each list of arguments, as many at a time as there are processors;
    return the placement with the shortest nets. Logs and placements begin with ``stem``."""
    def place(number: int) -> tuple[int, Path]:
        placed = stem.with_name(f"{stem.name}-{number}.json")
        tools.run(tool, [*choices[number], "--json", str(netlist), "--no-route", "--write",
                         str(placed)], placed.with_suffix(".log"), step, seconds=tools.LIMIT)
        return (floorplan.length(json.loads(placed.read_text())) if choices[1:] else 0), placed

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        (length, best), *others = sorted(pool.map(place, range(len(choices))))
    if others:
        step(f"{best.stem}: nets of {length:,} tiles, the others " + ", ".join(
            f"{longer:,}" for longer, _ in others), 0, 0)
    for _, placed in others:
        placed.unlink()
    return best


def _routed(tool: str, arguments: list[str], seeds: range, netlist: Path, work: Path,
            step: tools.Step) -> dict:
    """Place and route a netlist with each seed, as many at a time as there are processors; return
    nextpnr's report of the fastest."""
    def route(seed: int) -> dict:
        report = work / f"report-{seed}.json"
        tools.run(tool, [*arguments, "--seed", str(seed), "--json", str(netlist), "--report",
                         str(report), "--timing-allow-fail"], work / f"nextpnr-{seed}.log", step,
                  seconds=tools.LIMIT)
        return json.loads(report.read_text())

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        told = dict(zip(seeds, pool.map(route, seeds), strict=True))
    if seeds[1:]:
        step("routed: " + ", ".join(f"seed {seed} {_fmax(report):.1f} MHz"
                                    for seed, report in told.items()), 0, 0)
    return max(told.values(), key=_fmax)


def _fmax(report: dict) -> float:
    """MHz."""
    return next(iter(report["fmax"].values()))["achieved"]


def _without(options: tuple[str, ...], name: str) -> list[str]:
    """The options but for one that takes a value, in the same word or in the next."""
    left, skips = [], False
    for given in options:
        if skips or given.partition("=")[0] == name:
            skips = given == name
        else:
            left.append(given)
    return left


def _critical(report: dict) -> list[dict[str, object]]:
    """The slowest path between registers: delay, kind, and the module of each step."""
    paths = [path["path"] for path in report.get("critical_paths", [])
             if path["from"].startswith("posedge") and path["to"].startswith("posedge")]
    if not paths:
        return []
    slowest = max(paths, key=lambda steps: sum(step["delay"] for step in steps))
    return [{"ns": round(step["delay"], 2), "kind": step["type"],
             "module": module_of(step["to"]["cell"]), "to": step["to"]["cell"]}
            for step in slowest]
