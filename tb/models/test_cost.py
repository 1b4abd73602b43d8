# SPDX-License-Identifier: Apache-2.0
"""Additions of float networks against counts by hand and against loops over every spike."""

import dataclasses

import pytest
import torch

from sw.golden.numbers import naf_count
from sw.models.e_spikeformer import MultiSpike
from sw.models.lif import Lif
from sw.train.cost import RatePenalty, additions, bits, neuron_layers, prices
from sw.train.recipe import PLANS
from sw.train.trainer import build

torch.set_num_threads(1)
V3 = dataclasses.replace(PLANS["cifar10_v3"].network, stem_channels=4, embed_dims=(4, 6, 8),
                         depths=(1, 0, 1, 0, 1), num_heads=2)
V2 = dataclasses.replace(PLANS["cifar10_v2"].network, stem_channels=4, embed_dims=(4, 6, 8, 8),
                         depths=(1, 0, 0, 0, 1, 0), num_heads=2, time_steps=2)


def lively(config):
    """Random network whose neurons fire."""
    torch.manual_seed(1)
    model = build(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.bias, 0, 2)
            torch.nn.init.uniform_(module.running_var, 0.1, 0.3)
    return model.eval()


def outputs(model, x) -> dict[str, torch.Tensor]:
    """Output of every neuron layer."""
    found = {}
    handles = [neuron.register_forward_hook(
        lambda module, args, out, name=name: found.__setitem__(name, out))
        for name, neuron in neuron_layers(model).items()]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def by_loops(maps: torch.Tensor, outs: int, kernel: int, stride: int, padding: int) -> int:
    """Each set bit at each place times the output places that see it, one by one."""
    size, total = maps.shape[-1], 0
    places = (size + 2 * padding - kernel) // stride + 1
    for y in range(size):
        for x in range(size):
            seen = sum(0 <= y + padding - stride * row < kernel
                       and 0 <= x + padding - stride * column < kernel
                       for row in range(places) for column in range(places))
            total += int(maps[..., y, x].sum()) * seen
    return total * outs


