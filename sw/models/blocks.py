# SPDX-License-Identifier: Apache-2.0
"""Building blocks of Meta-SpikeFormer, with the published attribute names.

Maps are `[T, B, C, H, W]`. Each block adds its branches to a real-valued residual stream (membrane
shortcut); every branch starts with a neuron.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.models.lif import Lif

__all__ = ["Attention", "ConvBlock", "Downsampling", "Mlp", "RepConv", "SepConv", "SpikeBlock",
           "TokenConv"]


def _conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


def each(x: Tensor, *layers: nn.Module) -> Tensor:
    """Apply layers that know no time axis."""
    steps, batch = x.shape[:2]
    x = x.flatten(0, 1)
    for layer in layers:
        x = layer(x)
    return x.unflatten(0, (steps, batch))


class TokenConv(nn.Conv1d):
    """Pointwise Conv1d, evaluated as a 2-D convolution, which is faster on a GPU."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.unsqueeze(-1), self.weight.unsqueeze(-1), self.bias).squeeze(-1)


class BNAndPadLayer(nn.Module):
    """Batch norm, then padding by what the running statistics make of zero."""

    def __init__(self, channels: int, padding: int = 1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        x = bn(x)
        value = bn.bias.detach() - bn.running_mean * bn.weight.detach() / torch.sqrt(
            bn.running_var + bn.eps)
        border = F.pad(x.new_zeros(x.shape[-2:]), [self.padding] * 4, value=1.0)
        return F.pad(x, [self.padding] * 4) + value.to(x.dtype)[:, None, None] * border


class RepConv(nn.Module):
    """1x1, BN and pad, 3x3 depthwise, 1x1, BN: folds into one dense 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels, 1),
            BNAndPadLayer(channels),
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, groups=channels, bias=False),
                _conv(channels, channels, 1),
                nn.BatchNorm2d(channels),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Downsampling(nn.Module):
    """(neuron,) convolution with bias, BN."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, first: bool) -> None:
        super().__init__()
        if not first:
            self.encode_lif = Lif()
        self.first = first
        self.encode_conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        self.encode_bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            x = self.encode_lif(x)
        return each(x, self.encode_conv, self.encode_bn)


class SepConv(nn.Module):
    """Inverted separable convolution: 1x1, depthwise, 1x1."""

    def __init__(self, channels: int, ratio: int, kernel: int) -> None:
        super().__init__()
        hidden = ratio * channels
        self.lif1 = Lif()
        self.pwconv1 = _conv(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.lif2 = Lif()
        self.dwconv = _conv(hidden, hidden, kernel, groups=hidden)
        self.pwconv2 = _conv(hidden, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = each(self.lif1(x), self.pwconv1, self.bn1)
        return each(self.lif2(x), self.dwconv, self.pwconv2, self.bn2)


class ConvBlock(nn.Module):
    """SepConv, then two dense convolutions ("channel conv"), each with its shortcut."""

    def __init__(self, channels: int, ratio: int, kernel: int, sep_ratio: int,
                 sep_kernel: int) -> None:
        super().__init__()
        self.Conv = SepConv(channels, sep_ratio, sep_kernel)
        self.lif1 = Lif()
        self.conv1 = _conv(channels, ratio * channels, kernel)
        self.bn1 = nn.BatchNorm2d(ratio * channels)
        self.lif2 = Lif()
        self.conv2 = _conv(ratio * channels, channels, kernel)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv(x) + x
        hidden = each(self.lif1(x), self.conv1, self.bn1)
        return x + each(self.lif2(hidden), self.conv2, self.bn2)


class Attention(nn.Module):
    """Spike-driven self-attention SDSA-3: `lif(q (k^T v) / 8)` in each head, no softmax."""

    scale = 0.125

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_lif = Lif()
        for name in ("q", "k", "v"):
            setattr(self, f"{name}_conv", nn.Sequential(RepConv(channels),
                                                        nn.BatchNorm2d(channels)))
            setattr(self, f"{name}_lif", Lif())
        self.attn_lif = Lif(0.5)
        self.proj_conv = nn.Sequential(RepConv(channels), nn.BatchNorm2d(channels))

    def _split(self, spikes: Tensor) -> Tensor:
        """`[T, B, C, H, W]` to `[T, B, heads, N, d]`; channel c is head c // d, index c % d."""
        return spikes.flatten(3).unflatten(2, (self.heads, -1)).transpose(-1, -2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        spikes = self.head_lif(x)
        q = self._split(self.q_lif(each(spikes, self.q_conv)))
        k = self._split(self.k_lif(each(spikes, self.k_conv)))
        v = self._split(self.v_lif(each(spikes, self.v_conv)))
        mixed = (q @ (k.transpose(-2, -1) @ v)) * self.scale
        spikes = self.attn_lif(mixed.transpose(-1, -2).flatten(2, 3))
        return each(spikes.unflatten(3, (height, width)), self.proj_conv)


class Mlp(nn.Module):
    """Two pointwise layers with bias on the tokens."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1_lif = Lif()
        self.fc1_conv = TokenConv(channels, ratio * channels)
        self.fc1_bn = nn.BatchNorm1d(ratio * channels)
        self.fc2_lif = Lif()
        self.fc2_conv = TokenConv(ratio * channels, channels)
        self.fc2_bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = each(self.fc1_lif(x.flatten(3)), self.fc1_conv, self.fc1_bn)
        out = each(self.fc2_lif(hidden), self.fc2_conv, self.fc2_bn)
        return out.unflatten(3, tuple(x.shape[-2:]))


class SpikeBlock(nn.Module):
    """Transformer block: attention and MLP, each with its shortcut."""

    def __init__(self, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.attn = Attention(channels, heads)
        self.mlp = Mlp(channels, ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)
