# SPDX-License-Identifier: Apache-2.0
"""Leaky integrate-and-fire neuron over the leading time axis (tau 2, hard reset to zero).

For t = 0..T-1, with v = 0 before the first step, in exactly this order of operations:

    h = v + (x - v) / 2;   s = 1 if h - threshold >= 0 else 0;   v = (1 - s) * h

It fires on equality. The module has no state_dict entry and keeps nothing between calls. Backward,
the step function has the derivative of sigmoid(4 (h - threshold)), and the reset is detached.
"""

import torch
from torch import Tensor, nn

__all__ = ["Lif"]

_SLOPE = 4.0


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


class Lif(nn.Module):
    """Spikes `[T, ...]` in {0, 1} of the input currents `[T, ...]`."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"

    def forward(self, x: Tensor) -> Tensor:
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