def test_bits_of_levels():
    out = torch.tensor([0, 1, 2, 3, 4]) / 4
    assert bits(MultiSpike(), out).tolist() == [0, 1, 1, 2, 1]
    assert bits(MultiSpike(norm=1), out * 4).tolist() == [0, 1, 1, 2, 1]
    assert bits(MultiSpike(8), torch.arange(9) / 8).tolist() == [bin(k).count("1")
                                                                 for k in range(9)]
    assert bits(Lif(), torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_every_layer_of_a_levelled_network():
    model, x = lively(V3), torch.randn(3, 3, 8, 8)
    out = outputs(model, x)
    digits = {name: bits(neuron, out[name]) for name, neuron in neuron_layers(model).items()}
    found = additions(model, x, batch=2)
    expected = {"downsample1_1.encode_conv": by_loops(naf_count(torch.round(x * 32)), 4, 3, 1, 1)}

    def conv(layer: str, neuron: str, outs: int, kernel: int, stride: int = 1) -> None:
        expected[layer] = by_loops(digits[neuron], outs, kernel, stride, kernel // 2)

    for block, width in (("ConvBlock1_1.0", 4), ("ConvBlock2_1.0", 6)):
        conv(f"{block}.Conv.pwconv1.0", f"{block}.Conv.spike1", 2 * width, 1)
        conv(f"{block}.Conv.dwconv.0", f"{block}.Conv.spike2", 1, 7)
        conv(f"{block}.Conv.pwconv2.0", f"{block}.Conv.spike3", width, 1)
        conv(f"{block}.conv1", f"{block}.spike1", 2 * width, 3)
        conv(f"{block}.conv2", f"{block}.spike2", width, 3)
    conv("downsample1_2.encode_conv", "downsample1_2.encode_spike", 4, 3, 2)
    conv("downsample2.encode_conv", "downsample2.encode_spike", 6, 3, 2)
    conv("downsample3.encode_conv", "downsample3.encode_spike", 8, 3)
    conv("block3.0.conv.pwconv1.0", "block3.0.conv.spike1", 16, 1)
    conv("block3.0.conv.dwconv.0", "block3.0.conv.spike2", 1, 3)
    conv("block3.0.conv.pwconv2.0", "block3.0.conv.spike3", 8, 1)
    for letter, outs in (("q", 8), ("k", 8), ("v", 32)):
        conv(f"block3.0.attn.{letter}_conv.0", "block3.0.attn.head_spike", outs, 1)
    total = {"block3.0.attn.proj_conv.0": ("attn.attn_spike", 8),
             "block3.0.mlp.fc1_conv": ("mlp.fc1_spike", 32),
             "block3.0.mlp.fc2_conv": ("mlp.fc2_spike", 8)}
    for layer, (neuron, outs) in total.items():
        expected[layer] = int(digits[f"block3.0.{neuron}"].sum()) * outs
    expected["head"] = int(digits["spike"].sum()) * 10
    q, k, v = (digits[f"block3.0.attn.{letter}_spike"].flatten(2) for letter in "qkv")
    pairs = sum(int(k[image, 4 * head:4 * head + 4, token].sum()
                    * v[image, 16 * head:16 * head + 16, token].sum())
                for image in range(3) for head in range(2) for token in range(4))
    expected["block3.0.attn.sdsa"] = pairs + int(q.sum()) * 16
    expected["pool"] = 3 * 8 * 4
    assert found.keys() == expected.keys()
    assert found == pytest.approx({key: value / 3 for key, value in expected.items()})


def test_binary_network():
    model, x = lively(V2), torch.randn(2, 3, 8, 8)
    out, found = outputs(model, x), additions(model, x)
    assert all(spikes.shape[0] == 2 for spikes in out.values())

    def conv(neuron: str, outs: int, kernel: int, stride: int = 1) -> float:
        return by_loops(out[neuron], outs, kernel, stride, kernel // 2) / 2

    assert found["ConvBlock1_1.0.conv1"] == conv("ConvBlock1_1.0.lif1", 8, 3)
    assert found["downsample2.encode_conv"] == conv("downsample2.encode_lif", 6, 3, 2)
    folded = conv("block3.0.attn.head_lif", 8, 3)
    unfolded = (conv("block3.0.attn.head_lif", 8, 1)
                + 2 * 4 * (9 * 8 + 8 * 8) * 8 / 3)
    assert found["block3.0.attn.q_conv.0"] == pytest.approx(min(folded, unfolded))
    spikes = {letter: out[f"block3.0.attn.{letter}_lif"].flatten(3) for letter in "qkv"}
    pairs = sum(float(spikes["k"][step, image, 4 * head:4 * head + 4, token].sum()
                      * spikes["v"][step, image, 4 * head:4 * head + 4, token].sum())
                for step in range(2) for image in range(2) for head in range(2)
                for token in range(4))
    assert found["block3.0.attn.sdsa"] == (pairs + float(spikes["q"].sum()) * 4) / 2
    assert "block3.0.attn.q_conv.0.body.0" not in found


@pytest.mark.parametrize("config", [V2, V3])
def test_prices_times_bits_are_about_the_additions(config):
    model, x = lively(config), torch.randn(2, 3, 16, 16)
    price, out, found = prices(model, x), outputs(model, x), additions(model, x)
    exact = sum(value for name, value in found.items()
                if not name.startswith(("downsample1_1", "pool")) and "pwconv2" not in name)
    own = {name: neuron for name, neuron in neuron_layers(model).items() if "spike3" not in name}
    estimate = sum(float(bits(neuron, out[name]).sum()) * price[name] / 2
                   for name, neuron in own.items())
    assert estimate == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("config", [V2, V3])
def test_penalty_changes_gradients_and_nothing_else(config):
    x = torch.randn(2, 3, 8, 8)
    gradients = []
    for weight in (None, 0.0, 1.0):
        model = lively(config)
        run = model if weight is None else RatePenalty(model, prices(model, x), 1e4)
        if weight is not None:
            run.set_weight(weight, 2)
        logits = run(x)
        logits.sum().backward()
        gradients.append((logits.detach(), model.downsample1_1.encode_bn.bias.grad.clone()))
        if weight is not None:
            run.close()
            assert not any(neuron._forward_pre_hooks for neuron in neuron_layers(model).values())
    assert all(torch.equal(first[0], gradients[0][0]) for first in gradients)
    assert torch.equal(gradients[1][1], gradients[0][1])
    assert (gradients[2][1] - gradients[0][1]).sum() > 0  # descent lowers the biases


def test_penalty_gradient_by_hand():
    neuron = MultiSpike()
    run = RatePenalty(torch.nn.Sequential(neuron, torch.nn.Linear(5, 1)), {"0": 10.0}, 100.0)
    run.set_weight(2.0, 4)
    x = torch.tensor([-1.0, 0.5, 1.5, 3.9, 5.0], requires_grad=True)
    (neuron(x) * 0).sum().backward()
    assert torch.allclose(x.grad, torch.tensor([0, 1, 0.3, 0.3, 0]) * 10 * 2 / (4 * 100))


def test_rate_neuron_is_four_steps_of_a_constant_current():
    x = torch.linspace(-1, 3, 4003)
    for threshold in (1.0, 0.5):
        neuron = Lif(threshold)
        expected = neuron(x.expand(4, -1)).mean(0)
        neuron.rates = True
        assert torch.equal(neuron(x[None])[0], expected)
    x = torch.tensor([[0.0, 1.2, 1.9, 9.0]], requires_grad=True)
    neuron(x).sum().backward()
    assert (x.grad[0, :3] > 0).all() and x.grad[0, 1] > x.grad[0, 0] and x.grad[0, 3] < 1e-3
