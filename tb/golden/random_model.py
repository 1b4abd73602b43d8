# SPDX-License-Identifier: Apache-2.0
"""Small random integer models with every kind of layer, for tests of golden, compiler, hardware."""

from dataclasses import replace

import torch

from sw.model_file import IntegerModel, Layer, Logits, ModelInput, check

__all__ = ["random_image", "random_model"]


class _Builder:
    def __init__(self, seed: int, time_steps: int, fraction: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.time_steps = time_steps
        self.fraction = fraction
        self.layers: list[Layer] = []

    def ints(self, low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high + 1, shape, generator=self.random)

    def add(self, name: str, kind: str, inputs: tuple[str, ...], size: tuple[int, int],
            channels: tuple[int, int], roles: tuple[str, ...], *, magnitude: int = 1,
            kernel: int = 1, stride: int = 1, residual: str | None = None, heads: int | None = None,
            repeat: int = 1, bits: int | None = None) -> tuple[int, int]:
        """Append a layer with random weights, and thresholds that some sums reach."""
        padding = kernel // 2
        out = (1, 1) if kind == "pool" else tuple(
            (side + 2 * padding - kernel) // stride + 1 for side in size)
        layer = Layer(
            name=name, kind=kind, inputs=inputs, in_channels=channels[0], out_channels=channels[1],
            in_size=size, out_size=out, kernel=(kernel, kernel), stride=stride, padding=padding,
            residual=residual, outputs={role: f"{name}.{role}" for role in roles}, repeat=repeat,
            integer_bits=bits, heads=heads,
            neuron={"kind": "lif", "name": f"{name}.lif"} if "spikes" in roles else None)
        arrays = {}
        outputs = channels[1]
        if kind == "attention":
            arrays["threshold"] = torch.full((outputs,), 8)
        elif kind == "pool":
            arrays["threshold"] = self.ints(1, 2 * size[0] * size[1] << self.fraction, outputs)
        else:
            weight = self.ints(-127, 127, *layer.array_shapes["weight"])
            reach = 40 * magnitude * max(1, int(layer.window ** 0.5))   # a typical sum
            shift = torch.zeros(outputs, dtype=torch.int64)
            threshold = self.ints(reach // 8, reach, outputs)
            if "residual" in roles:
                lift = max(0, reach.bit_length() - self.fraction - 1)
                shift = self.ints(max(-2, lift - 1), lift + 1, outputs)
                threshold = self.ints(1, 2 << self.fraction, outputs)
            bias = self.ints(-reach // 2, reach // 2, outputs)
            if bits is not None:
                bound = weight.abs().flatten(1).sum(1) * magnitude + reach
                shift = torch.tensor([max(0, int(b).bit_length() - bits + 1) for b in bound])
            if "spikes" not in roles:
                threshold = torch.zeros(outputs)
            arrays = {"weight": weight.to(torch.int8), "bias": bias.to(torch.int32),
                      "shift": shift.to(torch.int8), "threshold": threshold}
        arrays["threshold"] = arrays["threshold"].to(torch.int32)
        self.layers.append(replace(layer, **arrays))
        return out


def random_model(seed: int = 0, *, time_steps: int = 1, channels: int = 8, size: int = 8,
                 classes: int = 5, heads: int = 2, in_channels: int = 3, event: bool = False,
                 fraction: int = 6) -> IntegerModel:
    """A checked model: image conv, separable conv, strided conv, attention, MLP, pool, head.

    `event`: the input has `time_steps` frames, else one image that is injected at every step.
    """
    b = _Builder(seed, time_steps, fraction)
    both, wide = ("residual", "spikes"), 2 * channels
    map0 = b.add("stem", "conv", ("image",), (size, size + 2), (in_channels, channels), both,
                 magnitude=64, kernel=3, stride=2, repeat=1 if event else time_steps)
    b.add("sep.pw1", "conv", ("stem.spikes",), map0, (channels, wide), ("spikes",))
    b.add("sep.dw", "depthwise", ("sep.pw1.spikes",), map0, (wide, wide), ("integer",), kernel=5,
          bits=10)
    b.add("sep.pw2", "conv", ("sep.dw.integer",), map0, (wide, channels), both, magnitude=100,
          residual="stem.residual")
    map1 = b.add("down", "conv", ("sep.pw2.spikes",), map0, (channels, wide), both, kernel=3,
                 stride=2)
    for part in "qkv":
        b.add(f"block.attn.{part}_conv", "conv", ("down.spikes",), map1, (wide, wide), ("spikes",),
              kernel=3)
    b.add("block.attn", "attention", tuple(f"block.attn.{p}_conv.spikes" for p in "qkv"), map1,
          (wide, wide), ("spikes",), heads=heads)
    b.add("block.attn.proj_conv", "conv", ("block.attn.spikes",), map1, (wide, wide), both,
          kernel=3, residual="down.residual")
    b.add("block.mlp.fc1", "conv", ("block.attn.proj_conv.spikes",), map1, (wide, 4 * wide),
          ("spikes",))
    b.add("block.mlp.fc2", "conv", ("block.mlp.fc1.spikes",), map1, (4 * wide, wide), ("residual",),
          residual="block.attn.proj_conv.residual")
    b.add("pool", "pool", ("block.mlp.fc2.residual",), map1, (wide, wide), ("spikes",))
    b.add("head", "head", ("pool.spikes",), (1, 1), (wide, classes), ("logits",))
    model = IntegerModel(
        name=f"random-{seed}", time_steps=time_steps, residual_fraction=fraction,
        input=ModelInput(in_channels, size, size + 2, 1 / 64,
                         time_steps=time_steps if event else 1),
        logits=Logits("head.logits", classes, 1 / 1024), layers=tuple(b.layers),
        family="random")
    check(model)
    return model


def random_image(model: IntegerModel, seed: int = 0) -> torch.Tensor:
    """A random input `[Ti, C, H, W]` over the whole range, a quarter of it zero."""
    random = torch.Generator().manual_seed(seed)
    limit = (1 << (model.input.bits - 1)) - 1
    shape = model.tensors[model.input.tensor].shape
    values = torch.randint(-limit, limit + 1, shape, generator=random, dtype=torch.int32)
    return values * (torch.rand(shape, generator=random) > 0.25)
