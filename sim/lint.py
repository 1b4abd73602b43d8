# SPDX-License-Identifier: Apache-2.0
"""Verilator's lint of exported Verilog, with the waivers of lint.vlt.

    python -m sim.lint tiny small      # these presets and their cores; none named: all
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hw.presets import PRESETS, get_preset
from sim import build

__all__ = ["WAIVERS", "lint", "main"]

WAIVERS = Path(__file__).with_name("lint.vlt")


def lint(files: Iterable[Path], waivers: Path | None = WAIVERS, top: str | None = None) -> str:
    """Return what ``verilator --lint-only -Wall`` says of the files: nothing, if all is well."""
    command = ["verilator", "--lint-only", "--quiet", "-Wall", *([waivers] if waivers else []),
               *(["--top-module", top] if top else []), *files]
    done = subprocess.run(command, env=build.environment(), capture_output=True, text=True,
                          check=False)
    return done.stdout + done.stderr


def main(names: list[str]) -> int:
    """Lint presets, their cores and the templates; return 1 if there is a warning."""
    from sw.export import CORES, export_verilog

    failed = False
    for name in names or PRESETS:
        preset = get_preset(name)
        for core in (None, *CORES):
            with tempfile.TemporaryDirectory() as folder:
                verilog, template, *_ = export_verilog(preset, Path(folder), core)
                said = lint([template, verilog], top=template.stem)
            print(f"{name} {verilog.stem}: {said or 'clean'}")
            failed |= bool(said)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
