# SPDX-License-Identifier: Apache-2.0
"""How busy a network's maps are: the set bits that its layers add weights for."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from sw.golden.network import evaluate
from sw.golden.numbers import naf_count
from sw.model_file import MAPS, IntegerModel

__all__ = ["set_bits", "with_activity"]

IMAGES = 8
"""Images that are enough to measure the mean."""


def set_bits(model: IntegerModel, tensors: Mapping[str, torch.Tensor],
             ones: bool = False) -> dict[str, int]:
    """Set bits in all planes of each map, from the golden model's tensors.

    Spikes count as they are, images and integer maps in signed digits, levels in binary digits, or
    with `ones` as that many spikes.
    """
    found = {}
    for name, value in tensors.items():
        tensor = model.tensors.get(name)
        kind = tensor and tensor.kind
        if kind in ("image", "integer"):
            found[name] = int(naf_count(value).sum())
        elif kind == "levels" and not ones:
            found[name] = sum(int((value >> bit & 1).sum())
                              for bit in range(tensor.levels.bit_length()))
        elif kind in MAPS:
            found[name] = int(value.sum(dtype=torch.int64))
    return found


def with_activity(model: IntegerModel, images: torch.Tensor) -> IntegerModel:
    """`model` with the mean activity that the first of some integer images `[B, Ti, C, H, W]`
    cause."""
    images = images[:IMAGES]
    total: dict[str, int] = {}
    for image in images:
        for name, bits in set_bits(model, evaluate(model, image)).items():
            total[name] = total.get(name, 0) + bits
    return replace(model, activity={
        name: bits / len(images) / model.tensors[name].elements for name, bits in total.items()})
