# SPDX-License-Identifier: Apache-2.0
"""Leaky integrate-and-fire neuron over the leading time axis (tau 2, hard reset to zero).

For t = 0..T-1, with v = 0 before the first step, in exactly this order of operations:

    h = v + (x - v) / 2;   s = 1 if h - threshold >= 0 else 0;   v = (1 - s) * h

It fires on equality. The module has no state_dict entry and keeps nothing between calls. Backward,
the step function has the derivative of sigmoid(4 (h - threshold)), and the reset is detached.

With `rates` set (training only) the output is the mean of four steps of a constant current x, in
closed form: 1/4, 2/4 and 4/4 from 16/15, 4/3 and 2 thresholds on. One evaluation then stands for
four steps of the network.
"""

import torch
from torch import Tensor, nn

__all__ = ["Lif"]

_SLOPE = 4.0
_RATE_EDGES = ((16 / 15, 0.25), (4 / 3, 0.25), (2.0, 0.5))


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, excess: Tensor) -> Tensor:
        ctx.save_for_backward(excess)
        return (excess >= 0).to(excess.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (excess,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(_SLOPE * excess)
        return gradient * (_SLOPE * sigmoid * (1 - sigmoid))


class _Rate(torch.autograd.Function):
    """Mean of four steps; each part of the sum has the step's derivative at its own edge."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sum(weight * (x >= edge).to(x.dtype) for edge, weight in _RATE_EDGES)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope = torch.zeros_like(x)
        for edge, weight in _RATE_EDGES:
            sigmoid = torch.sigmoid(_SLOPE * (x / edge - 1))
            slope = slope + (weight * _SLOPE / edge) * sigmoid * (1 - sigmoid)
        return gradient * slope


class Lif(nn.Module):
    """Spikes `[T, ...]` in {0, 1} of the input currents `[T, ...]`."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.rates = False

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"

    def forward(self, x: Tensor) -> Tensor:
        if self.rates:
            return _Rate.apply(x if self.threshold == 1.0 else x / self.threshold)
        spikes = []
        v: Tensor | float = 0.0
        for current in x.unbind(0):
            h = v + (current - v) / 2
            s = _Step.apply(h - self.threshold)
            v = (1 - s.detach()) * h
            spikes.append(s)
        return torch.stack(spikes)

    def membrane(self, x: Tensor, spikes: Tensor) -> Tensor:
        """Membranes `h` before the reset when the neuron is forced to emit `spikes`."""
        membranes = []
        v: Tensor | float = 0.0
        for current, s in zip(x.unbind(0), spikes.unbind(0), strict=True):
            h = v + (current - v) / 2
            v = (1 - s) * h
            membranes.append(h)
        return torch.stack(membranes)
