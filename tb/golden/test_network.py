# SPDX-License-Identifier: Apache-2.0
"""Whole networks: the fast twins equal the plain functions, batches equal single images."""

from dataclasses import replace

import pytest
import torch

from sw.errors import ModelFileError, OverflowBoundError
from sw.golden.network import evaluate, quantise_images
from sw.golden.useful import useful_additions, useful_outside_lanes
from tb.golden.random_model import random_image, random_model


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("time_steps", "event"), [(1, False), (4, False), (3, True)])
def test_fast_equals_plain(seed: int, time_steps: int, event: bool) -> None:
    model = random_model(seed, time_steps=time_steps, event=event, channels=4 + 4 * (seed % 2))
    image = random_image(model, seed)
    plain = evaluate(model, image, fast=False)
    fast = evaluate(model, image)
    assert plain.keys() == fast.keys() == model.tensors.keys() | {"logits", "predictions"}
    for name, value in plain.items():
        assert value.dtype == fast[name].dtype
        assert torch.equal(value, fast[name]), name
        if name in model.tensors:
            assert tuple(value.shape) == model.tensors[name].shape, name
    rates = [float(v.float().mean()) for n, v in plain.items() if n.endswith(".spikes")]
    assert sum(0.02 < rate < 0.98 for rate in rates) > len(rates) // 2, rates    # not trivial


def test_a_batch_equals_its_images_and_keep_false_its_logits() -> None:
    model = random_model(1, time_steps=4)
    images = torch.stack([random_image(model, seed) for seed in range(3)])
    batch = evaluate(model, images)
    assert torch.equal(evaluate(model, images, keep=False)["predictions"], batch["predictions"])
    for index, image in enumerate(images):
        for name, value in evaluate(model, image).items():
            assert torch.equal(value, batch[name][index]), name


def test_override_is_read_but_not_reported() -> None:
    model = random_model(2)
    image = random_image(model)
    free = evaluate(model, image)
    name = "sep.pw1.spikes"
    forced = evaluate(model, image, override={name: 1 - free[name]})
    assert torch.equal(forced[name], free[name])
    assert not torch.equal(forced["sep.dw.integer"], free["sep.dw.integer"])
    same = evaluate(model, image, override={n: v for n, v in free.items() if n in model.tensors})
    assert all(torch.equal(same[n], free[n]) for n in free)


@pytest.mark.parametrize(("override", "message"), [
    ({"nowhere.spikes": torch.zeros(1)}, "no tensor 'nowhere.spikes'"),
    ({"stem.spikes": torch.zeros(1, 2, 2, 2)}, r"given as \[1, 2, 2, 2\]"),
    ({"stem.spikes": torch.full((1, 8, 4, 5), 2)}, "must hold 0 to 1, not 2 to 2"),
])
def test_bad_overrides_are_refused(override: dict, message: str) -> None:
    model = random_model(0)
    with pytest.raises(ModelFileError, match=message):
        evaluate(model, random_image(model), override=override)


@pytest.mark.parametrize("fast", [True, False])
def test_residual_overflow_names_the_layer(fast: bool) -> None:
    model = random_model(0)
    layers = tuple(replace(layer, shift=torch.full_like(layer.shift, -8))
                   if layer.name == "down" else layer for layer in model.layers)
    with pytest.raises(OverflowBoundError, match="'down': the residual stream .* 16 bits"):
        evaluate(replace(model, layers=layers), random_image(model), fast=fast)


def test_images_round_half_to_even_and_clamp() -> None:
    model = random_model(0, in_channels=1, size=1)
    images = torch.tensor([0.5, 1.5, -0.5, -200.0, 200.0, 0.0]) / 64
    images = images.reshape(6, 1, 1, 1).expand(6, 1, 1, 3)
    assert quantise_images(model, images)[:, 0, 0, 0, 0].tolist() == [0, 2, 0, -127, 127, 0]


def test_useful_additions_equal_a_count_by_hand() -> None:
    """Count every contribution one by one, from the definition."""
    model = random_model(3, time_steps=2)
    tensors = evaluate(model, random_image(model))
    useful = useful_additions(model, tensors)
    for name in ("stem", "sep.dw", "sep.pw2", "down"):
        layer = model.layer(name)
        x = tensors[layer.inputs[0]]
        count = 0
        for t, c, y, left in torch.nonzero(x).tolist():
            value, digits = abs(int(x[t, c, y, left])), 0
            while value:                                # digits of the non-adjacent form
                if value & 1:
                    digits += 1
                    value -= 2 - (value & 3)
                value >>= 1
            seen = 0
            for oy in range(layer.out_size[0]):
                for ox in range(layer.out_size[1]):
                    ky = y + layer.padding - oy * layer.stride
                    kx = left + layer.padding - ox * layer.stride
                    seen += 0 <= ky < layer.kernel[0] and 0 <= kx < layer.kernel[1]
            count += digits * seen * (1 if layer.kind == "depthwise" else layer.out_channels)
        assert useful[name] == count, name
    q, k, v = (tensors[f"block.attn.{p}_conv.spikes"] for p in "qkv")
    depth = 8
    pairs = sum(int(k[t, i, y, x]) * int(v[t, j, y, x]) for t in range(2) for i in range(16)
                for j in range(16) if i // depth == j // depth
                for y in range(q.shape[2]) for x in range(q.shape[3]))
    assert useful["block.attn"] == pairs + int(q.sum()) * depth
    assert useful["head"] == int(tensors["pool.spikes"].sum()) * 5
    assert useful["pool"] == int((tensors["block.mlp.fc2.residual"] != 0).sum())
    outside = {layer.name: useful_outside_lanes(layer, [tensors[name] for name in layer.inputs])
               for layer in model.layers}
    assert {name: count for name, count in outside.items() if count} == {
        "block.attn": pairs, "pool": useful["pool"]}
