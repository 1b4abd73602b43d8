# SPDX-License-Identifier: Apache-2.0
"""A folder that YoWASP's tools see."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "build"


@pytest.fixture
def short_paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of the project, with short names: YoWASP's tools see no path in /tmp."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        monkeypatch.chdir(folder)
        yield
