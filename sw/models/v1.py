# SPDX-License-Identifier: Apache-2.0
"""The transformer block of the first Spike-driven Transformer, with SDSA-1.

Yao et al., NeurIPS 2023 (arXiv 2307.01694), equations 9 to 12, in the attribute names of the
published code. Maps are `[T, B, C, H, W]`, as in `sw.models.blocks`, whose blocks it can replace.
"""

from torch import Tensor, nn

from sw.models.blocks import each
from sw.models.lif import Lif

__all__ = ["MaskAttention", "V1Block", "V1Mlp"]


class MaskAttention(nn.Module):
    """SDSA-1: `Q * SN(sum over tokens of K * V)`, channel by channel; heads make no difference.

    The published module also holds `talking_heads` and `attn_lif`, which nothing uses.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shortcut_lif = Lif()
        for name in ("q", "k", "v"):
            self.add_module(f"{name}_conv", nn.Conv2d(channels, channels, 1, bias=False))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))
            self.add_module(f"{name}_lif", Lif())
        self.talking_heads_lif = Lif(0.5)
        self.proj_conv = nn.Conv2d(channels, channels, 1)
        self.proj_bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.shortcut_lif(x)
        q, k, v = (getattr(self, f"{name}_lif")(each(
            spikes, getattr(self, f"{name}_conv"), getattr(self, f"{name}_bn")))
            for name in "qkv")
        mask = self.talking_heads_lif((k * v).sum((-2, -1), keepdim=True))
        return each(q * mask, self.proj_conv, self.proj_bn)


class V1Mlp(nn.Module):
    """Two pointwise layers with bias."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1_lif, self.fc2_lif = Lif(), Lif()
        self.fc1_conv = nn.Conv2d(channels, ratio * channels, 1)
        self.fc1_bn = nn.BatchNorm2d(ratio * channels)
        self.fc2_conv = nn.Conv2d(ratio * channels, channels, 1)
        self.fc2_bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = each(self.fc1_lif(x), self.fc1_conv, self.fc1_bn)
        return each(self.fc2_lif(hidden), self.fc2_conv, self.fc2_bn)


class V1Block(nn.Module):
    """Attention and MLP, each with its membrane shortcut."""

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.attn = MaskAttention(channels)
        self.mlp = V1Mlp(channels, ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)
