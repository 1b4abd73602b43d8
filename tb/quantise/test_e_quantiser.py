# SPDX-License-Identifier: Apache-2.0
"""The quantiser on E-SpikeFormers: both families against float networks, and the reference."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sw.errors import QuantiseError
from sw.golden.network import evaluate, quantise_images
from sw.model_file import IntegerModel, load_model, save_model
from sw.models.e_large import TokenRepConv
from sw.models.e_spikeformer import ESpikeFormer, ESpikeFormerConfig, load_e_checkpoint
from sw.models.trace import capture_levels, read_levels
from sw.quantise.calibrate import calibrate
from sw.quantise.compare import differences
from sw.quantise.fold import fold_pair
from sw.quantise.quantiser import quantise
from tb.models.test_e_spikeformer import LARGE, SMALL, small_model
from tb.quantise.networks import randomise_norms

SINGLE = replace(LARGE, kd=False)


def _quantised(network: ESpikeFormer, images: torch.Tensor) -> IntegerModel:
    return quantise(network, network.config, calibrate(network, images), time_steps=1, name="small")


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, rounding="even", kd=True, sep_kernel=3),
                                    SINGLE, replace(SINGLE, head_levels=True, kd=True)],
                         ids=["base", "even", "large", "two-heads"])
def test_levels_agree_with_the_float_network(config: ESpikeFormerConfig, tmp_path: Path) -> None:
    network = small_model(config, 3)
    images = torch.randn(2, config.in_channels, 16, 16)
    model = _quantised(network, images)
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").tensors == model.tensors
    logits, trace = capture_levels(network, images[:1])
    if not config.head_levels:
        trace.pop(network.last_neuron)
    found = differences(model, images[0], trace)
    assert {d.neuron for d in found} == set(trace)
    share = sum(d.differing for d in found) / sum(d.neurons for d in found)
    assert 0 < share < 0.03, sorted(found, key=lambda d: -d.share)[:5]
    # the head: fed with the traced levels (of the last residual: with what the stream makes)
    forced = {layer.outputs["levels"]: trace[layer.neuron_name].reshape(
                  model.tensors[layer.outputs["levels"]].shape)
              for layer in model.layers if layer.neuron is not None}
    made = evaluate(model, quantise_images(model, images[0]), override=forced)
    torch.testing.assert_close(made["logits"] * model.logits.scale, logits[0], atol=0.05, rtol=0.05)


def test_the_edges_of_attention_are_exact() -> None:
    """Every sum up to beyond the highest level gives the level of the real neuron."""
    network = small_model(SMALL)
    for ties in ("even", "up"):
        network.config = replace(SMALL, rounding=ties)
        for name, neuron in network.neurons().items():
            neuron.rounding = ties
            assert neuron.max_level == 4, name
        model = _quantised(network, torch.randn(2, 2, 16, 16))
        for layer in model.layers:
            if layer.kind != "attention":
                continue
            scale = network.get_submodule(layer.name).scale / 4 ** 3
            sums = torch.arange(int(5 / scale) + 2)
            neuron = network.get_submodule(layer.neuron_name)
            expected = neuron.levels(sums.double() * scale)
            above = sums * 256 - int(layer.threshold[0])
            odd = int(ties == "even")
            found = sum((above >= level * int(layer.step[0]) + odd * (level % 2)).long()
                        for level in range(1, 5))
            assert torch.equal(found, expected.long())


def test_pairs_of_pointwise_convolutions_fold() -> None:
    torch.manual_seed(0)
    pair, norm = TokenRepConv(6, 9).double().eval(), nn.BatchNorm1d(6).double().eval()
    randomise_norms(nn.Sequential(pair, norm))
    x = torch.randn(2, 6, 11, dtype=torch.float64)
    folded = fold_pair(pair, norm)
    found = folded.weight[:, :, 0, 0] @ x + folded.bias[:, None]
    torch.testing.assert_close(found, norm(pair(x)).detach(), rtol=0, atol=1e-12)


def test_heads_with_different_inputs_are_refused() -> None:
    network = small_model(LARGE)
    with pytest.raises(QuantiseError, match="two heads with different inputs"):
        _quantised(network, torch.randn(2, 2, 16, 16))


def test_integer_levels_are_the_reference_levels(shared: Path) -> None:
    folder = shared / "reference" / "v3_tiny_64"
    config, network = load_e_checkpoint(folder / "state_dict.pt")
    images = torch.load(folder / "io.pt", weights_only=True)["input"]
    model = quantise(network, config, calibrate(network, images), time_steps=1, name="tiny")
    trace = read_levels(folder / "trace_T1.npz")
    found = differences(model, images[0], trace)
    assert {d.neuron for d in found} == set(trace)
    worst = sorted(found, key=lambda d: -d.share)
    for d in worst[:8]:
        print(f"{d.neuron}: {d.differing} of {d.neurons} ({100 * d.share:.2f} %)")
    beyond = [d for d in found if d.differing > max(8, 0.02 * d.neurons)]
    assert not beyond, beyond
    assert sum(d.differing for d in found) < 0.005 * sum(d.neurons for d in found)
