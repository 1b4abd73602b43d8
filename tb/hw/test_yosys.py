# SPDX-License-Identifier: Apache-2.0
"""Yosys finds no latch, no combinational loop and no second driver in the exported Verilog."""

import pytest

from hw.presets import PRESETS
from tb.hw.conftest import Export
from tb.yosys import yosys

CHECK = ("read_verilog in.v; hierarchy -check -top {top}; proc; "
         "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr %u %u %u; "
         "flatten; check -assert")


@pytest.mark.parametrize("core", [None, "lif", "conv", "sdsa"])
@pytest.mark.parametrize("preset", [
    pytest.param(name, marks=() if name == "tiny" else pytest.mark.slow) for name in PRESETS])
def test_no_latch_loop_or_second_driver(exported: Export, preset: str, core: str | None) -> None:
    verilog = exported(preset, core)[0]
    said, _ = yosys(verilog.read_text(), CHECK.format(top=verilog.stem))
    assert said == ""


@pytest.mark.parametrize(("body", "message"), [
    ("reg o; always @* if (a) o = b;", "selection is not empty"),
    ("wire c, d; assign c = a & d; assign d = c | b; assign o = d;", "logic loop"),
    ("wire c; inner x(.i(o), .o(c)); assign o = c & a;", "logic loop"),
    ("assign o = a; inner x(.i(b), .o(o));", "multiple conflicting drivers"),
])
def test_each_fault_is_found(body: str, message: str) -> None:
    output = "output o" if "reg o" not in body else "output reg o"
    text = (f"module broken(input a, input b, {output}); {body.replace('reg o;', '')} endmodule\n"
            "module inner(input i, output o); assign o = ~i; endmodule\n")
    said, _ = yosys(text, CHECK.format(top="broken"))
    assert message in said
