# SPDX-License-Identifier: Apache-2.0
"""What `make ulx3s` synthesises: sources, pins and description of the SoC. Nothing is placed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hw.presets import get_preset
from hw.regmap import identity
from sw.soc_map import read_soc_map

ROOT = Path(__file__).resolve().parent.parent.parent


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.litex.ulx3s", *map(str, arguments)], cwd=ROOT,
        capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("litex") is None,
                    reason="LiteX is not installed (`make litex`)")
def test_sources(tmp_path: Path) -> None:
    done = build("--no-place", "--output", tmp_path, "--mhz", 40, "--baud", 115200)
    assert done.returncode == 0, done.stderr[-4000:]
    soc = read_soc_map(tmp_path / "soc.json")
    assert (soc.preset, soc.identity) == ("tiny", identity(get_preset("tiny")))
    assert (soc.clock_hz, soc.baud, soc.memory_bytes) == (40e6, 115200, 32 << 20)
    assert len(soc.start_up) > 20 and max(cycles for *_, cycles in soc.start_up) == 20000
    text = (tmp_path / "ulx3s.v").read_text()
    assert "addend addend" in text and "EHXPLLL" in text
    placed = set(re.findall(r'LOCATE COMP "(\w+)', (tmp_path / "ulx3s.lpf").read_text()))
    declared = set(re.findall(r"^ +(?:input|output|inout) +(?:wire|reg) +(?:\[\d+:0\])? *(\w+)",
                              text.partition(");")[0], re.MULTILINE))
    assert declared == placed and {"clk25", "serial_rx", "sdram_dq", "user_led0"} <= placed
    assert build("--preset", "huge").returncode == 2
