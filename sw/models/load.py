# SPDX-License-Identifier: Apache-2.0
"""Loading a checkpoint of either family."""

from pathlib import Path

from sw.models.checkpoint import read_checkpoint
from sw.models.config import CheckpointError
from sw.models.e_spikeformer import ESpikeFormer, ESpikeFormerConfig, load_e_checkpoint
from sw.models.meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig, load_checkpoint

__all__ = ["FAMILIES", "load_network"]

FAMILIES = ("meta-spikeformer", "e-spikeformer")
_ONLY_E = (".pwconv1.0.weight", ".conv1.0.0.weight", ".q_conv.0.conv1.0.weight")
"""Ends of keys that only an E-SpikeFormer has."""


def load_network(
    path: str | Path, **overrides: object
) -> tuple[MetaSpikeFormerConfig | ESpikeFormerConfig, MetaSpikeFormer | ESpikeFormer]:
    """Configuration and network (in evaluation mode) of a checkpoint file of either family.

    The file's metadata names the family, or else its keys tell. Raises `CheckpointError` naming
    file and key.
    """
    state, meta = read_checkpoint(path)
    family = meta.get("family") or FAMILIES[any(key.endswith(_ONLY_E) for key in state)]
    if family not in FAMILIES:
        raise CheckpointError(f"{path}: family is {family!r}, must be one of "
                              f"{', '.join(FAMILIES)}")
    load = load_e_checkpoint if family == "e-spikeformer" else load_checkpoint
    return load(path, **overrides)
