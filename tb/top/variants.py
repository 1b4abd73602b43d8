# SPDX-License-Identifier: Apache-2.0
"""Other Verilog of the same accelerator, for the Verilated model: see sim.build.build."""

import dataclasses
import re

from hw.generate import TOP, convert, generate
from hw.presets import Preset, get_preset
from hw.top import Accelerator
from tb.yosys import yosys

__all__ = ["generate_bare", "generate_netlist", "generate_planted", "generate_wide", "wide"]

_INITIAL = re.compile(
    r"^(  reg (?:\[\d+:0\] )?(?!\\\$auto)\S+ +)= \d+'[hd][0-9a-f]+;$", re.MULTILINE)


def generate_bare(preset_name: str) -> str:
    """Return the Verilog without initial values: only a reset gives registers a value."""
    text, count = _INITIAL.subn(r"\1;", generate(preset_name))
    assert count > 500
    return text


def generate_planted(preset_name: str) -> str:
    """Return the same, but no reset reaches the state of the run control."""
    text = generate_bare(preset_name)
    start = text.index("module \\addend.control.run (")
    body = text[start:text.index("endmodule", start)]
    following = re.search(r"^    fsm_state <= (\S+) ;", body, re.MULTILINE)[1]
    planted, count = re.subn(
        rf"    if \(rst\) begin\n      {re.escape(following)}\s+= 3'h0;\n    end\n", "", body)
    assert count == 1
    return text.replace(body, planted)


def wide(preset_name: str) -> Preset:
    """Return a preset as it is for LUTs of six inputs."""
    return dataclasses.replace(get_preset(preset_name), lut_inputs=6)


def generate_wide(preset_name: str) -> str:
    """Return its Verilog."""
    return convert(TOP, Accelerator(wide(preset_name)))


def generate_netlist(preset_name: str) -> str:
    """Return the netlist that Yosys makes of it: gates and registers; memories stay memories."""
    said, text = yosys(generate(preset_name), (
        f"read_verilog in.v; synth -flatten -noabc -run begin:fine -top {TOP}; "
        "opt -fast -full; techmap; opt -fast; abc; opt_clean -purge; "
        "write_verilog -noattr out.v"))
    assert text is not None, said
    return text
