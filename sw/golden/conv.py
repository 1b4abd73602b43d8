# SPDX-License-Identifier: Apache-2.0
"""Convolutions as sums of weights, in int64: dense, depthwise, and the sums of the head."""

import torch

__all__ = ["conv", "depthwise", "head"]


def _windows(x: torch.Tensor, kernel: tuple[int, int], stride: int,
             padding: int) -> list[tuple[int, int, torch.Tensor]]:
    """For each tap (ky, kx): the zero-padded inputs `[T, C, OH, OW]` that it meets."""
    steps, channels, height, width = x.shape
    kh, kw = kernel
    padded = torch.zeros(steps, channels, height + 2 * padding, width + 2 * padding,
                         dtype=torch.int64)
    padded[:, :, padding:padding + height, padding:padding + width] = x
    rows = (padded.shape[2] - kh) // stride + 1
    columns = (padded.shape[3] - kw) // stride + 1
    return [(ky, kx, padded[:, :, ky:ky + stride * (rows - 1) + 1:stride,
                            kx:kx + stride * (columns - 1) + 1:stride])
            for ky in range(kh) for kx in range(kw)]


def conv(x: torch.Tensor, weight: torch.Tensor, stride: int = 1,
         padding: int = 0) -> torch.Tensor:
    """`x` integers `[T, C, H, W]`, `weight` `[O, C, kh, kw]` -> sums int64 `[T, O, OH, OW]`."""
    weight = weight.to(torch.int64)
    total = 0
    for ky, kx, seen in _windows(x, tuple(weight.shape[2:]), stride, padding):
        for channel in range(weight.shape[1]):
            total = total + (seen[:, channel, None] * weight[:, channel, ky, kx, None, None])
    return total


def depthwise(x: torch.Tensor, weight: torch.Tensor, stride: int = 1,
              padding: int = 0) -> torch.Tensor:
    """`x` integers `[T, C, H, W]`, `weight` `[C, 1, kh, kw]` -> sums int64 `[T, C, OH, OW]`."""
    weight = weight.to(torch.int64)
    total = 0
    for ky, kx, seen in _windows(x, tuple(weight.shape[2:]), stride, padding):
        total = total + seen * weight[:, 0, ky, kx, None, None]
    return total


def head(spikes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`spikes` `[T, C, 1, 1]`, `weight` `[O, C, 1, 1]` -> sums over T and C, int64 `[O]`."""
    counts = spikes.to(torch.int64).sum(0).flatten()      # of spikes, levels or integers
    return (weight.to(torch.int64).flatten(1) * counts).sum(1)
