# SPDX-License-Identifier: Apache-2.0
"""Windows of spikes or integers: their bit planes, weight rows and golden sums."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from hw.presets import WORD_BITS
from sw.golden.conv import conv, depthwise
from sw.golden.numbers import naf

__all__ = ["MODES", "Maps", "Mode", "random_maps", "random_weights", "sums", "to_words",
           "weight_rows"]


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a CONV adds. ``bits`` of the inputs: 0 spikes, else signed digits or levels."""

    depthwise: bool = False
    bits: int = 0
    digits: bool = False
    counts: bool = False
    """Weights are counts of two bytes, added byte by byte."""

    @property
    def planes(self) -> int:
        """Bit planes of an input."""
        if self.counts:
            return 2
        return max(1, self.bits * (2 if self.digits else 1))

    @property
    def plane_shift(self) -> int:
        """Doublings from plane to plane, or from one +digits plane to the next."""
        return 8 if self.counts else 1


MODES = {
    "spikes": Mode(), "digits": Mode(bits=5, digits=True), "levels": Mode(bits=3),
    "counts": Mode(counts=True), "depthwise": Mode(depthwise=True),
    "depthwise_digits": Mode(depthwise=True, bits=4, digits=True),
}


@dataclasses.dataclass
class Maps:
    """Inputs `[T, C, H, W]` and their planes `[T, planes, C, H, W]`, most significant first."""

    values: torch.Tensor
    planes: np.ndarray


def random_maps(random: np.random.Generator, mode: Mode, shape: tuple[int, ...],
                density: float) -> Maps:
    """Inputs of a mode; ``density`` is the share that isn't zero, 1.0 gives the largest values."""
    chosen = random.random(shape) < density
    if mode.digits:
        low, high = -(1 << mode.bits - 1), (1 << mode.bits - 1) - 1
        value = np.full(shape, low) if density == 1 else random.integers(low, high + 1, shape)
    elif mode.bits:
        top = (1 << mode.bits) - 1
        value = np.full(shape, top) if density == 1 else random.integers(0, top + 1, shape)
    else:
        value = np.ones(shape, int)
    values = torch.from_numpy(np.where(chosen, value, 0).astype(np.int64))
    if mode.digits:
        digits = naf(values, mode.bits).flip(-1)
        planes = torch.stack([digits == 1, digits == -1], -1).flatten(-2).movedim(-1, 1)
    elif mode.bits:
        planes = torch.stack([values >> bit & 1 for bit in range(mode.bits - 1, -1, -1)], 1)
    else:
        planes = values[:, None].repeat(1, mode.planes, 1, 1, 1)
    return Maps(values, planes.numpy().astype(np.uint8))


def to_words(bits: np.ndarray) -> np.ndarray:
    """`[..., C, H, W]` of 0 and 1 -> words `[..., H, W, C / 32]`."""
    packed = np.packbits(np.moveaxis(bits, -3, -1), axis=-1, bitorder="little")
    return packed.view("<u4")


def random_weights(random: np.random.Generator, mode: Mode, lanes: int, words: int,
                   kernel: tuple[int, int], extreme: int | None = None) -> torch.Tensor:
    """int64 `[lanes, 32 words or 1, kh, kw]`; all ``extreme`` if given."""
    shape = (lanes, 1 if mode.depthwise else WORD_BITS * words, *kernel)
    low, high = (0, 1 << 12) if mode.counts else (-128, 128)
    values = random.integers(low, high, shape) if extreme is None else np.full(shape, extreme)
    return torch.from_numpy(values.astype(np.int64))


def weight_rows(mode: Mode, weights: torch.Tensor) -> np.ndarray:
    """Rows `[planes that have their own, rows, lanes]` as bytes, in window order."""
    rows = weights.permute(2, 3, 1, 0).reshape(-1, weights.shape[0]).numpy()
    parts = [rows >> 8, rows] if mode.counts else [rows]
    return np.stack([part & 255 for part in parts]).astype(np.uint8)


def sums(mode: Mode, maps: Maps, weights: torch.Tensor, stride: int = 1,
         padding: int = 0) -> np.ndarray:
    """Golden sums `[T, lanes, OH, OW]`."""
    function = depthwise if mode.depthwise else conv
    return function(maps.values, weights, stride, padding).numpy()
