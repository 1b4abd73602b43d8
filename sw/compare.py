# SPDX-License-Identifier: Apache-2.0
"""Where the accelerator first differs from the golden model: the Python API of `addend compare`.

    comparison = compare(model, load_images("pictures", model), get_preset("tiny"))
    print(comparison.equal, comparison.images[0].first)
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import torch

from hw.presets import Preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.device import Device, OpenDevice
from sw.golden.network import evaluate, quantise_images
from sw.images import Images
from sw.model_file import IntegerModel, Layer
from sw.report import Difference, layer_differences
from sw.run import Step, checked_jobs, failure_text, run, silent
from sw.simulated_device import SimulatedDevice

__all__ = ["Comparison", "ImageComparison", "compare"]

_AT_ONCE = 16
"""Images whose golden tensors are in memory at the same time."""

Tensors = dict[str, torch.Tensor]


@dataclass
class ImageComparison:
    """What differs in one image."""

    image: int
    name: str
    differences: list[Difference] = field(default_factory=list)
    """The first of each tensor that differs, in program order."""
    failures: list[str] = field(default_factory=list)
    """Why the accelerator stopped; the tensors compared are as it left them."""

    @property
    def equal(self) -> bool:
        return not self.differences and not self.failures

    @property
    def first(self) -> Difference | None:
        """The first difference: program order, then time step, channel, y, x."""
        return self.differences[0] if self.differences else None

    @property
    def layers(self) -> list[str]:
        """Layers that differ, in program order."""
        return list(dict.fromkeys(difference.layer for difference in self.differences))

    def as_json(self) -> dict[str, object]:
        return {"image": self.image, "name": self.name, "equal": self.equal,
                "first": None if self.first is None else vars(self.first),
                "later_layers": self.layers[1:], "failures": self.failures,
                "differences": [vars(difference) for difference in self.differences]}


@dataclass
class Comparison:
    """All images, on one preset."""

    model: str
    preset: str
    time_steps: int
    teacher_forced: bool
    tensors_compared: int
    values_compared: int
    images: list[ImageComparison]

    @property
    def equal(self) -> bool:
        """Whether every value of every image was equal."""
        return all(image.equal for image in self.images)

    def as_json(self) -> dict[str, object]:
        return {"model": self.model, "preset": self.preset, "time_steps": self.time_steps,
                "teacher_forced": self.teacher_forced, "equal": self.equal,
                "tensors_compared": self.tensors_compared, "values_compared": self.values_compared,
                "images": [image.as_json() for image in self.images]}


def compare(model: IntegerModel, images: Images, preset: Preset, *, teacher_forced: bool = False,
            stalls: int | None = None, latency: int = 100, jobs: int | None = None,
            effort: str | None = None, open_device: OpenDevice | None = None,
            level_mode: str = "planes", step: Step = silent) -> Comparison:
    """Run every image on the RTL, and find the first value that differs from the golden model.

    An accelerator that stops is no end: what it had written is compared too. `teacher_forced` runs
    each layer on its own, from golden inputs, so that only layers that are wrong themselves
    differ. The other arguments are those of `sw.run.run`.
    """
    open_device = open_device or partial(SimulatedDevice, layers=len(model.layers), stalls=stalls,
                                         latency=latency, effort=effort)
    if teacher_forced:
        found = _each_layer(model, images, preset, open_device, checked_jobs(jobs), level_mode,
                            step)
    else:
        report = run(model, images, preset, jobs=jobs, open_device=open_device, keep_going=True,
                     level_mode=level_mode, step=step)
        found = [ImageComparison(number, image.name, image.differences,
                                 [image.failure] if image.failure else [])
                 for number, image in enumerate(report.images)]
    outputs = [model.tensors[name] for layer in model.layers for name in layer.outputs.values()]
    return Comparison(
        model=model.name, preset=preset.name, time_steps=model.time_steps,
        teacher_forced=teacher_forced, tensors_compared=len(images) * len(outputs),
        values_compared=len(images) * sum(torch.Size(made.shape).numel() for made in outputs),
        images=found)


def _each_layer(model: IntegerModel, images: Images, preset: Preset, open_device: OpenDevice,
                jobs: int, level_mode: str, step: Step) -> list[ImageComparison]:
    """Every layer by itself: its images one behind the other on an accelerator of its own."""
    integers = quantise_images(model, images.pixels)
    found = [ImageComparison(number, name) for number, name in enumerate(images.names)]
    programs: dict[str, Program] = {}
    for begin in range(0, len(images), _AT_ONCE):
        numbers = range(len(images))[begin:begin + _AT_ONCE]
        golden: dict[int, Tensors] = {}
        for number in numbers:
            step("evaluating the golden model, images", number, len(images))
            golden[number] = evaluate(model, integers[number])
        what = f"{model.name} on {preset.name}, images {numbers[0]} to {numbers[-1]}, layers"

        def work(layer: Layer, golden: dict[int, Tensors] = golden) -> list[tuple]:
            if layer.name not in programs:
                programs[layer.name] = compile_model(
                    model, preset, layers=[layer.name], level_mode=level_mode)
            return list(_layer(model, layer, golden, partial(open_device, programs[layer.name])))

        with ThreadPoolExecutor(min(jobs, len(model.layers))) as pool:
            results = pool.map(work, model.layers)
            step(what, 0, len(model.layers))
            try:
                for done, result in enumerate(results, 1):
                    for number, differences, failure in result:
                        found[number].differences += differences
                        found[number].failures += failure
                    step(what, done, len(model.layers))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return found


def _layer(model: IntegerModel, layer: Layer, golden: dict[int, Tensors],
           fresh: partial[Device]) -> Iterator[tuple[int, list[Difference], list[str]]]:
    """(image, differences, failures) of one layer, from golden inputs."""
    given = [*dict.fromkeys(layer.inputs), *([layer.residual] if layer.residual else [])]
    device = fresh()
    try:
        for number, tensors in golden.items():
            if device.failed:
                device.close()
                device = fresh()
            failures = []
            try:
                device.run([{name: tensors[name] for name in given}], number)
            except device.failures as error:
                failures.append(f"layer '{layer.name}' by itself: {failure_text(error, model)}")
            yield number, layer_differences(
                number, layer, tensors, device.tensors(layer.outputs.values())), failures
    finally:
        device.close()
