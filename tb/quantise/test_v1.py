# SPDX-License-Identifier: Apache-2.0
"""The block of the first Spike-driven Transformer: float, integers, and the RTL."""

import pytest
import torch
from torch import nn

from hw.presets import get_preset
from sw.golden.network import evaluate, quantise_images
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.models.seeded import steer_rates
from sw.models.trace import capture
from sw.models.v1 import MaskAttention, V1Block
from sw.quantise.calibrate import calibrate
from sw.quantise.quantiser import quantise
from tb.quantise.networks import small_network
from tb.top.rtl import differing_tensors


def _network(steps: int) -> tuple[MetaSpikeFormer, torch.Tensor]:
    """A small network whose block3 is of the first kind, and images."""
    network = small_network(5, time_steps=steps, depths=(1, 1, 1, 0, 2, 0))
    network.block3 = nn.ModuleList(V1Block(16, 2) for _ in range(2))
    torch.manual_seed(6)
    images = torch.randn(4, 3, 48, 48)
    steer_rates(network, images, 0.6)
    return network, images


def test_attention_by_hand() -> None:
    """Identity projections; one channel: the mask lets queries through where K meets V once."""
    attention = MaskAttention(1).eval()
    for name in ("q_conv", "k_conv", "v_conv", "proj_conv"):
        getattr(attention, name).weight.data.fill_(2.1)
    attention.proj_conv.bias.data.zero_()
    x = torch.tensor([2.5, 0, 2.5, 0]).reshape(1, 1, 1, 2, 2)
    with torch.no_grad():
        out = attention(x)
    assert (out.flatten() > 1.9).tolist() == [True, False, True, False]
    attention.v_conv.weight.data.zero_()
    with torch.no_grad():
        assert not attention(x).any()


@pytest.mark.parametrize("steps", [1, 4])
def test_block_in_integers_and_on_rtl(steps: int) -> None:
    network, images = _network(steps)
    calibration = calibrate(network, images, time_steps=steps)
    model = quantise(network, network.config, calibration, time_steps=steps, name="v1")
    _, record = capture(network, images[:1])
    integers = quantise_images(model, images)
    forced = {}
    for layer in model.layers:
        if layer.neuron is not None:
            _, spikes = record[layer.neuron_name]
            shape = model.tensors[layer.outputs["spikes"]].shape
            forced[layer.outputs["spikes"]] = spikes[:, 0].reshape(
                (*shape[:2], *((1, 1) if layer.kind == "key_value" else shape[2:]))).expand(shape)
    made = evaluate(model, integers[0], override=forced)
    counts = [(int((made[name] != spikes).sum()), spikes.numel())
              for name, spikes in forced.items()]
    assert sum(wrong for wrong, _ in counts) < 0.01 * sum(size for _, size in counts)
    for name, spikes in forced.items():
        if name.endswith(".kv.spikes"):     # sums of spikes: exact
            assert torch.equal(made[name], spikes.to(torch.uint8))
            assert 0 < spikes.float().mean() < 1
    wrong, _ = differing_tensors(model, get_preset("tiny"), list(integers[:2]), stall=40, seed=1)
    assert wrong == []
