# SPDX-License-Identifier: Apache-2.0
"""Spike-driven self-attention SDSA-3: sums of q (k^T v) in each head."""

import torch

__all__ = ["sdsa3"]


def sdsa3(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Spikes q, k, v `[T, C, H, W]` -> sums int64 `[T, C, H, W]`.

    Token n is (y, x) in row order; channel c is column c % d of head c // d, d = C / heads.

        counts[i, j] = sum over tokens of k[n, i] * v[n, j]        (0 .. tokens)
        sums[n, j] = sum over i of q[n, i] * counts[i, j]          (0 .. tokens * d)
    """
    steps, channels, height, width = q.shape
    depth = channels // heads
    sums = torch.zeros(steps, channels, height * width, dtype=torch.int64)
    flat = [tensor.to(torch.int64).flatten(2) for tensor in (q, k, v)]
    for step in range(steps):
        for first in range(0, channels, depth):
            q_head, k_head, v_head = (tensor[step, first:first + depth] for tensor in flat)
            counts = (k_head[:, None, :] * v_head[None, :, :]).sum(2)
            for column in range(depth):
                sums[step, first + column] = (q_head * counts[:, column, None]).sum(0)
    return sums.reshape(steps, channels, height, width)
