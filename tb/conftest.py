# SPDX-License-Identifier: Apache-2.0
"""What every test shares."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """PyTorch's threads cost more than they give at the sizes of tests."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that is no part of the repository; skips where it is absent."""
    folder = Path(os.environ.get("ADDEND_SHARED", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip("the reference data is absent (ADDEND_SHARED)")
    return folder
