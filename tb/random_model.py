# SPDX-License-Identifier: Apache-2.0
"""Random integer models with the dataflow of Meta-SpikeFormer and E-SpikeFormer, for tests of
compiler and hardware.

Independent of the quantiser: weights are random int8, and shifts and thresholds follow from what
the layers see for one random image, so that 10 to 40 % of the neurons fire and residuals fit.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from sw.golden.network import evaluate_layer
from sw.model_file import IntegerModel, Layer, Logits, ModelInput, check

__all__ = ["layer_model", "random_image", "random_model"]

FULL = ("sep", "channel", "down", "attention", "mlp")


def random_image(model: IntegerModel, seed: int) -> torch.Tensor:
    """An integer image `[Ti, C, H, W]` for a model, smooth enough to have structure."""
    random = np.random.default_rng(seed)
    image = model.input
    limit = (1 << image.bits - 1) - 1
    shape = (image.time_steps, image.channels, image.height, image.width)
    values = random.normal(0, limit / 2.5, shape).round().clip(-limit, limit)
    return torch.from_numpy(values.astype(np.int32))


class _Builder:
    def __init__(self, seed: int, time_steps: int, image: ModelInput, head: int,
                 levels: int | None = None, ties: str = "even") -> None:
        self.levels, self.ties = levels, ties
        self.random = np.random.default_rng(seed)
        self.time_steps = time_steps
        self.model = IntegerModel(
            name=f"random-{seed}", time_steps=time_steps, residual_fraction=6, input=image,
            logits=Logits("head.logits", head, 0.01), layers=())
        self.values = {image.tensor: random_image(self.model, seed + 1).unsqueeze(0)}

    def _ints(self, low: int, high: int, size: int | tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(self.random.integers(low, high + 1, size)).to(torch.int32)

    def add(self, name: str, kind: str, inputs: Sequence[str], outputs: Sequence[str], *,
            channels: int | None = None, kernel: int = 1, stride: int = 1, padding: int = 0,
            residual: str | None = None, repeat: int = 1, heads: int | None = None,
            bits: int | None = None) -> dict[str, str]:
        """Append a layer with fitting arrays; returns its outputs by role ("spikes": levels, if
        the model has them)."""
        if self.levels:
            outputs = ["levels" if role == "spikes" else role for role in outputs]
        x = self.values[inputs[0]]
        _, _, in_channels, height, width = x.shape
        channels = channels or in_channels
        size = ((height + 2 * padding - kernel) // stride + 1,
                (width + 2 * padding - kernel) // stride + 1)
        layer = Layer(
            name=name, kind=kind, inputs=tuple(inputs), in_channels=in_channels,
            out_channels=channels, in_size=(height, width),
            out_size=(1, 1) if kind == "pool" else size, kernel=(kernel, kernel), stride=stride,
            padding=padding, residual=residual,
            outputs={role: f"{name}.{role}" for role in outputs}, repeat=repeat,
            integer_bits=bits,
            neuron=None if kind == "mask" else self._neuron(outputs), heads=heads)
        if kind != "mask":
            layer = self._threshold(self._arrays(layer))
        self.model = dataclasses.replace(self.model, layers=(*self.model.layers, layer))
        made = evaluate_layer(self.model, layer, [self.values[name] for name in inputs],
                              None if residual is None else self.values[residual])
        self.values.update(made)
        return {"spikes" if role == "levels" else role: tensor
                for role, tensor in layer.outputs.items()}

    def _neuron(self, outputs: Sequence[str]) -> dict[str, str | int] | None:
        if "spikes" in outputs:
            return {"kind": "lif"}
        if "levels" in outputs:
            return {"kind": "sfa", "levels": self.levels, "ties": self.ties}
        return None

    def _arrays(self, layer: Layer) -> Layer:
        zeros = torch.zeros(layer.out_channels, dtype=torch.int32)
        shapes = layer.array_shapes
        if layer.kind == "pool" and "shift" in shapes:
            bias = self._ints(0, layer.in_positions, layer.out_channels)
            bits = layer.integer_bits or 16
            shift = (layer.in_positions * 33000).bit_length() - bits + 1
            return dataclasses.replace(layer, bias=bias, threshold=zeros,
                                       shift=torch.full_like(zeros, shift).to(torch.int8))
        if "weight" not in shapes:
            return dataclasses.replace(layer, threshold=zeros)
        scale = self.random.choice([30, 60, 127])
        weight = self._ints(-scale, scale, shapes["weight"])
        reach = weight.abs().flatten(1).sum(1)
        bias = torch.from_numpy(self.random.normal(0, 1, layer.out_channels)) * reach * 0.1
        layer = dataclasses.replace(layer, weight=weight.to(torch.int8), bias=bias.to(torch.int32),
                                    shift=zeros.to(torch.int8), threshold=zeros)
        if layer.integer_bits:
            bound = reach * self.values_bound(layer) + layer.bias.abs()
            need = torch.ceil(torch.log2(bound.double() + 1)) - (layer.integer_bits - 1)
            need = need.clamp(min=4 - layer.integer_bits)
            return dataclasses.replace(layer, shift=need.to(torch.int8))
        if "residual" in layer.outputs:
            current = self._current(layer).double().abs().amax((0, 1, 3, 4)) + 1
            shift = torch.floor(torch.log2(current / self.random.uniform(40, 300)))
            shift = shift + self._ints(-1, 1, layer.out_channels)
            if self.levels:     # sums of levels vary more: no image may leave the residual's range
                bound = reach * self.values_bound(layer) + layer.bias.abs()
                shift = torch.maximum(shift, torch.ceil(torch.log2(bound.double() / (1 << 13))))
            shift = shift.clamp(-8, 23)
            return dataclasses.replace(layer, shift=shift.to(torch.int8))
        return layer

    def values_bound(self, layer: Layer) -> int:
        """Bound of the layer's input."""
        return self.model.input_magnitude(layer)

    def _current(self, layer: Layer) -> torch.Tensor:
        """The neuron's input `[1, T, C, H, W]`."""
        x = [self.values[name].double() for name in layer.inputs]
        if layer.kind == "pool":
            sums = x[0].sum((3, 4), keepdim=True)
            if layer.shift is None:
                return sums
            return torch.floor((sums + layer.bias.double().reshape(-1, 1, 1))
                               / 2.0 ** layer.shift.double().reshape(-1, 1, 1))
        if layer.kind == "key_value":
            return (x[0] * x[1]).sum((3, 4), keepdim=True)
        if layer.kind == "attention":
            shape = x[2].shape
            q, k, v = (t.reshape(*t.shape[:2], layer.heads, -1, layer.in_positions) for t in x)
            counts = torch.einsum("bthin,bthjn->bthij", k, v)
            return torch.einsum("bthin,bthij->bthjn", q, counts).reshape(shape)
        groups = layer.in_channels if layer.kind == "depthwise" else 1
        acc = torch.nn.functional.conv2d(x[0][0], layer.weight.double(), layer.bias.double(),
                                         layer.stride, layer.padding, 1, groups)
        if "residual" in layer.outputs:
            acc = torch.floor(acc / 2.0 ** layer.shift.double().reshape(-1, 1, 1))
            if layer.residual:
                acc = acc + self.values[layer.residual][0].double()
        return acc.unsqueeze(0)

    def _threshold(self, layer: Layer) -> Layer:
        if layer.neuron is None:
            return layer
        current = self._current(layer)[0].transpose(0, 1).flatten(1)
        rate = torch.from_numpy(self.random.uniform(0.6, 0.9, layer.out_channels))
        order = current.sort(1).values
        index = (rate * (order.shape[1] - 1)).long().unsqueeze(1)
        if self.levels:
            return self._steps(layer, order)
        threshold = order.gather(1, index).squeeze(1) * 1.2 + 1
        return dataclasses.replace(layer, threshold=threshold.floor().to(torch.int32))


    def _steps(self, layer: Layer, order: torch.Tensor) -> Layer:
        """Thresholds and steps that spread the sorted currents `[C, values]` over the levels; some
        currents lie half way between two."""
        low, high = (order[:, int(share * (order.shape[1] - 1))] for share in (0.5, 0.97))
        step = ((high - low).clamp(min=1) / self.levels).round().clamp(1, 65000) * 256
        step = step + self._ints(-1, 1, layer.out_channels) * self._ints(0, 100, layer.out_channels)
        threshold = (low.clamp(-500000, 500000) * 256 - step).clamp(1 - (1 << 27), (1 << 27) - 1)
        return dataclasses.replace(layer, step=step.to(torch.int32),
                                   threshold=threshold.round().to(torch.int32))


