# SPDX-License-Identifier: Apache-2.0
"""How far an integer model is from a float network: neurons of each layer that leave a trace.

With random weights one flipped spike cascades, so the comparison is teacher-forced: every layer
reads the traced spikes, the residual stream is recomputed, and the spikes that it makes are
compared with the traced ones.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sw.errors import QuantiseError
from sw.golden.network import evaluate, quantise_images
from sw.model_file import IntegerModel, Layer

__all__ = ["Difference", "differences"]


class Difference(NamedTuple):
    """Neurons of one layer (all steps) whose spike or level differs from the trace."""

    layer: str
    neuron: str
    differing: int
    neurons: int

    @property
    def share(self) -> float:
        return self.differing / self.neurons


def differences(model: IntegerModel, image: Tensor,
                trace: Mapping[str, Tensor]) -> list[Difference]:
    """Compare with `trace` (by neuron name, one image) for the normalised float `image`.

    `image` is `[C, H, W]`, or `[T, C, H, W]` event frames.
    """
    traced = {}
    for layer in model.layers:
        if layer.neuron is None:
            continue
        name = _fires(layer)
        if layer.neuron_name not in trace:
            raise QuantiseError(f"layer '{layer.name}': the trace has no '{layer.neuron_name}'")
        spikes = trace[layer.neuron_name]
        shape = model.tensors[name].shape
        if spikes.numel() != torch.Size(shape).numel():
            raise QuantiseError(f"layer '{layer.name}': '{layer.neuron_name}' is traced with shape "
                                f"{list(spikes.shape)}, the model makes {list(shape)}")
        traced[name] = spikes.reshape(shape).to(torch.uint8)
    made = evaluate(model, quantise_images(model, image), override=traced)
    return [Difference(layer.name, layer.neuron_name, int((made[name] != traced[name]).sum()),
                       traced[name].numel())
            for layer in model.layers if layer.neuron is not None
            for name in [_fires(layer)]]


def _fires(layer: Layer) -> str:
    """The tensor that the layer's neuron writes."""
    return layer.outputs.get("spikes") or layer.outputs["levels"]
