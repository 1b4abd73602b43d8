# SPDX-License-Identifier: Apache-2.0
"""What a run found: per image, per layer, in total, and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from sw.model_file import Layer

__all__ = ["Difference", "ImageResult", "LayerResult", "RunReport", "first_difference",
           "layer_differences"]


@dataclass(frozen=True)
class Difference:
    """The first value of a tensor in which the accelerator differs from the golden model."""

    image: int
    layer: str
    tensor: str
    place: dict[str, int]               # time step, channel, y, x; or class
    expected: int
    found: int
    count: int                          # values of the tensor that differ

    def __str__(self) -> str:
        place = ", ".join(f"{name} {value}" for name, value in self.place.items())
        return (f"image {self.image}, layer '{self.layer}', tensor '{self.tensor}', {place}: the "
                f"golden model has {self.expected}, the accelerator {self.found} "
                f"({self.count:,} values of this tensor differ)")


def first_difference(image: int, layer: Layer, tensor: str, expected: torch.Tensor,
                     found: torch.Tensor) -> Difference | None:
    """Compare two tensors; None when every value is equal."""
    if expected.shape != found.shape:
        raise ValueError(f"tensor '{tensor}': shapes {list(expected.shape)} and "
                         f"{list(found.shape)}")
    expected, found = expected.to(torch.int64), found.to(torch.int64)
    wrong = (expected != found).nonzero()
    if not len(wrong):
        return None
    index = tuple(wrong[0].tolist())
    names = ("class",) if len(index) == 1 else ("time step", "channel", "y", "x")
    return Difference(image, layer.name, tensor, dict(zip(names, index, strict=True)),
                      int(expected[index]), int(found[index]), len(wrong))


def layer_differences(image: int, layer: Layer, expected: Mapping[str, torch.Tensor],
                      found: Mapping[str, torch.Tensor]) -> list[Difference]:
    """The first difference of each tensor that a layer writes and that differs."""
    wrong = (first_difference(image, layer, name, expected[name], found[name])
             for name in layer.outputs.values())
    return [difference for difference in wrong if difference is not None]


@dataclass(frozen=True)
class LayerResult:
    """One layer of one image."""

    name: str
    kind: str
    spikes: int
    """Ones that it writes, or the sum of its levels, over all steps."""
    rate: float | None
    """Share of its neurons that fire, or mean level over the highest; None without a neuron."""
    digits: int
    """Non-zero digits that it reads."""
    useful_additions: int
    cycles: int | None
    """Sampled from its first CONV to the next layer's, waits included."""
    bytes_read: int | None
    bytes_written: int | None
    """Moved by its LOADs and STOREs."""
    equal: bool | None
    """Whether every value that it wrote is the golden one; None where nothing was compared."""


@dataclass(frozen=True)
class ImageResult:
    """One image."""

    name: str
    truth: int | None
    prediction: int
    logits: list[int]
    layers: list[LayerResult]
    tensors_compared: int
    values_compared: int
    differences: list[Difference]
    """The first of each tensor that differs, in the order of the layers."""
    cycles: int | None = None
    additions: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    """The tensors that the model names as features, as the accelerator wrote them."""
    failure: str | None = None
    """Why the accelerator did not end, where the run went on after it."""

    @property
    def useful_additions(self) -> int:
        return sum(layer.useful_additions for layer in self.layers)


@dataclass
class RunReport:
    """All images of a run, on one preset."""

    model: str
    preset: str
    backend: str
    adders: int
    time_steps: int
    classes: tuple[str, ...]
    logits_scale: float
    batch: int = 1
    """Images of a run of the accelerator, which share weights."""
    images: list[ImageResult] = field(default_factory=list)
    seconds_compile: float = 0.0
    seconds_build: float = 0.0
    seconds_run: float = 0.0
    """From the first image's start to the last one's comparison."""

    @property
    def differences(self) -> list[Difference]:
        return [difference for image in self.images for difference in image.differences]

    @property
    def bit_exact(self) -> bool | None:
        """Whether every compared value was equal; None where nothing was compared."""
        return not self.differences if self.values_compared else None

    @property
    def tensors_compared(self) -> int:
        return sum(image.tensors_compared for image in self.images)

    @property
    def values_compared(self) -> int:
        return sum(image.values_compared for image in self.images)

    @property
    def predictions(self) -> list[int]:
        return [image.prediction for image in self.images]

    @property
    def truths(self) -> list[int] | None:
        found = [image.truth for image in self.images]
        return None if None in found else found

    @property
    def correct(self) -> int | None:
        """Images that were classified rightly; None where the truth is unknown."""
        truths = self.truths
        if truths is None:
            return None
        return sum(a == b for a, b in zip(self.predictions, truths, strict=True))

    @property
    def useful_additions(self) -> int:
        return sum(image.useful_additions for image in self.images)

    @property
    def cycles(self) -> int | None:
        return _total([image.cycles for image in self.images])

    @property
    def utilisation(self) -> float | None:
        """Useful additions / (adders x cycles from start to done)."""
        return self.utilisation_of(self.useful_additions, self.cycles)

    def utilisation_of(self, useful: int, cycles: int | None) -> float | None:
        return useful / (self.adders * cycles) if cycles else None

    def class_name(self, index: int | None) -> str:
        if index is None:
            return "-"
        return self.classes[index] if index < len(self.classes) else str(index)

    def layers(self) -> list[dict[str, object]]:
        """Layers, each summed over the images."""
        rows = []
        for same in zip(*(image.layers for image in self.images), strict=True):
            equal = [layer.equal for layer in same]
            rows.append({
                "name": same[0].name, "kind": same[0].kind,
                "spikes": sum(layer.spikes for layer in same),
                "rate": None if same[0].rate is None else sum(
                    layer.rate for layer in same) / len(same),
                "digits": sum(layer.digits for layer in same),
                "useful_additions": sum(layer.useful_additions for layer in same),
                "cycles": _total([layer.cycles for layer in same]),
                "bytes_read": _total([layer.bytes_read for layer in same]),
                "bytes_written": _total([layer.bytes_written for layer in same]),
                "equal": None if None in equal else all(equal)})
        return rows

    def as_json(self) -> dict[str, object]:
        """The report's JSON: sums over all images unless a name says otherwise."""
        return {
            "model": self.model, "preset": self.preset, "backend": self.backend,
            "time_steps": self.time_steps, "bit_exact": self.bit_exact,
            "tensors_compared": self.tensors_compared, "values_compared": self.values_compared,
            "images": len(self.images), "names": [image.name for image in self.images],
            "predictions": self.predictions, "truths": self.truths, "correct": self.correct,
            "classes": list(self.classes), "logits": [image.logits for image in self.images],
            "logits_scale": self.logits_scale, "batch": self.batch,
            "adders": self.adders, "cycles": self.cycles,
            "cycles_per_image": [image.cycles for image in self.images],
            "useful_additions": self.useful_additions,
            "useful_additions_per_image": [image.useful_additions for image in self.images],
            "utilisation": self.utilisation,
            "additions": _total([image.additions for image in self.images]),
            "bytes_read": _total([image.bytes_read for image in self.images]),
            "bytes_written": _total([image.bytes_written for image in self.images]),
            "seconds_compile": self.seconds_compile, "seconds_build": self.seconds_build,
            "seconds_run": self.seconds_run,
            "layers": self.layers(),
            "differences": [vars(difference) for difference in self.differences]}


def _total(values: list[int | None]) -> int | None:
    return None if not values or None in values else sum(values)
