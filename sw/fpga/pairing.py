# SPDX-License-Identifier: Apache-2.0
"""Which of several flip-flops is placed beside the adder that they all hold the sum of."""

__all__ = ["LATER", "pair"]

LATER = "_"
"""Before the name of a flip-flop that does not need the place beside its driver."""


def pair(netlist: dict, top: str = "top") -> int:
    """Rename flip-flops of a netlist of yosys, in place; return how many.

    nextpnr packs a flip-flop with the LUT that drives it, in the order of names, the last one
    first; others that are driven by the same LUT must then lie elsewhere, and may not fit the tile.
    The one that feeds the adder, an accumulator, is to be packed: its neighbours in the chain have
    the same reset and enable.
    """
    cells = netlist["modules"][top]["cells"]
    feeds, held = {}, {}
    for name, cell in cells.items():
        if cell["type"] == "CCU2C":
            for half in "01":
                nets = {net for port in "ABCD" for net in cell["connections"][f"{port}{half}"]}
                for net in cell["connections"].get(f"S{half}", []):
                    feeds[net] = nets
        elif cell["type"] == "TRELLIS_FF":
            for net in cell["connections"]["DI"]:
                held.setdefault(net, []).append(name)
    later = []
    for net, names in held.items():
        loops = [name for name in names if net in feeds
                 and cells[name]["connections"]["Q"][0] in feeds[net]]
        if len(names) > 1 and len(loops) == 1:
            later += [name for name in names if name not in loops]
    for name in later:
        cells[LATER + name] = cells.pop(name)
    return len(later)
