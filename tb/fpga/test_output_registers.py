# SPDX-License-Identifier: Apache-2.0
"""The register behind a block RAM goes into it where it can, and only there."""

import copy
from collections import Counter

import pytest

from sw.fpga.output_registers import absorb
from tb.fpga.netlists import synthesised

pytestmark = pytest.mark.usefixtures("short_paths")
DESIGN = """
module top(input clk, other, we, re, p, input [9:0] wa, ra, input [WIDTH-1:0] wd,
           output reg [WIDTH-1:0] q, output [WIDTH-1:0] z);
    (* no_rw_check *) reg [WIDTH-1:0] memory [0:1023];
    reg [WIDTH-1:0] read;
    always @(posedge clk) begin
        if (we) memory[wa] <= wd;
        if (re) read <= memory[ra];
    end
    REGISTER
endmodule
"""
REGISTERS = {
    "plain": ("always @(posedge clk) q <= read; assign z = 0;", "1"),
    "enabled": ("always @(posedge clk) if (p) q <= read; assign z = 0;", "p"),
    "reset": ("always @(posedge clk) if (p) q <= 0; else q <= read; assign z = 0;", None),
    "1 at first": ("initial q = ~0; always @(posedge clk) q <= read; assign z = 0;", None),
    "read at once, too": ("always @(posedge clk) q <= read; assign z = read;", None),
    "another clock": ("always @(posedge other) q <= read; assign z = 0;", None),
    "enabled by 0": ("always @(posedge clk) if (!p) q <= read; assign z = 0;", None),
    "two enables": ("""always @(posedge clk) begin
        if (p) q[15:0] <= read[15:0];
        if (we) q[WIDTH-1:16] <= read[WIDTH-1:16];
    end
    assign z = 0;""", None),
}


def design(register: str, width: int) -> dict:
    return synthesised(DESIGN.replace("REGISTER", register).replace("WIDTH", str(width)))


def kinds(netlist: dict) -> Counter:
    return Counter(cell["type"] for cell in netlist["modules"]["top"]["cells"].values())


@pytest.mark.parametrize("name", REGISTERS)
def test_where_it_can(name: str) -> None:
    register, enable = REGISTERS[name]
    width = 32 if name == "two enables" else 128
    netlist = design(register, width)
    before = copy.deepcopy(netlist)
    top = netlist["modules"]["top"]
    gone = absorb(netlist)
    assert kinds(before)["DP16KD"] == kinds(netlist)["DP16KD"] >= width // 18
    assert kinds(before)["TRELLIS_FF"] - kinds(netlist)["TRELLIS_FF"] == gone
    if enable is None:
        assert gone == 0 or name == "two enables"  # there, a memory of one enable may go
        assert gone < width
        return
    assert gone == width
    nets = {net: cell for cell in top["cells"].values() if cell["type"] == "DP16KD"
            for port, bits in cell["connections"].items() if port.startswith("DO") for net in bits}
    for net in top["ports"]["q"]["bits"]:
        memory = nets[net]
        side = next(port[2] for port, bits in memory["connections"].items()
                    if port.startswith("DO") and net in bits)
        assert memory["parameters"][f"REGMODE_{side}"] == "OUTREG"
        assert memory["connections"][f"OCE{side}"] == (
            ["1"] if enable == "1" else top["ports"][enable]["bits"])


def test_each_bit_stays_in_its_place() -> None:
    netlist = design(REGISTERS["plain"][0], 128)
    cells = netlist["modules"]["top"]["cells"]
    places = {}
    for cell in cells.values():
        if cell["type"] == "TRELLIS_FF":
            places[cell["connections"]["Q"][0]] = cell["connections"]["DI"][0]
    read = {bits[0]: (name, port) for name, cell in cells.items() if cell["type"] == "DP16KD"
            for port, bits in cell["connections"].items() if port.startswith("DO") and bits}
    absorb(netlist)
    for registered, direct in places.items():
        name, port = read[direct]
        assert cells[name]["connections"][port] == [registered]
