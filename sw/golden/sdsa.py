# SPDX-License-Identifier: Apache-2.0
"""Spike-driven self-attention SDSA-3, and E-SDSA: sums of q (k^T v) in each head."""

import torch

__all__ = ["key_value", "mask", "sdsa3"]


def key_value(k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Spikes k, v `[T, C, H, W]` -> sums int64 `[T, C, 1, 1]` over the tokens where both fire.

    The first half of SDSA-1, `SN(sum over tokens of K * V)` (Spike-driven Transformer, NeurIPS
    2023, equation 12; arXiv 2307.01694), before its neuron.
    """
    return (k.to(torch.int64) * v.to(torch.int64)).sum((-2, -1), keepdim=True)


def mask(spikes: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Spikes `[T, C, H, W]` where `by` fires too: the second half of SDSA-1, `Q * SN(..)`."""
    return spikes.to(torch.uint8) & by.to(torch.uint8)


def sdsa3(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Spikes or levels q, k `[T, C, H, W]`, v `[T, V, H, W]` -> sums int64 `[T, V, H, W]`.

    Token n is (y, x) in row order; channel c of q and k is column c % d of head c // d, d = C /
    heads; likewise those of v, of width V / heads (as q in SDSA-3, four times that in E-SDSA).

        counts[i, j] = sum over tokens of k[n, i] * v[n, j]
        sums[n, j] = sum over i of q[n, i] * counts[i, j]
    """
    steps, channels, height, width = v.shape
    depth, size = q.shape[1] // heads, channels // heads
    sums = torch.zeros(steps, channels, height * width, dtype=torch.int64)
    flat = [tensor.to(torch.int64).flatten(2) for tensor in (q, k, v)]
    for step in range(steps):
        for head in range(heads):
            q_head, k_head = (tensor[step, head * depth:(head + 1) * depth]
                              for tensor in flat[:2])
            v_head = flat[2][step, head * size:(head + 1) * size]
            counts = (k_head[:, None, :] * v_head[None, :, :]).sum(2)
            for column in range(size):
                sums[step, head * size + column] = (q_head * counts[:, column, None]).sum(0)
    return sums.reshape(steps, channels, height, width)
