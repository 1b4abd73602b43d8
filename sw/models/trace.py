# SPDX-License-Identifier: Apache-2.0
"""Traces of neuron outputs, and evaluation of a network forced along a trace ("teacher forcing").

With random weights one flipped spike changes all that follows, so two evaluations are compared
layer by layer: every neuron layer receives what the traced spikes of the layers before it make,
whatever this network would have fired. Binary neurons are traced as bits, multi-level ones as
integer levels.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sw.models.lif import Lif
from sw.models.multispike import MultiSpike

__all__ = ["TraceError", "capture", "capture_levels", "read_levels", "read_trace",
           "teacher_forced", "teacher_forced_levels", "write_levels", "write_trace"]


class TraceError(ValueError):
    """A trace that does not fit; the message names the layer."""


def read_trace(path: str | Path) -> dict[str, Tensor]:
    """Spikes (uint8 0 or 1) by neuron name: `<name>` packed by np.packbits, `<name>#shape`."""
    trace = {}
    with np.load(path) as file:
        for name in file.files:
            if name.endswith("#shape"):
                continue
            if f"{name}#shape" not in file.files:
                raise TraceError(f"{path}: {name!r} has no shape")
            shape = tuple(int(size) for size in file[f"{name}#shape"])
            count = int(np.prod(shape))
            if file[name].size != (count + 7) // 8:
                raise TraceError(f"{path}: {name!r} has {file[name].size} bytes, not those of "
                                 f"shape {shape}")
            bits = np.unpackbits(file[name], count=count).reshape(shape)
            trace[name] = torch.from_numpy(bits)
    return trace


def write_trace(path: str | Path, trace: Mapping[str, Tensor]) -> None:
    """Write spikes in the form that `read_trace` reads."""
    arrays = {}
    for name, spikes in trace.items():
        arrays[name] = np.packbits(spikes.numpy().astype(np.uint8).reshape(-1))
        arrays[f"{name}#shape"] = np.array(spikes.shape)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_levels(path: str | Path) -> dict[str, Tensor]:
    """Levels (uint8) by neuron name."""
    with np.load(path) as file:
        for name in file.files:
            if file[name].dtype != np.uint8:
                raise TraceError(f"{path}: {name!r} is {file[name].dtype}, not uint8 levels")
        return {name: torch.from_numpy(file[name]) for name in file.files}


def write_levels(path: str | Path, trace: Mapping[str, Tensor]) -> None:
    """Write levels in the form that `read_levels` reads."""
    with open(path, "wb") as file:
        np.savez_compressed(file, **{name: levels.numpy().astype(np.uint8)
                                     for name, levels in trace.items()})


Watch = Callable[[str, nn.Module, Tensor, Tensor], Tensor | None]
"""Called with a neuron's name, module, input and output; what it returns replaces the output."""


@torch.no_grad()
def _watched(model: nn.Module, x: Tensor, kind: type[nn.Module], watch: Watch) -> Tensor:
    """Run a network, watching every neuron of a kind; its output."""
    handles = [module.register_forward_hook(
                   lambda module, args, output, name=name: watch(name, module, args[0], output))
               for name, module in model.named_modules() if isinstance(module, kind)]
    try:
        return model(x)
    finally:
        for handle in handles:
            handle.remove()


def capture_levels(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a network of multi-level neurons: its output, and the levels (uint8) of every layer."""
    record: dict[str, Tensor] = {}

    def store(name: str, module: MultiSpike, given: Tensor, spikes: Tensor) -> None:
        record[name] = module.levels(given)

    return _watched(model, x, MultiSpike, store), record


def teacher_forced_levels(
    model: nn.Module, x: Tensor, trace: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Run a network of multi-level neurons with every output replaced by its traced levels.

    Returns the network's output, and for every neuron layer (its input, levels that it makes).
    """
    results: dict[str, tuple[Tensor, Tensor]] = {}

    def force(name: str, module: MultiSpike, given: Tensor, spikes: Tensor) -> Tensor:
        results[name] = (given.clone(), module.levels(given))
        return _traced(trace, name, spikes) / module.norm

    return _watched(model, x, MultiSpike, force), results


def _traced(trace: Mapping[str, Tensor], name: str, spikes: Tensor) -> Tensor:
    """What is traced for a layer, in the type and shape of its own output."""
    if name not in trace:
        raise TraceError(f"the trace has no layer {name!r}")
    if trace[name].shape != spikes.shape:
        raise TraceError(f"layer {name!r} is traced with shape {tuple(trace[name].shape)}, "
                         f"the network has {tuple(spikes.shape)}")
    return trace[name].to(spikes.dtype)


def capture(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Run the network: its output, and (input, spikes) of every neuron layer by name."""
    record: dict[str, tuple[Tensor, Tensor]] = {}

    def store(name: str, module: Lif, given: Tensor, spikes: Tensor) -> None:
        record[name] = (given.clone(), spikes)

    return _watched(model, x, Lif, store), record


def teacher_forced(
    model: nn.Module, x: Tensor, trace: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Run the network with every neuron's output replaced by its traced spikes.

    Returns the network's output, and for every neuron layer (membrane h before the reset, spikes
    that h makes); the membrane's history is reset where the *trace* fired. The number of steps is
    the model's `time_steps`.
    """
    results: dict[str, tuple[Tensor, Tensor]] = {}

    def force(name: str, module: Lif, given: Tensor, spikes: Tensor) -> Tensor:
        forced = _traced(trace, name, spikes)
        h = module.membrane(given, forced)
        results[name] = (h, (h - module.threshold >= 0).to(torch.uint8))
        return forced

    return _watched(model, x, Lif, force), results
