# SPDX-License-Identifier: Apache-2.0
"""Takes levels out of the logic of an ECP5: a LUT looks past another one where its inputs reach.

Yosys' mapper counts levels against the longest path of all, and shares a LUT wherever that saves
one. Where two LUTs follow each other and depend on four nets together, the second one can do both;
the first one stays for whoever else reads it. No LUT is added, and a level, with its wire, is gone.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import product

from sw.fpga.folding import Function, support

__all__ = ["flatten"]

_INPUTS = "ABCD"


def flatten(netlist: dict, top: str = "top") -> int:
    """Flatten LUTs of a netlist of yosys (``write_json``), in place; return the levels that went.

    LUTs that only others read which look past them now are removed.
    """
    cells = netlist["modules"][top]["cells"]
    luts = {cell["connections"]["Z"][0]: name for name, cell in cells.items()
            if cell["type"] == "LUT4"}
    readers = Counter(bit for cell in cells.values() for port, bits in cell["connections"].items()
                      if cell["port_directions"][port] == "input" for bit in bits)
    readers.update(bit for port in netlist["modules"][top]["ports"].values()
                   for bit in port["bits"])
    functions = {net: support(cells[name]) for net, name in luts.items()}
    read = [net for net in luts if readers[net]]
    gone, before = 0, -1
    while gone != before:  # there may be more behind what was looked past
        before = gone
        for net, inner in [(net, inner) for net, function in functions.items()
                           for inner in function.nets if inner in functions]:
            both = inner in functions[net].nets and _merged(
                functions[net], inner, functions[inner])
            if both:
                functions[net], gone = both, gone + 1
                _write(cells[luts[net]], both, readers)
    unread = deque(net for net in read if not readers[net])
    while unread:
        cell = cells.pop(luts.pop(unread.popleft()))
        for name in _INPUTS:
            net = cell["connections"][name][0]
            readers[net] -= 1
            if net in luts and not readers[net]:
                unread.append(net)
    return gone


def _merged(outer: Function, net: int, inner: Function) -> Function | None:
    """Return an outer LUT's function of what it and the LUT on ``net`` depend on, or None where
    that is too much for one."""
    nets = list(dict.fromkeys([*(other for other in outer.nets if other != net), *inner.nets]))
    if len(nets) > len(_INPUTS):
        return None
    table = {}
    for bits in product((0, 1), repeat=len(nets)):
        given = dict(zip(nets, bits, strict=True))
        given[net] = inner.table[tuple(given[other] for other in inner.nets)]
        table[bits] = outer.table[tuple(given[other] for other in outer.nets)]
    return Function(nets, table)


def _write(cell: dict, function: Function, readers: Counter) -> None:
    """Make a LUT of a function."""
    pins = [*function.nets, *["0"] * len(_INPUTS)][:len(_INPUTS)]
    for name, net in zip(_INPUTS, pins, strict=True):
        readers[cell["connections"][name][0]] -= 1
        readers[net] += 1
        cell["connections"][name] = [net]
    value = sum(function.table[tuple(row >> n & 1 for n in range(len(function.nets)))] << row
                for row in range(1 << len(_INPUTS)))
    cell["parameters"]["INIT"] = f"{value:016b}"
