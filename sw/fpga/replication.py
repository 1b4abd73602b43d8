# SPDX-License-Identifier: Apache-2.0
"""Copies of what drives cells all over an ECP5, each beside its share of them.

A signal takes 8 ns from one side of a LFE5U-85F to the other. An enable, a strobe or a flag with
hundreds of readers is at most half as far from each where two or four flip-flops hold it. The same
goes for a LUT that enables a row of block RAMs. Where the readers are is known once the design is
placed; it is placed again with the copies.
"""

import re
from collections import defaultdict

__all__ = ["replicate"]

READERS = 16
"""Pins that a flip-flop must drive to be copied."""
MEMORY_READERS = 8
"""Pins of block RAMs, and of nothing else, that a LUT must drive to be copied."""
SPAN = 50
"""Half perimeter, in tiles, that the readers may have."""
_SOURCES = {"TRELLIS_FF": ("Q", READERS), "LUT4": ("Z", MEMORY_READERS)}
"""Output, and fewest readers, of what is copied."""
_HALVINGS = 3
_BEL = re.compile(r"X(\d+)/Y(\d+)/")
_PACKED = re.compile(r"\$(?:CCU2_COMB|DPRAM_COMB|RAMW_)\w*$")
"""What nextpnr appends to the name of a cell that it packs into several."""
_MULTIPLEXERS = {"PFUMX": "BLUT", "L6MUX21": "D0"}
"""Cells that lie beside the LUT behind this port."""

Point = tuple[int, int]
Pin = tuple[str, str, int]
"""Cell, port, number of the bit."""


def replicate(netlist: dict, placed: dict, top: str = "top") -> int:
    """Copy cells of a netlist of yosys, in place; return how many copies there are.

    ``placed`` is the same design behind nextpnr's placer (``--write``).
    """
    module = netlist["modules"][top]
    cells = module["cells"]
    readers, drivers = defaultdict(list), {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            for number, net in enumerate(bits):
                if not isinstance(net, int):
                    continue
                if cell["port_directions"][port] == "output":
                    drivers[net] = name
                else:
                    readers[net].append((name, port, number))
    where = _places(cells, drivers, placed["modules"][top]["cells"])
    fresh = 1 + max([*readers, *drivers], default=0)
    copies = 0
    for name, cell in [*cells.items()]:
        output, least = _SOURCES.get(cell["type"], ("", 0))
        if not output:
            continue
        (net,) = cell["connections"][output]
        pins = readers[net]
        if len(pins) < least or not all(pin[0] in where for pin in pins):
            continue
        if output == "Z" and any(cells[pin[0]]["type"] != "DP16KD" for pin in pins):
            continue
        for share in _shares(pins, where, least, _HALVINGS)[1:]:
            copies += 1
            copy = f"{name}$copy{copies}"
            cells[copy] = {**cell, "attributes": {**cell["attributes"]},
                           "connections": {**cell["connections"], output: [fresh]}}
            module["netnames"][copy] = {"hide_name": 1, "bits": [fresh], "attributes": {}}
            for reader, port, number in share:
                bits = [*cells[reader]["connections"][port]]
                bits[number] = fresh
                cells[reader]["connections"][port] = bits
            fresh += 1
    return copies


def _places(cells: dict, drivers: dict[int, str], placed: dict) -> dict[str, Point]:
    """Where the cells of the netlist were placed; those without a place are left out."""
    where = {}
    for name, cell in placed.items():
        found = _BEL.match(cell["attributes"].get("NEXTPNR_BEL", ""))
        if found:
            where[_PACKED.sub("", name)] = int(found[1]), int(found[2])
    for name in cells:
        base = name
        while base not in where and cells.get(base, {}).get("type") in _MULTIPLEXERS:
            (net,) = cells[base]["connections"][_MULTIPLEXERS[cells[base]["type"]]]
            base = drivers.get(net, "")
        if base in where:
            where[name] = where[base]
    return where


def _shares(pins: list[Pin], where: dict[str, Point], least: int,
            halvings: int) -> list[list[Pin]]:
    """Split pins into groups that lie together, in the middle of their longer side."""
    axes = [[where[pin[0]][axis] for pin in pins] for axis in range(2)]
    sides = [max(axis) - min(axis) for axis in axes]
    if halvings == 0 or len(pins) < least or sum(sides) <= SPAN:
        return [pins]
    axis = sides.index(max(sides))
    middle = (max(axes[axis]) + min(axes[axis])) / 2
    low = [pin for pin in pins if where[pin[0]][axis] <= middle]
    high = [pin for pin in pins if where[pin[0]][axis] > middle]
    return [share for half in (low, high)
            for share in _shares(half, where, least, halvings - 1)]
