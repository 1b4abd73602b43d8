# SPDX-License-Identifier: Apache-2.0
"""Sizes of a Meta-SpikeFormer network, and their inference from a checkpoint's keys and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from torch import Tensor

__all__ = ["DOWNSAMPLINGS", "STAGES", "CheckpointError", "MetaSpikeFormerConfig", "Shapes",
           "configured", "infer_config"]

_Config = TypeVar("_Config")

DOWNSAMPLINGS = ("downsample1_1", "downsample1_2", "downsample2", "downsample3", "downsample4")
STAGES = ("ConvBlock1_1", "ConvBlock1_2", "ConvBlock2_1", "ConvBlock2_2", "block3", "block4")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the key."""


@dataclass(frozen=True, kw_only=True)
class MetaSpikeFormerConfig:
    """Everything that determines a network; the defaults are the published 15M network's.

    `depths` counts the blocks of ConvBlock1_1, 1_2, 2_1, 2_2, block3, block4; `kernels` and
    `strides` are those of downsample1_1, 1_2, 2, 3, 4 (padding is kernel // 2 everywhere).
    """

    in_channels: int = 3
    num_classes: int = 1000
    stem_channels: int = 32
    embed_dims: tuple[int, int, int, int] = (64, 128, 256, 360)
    depths: tuple[int, int, int, int, int, int] = (1, 1, 1, 1, 6, 2)
    num_heads: int = 8
    conv_ratio: int = 4
    sep_ratio: int = 2
    mlp_ratio: int = 4
    conv_kernel: int = 3
    sep_kernel: int = 7
    kernels: tuple[int, int, int, int, int] = (7, 3, 3, 3, 3)
    strides: tuple[int, int, int, int, int] = (2, 2, 2, 2, 1)
    time_steps: int = 1
    kd: bool = False

    def __post_init__(self) -> None:
        for name, length in (("embed_dims", 4), ("depths", 6), ("kernels", 5), ("strides", 5)):
            value = tuple(int(item) for item in getattr(self, name))
            object.__setattr__(self, name, value)
            if len(value) != length:
                raise ValueError(f"{name} must have {length} entries, got {value}")
            if min(value) < (0 if name == "depths" else 1):
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("in_channels", "num_classes", "stem_channels", "num_heads", "conv_ratio",
                     "sep_ratio", "mlp_ratio", "conv_kernel", "sep_kernel", "time_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, value in (("conv_kernel", self.conv_kernel), ("sep_kernel", self.sep_kernel),
                            *(("kernels", kernel) for kernel in self.kernels)):
            if value % 2 == 0:
                raise ValueError(f"{name} must be odd, got {value}")
        for stage, depth, width in zip(STAGES[4:], self.depths[4:], self.embed_dims[2:],
                                       strict=True):
            if depth and width % self.num_heads:
                raise ValueError(f"{stage}: {width} channels do not split into "
                                 f"{self.num_heads} heads")

    @property
    def widths(self) -> tuple[int, int, int, int, int]:
        """Channels behind each of the five downsamplings."""
        return (self.stem_channels, *self.embed_dims)


class Shapes:
    """Shapes by key, with errors that name the source and the key."""

    def __init__(self, state: Mapping[str, Tensor], source: str, family: str) -> None:
        self.state, self.source, self.family = state, source, family

    def __call__(self, key: str, rank: int) -> tuple[int, ...]:
        """Shape of a key that must be there with that many dimensions."""
        if key not in self.state:
            raise CheckpointError(f"{self.source}: no key {key!r}: not {self.family}")
        shape = tuple(self.state[key].shape)
        if len(shape) != rank:
            raise CheckpointError(f"{self.source}: {key!r} must have {rank} dimensions, "
                                  f"has shape {shape}")
        return shape

    def depth(self, stage: str) -> int:
        """Number of blocks of a stage."""
        found = {int(key.split(".")[1]) for key in self.state
                 if key.startswith(stage + ".") and key.split(".")[1].isdigit()}
        if found != set(range(len(found))):
            raise CheckpointError(f"{self.source}: {stage!r} has blocks {sorted(found)}, "
                                  f"expected 0..{len(found) - 1}")
        return len(found)


def configured(kind: type[_Config], sizes: Mapping[str, object],
               overrides: Mapping[str, object], source: str) -> _Config:
    """A configuration of stored sizes and what the user, or a default, adds to them.

    An override that contradicts the sizes, or an unknown one, is an error.
    """
    known = {field.name for field in fields(kind)}
    more = {}
    for name, value in overrides.items():
        value = tuple(value) if isinstance(value, list) else value
        if name not in known:
            raise CheckpointError(f"{source}: {name!r} is not a field of the configuration")
        if name in sizes and sizes[name] != value:
            raise CheckpointError(f"{source}: {name} is {sizes[name]} by the stored shapes, "
                                  f"not {value}")
        more[name] = value
    try:
        return kind(**{**sizes, **more})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: {error}") from error


def infer_config(
    state: Mapping[str, Tensor], source: str = "state_dict", **overrides: object
) -> MetaSpikeFormerConfig:
    """Read the sizes from keys and shapes; `overrides` set what a state_dict cannot tell.

    Strides, heads and time steps are the published ones (2, 2, 2, 2, 1; 8; 1) unless overridden. An
    override that contradicts the shapes, or an unknown one, is an error.
    """
    shapes = Shapes(state, source, "a Meta-SpikeFormer")
    convs = [shapes(f"{name}.encode_conv.weight", 4) for name in DOWNSAMPLINGS]
    depths = tuple(shapes.depth(stage) for stage in STAGES)
    sizes: dict[str, object] = {
        "in_channels": convs[0][1],
        "stem_channels": convs[0][0],
        "embed_dims": tuple(shape[0] for shape in convs[1:]),
        "kernels": tuple(shape[2] for shape in convs),
        "depths": depths,
        "num_classes": shapes("head.weight", 2)[0],
        "kd": "head_kd.weight" in state,
    }
    for stage, depth in zip(STAGES[:4], depths[:4], strict=True):
        if depth:
            hidden, width, _, sizes["conv_kernel"] = shapes(f"{stage}.0.conv1.weight", 4)
            sizes["conv_ratio"] = hidden // width
            hidden, _, _, sizes["sep_kernel"] = shapes(f"{stage}.0.Conv.dwconv.weight", 4)
            sizes["sep_ratio"] = hidden // width
            break
    for stage, depth in zip(STAGES[4:], depths[4:], strict=True):
        if depth:
            hidden, width, _ = shapes(f"{stage}.0.mlp.fc1_conv.weight", 3)
            sizes["mlp_ratio"] = hidden // width
            break
    return configured(MetaSpikeFormerConfig, sizes, overrides, source)
