# SPDX-License-Identifier: Apache-2.0
"""Useful additions of a float network, and a differentiable stand-in for them.

The definition is that of `sw.golden.useful`: each set bit of a spike or level adds once for every
output channel at every output position that sees it, inside the map. A level counts as its bit
planes (1, 1, 2, 1 additions for the levels 1, 2, 3, 4). The image counts in signed digits of
`round(32 x)`; other real inputs (behind an unspiked depthwise layer) as 8-bit values of 8/3 digits;
a RepConv in the cheaper of its two forms.

| kind | additions |
|---|---|
| conv, linear | set bits x output positions that see them x output channels of their group |
| attention | tokens: k bits x v bits of one head; plus q bits x width of a value head |
| pool | one for each residual value and step |
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sw.golden.numbers import naf_count
from sw.models.blocks import RepConv
from sw.models.lif import Lif
from sw.models.multispike import MultiSpike

__all__ = ["RatePenalty", "additions", "bits", "neuron_layers", "prices"]

_DIGITS = 8 / 3
_IMAGE_SCALE = 32


def neuron_layers(model: nn.Module) -> dict[str, Lif | MultiSpike]:
    """Every neuron layer by module name."""
    return {name: module for name, module in model.named_modules()
            if isinstance(module, Lif | MultiSpike)}


def bits(neuron: Lif | MultiSpike, out: Tensor) -> Tensor:
    """Set bits (float) of a neuron layer's output."""
    if isinstance(neuron, Lif):
        return out.float()
    levels, count = out.float() * neuron.norm, torch.zeros_like(out, dtype=torch.float32)
    for _ in range(neuron.max_level.bit_length()):
        half = torch.floor(levels / 2)
        count, levels = count + (levels - 2 * half), half
    return count


def _seen(size: int, out: int, kernel: int, stride: int, padding: int) -> Tensor:
    """How many output places see each of `size` input places, along one axis."""
    tap = torch.arange(size)[:, None] + padding - stride * torch.arange(out)[None, :]
    return ((tap >= 0) & (tap < kernel)).sum(1).double()


class _Record:
    """Inputs of layers and outputs of neurons during one evaluation."""

    def __init__(self) -> None:
        self.layers: list[tuple[str, nn.Module, Tensor, Tensor]] = []
        self.neurons: dict[str, tuple[Lif | MultiSpike, Tensor]] = {}
        self.residual: Tensor | None = None
        self.source: dict[int, str] = {}

    def neuron_of(self, x: Tensor) -> str | None:
        """The neuron layer whose output a tensor is (a view of)."""
        return self.source.get(x.untyped_storage().data_ptr())


@contextmanager
def _recording(model: nn.Module) -> Iterator[_Record]:
    record = _Record()

    def neuron_hook(name: str):
        def hook(module: Lif | MultiSpike, args: tuple, out: Tensor) -> None:
            record.neurons[name] = (module, out)  # kept, so that no storage is used twice
            record.source[out.untyped_storage().data_ptr()] = name
        return hook

    def layer_hook(name: str):
        def hook(module: nn.Module, args: tuple, out: Tensor) -> None:
            record.layers.append((name, module, args[0], out))
        return hook

    whole = [name for name, module in model.named_modules() if isinstance(module, RepConv)]
    handles = [module.register_forward_hook(neuron_hook(name))
               for name, module in neuron_layers(model).items()]
    handles += [module.register_forward_hook(layer_hook(name))
                for name, module in model.named_modules()
                if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | RepConv)
                and not any(name.startswith(f"{outer}.") for outer in whole)]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _dense(module: nn.Conv1d | nn.Conv2d | nn.Linear, digits: Tensor, out: Tensor) -> float:
    """Additions of one layer for the digits `[n, C, ...]` of its input, all images together."""
    if isinstance(module, nn.Linear):
        return float(digits.double().sum()) * module.out_features
    fan = module.out_channels // module.groups
    if isinstance(module, nn.Conv1d):
        return float(digits.double().sum()) * fan
    kernel = module.kernel_size[0]
    rows, columns = (_seen(digits.shape[axis], out.shape[axis], kernel, module.stride[0],
                           module.padding[0]) for axis in (-2, -1))
    seen = (rows[:, None] * columns).to(digits.device)
    return float((digits.double().sum((0, 1)) * seen).sum()) * fan


def _folded(module: RepConv, spikes: Tensor) -> float:
    """Additions of a RepConv folded to a dense 3x3."""
    rows, columns = (_seen(size, size, 3, 1, 1) for size in spikes.shape[-2:])
    seen = (rows[:, None] * columns).to(spikes.device)
    return float((spikes.double().sum((0, 1)) * seen).sum()) * module.body[0].out_channels


def _rep_conv(module: RepConv, spikes: Tensor) -> float:
    """Additions of a RepConv: the cheaper of folded and unfolded."""
    channels = module.body[0].out_channels
    places = spikes.shape[0] * spikes.shape[-2] * spikes.shape[-1]
    real = places * (9 * channels + channels * channels) * _DIGITS
    return min(_folded(module, spikes), float(spikes.double().sum()) * channels + real)


