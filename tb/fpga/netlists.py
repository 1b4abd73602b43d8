# SPDX-License-Identifier: Apache-2.0
"""Netlists that the flow has yosys make of some Verilog, and whether two are equal."""

import json
from pathlib import Path

from sw.fpga import tools
from sw.fpga.targets import get_target

__all__ = ["equal", "synthesised"]


def synthesised(verilog: str, target: str = "ecp5-85k") -> dict:
    """Return the netlist of module ``top``. Works in the current folder: fixture short_paths."""
    Path("d.v").write_text(verilog)
    script = f"read_verilog d.v; {get_target(target).script()}; write_json n.json"
    tools.run("yosys", ["-p", script], Path("log"), lambda *_: None, seconds=120)
    return json.loads(Path("n.json").read_text())


def equal(before: dict, after: dict) -> bool:
    """Whether a SAT solver finds no inputs for which the two differ."""
    for name, netlist in (("before", before), ("after", after)):
        Path(f"{name}.json").write_text(json.dumps(
            {**netlist, "modules": {name: netlist["modules"]["top"]}}))
    script = "; ".join([
        "read_json before.json; read_json after.json; read_verilog +/ecp5/common_sim.vh",
        "read_verilog +/ecp5/ccu2c_sim.vh", "miter -equiv -make_outputs before after m",
        "hierarchy -top m", "proc", "flatten", "opt_clean",
        "tee -o said sat -verify -prove trigger 0 m"])
    try:
        tools.run("yosys", ["-p", script], Path("log"), lambda *_: None, seconds=120)
    except tools.SynthesisError:
        assert "SAT proof finished - model found: FAIL!" in Path("said").read_text()
        return False
    return "SAT proof finished - no model found: SUCCESS!" in Path("said").read_text()
