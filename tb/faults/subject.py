# SPDX-License-Identifier: Apache-2.0
"""What faults are planted in: a network, images, and what the golden model makes of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch

from hw.presets import Preset, get_preset
from sim.build import QUICK
from sw.compare import Comparison, compare
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.golden.network import evaluate, evaluate_layer
from sw.images import Images
from sw.model_file import IntegerModel, Layer
from sw.report import Difference, layer_differences
from sw.simulated_device import SimulatedDevice
from tb.random_model import random_image, random_model

__all__ = ["Fault", "Subject", "network", "one_pixel"]

Tensors = dict[str, torch.Tensor]
_SOONEST = "-O0"
"""Compiler's effort for hardware with a fault."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network on a preset, with integer images and their golden tensors."""

    model: IntegerModel
    preset: Preset
    images: list[torch.Tensor]
    golden: list[Tensors]

    @functools.cached_property
    def program(self) -> Program:
        """The whole network's, without a fault."""
        return compile_model(self.model, self.preset)

    def layer_number(self, name: str) -> int:
        return [layer.name for layer in self.model.layers].index(name)

    def with_layer(self, layer: Layer) -> IntegerModel:
        """The model with a layer of this name replaced."""
        return dataclasses.replace(self.model, layers=tuple(
            layer if old.name == layer.name else old for old in self.model.layers))

    def visible(self, layer: Layer) -> bool:
        """Whether a changed layer writes other values for the first image."""
        tensors = self.golden[0]
        made = evaluate_layer(
            self.model, layer, [tensors[name].unsqueeze(0) for name in layer.inputs],
            None if layer.residual is None else tensors[layer.residual].unsqueeze(0))
        return any(not torch.equal(value[0], tensors[name]) for name, value in made.items())

    def differences(self, image: int, found: Tensors) -> list[Difference]:
        """What a comparison must say if the accelerator writes ``found``."""
        return [difference for layer in self.model.layers
                for difference in layer_differences(image, layer, self.golden[image], found)]

    def predict(self, layer: Layer) -> list[list[Difference]]:
        """What a comparison must say of each image if the hardware runs another ``layer``."""
        wrong = self.with_layer(layer)
        return [self.differences(number, evaluate(wrong, image))
                for number, image in enumerate(self.images)]

    def device(self, program: Program, generator: str | None = None) -> SimulatedDevice:
        """An accelerator, or one with a fault: it isn't used for long, and must build soon."""
        return SimulatedDevice(program, len(self.model.layers), generator=generator,
                               effort=_SOONEST if generator else QUICK)

    def compare(self, open_device: Callable[[Program], SimulatedDevice] | None = None,
                teacher_forced: bool = False) -> Comparison:
        """Run the images one behind the other on one accelerator."""
        pixels = torch.stack(self.images).double() * self.model.input.scale
        if self.model.input.time_steps == 1:
            pixels = pixels.squeeze(1)
        images = Images([f"random {number}" for number in range(len(pixels))], pixels)
        return compare(self.model, images, self.preset, teacher_forced=teacher_forced, jobs=1,
                       open_device=open_device or self.device)


@dataclasses.dataclass(frozen=True)
class Fault:
    """A planted fault, and what must be said of it."""

    planted: str
    subject: Subject
    predicted: list[list[Difference]]
    """Of each image, from the golden model."""
    open_device: Callable[[Program], SimulatedDevice]
    failure: str = ""
    """Part of the failure that the accelerator must report, if it stops."""
    teacher_forced: bool = False

    def compare(self) -> Comparison:
        return self.subject.compare(self.open_device, self.teacher_forced)

    def is_named(self, found: Comparison) -> bool:
        """Whether the comparison says what was predicted: each element, value and count."""
        failures = [failure for image in found.images for failure in image.failures]
        return (any(self.predicted)
                and [image.differences for image in found.images] == self.predicted
                and len(failures) == bool(self.failure)
                and all(self.failure in failure for failure in failures))


def _subject(model: IntegerModel, count: int) -> Subject:
    images = [random_image(model, seed) for seed in range(count)]
    return Subject(model, get_preset("tiny"), images,
                   [evaluate(model, image) for image in images])


@functools.cache
def network() -> Subject:
    """Two images for a network with every kind of layer, some of them in several chunks.

    32 channels between its first two layers fill a word: every bit of it is a value.
    """
    return _subject(random_model(1, size=(5, 6), channels=16, time_steps=2, classes=5, kernel=5,
                                 expansion=2, blocks=("sep", "attention", "channel")), 2)


@functools.cache
def one_pixel() -> Subject:
    """Six images for a network whose layers are one job each: one pixel, one tile, one chunk."""
    return _subject(random_model(2, size=(1, 1), channels=8, time_steps=3, classes=5, expansion=1,
                                 blocks=("mlp", "mlp")), 6)
