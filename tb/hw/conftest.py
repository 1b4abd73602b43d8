# SPDX-License-Identifier: Apache-2.0
"""Exported Verilog, made once for all tests."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from hw.presets import get_preset
from sw.export import export_verilog

Export = Callable[[str, str | None], list[Path]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """A function that exports a preset's accelerator or core; returns Verilog and template."""
    @functools.cache
    def make(preset: str, core: str | None) -> list[Path]:
        folder = tmp_path_factory.mktemp(f"{preset}-{core}")
        return export_verilog(get_preset(preset), folder, core)[:2]

    return make
