# SPDX-License-Identifier: Apache-2.0
"""Which two small LUTs share a site of a Xilinx device."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping

__all__ = ["SITE", "pairs", "share"]

SITE = "LUTNM"
"""The attribute that two LUTs of one site have in common (AMD UG912)."""

_INPUTS = 5
"""Of both together: a LUT of six inputs is two of five with the same inputs (AMD UG474, UG574)."""
_NEAR = 24
"""Readers of a net that are looked at, on either side; beyond these there are others as good."""


def share(netlist: Mapping[str, object], top: str = "top") -> int:
    """Give pairs of LUTs of yosys' netlist the attribute SITE, in place; return how many pairs.

    Vivado places such two in one site, and its reports count sites. Two are a pair where they have
    at most five inputs together, and

    - drive the two inputs of one bit of a carry chain, the one that is passed on and no other cell
      by the site's second output; or
    - have an input in common (others may be needed at different places), and neither begins a bit
      of a carry chain.
    """
    cells = netlist["modules"][top]["cells"]
    luts = {name: _inputs(cell) for name, cell in cells.items() if _is_lut(cell)}
    luts = {name: inputs for name, inputs in luts.items() if len(inputs) <= _INPUTS}
    heads, mates = _chained(cells, luts)
    taken = heads | {name for pair in mates for name in pair}
    mates += _greedy(_neighbours({name: inputs for name, inputs in luts.items()
                                  if name not in taken}, cells))
    for number, pair in enumerate(mates):
        for name in pair:
            _as_lut(cells[name]).setdefault("attributes", {})[SITE] = f"site_{number}"
    return len(mates)


def pairs(netlist: Mapping[str, object], top: str = "top") -> int:
    """Sites of a netlist that hold two LUTs."""
    return sum(SITE in cell.get("attributes", {})
               for cell in netlist["modules"][top]["cells"].values()) // 2


def _inputs(cell) -> frozenset[int]:
    return frozenset(bit for port, bits in cell["connections"].items()
                     if cell["port_directions"][port] == "input"
                     for bit in bits if isinstance(bit, int))


def _is_lut(cell) -> bool:
    return cell["type"] in ("INV", *(f"LUT{inputs}" for inputs in range(1, 7)))


def _chained(cells, luts) -> tuple[set[str], list[tuple[str, str]]]:
    """The LUTs that carry chains choose by, and pairs of such and what is passed on."""
    drivers = {bit: name for name, cell in cells.items() if _is_lut(cell)
               for bit in cell["connections"]["O"]}
    readers = Counter(bit for cell in cells.values() for port, bits in cell["connections"].items()
                      if cell["port_directions"][port] == "input" for bit in bits)
    heads, found = set(), []
    for cell in cells.values():
        if cell["type"] not in ("CARRY4", "CARRY8"):
            continue
        for chooses, passed in zip(cell["connections"]["S"], cell["connections"]["DI"],
                                   strict=True):
            head, other = drivers.get(chooses), drivers.get(passed)
            if ({head, other} <= luts.keys() and head not in heads | {other}
                    and readers[passed] == 1 and len(luts[head] | luts[other]) <= _INPUTS):
                found.append((head, other))
            heads.add(head)
    return heads, found


def _neighbours(luts, cells) -> dict[str, set[str]]:
    """For each LUT those that it can share a site with."""
    readers: dict[int, list[str]] = defaultdict(list)
    for name in sorted(luts, key=lambda name: cells[name]["connections"]["O"][0]):
        for bit in luts[name]:
            readers[bit].append(name)
    found: dict[str, set[str]] = {name: set() for name in luts}
    for names in readers.values():
        for place, name in enumerate(names):
            for other in names[place + 1:place + 1 + _NEAR]:
                if len(luts[name] | luts[other]) <= _INPUTS:
                    found[name].add(other)
                    found[other].add(name)
    return found


def _greedy(neighbours: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Pair those first that have the fewest others to choose from."""
    left = {name: len(others) for name, others in neighbours.items()}
    heap = [(count, name) for name, count in left.items() if count]
    heapq.heapify(heap)
    found, taken = [], set()
    while heap:
        count, name = heapq.heappop(heap)
        others = neighbours[name] - taken
        if name in taken or count != left[name] or not others:
            continue
        mate = min(others, key=lambda other: (left[other], other))
        found.append((name, mate))
        taken |= {name, mate}
        for one in (name, mate):
            for other in neighbours[one]:
                if other not in taken:
                    left[other] -= 1
                    heapq.heappush(heap, (left[other], other))
    return found


def _as_lut(cell: dict) -> dict:
    """Make an inverter, which is a LUT, one by name as well."""
    if cell["type"] == "INV":
        cell["type"] = "LUT1"
        cell["parameters"] = {"INIT": "01"}
        for table in (cell["connections"], cell["port_directions"]):
            table["I0"] = table.pop("I")
    return cell
