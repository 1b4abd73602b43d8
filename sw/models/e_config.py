# SPDX-License-Identifier: Apache-2.0
"""Sizes of an E-SpikeFormer network, and their inference from a checkpoint's keys and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sw.models.config import DOWNSAMPLINGS, STAGES, Shapes, configured
from sw.models.multispike import ROUNDINGS

__all__ = ["E_SIZES", "LARGE_SIZES", "ESpikeFormerConfig", "infer_e_config"]

_TUPLES = ("embed_dims", "depths", "kernels", "strides")
_COUNTS = ("in_channels", "num_classes", "stem_channels", "num_heads", "conv_ratio", "sep_ratio",
           "mlp_ratio", "value_ratio", "conv_kernel", "sep_kernel", "token_kernel", "max_level")


@dataclass(frozen=True, kw_only=True)
class ESpikeFormerConfig:
    """Everything that determines a network; the defaults are the published 5.1M network's.

    `embed_dims` has three entries (no downsample4 and block4) or four. `depths` counts the blocks
    of ConvBlock1_1, 1_2, 2_1, 2_2, block3 (, block4); `kernels` and `strides` are those of
    downsample1_1, 1_2, 2, 3 (, 4); padding is kernel // 2 everywhere. `sep_kernel` is the
    depthwise kernel of the convolution blocks, `token_kernel` that of the transformer blocks.

    `large` selects the large family's blocks: convolution blocks with bias and without SepConv,
    RepConv projections in the attention, scale 1/8, no wider values. `rep_conv` gives its
    transformer blocks a first branch (a RepConv instead of the SepConv). `layer_scale`: a factor
    for each channel behind each branch. `head_levels`: the head reads the levels of the pooled
    stream; otherwise its real values.
    """

    in_channels: int = 3
    num_classes: int = 1000
    stem_channels: int = 16
    embed_dims: tuple[int, ...] = (32, 64, 128, 192)
    depths: tuple[int, ...] = (1, 1, 1, 1, 6, 2)
    num_heads: int = 8
    conv_ratio: int = 4
    sep_ratio: int = 2
    mlp_ratio: int = 4
    value_ratio: int = 4
    conv_kernel: int = 3
    sep_kernel: int = 7
    token_kernel: int = 3
    kernels: tuple[int, ...] = (7, 3, 3, 3, 3)
    strides: tuple[int, ...] = (2, 2, 2, 2, 1)
    max_level: int = 4
    rounding: str = "even"
    large: bool = False
    rep_conv: bool = False
    layer_scale: bool = False
    head_levels: bool = True
    kd: bool = False

    def __post_init__(self) -> None:
        for name in _TUPLES:
            object.__setattr__(self, name, tuple(int(item) for item in getattr(self, name)))
        if len(self.embed_dims) not in (3, 4):
            raise ValueError(f"embed_dims must have 3 or 4 entries, got {self.embed_dims}")
        for name, more in (("depths", 2), ("kernels", 1), ("strides", 1), ("embed_dims", 0)):
            value, length = getattr(self, name), len(self.embed_dims) + more
            if len(value) != length:
                raise ValueError(f"{name} must have {length} entries, got {value}")
            if min(value) < (0 if name == "depths" else 1):
                raise ValueError(f"{name} must be positive, got {value}")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("conv_kernel", "sep_kernel", "token_kernel", "kernels"):
            value = getattr(self, name)
            for kernel in value if isinstance(value, tuple) else (value,):
                if kernel % 2 == 0:
                    raise ValueError(f"{name} must be odd, got {kernel}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {ROUNDINGS}, got {self.rounding!r}")
        if self.rep_conv and not self.large:
            raise ValueError("rep_conv belongs to the large family")
        if self.large and self.value_ratio != 1:
            raise ValueError(f"value_ratio must be 1 in the large family, got {self.value_ratio}")
        for stage, depth, width in zip(self.stages[4:], self.depths[4:], self.embed_dims[2:],
                                       strict=True):
            if depth and width % self.num_heads:
                raise ValueError(f"{stage}: {width} channels do not split into "
                                 f"{self.num_heads} heads")

    @property
    def downsamplings(self) -> tuple[str, ...]:
        """Names of the downsamplings."""
        return DOWNSAMPLINGS[:len(self.embed_dims) + 1]

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the lists of blocks."""
        return STAGES[:len(self.embed_dims) + 2]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels behind each downsampling."""
        return (self.stem_channels, *self.embed_dims)


def _base(*embed_dims: int) -> ESpikeFormerConfig:
    return ESpikeFormerConfig(stem_channels=embed_dims[0] // 2, embed_dims=embed_dims)


def _large(*embed_dims: int, rep_conv: bool) -> ESpikeFormerConfig:
    return ESpikeFormerConfig(
        stem_channels=embed_dims[0] // 2, embed_dims=embed_dims, depths=(1, 1, 1, 1, 12),
        kernels=(7, 3, 3, 3), strides=(2, 2, 2, 2), value_ratio=1, max_level=8, rounding="up",
        large=True, rep_conv=rep_conv, layer_scale=True, head_levels=False, kd=True)


E_SIZES = {"t": _base(24, 48, 96, 128), "s": _base(32, 64, 128, 192),
           "m": _base(48, 96, 192, 240), "l": _base(64, 128, 256, 360)}
"""The published base family."""

LARGE_SIZES = {"12_512": _large(128, 256, 512, rep_conv=True),
               "12_768": _large(196, 384, 768, rep_conv=False)}
"""The published large family, with D = 8."""


def _block_sizes(shapes: Shapes, depths: dict[str, int]) -> dict[str, object]:
    """What the first convolution block and the first transformer block tell."""
    sizes: dict[str, object] = {}
    for stage in [name for name in STAGES[:4] if depths.get(name)][:1]:
        sizes["large"] = f"{stage}.0.conv1.0.0.weight" in shapes.state
        key = f"{stage}.0.conv1.0.0.weight" if sizes["large"] else f"{stage}.0.conv1.weight"
        hidden, width, _, sizes["conv_kernel"] = shapes(key, 4)
        sizes["conv_ratio"] = hidden // width
        if not sizes["large"]:
            hidden, _, _, sizes["sep_kernel"] = shapes(f"{stage}.0.Conv.dwconv.0.weight", 4)
            sizes["sep_ratio"] = hidden // width
    for stage in [name for name in STAGES[4:] if depths.get(name)][:1]:
        hidden, width, _ = shapes(f"{stage}.0.mlp.fc1_conv.weight", 3)
        sizes["mlp_ratio"] = hidden // width
        sizes["large"] = f"{stage}.0.attn.q_conv.0.conv1.0.weight" in shapes.state
        sizes["layer_scale"] = f"{stage}.0.layer_scale1" in shapes.state
        if sizes["large"]:
            sizes["rep_conv"] = f"{stage}.0.rep_conv.conv1.0.weight" in shapes.state
        else:
            hidden, _, _, sizes["token_kernel"] = shapes(f"{stage}.0.conv.dwconv.0.weight", 4)
            sizes["sep_ratio"] = hidden // width
            sizes["value_ratio"] = shapes(f"{stage}.0.attn.v_conv.0.weight", 4)[0] // width
    return sizes


def infer_e_config(
    state: Mapping[str, Tensor], source: str = "state_dict", **overrides: object
) -> ESpikeFormerConfig:
    """Read the sizes from keys and shapes; `overrides` set what a state_dict cannot tell.

    Strides, heads, levels, rounding and the head's input are the published ones of the family
    unless overridden. An override that contradicts the shapes, or an unknown one, is an error.
    """
    shapes = Shapes(state, source, "an E-SpikeFormer")
    last = 5 if "downsample4.encode_conv.weight" in state else 4
    convs = [shapes(f"{name}.encode_conv.weight", 4) for name in DOWNSAMPLINGS[:last]]
    depths = {stage: shapes.depth(stage) for stage in STAGES[:last + 1]}
    sizes: dict[str, object] = {
        "in_channels": convs[0][1],
        "stem_channels": convs[0][0],
        "embed_dims": tuple(shape[0] for shape in convs[1:]),
        "kernels": tuple(shape[2] for shape in convs),
        "depths": tuple(depths.values()),
        "num_classes": shapes("head.weight", 2)[0],
        "kd": "head_kd.weight" in state,
        **_block_sizes(shapes, depths),
    }
    assumed: dict[str, object] = {"strides": (2, 2, 2, 2, 1)[:last]}
    if sizes.get("large"):
        assumed |= {"max_level": 8, "rounding": "up", "head_levels": False, "value_ratio": 1}
    assumed = {name: value for name, value in assumed.items() if name not in sizes}
    return configured(ESpikeFormerConfig, sizes, assumed | overrides, source)
