# SPDX-License-Identifier: Apache-2.0
"""What the flow has yosys make of some Verilog."""

import json
from pathlib import Path

from sw.fpga import tools
from sw.fpga.targets import get_target

__all__ = ["synthesised"]


def synthesised(verilog: str, target: str = "ecp5-85k") -> dict:
    """Return the netlist of module ``top``. Works in the current folder: fixture short_paths."""
    Path("d.v").write_text(verilog)
    script = f"read_verilog d.v; {get_target(target).script()}; write_json n.json"
    tools.run("yosys", ["-p", script], Path("log"), lambda *_: None, seconds=120)
    return json.loads(Path("n.json").read_text())
