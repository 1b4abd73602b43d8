# SPDX-License-Identifier: Apache-2.0
"""What the quantiser must know of real activations: magnitudes, and how often neurons fire."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sw.errors import QuantiseError
from sw.models import e_blocks
from sw.models.blocks import ConvBlock, Downsampling, SpikeBlock
from sw.models.e_large import LargeConvBlock, LargeTransformerBlock
from sw.models.e_spikeformer import ESpikeFormer
from sw.models.lif import Lif
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.models.multispike import MultiSpike
from sw.models.v1 import V1Block

__all__ = ["Calibration", "calibrate"]

_BRANCH_NEURONS = {"lif2", "spike2", "spike3", "neuron2", "talking_heads_lif",
                   *(f"{part}_{kind}" for kind in ("lif", "spike")
                     for part in ("q", "k", "v", "attn", "fc2"))}
_POOLED = ("lif", "spike")
"""Names of the neuron behind the pool."""
_NEURONS = (Lif, MultiSpike)
_PARTS = (Downsampling, ConvBlock, SpikeBlock, e_blocks.Downsampling, e_blocks.ConvBlock,
          V1Block, e_blocks.TransformerBlock, LargeConvBlock, LargeTransformerBlock)
"""Modules whose output is the residual stream."""


@dataclass(frozen=True)
class Calibration:
    """Maxima and means over the calibration images, and the shape of the input."""

    input_magnitude: float
    residual_magnitude: float
    height: int
    width: int
    event: bool = False                 # the input has one frame for each time step
    input_mean: Tensor | None = None    # mean input of each channel
    rates: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    """Mean spike, or level, of each neuron, `[C]`."""


def calibrate(model: MetaSpikeFormer | ESpikeFormer, images: Tensor, *,
              time_steps: int | None = None, batch: int = 16) -> Calibration:
    """Run normalised `images` `[B, C, H, W]`, or frames `[T, B, C, H, W]`, through the network.

    `time_steps` is the T to calibrate at (default: the network's); an E-SpikeFormer has one.
    """
    levels = isinstance(model, ESpikeFormer)
    event = images.dim() == 5
    if images.dim() not in (4, 5) or 0 in images.shape:
        raise QuantiseError(f"calibration images have shape {list(images.shape)}, "
                            "must be [B, C, H, W] or [T, B, C, H, W]")
    if not torch.isfinite(images).all():
        raise QuantiseError("calibration images hold values that are not finite")
    largest = 0.0

    def watch_output(module: nn.Module, args: tuple, output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, float(output.abs().max()))

    def watch_input(module: nn.Module, args: tuple, output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, float(args[0].abs().max()))

    fired: dict[str, Tensor] = {}

    def count(name: str):
        def add(module: nn.Module, args: tuple, spikes: Tensor) -> None:
            channel = 1 if levels else 2
            maps = math.prod(spikes.shape[:channel])
            mean = spikes.double().movedim(channel, 0).flatten(1).mean(1)
            if levels:
                mean = mean * module.norm
            fired[name] = fired.get(name, 0) + maps * mean
        return add

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, _NEURONS):
            handles.append(module.register_forward_hook(count(name)))
        if isinstance(module, _PARTS):
            handles.append(module.register_forward_hook(watch_output))
        # the stream between the two branches of a block is seen where a neuron reads it
        if isinstance(module, _NEURONS) and name not in _POOLED and \
                name.split(".")[-1] not in _BRANCH_NEURONS:
            handles.append(module.register_forward_hook(watch_input))
    steps = 1 if levels else time_steps or model.time_steps
    old_steps = getattr(model, "time_steps", 1)
    model.time_steps = steps
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in images.split(batch, dim=1 if event else 0):
                model(part)
    finally:
        model.time_steps = old_steps
        model.train(training)
        for handle in handles:
            handle.remove()
    shown = images.shape[0] * (images.shape[1] if event else steps)
    others = [dim for dim in range(images.dim()) if dim != images.dim() - 3]
    return Calibration(float(images.abs().max()), largest, *images.shape[-2:], event=event,
                       input_mean=images.double().mean(others),
                       rates={name: sums / shown for name, sums in fired.items()})
