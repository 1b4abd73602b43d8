# SPDX-License-Identifier: Apache-2.0
"""Networks with seeded random weights that fire like trained ones.

The published sizes have no published weights, or none that may be passed on. Speed depends on how
often neurons fire, so batch norms are calibrated on images: statistics from the images, and a bias
for each neuron layer at which a given share of it fires.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sw.models.lif import Lif
from sw.models.multispike import MultiSpike

__all__ = ["steer_rates"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_HALVINGS = 20
_LEAST_VARIANCE = 0.05
_SHARES = {"q_": 0.75, "k_": 0.2, "v_": 0.4}
"""Rates of these neurons, in terms of the others'."""


class _Reached(Exception):
    """The forward pass has come to the neuron that is looked at."""


def steer_rates(network: nn.Module, images: Tensor, rate: float = 0.2,
                step: Callable[[str, int, int], None] = lambda what, done, total: None) -> None:
    """Set the batch norms of a Meta-SpikeFormer or E-SpikeFormer, in place.

    Normalised `images` `[B, C, H, W]` give the statistics. The bias of the batch norm in front of
    each neuron layer is shifted, alike in all channels, until `rate` of the layer fires at the
    first time step (mean level over D, where there are levels); queries, keys and values fire less,
    as in trained networks, or attention would saturate. Layers without a batch norm, behind
    attention and pool, fire as they do. The network is in evaluation mode afterwards.
    """
    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    neurons = [(name, module) for name, module in network.named_modules()
               if isinstance(module, Lif | MultiSpike)]
    names = {neuron: name for name, neuron in neurons}
    momenta = [norm.momentum for norm in norms]
    order: list[nn.Module] = []
    handles = [module.register_forward_pre_hook(lambda module, args: order.append(module))
               for module in [*norms, *(neuron for _, neuron in neurons)]]
    network.train()
    for norm in norms:
        norm.momentum = 1.0
    try:
        with torch.no_grad():
            network(images)
            pairs = [(norm, neuron) for norm, neuron in zip(order, order[1:], strict=False)
                     if isinstance(norm, _NORMS) and isinstance(neuron, Lif | MultiSpike)]
            for number, (norm, neuron) in enumerate(pairs):
                step("steering firing rates", number, len(pairs))
                wanted = rate * next((share for part, share in _SHARES.items()
                                      if names[neuron].rpartition(".")[2].startswith(part)), 1)
                norm.bias += _shift(neuron, _input_of(network, neuron, images), wanted)
            network(images)
            for norm in norms:      # a silent channel would be blown up
                norm.running_var.clamp_(min=_LEAST_VARIANCE)
    finally:
        for handle in handles:
            handle.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def _input_of(network: nn.Module, neuron: nn.Module, images: Tensor) -> Tensor:
    """What a neuron layer is given; the pass ends there."""
    found: list[Tensor] = []

    def stop(module: nn.Module, args: tuple) -> None:
        found.append(args[0])
        raise _Reached

    handle = neuron.register_forward_pre_hook(stop)
    try:
        network(images)
    except _Reached:
        return found[0]
    finally:
        handle.remove()
    raise AssertionError("every neuron of the order is reached")


def _shift(neuron: Lif | MultiSpike, x: Tensor, rate: float) -> float:
    """What must be added to the input so that `rate` of the layer fires."""
    sample = x.flatten()[::max(1, x.numel() // 200_000)]

    def share(shift: float) -> float:
        if isinstance(neuron, Lif):
            return float((sample + shift >= 2 * neuron.threshold).float().mean())
        return float(neuron.levels(sample + shift).float().mean()) / neuron.max_level

    low, high = -20.0, 20.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < rate else (low, middle)
    return (low + high) / 2
