# SPDX-License-Identifier: Apache-2.0
"""Moves the register behind a block RAM of an ECP5 into the block RAM."""

from collections import defaultdict

__all__ = ["absorb"]

_WIDTH = 18
"""Bits of a port, at most."""


def absorb(netlist: dict, top: str = "top") -> int:
    """Use the output registers of DP16KDs in a netlist of yosys, in place; return how many
    flip-flops are gone.

    Yosys leaves these registers idle (``REGMODE`` is ``NOREG``). They serve where everything that a
    port reads goes to flip-flops only, of one enable and without a reset, on the port's clock. A
    port without its register takes half a cycle of 100 MHz to answer. Memories of 36 bits, which
    read through both ports at once, keep theirs in flip-flops.
    """
    cells = netlist["modules"][top]["cells"]
    sinks = defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    sinks[bit].append((name, port))
    for port in netlist["modules"][top]["ports"].values():
        for bit in port["bits"]:
            sinks[bit].append(("", ""))
    gone = 0
    for cell in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        if int(cell["parameters"]["DATA_WIDTH_A"], 2) > _WIDTH:
            continue
        for side in "AB":
            outputs = [f"DO{side}{n}" for n in range(_WIDTH)]
            read = {port: cell["connections"][port][0] for port in outputs
                    if sinks[next(iter(cell["connections"].get(port, [])), None)]}
            flip_flops = {port: _register(cells, sinks[net]) for port, net in read.items()}
            found = list(flip_flops.values())
            if not found or not all(found):
                continue
            controls = {(cells[name]["connections"]["CLK"][0], _enable(cells[name]))
                        for name in found}
            clock, enable = controls.pop()
            if controls or enable is None or [clock] != cell["connections"][f"CLK{side}"]:
                continue
            cell["parameters"][f"REGMODE_{side}"] = "OUTREG"
            cell["connections"][f"OCE{side}"] = [enable]
            cell["port_directions"][f"OCE{side}"] = "input"
            for port, name in flip_flops.items():
                cell["connections"][port] = cells.pop(name)["connections"]["Q"]
            gone += len(found)
    return gone


def _register(cells: dict, sinks: list[tuple[str, str]]) -> str | None:
    """The flip-flop, without a reset, that alone gets what a port reads."""
    if len(sinks) != 1 or sinks[0][1] != "DI":
        return None
    cell = cells[sinks[0][0]]
    if cell["type"] != "TRELLIS_FF" or cell["connections"].get("LSR", ["0"]) != ["0"] \
            or (cell["parameters"]["LSRMUX"], cell["parameters"]["REGSET"]) != ("LSR", "RESET"):
        return None  # with a reset, or 1 at first
    return sinks[0][0]


def _enable(cell: dict) -> int | str | None:
    """Its enable: a net, or "1"; None where it is inverted."""
    return {"CE": cell["connections"].get("CE", ["1"])[0], "1": "1"}.get(
        cell["parameters"]["CEMUX"].strip())
