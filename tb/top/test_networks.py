# SPDX-License-Identifier: Apache-2.0
"""Networks of every kind that the papers name, small, from float to the RTL, bit for bit."""

from dataclasses import replace

import pytest
import torch

from hw.presets import get_preset
from sim.build import QUICK
from sw.features import feature_maps
from sw.golden.network import evaluate, quantise_images
from sw.images import Images
from sw.model_file import IntegerModel
from sw.models.e_spikeformer import ESpikeFormer
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.quantise.calibrate import calibrate
from sw.quantise.quantiser import quantise
from sw.run import run
from tb.models.test_e_spikeformer import LARGE, SMALL, small_model
from tb.quantise.networks import small_network
from tb.random_model import random_image, random_model
from tb.top.rtl import differing_tensors

TINY = get_preset("tiny")


def _quantised(network: MetaSpikeFormer | ESpikeFormer, images: torch.Tensor,
               **options: object) -> tuple[IntegerModel, list[torch.Tensor]]:
    steps = getattr(network, "time_steps", 1)
    model = quantise(network, network.config, calibrate(network, images), time_steps=steps,
                     name="network", **options)
    return model, list(quantise_images(model, images))


def test_double_heads() -> None:
    """`kd`: the average of two heads."""
    network = small_network(4, kd=True, time_steps=4)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        network.head.bias.fill_(10)
        network.head_kd.bias.fill_(-4)
    model, integers = _quantised(network, images)
    logits = evaluate(model, integers[0])["logits"] * model.logits.scale
    assert 2 < float(logits.mean()) < 4     # the heads' biases average to 3
    wrong, _ = differing_tensors(model, TINY, integers, stall=40)
    assert wrong == []


@pytest.mark.parametrize("head_levels", [False, True], ids=["real-head", "two-heads"])
@pytest.mark.parametrize("level_mode", ["planes", "steps"])
def test_large_family_with_eight_levels(head_levels: bool, level_mode: str) -> None:
    """RepConv of pairs, layer scale, halves up; the head on real values, or two on levels."""
    network = small_model(replace(LARGE, kd=head_levels, head_levels=head_levels))
    images = torch.randn(2, 2, 16, 16)
    model, integers = _quantised(network, images)
    assert {layer.levels for layer in model.layers if layer.neuron} == {8}
    tensors = evaluate(model, integers[0])
    assert max(int(value.max()) for name, value in tensors.items() if name.endswith("levels")) == 8
    wrong, _ = differing_tensors(model, TINY, integers, stall=40, level_mode=level_mode)
    assert wrong == []


@pytest.mark.parametrize("family", ["meta", "e"])
def test_features_of_all_stages(family: str) -> None:
    """Each stage's map as residuals and as spikes (levels), as the accelerator wrote them."""
    if family == "meta":
        network = small_network(3, time_steps=2)
        images = torch.randn(2, 3, 32, 32)
    else:
        network, images = small_model(SMALL), torch.randn(2, 2, 16, 16)
    model, integers = _quantised(network, images, features=True)
    report = run(model, Images(["a", "b"], images), TINY, jobs=1, effort=QUICK)
    assert report.bit_exact
    stages = [stage for stage, blocks in network.named_children()
              if stage.startswith(("ConvBlock", "block")) and len(blocks)]
    for number, image in enumerate(report.images):
        made = feature_maps(model, image.features)
        golden = feature_maps(model, evaluate(model, integers[number]))
        assert list(made) == stages
        for stage, roles in made.items():
            assert len(roles) == 2 and "residual" in roles
            for role, value in roles.items():
                assert torch.equal(value, golden[stage][role]) and bool(value.any()), stage
    # the first stage's residuals are the float network's, but for rounding
    found = []
    getattr(network, stages[0])[-1].register_forward_hook(
        lambda module, args, output: found.append(output))
    with torch.no_grad():
        network(images[-1:])
    real = found[0].reshape(made[stages[0]]["residual"].shape)
    error = (made[stages[0]]["residual"] - real).abs().mean() / real.abs().mean()
    print(f"residuals of {stages[0]}: mean error {float(error):.4f}")
    assert float(error) < 0.1


@pytest.mark.parametrize(("fields", "preset", "batch"), [
    ({"blocks": ("mlp",), "channels": 160, "size": (5, 6), "time_steps": 1}, "small", 4),
    ({"blocks": ("channel", "attention", "mlp"), "channels": 90, "heads": 3, "size": (6, 5)},
     "tiny", 2),
    ({"levels": 4, "time_steps": 1, "blocks": ("sep", "attention"), "value_ratio": 4, "heads": 2,
      "channels": 12}, "small", 3)])
def test_batches_that_share_weights(fields: dict[str, object], preset: str, batch: int) -> None:
    """Two batches; the partial sums of a batch's images take turns, chunk by chunk."""
    model = random_model(2, **fields)
    images = [random_image(model, number) for number in range(2 * batch)]
    wrong, counters = differing_tensors(model, get_preset(preset), images, batch=batch, stall=32)
    assert not wrong and len(counters) == 2
