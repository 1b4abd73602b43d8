# SPDX-License-Identifier: Apache-2.0
"""Small float networks with random weights and lively batch norms."""

import torch
from torch import nn

from sw.models.meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig

__all__ = ["randomise_norms", "small_network"]


def randomise_norms(module: nn.Module) -> None:
    """Statistics and affine parameters far from the identity, some scales negative."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            with torch.no_grad():
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.3, 2)
                part.weight.normal_(1, 0.6)
                part.bias.normal_(0, 0.5)


def small_network(seed: int = 0, **fields: object) -> MetaSpikeFormer:
    """A Meta-SpikeFormer of a few thousand weights, in evaluation mode."""
    torch.manual_seed(seed)
    config = MetaSpikeFormerConfig(**({
        "num_classes": 5, "stem_channels": 4, "embed_dims": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1, 2, 1), "num_heads": 4} | fields))
    network = MetaSpikeFormer(config)
    randomise_norms(network)
    for name, part in network.named_modules():      # statistics that let neurons fire
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) and "body" not in name:
            with torch.no_grad():
                part.running_var.mul_(0.05)
    return network.eval()
