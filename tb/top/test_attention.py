# SPDX-License-Identifier: Apache-2.0
"""Every mode of spike-driven self-attention on the RTL, by itself, for many shapes.

The queries, keys and values are random spikes that the host writes; only the layers of the
attention run. Modes, in each head (2404.03663: Spike-driven Transformer V2, section 3):

    SDSA-1   Q * SN(sum over tokens of K * V)                     layers key_value, mask
    SDSA-2   V * SN(sum over channels of Q), without K            a conv of ones in each head, mask
    SDSA-3   SN(Q (K^T V) / 8)                                    attention
    SDSA-4   SN(Q (K^T V) scaled), a learned scale                attention, a threshold a channel
"""

import itertools
import zlib

import numpy as np
import pytest
import torch

from hw.presets import get_preset
from sim.build import QUICK
from sw.compile.compiler import compile_model
from sw.golden.network import evaluate_layer
from sw.model_file import IntegerModel, Layer, Logits, ModelInput, check
from sw.simulated_device import SimulatedDevice

HEADS, TOKENS, DEPTHS, STEPS = (1, 4, 8), (1, 49, 196, 197), (8, 30, 32, 45, 64), (1, 4)
SHAPE = {1: (1, 1), 49: (7, 7), 196: (14, 14), 197: (197, 1)}
MODES = ("sdsa1", "sdsa2", "sdsa3", "sdsa4")


def _layer(name: str, kind: str, inputs: tuple[str, ...], channels: int, size: tuple[int, int],
           **fields: object) -> Layer:
    neuron = None if kind == "mask" else {"kind": "lif"}
    return Layer(name=name, kind=kind, inputs=inputs, in_channels=channels, out_channels=channels,
                 in_size=size, out_size=size, outputs={"spikes": f"{name}.spikes"}, neuron=neuron,
                 **fields)


def _attention(mode: str, heads: int, depth: int, size: tuple[int, int],
               random: np.random.Generator) -> list[Layer]:
    """The layers of a mode, on q, k and v."""
    channels = heads * depth
    q, k, v = (f"{name}.spikes" for name in "qkv")

    def full(low: int, high: int | None = None) -> torch.Tensor:
        values = random.integers(low, (high or low) + 1, channels)
        return torch.from_numpy(values).to(torch.int32)

    if mode == "sdsa1":
        return [_layer("kv", "key_value", (k, v), channels, size, threshold=full(1)),
                _layer("mask", "mask", (q, "kv.spikes"), channels, size)]
    if mode == "sdsa2":
        ones = torch.block_diag(*[torch.ones(depth, depth)] * heads).to(torch.int8)
        zero = torch.zeros(channels, dtype=torch.int32)
        return [_layer("gate", "conv", (q,), channels, size, weight=ones[:, :, None, None],
                       bias=zero, shift=zero.to(torch.int8), threshold=full(max(1, depth // 5))),
                _layer("mask", "mask", (v, "gate.spikes"), channels, size)]
    tokens = size[0] * size[1]
    threshold = full(8) if mode == "sdsa3" else full(1, 2 + tokens * depth // 40)
    return [_layer("attn", "attention", (q, k, v), channels, size, heads=heads,
                   threshold=threshold)]


def _model(mode: str, heads: int, tokens: int, depth: int, steps: int,
           random: np.random.Generator) -> IntegerModel:
    """An image of one channel, convolutions that make q, k and v (they are not run), the mode."""
    channels, size = heads * depth, SHAPE[tokens]
    zero = torch.zeros(channels, dtype=torch.int32)
    stem = [Layer(name=name, kind="conv", inputs=(source,), in_channels=width,
                  out_channels=channels, in_size=size, out_size=size, neuron={"kind": "lif"},
                  outputs={"spikes": f"{name}.spikes"}, bias=zero, threshold=zero + 1,
                  shift=zero.to(torch.int8), repeat=repeat,
                  weight=torch.ones(channels, width, 1, 1, dtype=torch.int8))
            for name, source, width, repeat in (
                ("stem", "image", 1, steps), ("q", "stem.spikes", channels, 1),
                ("k", "stem.spikes", channels, 1), ("v", "stem.spikes", channels, 1))]
    layers = [*stem, *_attention(mode, heads, depth, size, random)]
    out = layers[-1].outputs["spikes"]
    head = Layer(name="head", kind="head", inputs=("last.spikes",), in_channels=1, out_channels=1,
                 in_size=(1, 1), out_size=(1, 1), outputs={"logits": "head.logits"},
                 weight=torch.ones(1, 1, 1, 1, dtype=torch.int8), bias=zero[:1], threshold=zero[:1],
                 shift=zero[:1].to(torch.int8))
    last = Layer(name="last", kind="conv", inputs=(out,), in_channels=channels, out_channels=1,
                 in_size=size, out_size=(1, 1), stride=max(size), neuron={"kind": "lif"},
                 outputs={"spikes": "last.spikes"}, bias=zero[:1], threshold=zero[:1] + 1,
                 shift=zero[:1].to(torch.int8),
                 weight=torch.ones(1, channels, 1, 1, dtype=torch.int8))
    model = IntegerModel(
        name=mode, time_steps=steps, residual_fraction=0, input=ModelInput(1, *size, 1.0),
        logits=Logits("head.logits", 1, 1.0), layers=(*layers, last, head))
    check(model)
    return model


def _run(mode: str, heads: int, tokens: int, depth: int, steps: int, preset: str = "small") -> None:
    seed = zlib.crc32(repr((mode, heads, tokens, depth, steps)).encode())
    random = np.random.default_rng(seed)
    model = _model(mode, heads, tokens, depth, steps, random)
    shape = (steps, heads * depth, *SHAPE[tokens])
    given = {f"{name}.spikes": torch.from_numpy((random.random(shape) < rate).astype(np.uint8))
             for name, rate in (("q", 0.2), ("k", 0.3), ("v", 0.3))}
    chosen = [layer for layer in model.layers if layer.name in ("kv", "gate", "mask", "attn")]
    golden = {name: value[None] for name, value in given.items()}
    for layer in chosen:
        golden |= evaluate_layer(model, layer, [golden[name] for name in layer.inputs], None)
    program = compile_model(model, get_preset(preset), layers=[layer.name for layer in chosen])
    device = SimulatedDevice(program, len(model.layers), stalls=1, effort=QUICK)
    try:
        device.run([given], seed % 1000)
        for layer in chosen:
            name = layer.outputs["spikes"]
            assert torch.equal(device.tensors([name])[name], golden[name][0]), name
    finally:
        device.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("heads", "tokens", "depth", "steps"), [
    (1, 1, 8, 4), (8, 49, 45, 1), (4, 197, 30, 4), (8, 196, 64, 1)])
def test_some_shapes(mode: str, heads: int, tokens: int, depth: int, steps: int) -> None:
    _run(mode, heads, tokens, depth, steps)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("heads", "steps"), list(itertools.product(HEADS, STEPS)))
def test_every_shape(mode: str, heads: int, steps: int) -> None:
    for tokens, depth in itertools.product(TOKENS, DEPTHS):
        _run(mode, heads, tokens, depth, steps)
