# SPDX-License-Identifier: Apache-2.0
"""Building blocks of E-SpikeFormer's base family, with the published attribute names.

Maps are `[B, C, H, W]`, tokens `[B, C, N]`. Each block adds its branches to a real-valued residual
stream; every branch starts with a multi-level spike. A `Neurons` call makes the network's neuron.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sw.models.blocks import TokenConv
from sw.models.e_config import ESpikeFormerConfig
from sw.models.multispike import MultiSpike

__all__ = ["ConvBlock", "Downsampling", "LayerScale", "LinearAttention", "Mlp", "Neurons",
           "SepConv", "TransformerBlock", "linear_attention"]

Neurons = Callable[[], MultiSpike]


def _conv_bn(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs))


class Downsampling(nn.Module):
    """(neuron,) convolution with bias, BN. The large family calls the neuron `encode_lif`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int,
                 neurons: Neurons | None, name: str = "encode_spike") -> None:
        super().__init__()
        self.encode_conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        self.encode_bn = nn.BatchNorm2d(outputs)
        self.neuron = name if neurons else ""
        if neurons:
            self.add_module(name, neurons())

    def forward(self, x: Tensor) -> Tensor:
        if self.neuron:
            x = getattr(self, self.neuron)(x)
        return self.encode_bn(self.encode_conv(x))


class SepConv(nn.Module):
    """Inverted separable convolution with three spikes: 1x1, depthwise, 1x1, each with BN."""

    def __init__(self, channels: int, ratio: int, kernel: int, neurons: Neurons) -> None:
        super().__init__()
        hidden = ratio * channels
        self.spike1, self.spike2, self.spike3 = neurons(), neurons(), neurons()
        self.pwconv1 = _conv_bn(channels, hidden, 1)
        self.dwconv = _conv_bn(hidden, hidden, kernel, groups=hidden)
        self.pwconv2 = _conv_bn(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pwconv1(self.spike1(x))
        x = self.dwconv(self.spike2(x))
        return self.pwconv2(self.spike3(x))


class ConvBlock(nn.Module):
    """SepConv, then two dense convolutions, each with its shortcut."""

    def __init__(self, channels: int, config: ESpikeFormerConfig, neurons: Neurons) -> None:
        super().__init__()
        hidden, kernel = config.conv_ratio * channels, config.conv_kernel
        self.Conv = SepConv(channels, config.sep_ratio, config.sep_kernel, neurons)
        self.spike1, self.spike2 = neurons(), neurons()
        self.conv1 = nn.Conv2d(channels, hidden, kernel, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, kernel, padding=kernel // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv(x) + x
        hidden = self.bn1(self.conv1(self.spike1(x)))
        return x + self.bn2(self.conv2(self.spike2(hidden)))


def linear_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """`(q (k^T v)) * scale` in each head, tokens `[B, C, N]`; channel c is head c // d.

    In fp32 every product of levels is a dyadic rational and every sum exact, so that the order of
    the two matrix products does not matter.
    """
    q, k, v = (x.unflatten(1, (heads, -1)) for x in (q, k, v))  # [B, heads, d, N]
    counts = k @ v.transpose(-2, -1)
    mixed = (q.transpose(-2, -1) @ counts) * scale
    return mixed.transpose(-2, -1).flatten(1, 2)


class LinearAttention(nn.Module):
    """E-SDSA: 1x1 projections, values `value_ratio` times wider, scale `2 / sqrt(d)`."""

    def __init__(self, channels: int, config: ESpikeFormerConfig, neurons: Neurons) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.scale = 2 * (channels // config.num_heads) ** -0.5
        values = config.value_ratio * channels
        self.head_spike = neurons()
        self.q_conv, self.q_spike = _conv_bn(channels, channels, 1), neurons()
        self.k_conv, self.k_spike = _conv_bn(channels, channels, 1), neurons()
        self.v_conv, self.v_spike = _conv_bn(channels, values, 1), neurons()
        self.attn_spike = neurons()
        self.proj_conv = _conv_bn(values, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head_spike(x)
        q, k, v = self.q_spike(self.q_conv(x)), self.k_spike(self.k_conv(x)), self.v_spike(
            self.v_conv(x))
        mixed = linear_attention(q.flatten(2), k.flatten(2), v.flatten(2), self.heads, self.scale)
        return self.proj_conv(self.attn_spike(mixed).unflatten(2, tuple(x.shape[-2:])))


class Mlp(nn.Module):
    """Two pointwise layers with bias on the tokens; `name` is the neurons' (`spike` or `lif`)."""

    def __init__(self, channels: int, ratio: int, neurons: Neurons, name: str = "spike") -> None:
        super().__init__()
        self.names = f"fc1_{name}", f"fc2_{name}"
        self.add_module(self.names[0], neurons())
        self.fc1_conv = TokenConv(channels, ratio * channels)
        self.fc1_bn = nn.BatchNorm1d(ratio * channels)
        self.add_module(self.names[1], neurons())
        self.fc2_conv = TokenConv(ratio * channels, channels)
        self.fc2_bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (getattr(self, name) for name in self.names)
        hidden = self.fc1_bn(self.fc1_conv(first(x.flatten(2))))
        out = self.fc2_bn(self.fc2_conv(second(hidden)))
        return out.unflatten(2, tuple(x.shape[2:]))


class LayerScale(nn.Module):
    """Mixin: a factor for each channel behind branch 1, 2, .. (`layer_scale1`, ..), or none."""

    def add_scales(self, channels: int, count: int, present: bool) -> None:
        """Create the factors, or remember that there are none."""
        for i in range(1, count + 1):
            scale = nn.Parameter(torch.full((channels,), 1e-6)) if present else None
            self.register_parameter(f"layer_scale{i}", scale)

    def scaled(self, branch: Tensor, index: int) -> Tensor:
        """A branch's output times its factors."""
        scale = getattr(self, f"layer_scale{index}")
        return branch if scale is None else branch * scale.view(-1, *[1] * (branch.dim() - 2))


class TransformerBlock(LayerScale):
    """SepConv, attention and MLP, each with its shortcut."""

    def __init__(self, channels: int, config: ESpikeFormerConfig, neurons: Neurons) -> None:
        super().__init__()
        self.conv = SepConv(channels, config.sep_ratio, config.token_kernel, neurons)
        self.attn = LinearAttention(channels, config, neurons)
        self.mlp = Mlp(channels, config.mlp_ratio, neurons)
        self.add_scales(channels, 3, config.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scaled(self.conv(x), 1)
        x = x + self.scaled(self.attn(x), 2)
        return x + self.scaled(self.mlp(x), 3)
