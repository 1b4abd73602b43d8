# SPDX-License-Identifier: Apache-2.0
"""An accumulator lies beside its adder, and not what else holds the sum."""


import pytest

from sw.fpga.census import module_of
from sw.fpga.pairing import LATER, pair
from tb.fpga.netlists import synthesised

pytestmark = pytest.mark.usefixtures("short_paths")
WIDTH = 16
DESIGN = f"""
module top(input clk, input p, input [{WIDTH - 1}:0] a, output reg [{WIDTH - 1}:0] sum, z);
    wire [{WIDTH - 1}:0] next = NEXT;
    always @(posedge clk) begin
        if (p) z <= next;
        sum <= next;
    end
endmodule
"""


def flip_flops(netlist: dict) -> dict[int, str]:
    """Names, by the net that is driven."""
    return {cell["connections"]["Q"][0]: name
            for name, cell in netlist["modules"]["top"]["cells"].items()
            if cell["type"] == "TRELLIS_FF"}


@pytest.mark.parametrize(("sum_of", "renamed"), [("sum + a", True), ("a + {a[0], a[15:1]}", False)])
def test_the_accumulator_comes_first(sum_of: str, renamed: bool) -> None:
    netlist = synthesised(DESIGN.replace("NEXT", sum_of))
    before = flip_flops(netlist)
    ports = netlist["modules"]["top"]["ports"]
    assert pair(netlist) == (WIDTH if renamed else 0)
    after = flip_flops(netlist)
    assert set(after) == set(before)
    for net, name in before.items():
        mark = LATER if renamed and net in ports["z"]["bits"] else ""
        assert after[net] == mark + name
    for a, z in zip(ports["sum"]["bits"], ports["z"]["bits"], strict=True):
        assert not renamed or after[z] < after[a], "nextpnr takes the last name first"


def test_a_renamed_one_is_in_its_module() -> None:
    assert module_of(f"{LATER}dut.compute.results") == module_of("dut.compute.results") == "compute"
