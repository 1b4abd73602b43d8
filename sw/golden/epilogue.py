# SPDX-License-Identifier: Apache-2.0
"""What follows the sums of a layer: bias, shift, residual, and the checked widths."""

from typing import NamedTuple

import torch

from sw.golden.numbers import check_signed, per_channel, shift_floor

__all__ = ["Epilogue", "epilogue"]


class Epilogue(NamedTuple):
    """Results `[T, O, OH, OW]` int64."""

    shifted: torch.Tensor               # s, the integer or logits output
    residual: torch.Tensor | None       # y, when the layer writes a residual stream
    current: torch.Tensor               # n, the input of the layer's neuron


def epilogue(acc: torch.Tensor, bias: torch.Tensor, shift: torch.Tensor, *,
             writes_residual: bool, residual: torch.Tensor | None = None,
             name: str = "layer") -> Epilogue:
    """`acc` int64 `[T, O, OH, OW]`, `bias` and `shift` `[O]`, `residual` `[1 or T, O, OH, OW]`.

        z = acc + bias;  s = floor(z / 2^shift);  y = residual + s;  n = y if residual else z

    Rounds down; the rounding half is part of the bias. Raises `OverflowBoundError` when z leaves
    28 bits or y leaves 16.
    """
    total = check_signed(acc + per_channel(bias), 28, f"layer '{name}': acc + bias")
    shifted = shift_floor(total, per_channel(shift))
    if not writes_residual:
        return Epilogue(shifted, None, total)
    summed = shifted if residual is None else residual.to(torch.int64) + shifted
    check_signed(summed, 16, f"layer '{name}': the residual stream")
    return Epilogue(shifted, summed, summed)
