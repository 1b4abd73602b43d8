# SPDX-License-Identifier: Apache-2.0
"""What the quantiser must know of real activations: magnitudes, and how often neurons fire."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sw.errors import QuantiseError
from sw.models.blocks import ConvBlock, Downsampling, SpikeBlock
from sw.models.lif import Lif
from sw.models.meta_spikeformer import MetaSpikeFormer

__all__ = ["Calibration", "calibrate"]

_BRANCH_NEURONS = ("lif2", "q_lif", "k_lif", "v_lif", "attn_lif", "fc2_lif")


@dataclass(frozen=True)
class Calibration:
    """Maxima and means over the calibration images, and the shape of the input."""

    input_magnitude: float
    residual_magnitude: float
    height: int
    width: int
    event: bool = False                 # the input has one frame for each time step
    input_mean: Tensor | None = None    # mean input of each channel
    rates: Mapping[str, Tensor] = field(default_factory=dict, repr=False)   # of each neuron, `[C]`


def calibrate(model: MetaSpikeFormer, images: Tensor, *, time_steps: int | None = None,
              batch: int = 16) -> Calibration:
    """Run normalised `images` `[B, C, H, W]`, or frames `[T, B, C, H, W]`, through the network.

    `time_steps` is the T to calibrate at (default: the network's).
    """
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
            maps = spikes.shape[0] * spikes.shape[1]
            mean = spikes.double().movedim(2, 0).flatten(1).mean(1)
            fired[name] = fired.get(name, 0) + maps * mean
        return add

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Lif):
            handles.append(module.register_forward_hook(count(name)))
        if isinstance(module, (Downsampling, ConvBlock, SpikeBlock)):
            handles.append(module.register_forward_hook(watch_output))
        # the stream between the two branches of a block is seen where a neuron reads it
        if isinstance(module, Lif) and name != "lif" and \
                name.split(".")[-1] not in _BRANCH_NEURONS:
            handles.append(module.register_forward_hook(watch_input))
    steps, model.time_steps = model.time_steps, time_steps or model.time_steps
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in images.split(batch, dim=1 if event else 0):
                model(part)
    finally:
        model.time_steps = steps
        model.train(training)
        for handle in handles:
            handle.remove()
    shown = images.shape[0] * images.shape[1] if event else images.shape[0] * (
        time_steps or steps)
    others = [dim for dim in range(images.dim()) if dim != images.dim() - 3]
    return Calibration(float(images.abs().max()), largest, *images.shape[-2:], event=event,
                       input_mean=images.double().mean(others),
                       rates={name: sums / shown for name, sums in fired.items()})
