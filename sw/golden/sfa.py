# SPDX-License-Identifier: Apache-2.0
"""The neuron with integer activation of E-SpikeFormer (spike firing approximation), in integers."""

import torch

from sw.golden.numbers import GUARD_BITS, per_channel

__all__ = ["sfa"]


def sfa(currents: torch.Tensor, threshold: torch.Tensor, step: torch.Tensor, levels: int,
        ties_even: bool) -> torch.Tensor:
    """`currents` int64 `[T, C, H, W]`, `threshold`, `step` `[C]` -> levels uint8, 0 to `levels`.

        level = number of j in 1 .. levels with n * 2^G - threshold >= j * step

    With `ties_even` an odd j asks for more than equality, so that a current half way between two
    levels gives the even one. That is round(clamp(x, 0, D)) of the published code, when the step
    is one unit of x and the threshold lies half a step below 0. No state from step to step.
    """
    above = (currents << GUARD_BITS) - per_channel(threshold)
    reached = torch.zeros_like(currents)
    for level in range(1, levels + 1):
        edge = level * per_channel(step)
        if ties_even and level % 2:
            reached += above > edge
        else:
            reached += above >= edge
    return reached.to(torch.uint8)
