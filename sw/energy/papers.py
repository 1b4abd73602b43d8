# SPDX-License-Identifier: Apache-2.0
"""The energy that papers on spiking transformers state, for the same image.

Their method (such as M. Yao et al., "Spike-driven Transformer", NeurIPS 2023) takes the floating
point numbers of 45 nm: 0.9 pJ for a synaptic operation (an addition), 4.6 pJ for a multiplication
and addition (MAC). Memory, registers and control cost nothing there.

Counted here as synaptic operations: the useful additions (`sw.golden.useful`) of every layer that
reads spikes or levels, and, named apart, of those that read integer maps, a non-zero digit each.
The layer that reads the image counts as MACs: all its taps, once for each frame. Pooling is free.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sw.model_file import IntegerModel, Layer

__all__ = ["AC", "MAC", "PapersEnergy", "papers_energy"]

AC = 0.9
"""pJ of a synaptic operation: a floating point addition, from the source of `horowitz-45nm`."""
MAC = 4.6
"""pJ of a multiplication (3.7) and addition, likewise."""


@dataclass(frozen=True)
class PapersEnergy:
    """An image by the papers' method."""

    operations: dict[str, float]
    """Synaptic operations, by layer."""
    integer_operations: float
    """Those of them that are of layers that read integer maps."""
    macs: dict[str, int]
    """MACs, by layer."""

    def layer(self, name: str) -> float:
        """pJ of a layer, or of what is no layer: 0."""
        return AC * self.operations.get(name, 0.0) + MAC * self.macs.get(name, 0)

    @property
    def total(self) -> float:
        """pJ of an image."""
        return AC * sum(self.operations.values()) + MAC * sum(self.macs.values())

    def __str__(self) -> str:
        return (f"{sum(self.operations.values()):,.0f} synaptic operations x {AC:.1f} pJ, "
                f"{sum(self.macs.values()):,} MACs x {MAC:.1f} pJ")

    def as_json(self) -> dict[str, object]:
        return {"synaptic_operations": sum(self.operations.values()),
                "integer_operations": self.integer_operations, "macs": sum(self.macs.values()),
                "pj_synaptic_operation": AC, "pj_mac": MAC, "microjoules": self.total / 1e6}


def papers_energy(model: IntegerModel, useful: Mapping[str, float]) -> PapersEnergy:
    """By the papers' method, from the useful additions of each layer."""
    kinds = {layer.name: model.tensors[layer.inputs[0]].kind for layer in model.layers}
    return PapersEnergy(
        operations={name: useful[name] for name, kind in kinds.items()
                    if kind in ("spikes", "levels", "integer")},
        integer_operations=sum(useful[name] for name, kind in kinds.items() if kind == "integer"),
        macs={layer.name: _macs(layer) * model.input.time_steps for layer in model.layers
              if kinds[layer.name] == "image"})


def _macs(layer: Layer) -> int:
    """MACs of a convolution on one frame, taps in the padding included."""
    (height, width), (rows, columns) = layer.kernel, layer.out_size
    channels = 1 if layer.kind == "depthwise" else layer.in_channels
    return height * width * channels * layer.out_channels * rows * columns
