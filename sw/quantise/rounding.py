# SPDX-License-Identifier: Apache-2.0
"""Rounding real weights to int8: the scale of each channel, and the integers.

`importance` `[I, kh, kw]`, where given, weighs the squared error of each weight: the mean square of
the input that it meets (for a spike: how often it fires inside the map).
"""

import torch
from torch import Tensor

__all__ = ["LIMIT", "free_scales", "power_of_two_scales", "round_weights"]

LIMIT = 127
_SHRINK = torch.linspace(1.0, 0.7, 25, dtype=torch.float64)


def round_weights(weight: Tensor, scale: Tensor) -> Tensor:
    """round(weight / scale), within -127..127, as float64 integers; `scale` is `[O]`."""
    return (weight / scale[:, None, None, None]).round().clamp(-LIMIT, LIMIT)


def _error(weight: Tensor, scale: Tensor, importance: Tensor | None) -> Tensor:
    squares = (round_weights(weight, scale) * scale[:, None, None, None] - weight).square()
    return (squares if importance is None else squares * importance).flatten(1).sum(1)


def free_scales(weight: Tensor, least: Tensor | None = None,
                importance: Tensor | None = None) -> Tensor:
    """The scale of each channel with the least squared error, max/127 or somewhat smaller.

    At least `least` (which keeps bias / scale in its bound), and 1 for a channel of zeros.
    """
    largest = weight.abs().flatten(1).amax(1)
    full = largest / LIMIT
    if least is not None:
        full = full.maximum(least)
    full = torch.where(full > 0, full, 1.0)
    best, best_error = full, _error(weight, full, importance)
    for factor in _SHRINK[1:]:
        trial = full * factor if least is None else (full * factor).maximum(least)
        error = _error(weight, trial, importance)
        better = error < best_error
        best = torch.where(better, trial, best)
        best_error = torch.where(better, error, best_error)
    return best


def power_of_two_scales(weight: Tensor, importance: Tensor | None = None) -> Tensor:
    """Exponents e `[O]` (float64 integers): the scale 2^-e with the least squared error.

    The largest scale that clips nothing, or half of it where clipping a few weights pays.
    """
    largest = weight.abs().flatten(1).amax(1).clamp(min=1e-30)
    exponent = (LIMIT / largest).log2().floor()
    clipped = exponent + 1
    pays = (_error(weight, torch.exp2(-clipped), importance)
            < _error(weight, torch.exp2(-exponent), importance))
    return torch.where(pays, clipped, exponent)
