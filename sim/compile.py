# SPDX-License-Identifier: Apache-2.0
"""Runs Verilator and the C++ compiler on one Verilog file. A program, started by sim.build.

    python -m sim.compile FOLDER AXI_BYTES FLAGS

FOLDER holds addend.v; the shared object Vaddend appears in FOLDER/obj.
"""

import sys
from pathlib import Path

import pyverilator

HARNESS = Path(__file__).with_name("harness.cpp")


def main(folder: str, axi_bytes: str, flags: str) -> None:
    """Compile FOLDER/addend.v with the harness."""
    pyverilator.PyVerilator.build(
        f"{folder}/addend.v", build_dir=f"{folder}/obj", quiet=True,
        cargs=f"-std=gnu++17 {flags} -DAXI_BYTES={axi_bytes}",
        args=["-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert",
              "--output-split", "20000", "-Wno-lint", "-Wno-style", "--top-module", "addend",
              str(HARNESS)])


if __name__ == "__main__":
    main(*sys.argv[1:])
