# SPDX-License-Identifier: Apache-2.0
"""The maps of a backbone's stages, as networks for detection and segmentation want them."""

from collections.abc import Mapping

import torch

from sw.errors import AddendError
from sw.model_file import IntegerModel

__all__ = ["feature_maps", "require_features"]


def require_features(model: IntegerModel) -> None:
    """Raise `AddendError` when the model was quantised without features."""
    if not model.features:
        raise AddendError(f"model '{model.name}' names no features: quantise it with --features")


def feature_maps(model: IntegerModel,
                 tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Maps of each stage from tensors `[T, C, H, W]`, of the golden model or the accelerator.

    "residual": the real-valued stream, float32; "spikes" (or "levels"): what a neuron makes of it,
    in its real values, 0 to 1. Raises `AddendError` when the model was quantised without features.
    """
    require_features(model)
    found = {}
    for stage, roles in model.features.items():
        found[stage] = {}
        for role, name in roles.items():
            unit = (2.0 ** -model.residual_fraction if role == "residual"
                    else 1 / model.tensors[name].levels)
            found[stage][role] = tensors[name].to(torch.float32) * unit
    return found
