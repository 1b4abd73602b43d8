# SPDX-License-Identifier: Apache-2.0
"""Counts the cells of a synthesised netlist, in all and by module."""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping

from sw.fpga.lut_sites import SITE
from sw.fpga.pairing import LATER
from sw.fpga.targets import Target
from sw.fpga.tools import SynthesisError

__all__ = ["RESOURCES", "census", "module_of"]

RESOURCES = ("lut", "ff", "block_ram", "ultra_ram", "dsp")
DEPTH = 3
"""Levels of the hierarchy that are told apart, below the top."""
_ROUNDS = 20


def module_of(name: str, scopes: Container[str] = ()) -> str:
    """The component that a flattened name lies in: at most DEPTH levels, copies as one.

    ``dut.compute.engine.group_3.lanes.accumulator_7`` is in ``compute.engine.group``. Where the
    ``scopes`` are known, other parts of the name (fields of a structure) don't count.
    """
    path = name.lstrip("\\" + LATER).split(".")[:-1]
    while scopes and path and ".".join(path) not in scopes:
        path.pop()
    if path and path[0] == "dut":
        path = path[1:]
    return ".".join(re.sub(r"_\d+$", "", part) for part in path[:DEPTH])


def census(netlist: Mapping[str, object], target: Target) -> dict[str, object]:
    """Resources of yosys' JSON netlist: ``{resource: count, "per_module": {module: ...}}``.

    Of two LUTs in one site (`sw.fpga.lut_sites`) each counts half.
    A flattened cell keeps its module where its name, or the name of a net that it drives, still
    says it. A LUT that optimisation left without a name counts to the module of a cell that it
    drives, so shares at the borders of modules are approximate; sums are exact. Raises
    SynthesisError where a module was not flattened: its cells would be missing.
    """
    top = netlist["modules"]["top"]
    cells = top["cells"]
    for name, cell in cells.items():
        kind = netlist["modules"].get(cell["type"])
        if kind and not kind.get("attributes", {}).keys() & {"blackbox", "whitebox"}:
            raise SynthesisError(f"module {cell['type']} was not flattened (cell {name})")
    nets: dict[int, str] = {}  # bit: the name that says most
    for name, net in top["netnames"].items():
        if net.get("hide_name") or name.startswith("$"):
            continue
        for bit in net["bits"]:
            if isinstance(bit, int) and name.count(".") > nets.get(bit, "").count("."):
                nets[bit] = name
    outputs = {name: list(_bits(cell, "output")) for name, cell in cells.items()}
    scopes = {name.lstrip("\\") for name, cell in cells.items() if cell["type"] == "$scopeinfo"}
    modules: dict[str, str] = {}
    for name in cells:
        said = name if not name.startswith("$") and "." in name.lstrip("\\") else next(
            (nets[bit] for bit in outputs[name] if bit in nets), None)
        if said is not None:
            modules[name] = module_of(said, scopes)
    _spread(cells, outputs, modules)
    total = dict.fromkeys(RESOURCES, 0.0)
    parts: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(RESOURCES, 0.0))
    for name, cell in cells.items():
        if cell["type"] in target.cells:
            resource, amount = target.cells[cell["type"]]
            amount /= 2 if SITE in cell.get("attributes", {}) else 1
            total[resource] += amount
            parts[modules.get(name, "")][resource] += amount
    return {**{key: _whole(value) for key, value in total.items()},
            "per_module": {module: {key: _whole(value) for key, value in part.items()}
                           for module, part in sorted(parts.items())}}


def _spread(cells, outputs, modules: dict[str, str]) -> None:
    """Give cells without a module that of the cells they drive, most votes first."""
    sinks: dict[int, list[str]] = defaultdict(list)
    for name, cell in cells.items():
        for bit in _bits(cell, "input"):
            sinks[bit].append(name)
    left = [name for name in cells if name not in modules]
    for _ in range(_ROUNDS):
        found = {}
        for name in left:
            votes = Counter(modules[sink] for bit in outputs[name] for sink in sinks[bit]
                            if sink in modules)
            if votes:
                found[name] = votes.most_common(1)[0][0]
        if not found:
            return
        modules |= found
        left = [name for name in left if name not in found]


def _bits(cell: Mapping[str, object], direction: str) -> Iterable[int]:
    for port, bits in cell["connections"].items():
        if cell["port_directions"][port] == direction:
            yield from (bit for bit in bits if isinstance(bit, int))


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
