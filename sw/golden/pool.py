# SPDX-License-Identifier: Apache-2.0
"""The spatial sum before the last neuron (its division is folded into the threshold)."""

import torch

__all__ = ["pool"]


def pool(residual: torch.Tensor) -> torch.Tensor:
    """Residual words `[T, C, H, W]` -> sums over the map, int64 `[T, C, 1, 1]`."""
    return residual.to(torch.int64).sum((2, 3), keepdim=True)
