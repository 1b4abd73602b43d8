# SPDX-License-Identifier: Apache-2.0
"""The quantiser on small networks of many shapes: structure, agreement with the float, refusals."""

from dataclasses import replace

import pytest
import torch

from sw.errors import QuantiseError
from sw.golden.network import evaluate, quantise_images
from sw.model_file import IntegerModel, load_model, save_model
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.models.trace import capture
from sw.quantise.calibrate import calibrate
from sw.quantise.compare import differences
from sw.quantise.quantiser import (
    LayerReport,
    quantise,
    quantise_with_report,
    residual_fraction,
)
from sw.quantise.rounding import free_scales, power_of_two_scales, round_weights
from tb.quantise.networks import small_network


def _quantised(network: MetaSpikeFormer, images: torch.Tensor, steps: int,
               **options: object) -> tuple[IntegerModel, list[LayerReport]]:
    network.time_steps = steps
    calibration = calibrate(network, images, time_steps=steps)
    return quantise_with_report(network, network.config, calibration, time_steps=steps,
                                name="small", **options)


@pytest.mark.parametrize(("steps", "fields"), [
    (1, {}),
    (1, {"kd": True, "in_channels": 1, "depths": (1, 1, 1, 0, 1, 2)}),
    (4, {"strides": (1, 2, 2, 2, 1), "kernels": (3, 3, 3, 3, 3)}),
    (16, {"in_channels": 4, "sep_kernel": 3, "depths": (0, 1, 1, 1, 1, 1)}),
])
def test_small_networks_agree_with_their_integer_models(steps: int, fields: dict) -> None:
    network = small_network(3, **fields)
    images = torch.randn(2, network.config.in_channels, 32, 32)
    model, reports = _quantised(network, images, steps)
    with torch.no_grad():
        _, record = capture(network, images[:1])
    trace = {name: spikes for name, (_, spikes) in record.items()}
    found = differences(model, images[0], trace)
    assert {d.neuron for d in found} == set(trace)
    share = sum(d.differing for d in found) / sum(d.neurons for d in found)
    assert share < (0.005 if steps == 1 else 0.02), sorted(found, key=lambda d: -d.share)[:5]
    assert all(report.weight_error < 0.02 for report in reports), reports
    # the head: fed with the traced spikes, its logits are the float network's
    spikes = trace["lif"].to(torch.uint8)[:, 0, :, None, None]
    made = evaluate(model, quantise_images(model, images[0]), override={"pool.spikes": spikes})
    with torch.no_grad():
        logits = network(images[:1])[0]
    torch.testing.assert_close(made["logits"] * model.logits.scale, logits, atol=0.02, rtol=0.02)


def test_event_frames_have_no_repeat() -> None:
    network = small_network(4, in_channels=2)
    frames = torch.randint(0, 4, (3, 2, 2, 32, 32)).float()
    model, _ = _quantised(network, frames, 3)
    assert model.input.time_steps == 3
    assert model.layers[0].repeat == 1
    with torch.no_grad():
        _, record = capture(network, frames[:, :1])
    found = differences(model, frames[:, 0], {name: s for name, (_, s) in record.items()})
    assert sum(d.differing for d in found) / sum(d.neurons for d in found) < 0.02


def test_an_image_is_summed_once_and_injected_at_every_step() -> None:
    network = small_network(5)
    model, _ = _quantised(network, torch.randn(1, 3, 32, 32), 4)
    assert model.layers[0].repeat == 4
    assert model.tensors["downsample1_1.encode_conv.residual"].steps == 1
    assert model.tensors["ConvBlock1_1.0.Conv.pwconv2.residual"].steps == 4
    assert [layer.name for layer in model.layers[:6]] == [
        "downsample1_1.encode_conv", "ConvBlock1_1.0.Conv.pwconv1", "ConvBlock1_1.0.Conv.dwconv",
        "ConvBlock1_1.0.Conv.pwconv2", "ConvBlock1_1.0.conv1", "ConvBlock1_1.0.conv2"]
    assert model.layer("ConvBlock1_1.0.conv2").neuron_name == "downsample1_2.encode_lif"
    assert all(int(t) == 8 for t in model.layer("block3.0.attn").threshold)


