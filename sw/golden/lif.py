# SPDX-License-Identifier: Apache-2.0
"""The leaky integrate-and-fire neuron with tau = 2 and a hard reset, in integers."""

import torch

from sw.golden.numbers import GUARD_BITS, per_channel

__all__ = ["lif", "lif_step"]


def lif_step(current: torch.Tensor, membrane: torch.Tensor,
             threshold: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One time step: int64 `current` and `membrane` of one shape -> (spikes, membrane).

        u = membrane + current * 2^G;  spike = u >= threshold * 2^G
        membrane = 0 if spike else floor(u / 2)
    """
    potential = membrane + (current << GUARD_BITS)
    spikes = potential >= (threshold << GUARD_BITS)
    return spikes.to(torch.uint8), torch.where(spikes, 0, potential >> 1)


def lif(currents: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """`currents` int64 `[T, C, H, W]`, `threshold` `[C]` -> spikes uint8 `[T, C, H, W]`.

    The membrane is zero before the first step.
    """
    membrane = torch.zeros_like(currents[0])
    spikes = []
    for current in currents:
        fired, membrane = lif_step(current, membrane, per_channel(threshold))
        spikes.append(fired)
    return torch.stack(spikes)
