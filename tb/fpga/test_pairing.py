# SPDX-License-Identifier: Apache-2.0
"""An accumulator lies beside its adder, and not what else holds the sum."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sw.fpga import tools
from sw.fpga.census import module_of
from sw.fpga.pairing import LATER, pair
from sw.fpga.targets import get_target

FOLDER = Path(__file__).resolve().parents[2] / "build"
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


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of the project, with short names: YoWASP's tools see no path in /tmp."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        monkeypatch.chdir(folder)
        yield


def synthesised(sum_of: str) -> dict:
    Path("d.v").write_text(DESIGN.replace("NEXT", sum_of))
    script = f"read_verilog d.v; {get_target('ecp5-85k').script()}; write_json n.json"
    tools.run("yosys", ["-p", script], Path("log"), lambda *_: None, seconds=120)
    return json.loads(Path("n.json").read_text())


def flip_flops(netlist: dict) -> dict[int, str]:
    """Names, by the net that is driven."""
    return {cell["connections"]["Q"][0]: name
            for name, cell in netlist["modules"]["top"]["cells"].items()
            if cell["type"] == "TRELLIS_FF"}


@pytest.mark.parametrize(("sum_of", "renamed"), [("sum + a", True), ("a + {a[0], a[15:1]}", False)])
def test_the_accumulator_comes_first(sum_of: str, renamed: bool) -> None:
    netlist = synthesised(sum_of)
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
