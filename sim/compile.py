# SPDX-License-Identifier: Apache-2.0
"""Runs Verilator and the C++ compiler on one Verilog file. A program, started by sim.build.

    python -m sim.compile FOLDER AXI_BYTES TRACE_DEPTH UNKNOWN CFLAGS

FOLDER holds addend.v; the shared object Vaddend appears in FOLDER/obj. pyverilator always compiles
tracing in; TRACE_DEPTH levels of the hierarchy keep their signals for it (0: all), and the fewer
the faster the model. What has no value before it is written (and x) is 0 with UNKNOWN ``fast``, and
chosen by the harness's seed with ``unique``.
"""

import sys
from pathlib import Path

import pyverilator

from sim import coverage

HARNESS = Path(__file__).with_name("harness.cpp")


def main(folder: str, axi_bytes: str, trace_depth: str, unknown: str, cflags: str) -> None:
    """Compile FOLDER/addend.v with the harness."""
    pyverilator.PyVerilator.build(
        f"{folder}/addend.v", build_dir=f"{folder}/obj", quiet=True,
        cargs=f"-std=gnu++17 -march=native -DVL_USER_STOP -DAXI_BYTES={axi_bytes} {cflags}",
        args=[*(coverage.FLAGS if "-DCOVERAGE" in cflags else ()),
              "-O3", "--x-assign", unknown, "--x-initial", unknown, "--assert",
              "--output-split", "20000",
              "--trace-depth", trace_depth, "-Wno-lint", "-Wno-style", "--top-module", "addend",
              str(HARNESS)])


if __name__ == "__main__":
    main(*sys.argv[1:])
