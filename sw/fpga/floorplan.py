# SPDX-License-Identifier: Apache-2.0
"""Gives each block RAM of a placed ECP5 design the site that suits its nets.

nextpnr's static placer finds good positions for everything, and then moves each block RAM to any
free site nearby, one after the other: where most of the device's block RAMs are used, the last ones
go far. Their sites are few and in four rows only, so that the best assignment can be computed: each
block RAM's cost at each site is the half perimeter of its nets, all other cells where they were
placed. Placed once more with the block RAMs there, the whole design follows them.
"""

import re
from collections import defaultdict

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["assign", "constrain", "length", "memories"]

_KIND = "DP16KD"
_ROUNDS = 3
"""Assignments, each of which sees the block RAMs where the one before put them."""
_FANOUT = 2000
"""Pins of a net that says nothing about where a block RAM should be: the clock."""
_BEL = re.compile(r"X(\d+)/Y(\d+)/")

Point = tuple[int, int]


def assign(placed: dict, top: str = "top") -> tuple[dict[str, str], int, int]:
    """Return a site for each block RAM of a placed netlist (``nextpnr --write``), and the half
    perimeters of their nets together before and after, in tiles.

    They exchange the sites that they have among each other.
    """
    cells = placed["modules"][top]["cells"]
    bels = {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in cells.items()
            if "NEXTPNR_BEL" in cell["attributes"]}
    points = {name: _point(bel) for name, bel in bels.items()}
    names = memories(placed, top)
    if not names:
        return {}, 0, 0
    sites = [bels[name] for name in names]
    x, y = np.array([_point(site) for site in sites]).T
    fixed, movable = defaultdict(list), defaultdict(set)
    for name, cell in cells.items():
        for bits in cell["connections"].values():
            for net in bits:
                if not isinstance(net, int):
                    continue
                if cell["type"] == _KIND:
                    movable[net].add(name)
                elif name in points:
                    fixed[net].append(points[name])
    nets = {name: [net for net in movable if name in movable[net] and len(fixed[net]) < _FANOUT]
            for name in names}
    now = {name: points[name] for name in names}
    before = _length(fixed, movable, now)
    chosen = np.arange(len(names))
    for _ in range(_ROUNDS):
        cost = np.zeros((len(names), len(sites)))
        for number, name in enumerate(names):
            for net in nets[name]:
                others = fixed[net] + [now[other] for other in movable[net] if other != name]
                for axis, place in enumerate((x, y)):
                    ends = [point[axis] for point in others] or [0]
                    cost[number] += np.maximum(max(ends), place) - np.minimum(min(ends), place)
        _, following = linear_sum_assignment(cost)
        then = {name: (int(x[site]), int(y[site]))
                for name, site in zip(names, following, strict=True)}
        if _length(fixed, movable, then) >= _length(fixed, movable, now):
            break
        chosen, now = following, then
    return ({name: sites[site] for name, site in zip(names, chosen, strict=True)}, before,
            _length(fixed, movable, now))


def length(placed: dict, top: str = "top") -> int:
    """Half perimeters of all nets of a placed netlist together, in tiles."""
    points = defaultdict(list)
    for cell in placed["modules"][top]["cells"].values():
        if "NEXTPNR_BEL" in cell["attributes"]:
            place = _point(cell["attributes"]["NEXTPNR_BEL"])
            for bits in cell["connections"].values():
                for net in bits:
                    points[net].append(place)
    return sum(max(axis) - min(axis) for net, places in points.items() if isinstance(net, int)
               for axis in zip(*places, strict=True))


def memories(netlist: dict, top: str = "top") -> list[str]:
    """Names of the block RAMs of a netlist."""
    return [name for name, cell in netlist["modules"][top]["cells"].items()
            if cell["type"] == _KIND]


def constrain(netlist: dict, sites: dict[str, str], top: str = "top") -> None:
    """Have nextpnr place cells of a netlist of yosys at these sites."""
    for name, site in sites.items():
        netlist["modules"][top]["cells"][name]["attributes"]["BEL"] = site


def _point(bel: str) -> Point:
    found = _BEL.match(bel)
    return int(found[1]), int(found[2])


def _length(fixed: dict[int, list[Point]], movable: dict[int, set[str]],
            places: dict[str, Point]) -> int:
    """Half perimeters of all nets of block RAMs."""
    total = 0
    for net, names in movable.items():
        points = fixed[net] + [places[name] for name in names]
        for axis in range(2):
            ends = [point[axis] for point in points]
            total += max(ends) - min(ends)
    return total