def _heads(record: _Record, prefix: str, heads: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Bits of q, k, v summed over the channels of a head, `[n, heads, N]`; then width of v."""
    sums, width = [], 0
    for letter in "qkv":
        neuron, out = next(record.neurons[f"{prefix}.{letter}_{kind}"] for kind in ("lif", "spike")
                           if f"{prefix}.{letter}_{kind}" in record.neurons)
        is_map = out.dim() == 5 or (out.dim() == 4 and isinstance(neuron, MultiSpike))
        tokens = bits(neuron, out.flatten(-2) if is_map else out)
        tokens = tokens.reshape(-1, heads, tokens.shape[-2] // heads, tokens.shape[-1])
        sums.append(tokens.double().sum(2))
        width = tokens.shape[2]
    return (*sums, float(width))


def _attentions(model: nn.Module) -> dict[str, int]:
    return {name: module.heads for name, module in model.named_modules()
            if hasattr(module, "heads") and hasattr(module, "proj_conv")}


@torch.no_grad()
def additions(model: nn.Module, images: Tensor, batch: int = 250) -> dict[str, float]:
    """Mean useful additions per image by layer name, in evaluation mode, of images `[B, ...]`."""
    total: dict[str, float] = defaultdict(float)
    for part in images.split(batch):
        for name, value in _additions(model.eval(), part).items():
            total[name] += value / len(images)
    return dict(total)


def _additions(model: nn.Module, images: Tensor) -> dict[str, float]:
    with _recording(model) as record:
        model(images)
    total = {}
    for name, module, x, out in record.layers:
        source = record.neuron_of(x)
        if source is not None:
            digits = bits(record.neurons[source][0], x)
        elif name.startswith("downsample1_1"):
            digits = naf_count(torch.round(x * _IMAGE_SCALE)).float()
        else:
            digits = (x != 0).float() * _DIGITS
        total[name] = (_rep_conv(module, digits) if isinstance(module, RepConv)
                       else _dense(module, digits, out))
    for name, heads in _attentions(model).items():
        q, k, v, width = _heads(record, name, heads)
        total[f"{name}.sdsa"] = float((k * v).sum() + q.sum() * width)
    last = list(record.neurons.values())[-1][1]
    places = next(out for _, _, _, out in reversed(record.layers) if out.dim() > 2)
    total["pool"] = last.numel() * places.flatten(2).shape[2]
    return total


@torch.no_grad()
def prices(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Additions that one set bit costs on average, by neuron layer (a RepConv counts folded)."""
    with _recording(model.eval()) as record:
        model(images)
    price = dict.fromkeys(record.neurons, 0.0)
    for _, module, x, out in record.layers:
        source = record.neuron_of(x)
        if source is not None:
            ones = torch.ones_like(x)
            cost = (_folded(module, ones) if isinstance(module, RepConv)
                    else _dense(module, ones, out))
            price[source] += cost / x.numel()
    for name, heads in _attentions(model).items():
        _, k, v, width = _heads(record, name, heads)
        for letter, value in (("q", width), ("k", float(v.mean())), ("v", float(k.mean()))):
            for kind in ("lif", "spike"):
                if f"{name}.{letter}_{kind}" in price:
                    price[f"{name}.{letter}_{kind}"] += value
    return price


class _Push(torch.autograd.Function):
    """The identity, whose gradient is raised where a smaller input would save additions."""

    @staticmethod
    def forward(ctx, x: Tensor, pressure: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x, pressure)
        ctx.limit = limit
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, pressure = ctx.saved_tensors
        slope = torch.where(x > 1, 0.3, 1.0) * ((x > 0) & (x < ctx.limit))
        return gradient + (slope * pressure).to(gradient.dtype), None, None


class RatePenalty(nn.Module):
    """A network whose training also sees the gradient of what its activity costs.

    The penalty is `weight x sum / (images x unit)`, summed over all neurons with `price x f(x)`,
    where the slope of f is 1 between 0 and 1, and 0.3 from there to the highest level (binary
    neurons: to 3): the step from one bit to none gains most. Forward, nothing changes.
    """

    def __init__(self, model: nn.Module, price: dict[str, float], unit: float) -> None:
        super().__init__()
        self.model = model
        self.unit = unit
        device = next(model.parameters()).device
        self.register_buffer("pressure", torch.zeros((), device=device), persistent=False)
        self.handles = [neuron.register_forward_pre_hook(self._hook(neuron, price[name]))
                        for name, neuron in neuron_layers(model).items()]

    def close(self) -> None:
        """Take the penalty off the network."""
        for handle in self.handles:
            handle.remove()

    def set_weight(self, weight: float, images: int) -> None:
        """Weight of the penalty for batches of so many images."""
        self.pressure.fill_(weight / (images * self.unit))

    def _hook(self, neuron: Lif | MultiSpike, price: float):
        limit = float(neuron.max_level) if isinstance(neuron, MultiSpike) else 3.0

        def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            return (_Push.apply(args[0], self.pressure * price, limit),)
        return hook

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
