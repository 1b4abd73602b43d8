# SPDX-License-Identifier: Apache-2.0
"""Multi-level spike of E-SpikeFormer: an integer level 0..D, divided by a norm; no state, no time.

    level = round(clamp(x, 0, D));   output = level / norm

The base family rounds halves to even (0.5 -> 0, 1.5 -> 2, 2.5 -> 2), the large family up (0.5 -> 1,
2.5 -> 3). A level k stands for k spikes in D virtual time steps. No state_dict entry belongs to it.
Backward, the gradient passes where 0 <= x <= D (straight through, the norm included).
"""

import torch
from torch import Tensor, nn

__all__ = ["ROUNDINGS", "MultiSpike"]

ROUNDINGS = ("even", "up")


class _Level(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, max_level: int, rounding: str) -> Tensor:
        ctx.save_for_backward((x >= 0) & (x <= max_level))
        clamped = torch.clamp(x, 0, max_level)
        return torch.round(clamped) if rounding == "even" else torch.floor(clamped + 0.5)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


class MultiSpike(nn.Module):
    """Levels in {0, 1, .., max_level} / norm; `norm` is `max_level` unless given."""

    def __init__(self, max_level: int = 4, rounding: str = "even", norm: int | None = None) -> None:
        super().__init__()
        if max_level < 1:
            raise ValueError(f"max_level must be at least 1, got {max_level}")
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {ROUNDINGS}, got {rounding!r}")
        self.max_level, self.rounding = max_level, rounding
        self.norm = max_level if norm is None else norm

    def extra_repr(self) -> str:
        return f"max_level={self.max_level}, rounding={self.rounding!r}, norm={self.norm}"

    def forward(self, x: Tensor) -> Tensor:
        return _Level.apply(x, self.max_level, self.rounding) / self.norm

    def levels(self, x: Tensor) -> Tensor:
        """Integer levels (uint8) of an input."""
        return _Level.apply(x, self.max_level, self.rounding).to(torch.uint8)

    def edge_distance(self, x: Tensor) -> Tensor:
        """How far an input is from the nearest input at which the level changes."""
        steps = torch.arange(self.max_level, dtype=x.dtype, device=x.device) + 0.5
        return (x[..., None] - steps).abs().amin(-1)