def random_model(seed: int, *, size: tuple[int, int] = (9, 11), in_channels: int = 3,
                 time_steps: int = 4, channels: int = 12, heads: int = 2, classes: int = 10,
                 blocks: Sequence[str] = FULL, stem: tuple[int, int, int] = (3, 1, 1),
                 kernel: int = 7, expansion: int = 4, event_frames: bool = False,
                 integer_bits: int = 8, input_bits: int = 8, pool: bool = True,
                 levels: int | None = None, ties: str = "even", value_ratio: int = 1,
                 integer_pool: bool = False) -> IntegerModel:
    """A model of a stem, the ``blocks`` in order, the pool and the head.

    ``stem`` is kernel, stride, padding of the first layer; ``kernel`` that of depthwise layers;
    ``expansion`` the widening inside channel and MLP blocks. ``down`` halves the map and widens
    by half, to a multiple of ``heads``. Without ``pool`` a convolution over the whole map takes
    its place. With ``levels`` (the highest) every neuron is an SFA neuron, depthwise layers have
    one too, and the attention's V is ``value_ratio`` times as wide, as in E-SpikeFormer;
    ``integer_pool``: the head reads the pooled residuals as integers.
    """
    image = ModelInput(in_channels, *size, scale=0.01, bits=input_bits,
                       time_steps=time_steps if event_frames else 1)
    b = _Builder(seed, time_steps, image, classes, levels, ties)
    k, s, p = stem
    stream = ("residual", "spikes")
    now = b.add("stem", "conv", ["image"], stream, channels=channels, kernel=k, stride=s, padding=p,
                repeat=1 if event_frames else time_steps)
    for n, block in enumerate(blocks):
        name, c = f"block{n}", channels
        if block == "sep":
            wide = b.add(f"{name}.pw1", "conv", [now["spikes"]], ["spikes"], channels=2 * c)
            role = "spikes" if levels else "integer"
            deep = b.add(f"{name}.dw", "depthwise", [wide["spikes"]], [role], kernel=kernel,
                         padding=kernel // 2, bits=None if levels else integer_bits)
            now = b.add(f"{name}.pw2", "conv", [deep[role]], stream, channels=c,
                        residual=now["residual"])
        elif block in ("channel", "mlp"):
            k, p = (3, 1) if block == "channel" else (1, 0)
            wide = b.add(f"{name}.conv1", "conv", [now["spikes"]], ["spikes"],
                         channels=expansion * c, kernel=k, padding=p)
            now = b.add(f"{name}.conv2", "conv", [wide["spikes"]], stream, channels=c, kernel=k,
                        padding=p, residual=now["residual"])
        elif block == "down":
            channels = -(-c * 3 // 2 // heads) * heads
            now = b.add(name, "conv", [now["spikes"]], stream, channels=channels, kernel=3,
                        stride=2, padding=1)
        elif block == "masking":
            q, k, v = (b.add(f"{name}.{role}", "conv", [now["spikes"]], ["spikes"],
                             channels=c)["spikes"] for role in "qkv")
            by = b.add(f"{name}.kv", "key_value", [k, v], ["spikes"])
            mixed = b.add(f"{name}.mask", "mask", [q, by["spikes"]], ["spikes"])
            now = b.add(f"{name}.proj", "conv", [mixed["spikes"]], stream, channels=c,
                        residual=now["residual"])
        elif block == "attention":
            q, k, v = (b.add(f"{name}.{role}", "conv", [now["spikes"]], ["spikes"],
                             channels=c * value_ratio if role == "v" else c,
                             kernel=3, padding=1)["spikes"] for role in "qkv")
            mixed = b.add(f"{name}.attn", "attention", [q, k, v], ["spikes"], heads=heads,
                          channels=c * value_ratio)
            now = b.add(f"{name}.proj", "conv", [mixed["spikes"]], stream, channels=c, kernel=3,
                        padding=1, residual=now["residual"])
        else:
            raise ValueError(f"no block {block!r}")
    if pool and not blocks and not event_frames and time_steps > 1:
        raise ValueError("a static image needs a block between stem and pool")
    if integer_pool:
        last = b.add("pool", "pool", [now["residual"]], ["integer"], bits=integer_bits)
        last["spikes"] = last["integer"]
    elif pool:
        last = b.add("pool", "pool", [now["residual"]], ["spikes"])
    else:
        height, width = b.values[now["spikes"]].shape[-2:]
        if height != width:
            raise ValueError("without pool the last map must be square")
        last = b.add("flat", "conv", [now["spikes"]], ["spikes"], channels=channels, kernel=height)
    b.add("head", "head", [last["spikes"]], ["logits"], channels=classes)
    check(b.model)
    return b.model


def layer_model(channels: int, size: int, *, kernel: int = 3, seed: int = 0) -> IntegerModel:
    """A model with one conv layer called "layer" on the spikes of a stem, for measurements."""
    image = ModelInput(3, size, size, scale=0.01, bits=8, time_steps=1)
    b = _Builder(seed, 1, image, 2)
    now = b.add("stem", "conv", ["image"], ("residual", "spikes"), channels=channels)
    b.add("layer", "conv", [now["spikes"]], ["spikes"], channels=channels, kernel=kernel,
          padding=kernel // 2)
    last = b.add("pool", "pool", [now["residual"]], ["spikes"])
    b.add("head", "head", [last["spikes"]], ["logits"], channels=2)
    return b.model
