# SPDX-License-Identifier: Apache-2.0
"""Set bits of maps, and their means in a model file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hw.presets import get_preset
from sw.compile.compiler import compile_model
from sw.compile.layout import ImageLayout, MapLayout
from sw.errors import ModelFileError
from sw.golden.activity import set_bits, with_activity
from sw.golden.network import evaluate
from sw.model_file import load_model, save_model
from tb.random_model import random_image, random_model


@pytest.mark.parametrize(("levels", "mode"), [(None, "planes"), (4, "planes"), (4, "steps")])
def test_they_are_those_of_the_maps_in_memory(levels: int | None, mode: str) -> None:
    model = random_model(3, levels=levels, time_steps=1 if levels else 2)
    values = evaluate(model, random_image(model, 5))
    values[model.input.tensor] = random_image(model, 5)
    found = set_bits(model, values, ones=mode == "steps")
    program = compile_model(model, get_preset("tiny"), level_mode=mode)
    for name, layout in program.tensors.items():
        if isinstance(layout, MapLayout) and not isinstance(layout, ImageLayout):
            assert found.pop(name) == np.unpackbits(layout.encode(values[name].numpy())).sum()
    assert set(found) == {model.input.tensor}


def test_the_file_keeps_the_means(tmp_path: Path) -> None:
    model = random_model(3)
    images = torch.stack([random_image(model, seed) for seed in (5, 6)])
    both = with_activity(model, images)
    each = [with_activity(model, image.unsqueeze(0)).activity for image in images]
    for name, bits in both.activity.items():
        assert bits == pytest.approx((each[0][name] + each[1][name]) / 2)
    save_model(both, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").activity == both.activity


@pytest.mark.parametrize(("activity", "message"), [
    ({"ghost": 0.1}, "activity.ghost is not a map of the model"),
    ({"stem.residual": 0.1}, "activity.stem.residual is not a map of the model"),
    ({"stem.spikes": 1.5}, "activity.stem.spikes is 1.5, must be 0 to 1, the tensor's bits"),
    ({"stem.spikes": float("nan")}, "activity.stem.spikes is nan, must be 0 to 1"),
])
def test_impossible_means_are_refused(tmp_path: Path, activity: dict[str, float],
                                      message: str) -> None:
    model = random_model(3)
    model = replace(model, activity=activity)
    with pytest.raises(ModelFileError, match=message):
        save_model(model, tmp_path / "model.safetensors")
