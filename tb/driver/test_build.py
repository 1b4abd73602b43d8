# SPDX-License-Identifier: Apache-2.0
"""The cache of Verilog holds what the sources of its name make."""

import shutil
from pathlib import Path

import pytest

from sim import build


def test_edits_of_a_running_process_are_not_taken_for_its_hardware(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Verilog is of the modules that it imported, and so is its name."""
    made = build.verilog("tiny")
    shutil.copytree(build.ROOT / "sim", tmp_path / "sim", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copytree(build.ROOT / "hw", tmp_path / "hw", ignore=shutil.ignore_patterns("*.pyc"))
    (tmp_path / "hw" / "top.py").write_text("edited\n")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "_say", lambda text: pytest.fail(f"made again: {text}"))
    assert build.verilog("tiny") == made
