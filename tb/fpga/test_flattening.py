# SPDX-License-Identifier: Apache-2.0
"""LUTs that look past others change no function, and leave nothing to look past."""

import copy
import random

import pytest

from sw.fpga import flattening
from sw.fpga.flattening import flatten
from tb.fpga.netlists import equal, synthesised

pytestmark = pytest.mark.usefixtures("short_paths")
WIDTH = 6
"""Inputs, and outputs."""
LUTS = 40


def network(seed: int) -> dict:
    """A netlist of LUTs with any tables, each of up to four inputs and LUTs before it."""
    netlist = synthesised(f"""
module top(input [{WIDTH - 1}:0] a, output [{WIDTH - 1}:0] y); assign y = {{^a, ~a[4:0]}};
endmodule""")
    top, chance = netlist["modules"]["top"], random.Random(seed)
    template = next(cell for cell in top["cells"].values() if cell["type"] == "LUT4")
    nets = list(top["ports"]["a"]["bits"])
    top["cells"], first = {}, 1000
    for number in range(LUTS):
        cell = copy.deepcopy(template)
        cell["parameters"]["INIT"] = f"{chance.getrandbits(16):016b}"
        for name in "ABCD":
            cell["connections"][name] = [chance.choice([chance.choice(nets[-12:]), "0", "1"])]
        cell["connections"]["Z"] = [first + number]
        nets.append(first + number)
        top["cells"][f"lut_{number}"] = cell
    top["ports"]["y"]["bits"] = nets[-WIDTH:]
    top["netnames"] = {}
    return netlist


def depends(netlist: dict) -> dict[int, set[int]]:
    """The nets that each LUT depends on."""
    cells = netlist["modules"]["top"]["cells"].values()
    return {cell["connections"]["Z"][0]: set(flattening.support(cell).nets) for cell in cells}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_changes(seed: int) -> None:
    before = network(seed)
    after = copy.deepcopy(before)
    assert flatten(after) > 0
    assert len(after["modules"]["top"]["cells"]) <= LUTS
    assert equal(before, after)
    inputs = depends(after)
    for nets in inputs.values():
        assert all(len((nets - {net}) | inputs[net]) > 4 for net in nets & inputs.keys())


def test_what_others_read_stays() -> None:
    netlist = synthesised("""
module top(input a, b, c, output y, z);
    wire both = a & b; assign z = both; assign y = both ^ c;
endmodule""")
    cells = netlist["modules"]["top"]["cells"]
    (y,), (z,) = (netlist["modules"]["top"]["ports"][name]["bits"] for name in "yz")
    cell = next(cell for cell in cells.values() if cell["connections"]["Z"] == [y])
    (c,) = netlist["modules"]["top"]["ports"]["c"]["bits"]
    cell["connections"] |= {"A": [z], "B": [c], "C": ["0"], "D": ["0"]}
    cell["parameters"]["INIT"] = "0000000000000110"
    before = copy.deepcopy(netlist)
    assert flatten(netlist) == 1
    assert len(cells) == 2
    assert equal(before, netlist)


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the table of the LUT that is looked past is inverted."""
    original = flattening._merged

    def planted(outer: object, net: int, inner: flattening.Function) -> object:
        return original(outer, net, inner._replace(
            table={bits: 1 - value for bits, value in inner.table.items()}))
    monkeypatch.setattr(flattening, "_merged", planted)
    before = network(0)
    after = copy.deepcopy(before)
    flatten(after)
    assert not equal(before, after)
