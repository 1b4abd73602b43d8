# SPDX-License-Identifier: Apache-2.0
"""Moves LUTs in front of an ECP5's adders into the adders' own LUTs.

Yosys maps a bit of an adder to half a CCU2C, whose LUT of four inputs then has two that are
idle: ``sum = A ^ B ^ carry``, and the carry out is the carry in where ``A ^ B``, else A. The
hardware asks for less: ``sum = P(A, B, C, D) ^ carry`` with any P, and the carry out is the carry
in where P, else ``G(A, B)``, the row C = D = 0 of the same table (the model of CCU2C in yosys'
cell library). So where an operand comes from a LUT of up to three inputs - a choice, a mask, an
inversion - its function goes into P, and that LUT is not needed any more. With three inputs one
order of them must make the operand 0 where the two on C and D are 0; with two, D is 1 and that row
is free.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import NamedTuple

__all__ = ["Function", "fold", "support"]

_ADDS = 0b1001_0110_1010_1010
"""Yosys' table: A ^ B ^ C where D, else A."""
_CONSTANTS = {"0", "1", "x"}


def fold(netlist: dict, top: str = "top") -> int:
    """Fold LUTs of a netlist of yosys (``write_json``), in place; return how many are gone.

    A LUT goes only where every cell that it drives is an adder that takes it in.
    """
    cells = netlist["modules"][top]["cells"]
    drivers, sinks = {}, defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    sinks[bit].append((name, port))
            elif cell["type"] == "LUT4":
                drivers[bits[0]] = name
    for port in netlist["modules"][top]["ports"].values():
        for bit in port["bits"]:
            sinks[bit].append(("", ""))
    gone = 0
    for net, name in drivers.items():
        plans = [_plan(cells, name, *sink) for sink in sinks[net]]
        halves = [plan.half for plan in plans if plan]
        if not plans or not all(plans) or len(set(halves)) < len(halves):
            continue
        for plan in plans:
            _apply(cells, plan)
        del cells[name]
        gone += 1
    return gone


class _Plan(NamedTuple):
    """What becomes of half a CCU2C: its table, and what is on its inputs."""

    half: tuple[str, str]
    table: int
    inputs: tuple[int | str, ...]


def _plan(cells: dict, lut: str, adder: str, port: str) -> _Plan | None:
    """Return how half an adder takes in the LUT on its port, or None."""
    cell = cells.get(adder)
    if cell is None or cell["type"] != "CCU2C" or port[0] not in "AB":
        return None
    half = port[1]
    a, b, c, d = (cell["connections"][f"{name}{half}"][0] for name in "ABCD")
    if (int(cell["parameters"][f"INIT{half}"], 2) != _ADDS or d != "1" or c not in {"0", "1"}
            or cell["parameters"][f"INJECT1_{half}"] != "NO" or a == b):
        return None
    minus = int(c)
    other, made = (a, minus) if port[0] == "B" else (b, 0)
    # sum = other ^ minus ^ operand ^ carry; the carry is made from A, or from B ^ C
    makes = made ^ minus
    nets, table = support(cells[lut])
    if len(nets) > 3:
        return None
    for order in itertools.permutations(nets):
        places = (*order, *["0"] * (2 - len(order)), "1")[:3]

        def operand(b: int, c: int, d: int, order=order) -> int:
            given = dict(zip(order, (b, c, d), strict=False))
            return table[tuple(given[net] for net in nets)]

        free = len(order) < 3
        if not free and any(operand(b, 0, 0) != made for b in range(2)):
            continue
        value = 0
        for row in range(16):
            a, b, c, d = (row >> n & 1 for n in range(4))
            bit = a ^ makes if free and not (c or d) else a ^ minus ^ operand(b, c, d)
            value |= bit << row
        return _Plan((adder, half), value, (other, *places))
    return None


def _apply(cells: dict, plan: _Plan) -> None:
    adder, half = plan.half
    cell = cells[adder]
    cell["parameters"][f"INIT{half}"] = f"{plan.table:016b}"
    for name, net in zip("ABCD", plan.inputs, strict=True):
        cell["connections"][f"{name}{half}"] = [net]


class Function(NamedTuple):
    """The nets that something depends on, and its value for each choice of theirs."""

    nets: list[int]
    table: dict[tuple[int, ...], int]


def support(lut: dict) -> Function:
    """Return the function of a LUT."""
    table = int(lut["parameters"]["INIT"], 2)
    pins = [lut["connections"][name][0] for name in "ABCD"]
    nets = list(dict.fromkeys(pin for pin in pins if pin not in _CONSTANTS))

    def value(given: dict) -> int:
        row = sum((given[pin] if pin in given else int(pin == "1")) << n
                  for n, pin in enumerate(pins))
        return table >> row & 1

    def tables(nets: list[int]) -> dict[tuple[int, ...], int]:
        rest = dict.fromkeys(set(pins) - _CONSTANTS, 0)
        return {bits: value({**rest, **dict(zip(nets, bits, strict=True))})
                for bits in itertools.product((0, 1), repeat=len(nets))}

    full = tables(nets)
    needed = [net for n, net in enumerate(nets) if any(
        full[bits] != full[(*bits[:n], 1 - bits[n], *bits[n + 1:])] for bits in full)]
    return Function(needed, tables(needed))
