# SPDX-License-Identifier: Apache-2.0
"""Building blocks of E-SpikeFormer's large family, with the published attribute names.

Differences from the base family: convolutions with bias and no SepConv, attention whose
projections are pairs of 1x1 convolutions (they fold to one), scale 1/8, layer scale.
"""

from torch import Tensor, nn

from sw.models.blocks import TokenConv
from sw.models.e_blocks import LayerScale, Mlp, Neurons, linear_attention
from sw.models.e_config import ESpikeFormerConfig

__all__ = ["LargeAttention", "LargeConvBlock", "LargeTransformerBlock", "TokenRepConv"]


def _biased(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs)))


class LargeConvBlock(nn.Module):
    """Two dense convolutions with bias and their shortcut."""

    def __init__(self, channels: int, config: ESpikeFormerConfig, neurons: Neurons) -> None:
        super().__init__()
        hidden = config.conv_ratio * channels
        self.neuron1 = neurons()
        self.conv1 = _biased(channels, hidden, config.conv_kernel)
        self.neuron2 = neurons()
        self.conv2 = _biased(hidden, channels, config.conv_kernel)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.neuron2(self.conv1(self.neuron1(x))))


class TokenRepConv(nn.Module):
    """1x1, BN, 1x1, BN on tokens, with real values between: folds to one 1x1."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(TokenConv(channels, hidden, bias=False), nn.BatchNorm1d(hidden))
        self.conv2 = nn.Sequential(TokenConv(hidden, channels, bias=False),
                                   nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class LargeAttention(nn.Module):
    """Attention on tokens `[B, C, N]`; each projection is a RepConv (1.5 times wider) and BN."""

    scale = 0.125

    def __init__(self, channels: int, heads: int, neurons: Neurons) -> None:
        super().__init__()
        self.heads = heads
        self.head_lif = neurons()
        for name in ("q", "k", "v"):
            self.add_module(f"{name}_conv", self._projection(channels))
            self.add_module(f"{name}_lif", neurons())
        self.attn_lif = neurons()
        self.proj_conv = self._projection(channels)

    @staticmethod
    def _projection(channels: int) -> nn.Sequential:
        return nn.Sequential(TokenRepConv(channels, int(1.5 * channels)), nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head_lif(x)
        q, k, v = self.q_lif(self.q_conv(x)), self.k_lif(self.k_conv(x)), self.v_lif(
            self.v_conv(x))
        return self.proj_conv(self.attn_lif(linear_attention(q, k, v, self.heads, self.scale)))


class LargeTransformerBlock(LayerScale):
    """(RepConv,) attention and MLP, each with its shortcut, the last two with layer scale."""

    def __init__(self, channels: int, config: ESpikeFormerConfig, neurons: Neurons) -> None:
        super().__init__()
        if config.rep_conv:
            self.rep_conv = TokenRepConv(channels, channels)
            self.lif = neurons()
        self.with_rep_conv = config.rep_conv
        self.attn = LargeAttention(channels, config.num_heads, neurons)
        self.mlp = Mlp(channels, config.mlp_ratio, neurons, "lif")
        self.add_scales(channels, 2, config.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        if self.with_rep_conv:
            tokens = tokens + self.rep_conv(self.lif(tokens))
        tokens = tokens + self.scaled(self.attn(tokens), 1)
        tokens = tokens + self.scaled(self.mlp(tokens), 2)
        return tokens.unflatten(2, tuple(x.shape[2:]))
