# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: `.pt` (with or without the published `model` wrapper) and `.safetensors`.

What shapes cannot tell (strides, heads, time steps, levels, input normalisation) is in the `meta`
dictionary of a `.pt` file or in the JSON of the safetensors metadata key `addend_config`. Only the
latter is surely ours: a field of a wrong type is an error there, and no field of ours in a `.pt`.
"""

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sw.models.config import CheckpointError

__all__ = ["METADATA_KEY", "load_state", "read_checkpoint", "write_checkpoint"]

METADATA_KEY = "addend_config"


def _list_of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and all(
        isinstance(item, kinds) and not isinstance(item, bool) for item in value)


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "strides": (_list_of(int), "a list of integers"),
    "num_heads": (lambda value: isinstance(value, int), "an integer"),
    "time_steps": (lambda value: isinstance(value, int), "an integer"),
    "max_level": (lambda value: isinstance(value, int), "an integer"),
    "rounding": (lambda value: isinstance(value, str), "a word"),
    "head_levels": (lambda value: isinstance(value, bool), "true or false"),
    "family": (lambda value: isinstance(value, str), "a word"),
    "mean": (_list_of(int, float), "a list of numbers"),
    "std": (_list_of(int, float), "a list of numbers"),
    "image_size": (_list_of(int), "a list of integers"),
    "classes": (_list_of(str), "a list of names"),
}
"""What metadata may say, and of what type."""


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            meta = (file.metadata() or {}).get(METADATA_KEY, "{}")
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
    try:
        meta = json.loads(meta)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: metadata {METADATA_KEY!r} is no JSON: {error}") from error
    return state, meta


def _read_pt(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
            raise CheckpointError(
                f"{path}: holds more than weights; `addend convert-checkpoint {path} "
                f"{path.stem}.safetensors` takes the weights out of the authors' files") from error
        raise CheckpointError(f"{path}: not a readable weights-only file: {error}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state_dict")
    meta = content.get("meta", {})
    return content.get("model", content), meta


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dictionary and metadata of a checkpoint file."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    state, meta = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    if not isinstance(meta, Mapping):
        raise CheckpointError(f"{path}: metadata must be a dictionary, not {type(meta).__name__}")
    for name, (fits, kind) in _FIELDS.items():
        if name in meta and not fits(meta[name]):
            if path.suffix == ".safetensors":
                raise CheckpointError(f"{path}: metadata {name!r} must be {kind}, "
                                      f"not {meta[name]!r}")
            meta = {key: value for key, value in meta.items() if key != name}
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path}: holds no state_dict")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: key {key!r} is a {type(value).__name__}, not a tensor")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: key {key!r} has values that are not finite")
    return dict(state), dict(meta)


def load_state(model: nn.Module, state: dict[str, Tensor], source: str, family: str) -> None:
    """Assign a state to a model on the meta device; an error names the source and the key.

    `num_batches_tracked` may be missing. Values take the model's types.
    """
    wanted = model.state_dict()
    for key in sorted(state.keys() - wanted.keys()):
        raise CheckpointError(f"{source}: key {key!r} does not belong to {family}")
    for key, value in wanted.items():
        if key not in state and key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.int64)
        if key not in state:
            raise CheckpointError(f"{source}: no key {key!r}")
        if state[key].shape != value.shape:
            raise CheckpointError(f"{source}: key {key!r} has shape {tuple(state[key].shape)}, "
                                  f"expected {tuple(value.shape)}")
        state[key] = state[key].to(value.dtype)
    model.load_state_dict(state, assign=True)


def write_checkpoint(
    path: str | Path, state: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Write a `.safetensors` checkpoint whole or not at all."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(state, temporary, {METADATA_KEY: json.dumps(dict(meta), sort_keys=True)})
    os.replace(temporary, path)
