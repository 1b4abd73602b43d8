# SPDX-License-Identifier: Apache-2.0
"""Fast twins of the plain functions: floating-point convolutions whose every sum is exact.

A float32 sum of integers is exact in any order while every partial sum stays below 2^24 (float64:
2^53); `exact_dtype` picks the type from the proved bound. Maps have a leading image dimension:
`[B, T, C, H, W]`, on the CPU (a GPU may round to TF32). Tests prove each twin equal to its plain
function.
"""

import torch
from torch.nn import functional

from sw.errors import OverflowBoundError
from sw.golden.numbers import GUARD_BITS, per_channel

__all__ = ["conv", "exact_dtype", "head", "lif", "pool", "sdsa3"]


def exact_dtype(bound: int, what: str) -> torch.dtype:
    """The smallest floating-point type in which sums up to `bound` are exact integers."""
    if bound < 1 << 24:
        return torch.float32
    if bound < 1 << 53:
        return torch.float64
    raise OverflowBoundError(f"{what}: sums may reach {bound}, beyond the exact 2^53")


def conv(x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, groups: int,
         dtype: torch.dtype) -> torch.Tensor:
    """Dense (`groups` 1) and depthwise (`groups` C) convolution -> int64 `[B, T, O, OH, OW]`."""
    sums = functional.conv2d(x.flatten(0, 1).to(dtype), weight.to(dtype), stride=stride,
                             padding=padding, groups=groups)
    return sums.to(torch.int64).unflatten(0, x.shape[:2])


def head(spikes: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Sums over T and C -> int64 `[B, O]`."""
    counts = spikes.flatten(2).sum(1, dtype=torch.int64)
    return (counts.to(dtype) @ weight.flatten(1).T.to(dtype)).to(torch.int64)


def sdsa3(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int,
          dtype: torch.dtype) -> torch.Tensor:
    """Sums of q (k^T v) in each head -> int64, in the shape of v."""
    shape = v.shape
    q, k, v = (tensor.flatten(3).unflatten(2, (heads, -1)).to(dtype) for tensor in (q, k, v))
    counts = k @ v.transpose(-1, -2)                            # [.., i, j]
    sums = counts.transpose(-1, -2) @ q                         # [.., j, n]
    return sums.to(torch.int64).reshape(shape)


def pool(residual: torch.Tensor) -> torch.Tensor:
    """Sums over the map -> int64 `[B, T, C, 1, 1]`."""
    return residual.sum((3, 4), keepdim=True, dtype=torch.int64)


def lif(currents: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """int64 `[B, T, C, H, W]` -> spikes uint8; a single step needs no membrane."""
    limit = per_channel(threshold)
    if currents.shape[1] == 1:
        return (currents >= limit).to(torch.uint8)
    limit = limit << GUARD_BITS
    spikes = torch.empty(currents.shape, dtype=torch.uint8)
    membrane = torch.zeros_like(currents[:, 0])
    for step in range(currents.shape[1]):
        potential = membrane + (currents[:, step] << GUARD_BITS)
        fired = potential >= limit
        spikes[:, step] = fired
        membrane = (potential >> 1).masked_fill_(fired, 0)
    return spikes