def test_a_quantised_model_survives_its_file(tmp_path) -> None:
    network = small_network(6)
    images = torch.randn(1, 3, 32, 32)
    model, _ = _quantised(network, images, 2, classes=("a", "b", "c", "d", "e"))
    save_model(model, tmp_path / "small.safetensors")
    loaded = load_model(tmp_path / "small.safetensors")
    integers = quantise_images(model, images[0])
    before, after = evaluate(model, integers), evaluate(loaded, integers)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.input == model.input and loaded.logits == model.logits


def test_dead_channels_and_large_biases_stay_in_bounds() -> None:
    network = small_network(7)
    with torch.no_grad():
        network.downsample2.encode_bn.weight[0] = 0
        network.downsample2.encode_bn.bias[0] = 3
        network.ConvBlock2_1[0].bn1.weight[1] = 0
        network.ConvBlock2_1[0].bn1.bias[1] = 40
        network.block3[0].mlp.fc1_bn.weight[2] = 1e-12
    images = torch.randn(1, 3, 32, 32)
    model, _ = _quantised(network, images, 1)
    made = evaluate(model, quantise_images(model, images[0]))
    stream = made["downsample2.encode_conv.residual"][:, 0]
    assert torch.all(stream == 3 << model.residual_fraction)
    assert torch.all(made["ConvBlock2_1.0.conv1.spikes"][:, 1] == 1)


def test_wide_depthwise_maps_narrow_until_the_reader_is_in_bounds() -> None:
    network = small_network(8)
    model, _ = _quantised(network, torch.randn(1, 3, 32, 32), 1, integer_bits=12)
    assert model.layer("ConvBlock1_1.0.Conv.dwconv").integer_bits == 12
    wide = small_network(8, embed_dims=(8, 96, 16, 16), depths=(1, 1, 1, 0, 1, 1))
    model, reports = _quantised(wide, torch.randn(1, 3, 32, 32), 1, integer_bits=12)
    assert model.layer("ConvBlock2_1.0.Conv.dwconv").integer_bits < 12
    assert max(report.acc_bound for report in reports) < 1 << 23


def test_refusals_name_layer_and_bound() -> None:
    network = small_network(9)
    calibration = calibrate(network, torch.randn(1, 3, 32, 32), time_steps=1)
    options = {"time_steps": 1, "name": "small"}
    with pytest.raises(QuantiseError, match="reaches 30000.* 16-bit"):
        quantise(network, network.config, replace(calibration, residual_magnitude=30000.0),
                 **options)
    with pytest.raises(QuantiseError, match="integer_bits is 13, must be 2 to 12"):
        quantise(network, network.config, calibration, integer_bits=13, **options)
    with torch.no_grad():
        network.block3[1].mlp.fc2_bn.weight.mul_(1e6)
    with pytest.raises(QuantiseError, match=r"layer 'block3\.1\.mlp\.fc2_conv': .* at least -8"):
        quantise(network, network.config, calibration, **options)
    with pytest.raises(QuantiseError, match="not finite"):
        calibrate(network, torch.full((1, 3, 32, 32), float("nan")))


@pytest.mark.parametrize(("magnitude", "fraction"), [(1.0, 12), (5.4, 11), (24.0, 9), (20000, 0)])
def test_residual_fraction(magnitude: float, fraction: int) -> None:
    assert residual_fraction(magnitude) == fraction


def test_scales_by_hand() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0]],
                          dtype=torch.float64)[:, :, None, None]
    assert power_of_two_scales(weight)[0] == 6              # 64 fits 127, 128 does not
    assert round_weights(weight, torch.tensor([1 / 64, 1.0]))[0].flatten().tolist() == [
        64, -32, 16, 0]
    scales = free_scales(weight)
    assert scales[1] == 1
    exact = torch.tensor([127.0, 3.0, -64.0])[None, :, None, None].double() * 0.01
    torch.testing.assert_close(free_scales(exact), torch.tensor([0.01]).double())
