# SPDX-License-Identifier: Apache-2.0
"""From the authors' training files to weights alone.

The published files hold, beside the weights, an `argparse.Namespace` of the training run, so that
reading them means unpickling. Here that one class is allowed, and nothing else; what is written is
a safetensors file.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sw.models.checkpoint import write_checkpoint
from sw.models.config import CheckpointError

__all__ = ["convert_checkpoint"]


def convert_checkpoint(source: str | Path, target: str | Path) -> int:
    """Write the weights of `source` to the safetensors file `target`; returns their number.

    `source` is a `torch.save` file: a state_dict, or a dictionary that holds one as "model". Raises
    `CheckpointError` naming the file for anything else, and for classes other than the one above.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: the name must end in .safetensors")
    if not source.is_file():
        raise CheckpointError(f"{source}: no such file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or an unsafe file
        raise CheckpointError(f"{source}: not a file of weights and an argparse.Namespace alone: "
                              f"{str(error).splitlines()[0]}") from error
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{source}: holds no state_dict")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{source}: key {key!r} is a {type(value).__name__}, not a tensor")
    write_checkpoint(target, state, {})
    return len(state)
