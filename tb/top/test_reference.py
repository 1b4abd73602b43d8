# SPDX-License-Identifier: Apache-2.0
"""The official tiny networks on the RTL: the same integers on every preset, stalls or not."""

from pathlib import Path

import pytest
import torch

from hw.presets import get_preset
from sw.golden.network import quantise_images
from sw.model_file import IntegerModel
from sw.run import quantise_checkpoint
from tb.top.rtl import differing_tensors


@pytest.fixture(scope="module", params=[1, 4], ids=["T1", "T4"])
def reference(request: pytest.FixtureRequest, shared: Path) -> tuple[IntegerModel, torch.Tensor]:
    """The quantised network and its one image, in integers."""
    folder = shared / "reference" / "v2_tiny_64"
    model = quantise_checkpoint(folder / "state_dict.pt", folder / "io.pt",
                                time_steps=request.param)
    images = torch.load(folder / "io.pt", weights_only=True)["input"]
    return model, quantise_images(model, images)[0]


@pytest.mark.parametrize("stall", [0, 64], ids=["smooth", "stalls"])
@pytest.mark.parametrize("preset", [
    "tiny", "small", pytest.param("ecp5", marks=pytest.mark.slow),
    pytest.param("large", marks=pytest.mark.slow)])
def test_reference_on_rtl(reference: tuple[IntegerModel, torch.Tensor], preset: str,
                          stall: int) -> None:
    model, image = reference
    wrong, counters = differing_tensors(model, get_preset(preset), [image], stall=stall, seed=3)
    assert wrong == []
    assert counters[0].cycles > 100_000


@pytest.fixture(scope="module")
def e_reference(shared: Path) -> tuple[IntegerModel, torch.Tensor]:
    """The quantised E-SpikeFormer and its image, in integers."""
    folder = shared / "reference" / "v3_tiny_64"
    model = quantise_checkpoint(folder / "state_dict.pt", folder / "io.pt")
    images = torch.load(folder / "io.pt", weights_only=True)["input"]
    return model, quantise_images(model, images)[0]


@pytest.mark.parametrize("level_mode", ["planes", "steps"])
@pytest.mark.parametrize("preset", [
    "tiny", "small", pytest.param("ecp5", marks=pytest.mark.slow),
    pytest.param("large", marks=pytest.mark.slow)])
def test_e_reference_on_rtl(e_reference: tuple[IntegerModel, torch.Tensor], preset: str,
                            level_mode: str) -> None:
    """Binary planes and virtual time steps give the same levels; the latter take longer."""
    model, image = e_reference
    wrong, counters = differing_tensors(model, get_preset(preset), [image], stall=40, seed=4,
                                        level_mode=level_mode)
    assert wrong == []
    assert counters[0].cycles > 100_000
