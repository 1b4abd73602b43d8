# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model on a set of images: all on the golden model, a random sample on the RTL."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hw.presets import get_preset
from sw.compile.compiler import compile_model
from sw.cycles.timeline import predict
from sw.evaluation.cluster import Shard, cluster, results_of
from sw.evaluation.results import EvaluationError, Results, digest
from sw.evaluation.shards import code_digest, golden_shard, map_names, rtl_shard
from sw.images import Images
from sw.model_file import IntegerModel, to_bytes
from sw.run import Step, checked_jobs, silent

__all__ = ["Evaluation", "evaluate_set"]

GOLDEN_VALUES, RTL_VALUES = 50 * 32 * 32 * 3, 10 * 32 * 32 * 3
"""Input values of a shard; one image at least."""
SAVE_SECONDS = 5
"""How often the results are written while shards come in."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; means are over the images that were done."""

    model: IntegerModel
    preset: str
    adders: int
    results: Results
    labels: np.ndarray | None

    @property
    def images(self) -> int:
        """Images on the golden model."""
        return int(self.results.golden["done"].sum())

    @property
    def simulated(self) -> int:
        """Images on the RTL."""
        return int(self.results.rtl["done"].sum())

    @property
    def right(self) -> int | None:
        """Images of which the golden model's first largest logit is the true class."""
        if self.labels is None:
            return None
        done = self.results.golden["done"]
        return int((self.results.golden["logits"].argmax(1) == self.labels)[done].sum())

    @property
    def equal(self) -> int:
        """Images on the RTL with every value as in the golden model, and the same logits."""
        rtl, golden = self.results.rtl, self.results.golden
        same = (rtl["logits"] == golden["logits"]).all(1) & (rtl["wrong"] == 0)
        return int((same & rtl["done"]).sum())

    def mean(self, name: str) -> float | None:
        """Mean of a value of the RTL's images."""
        rtl = self.results.rtl
        return float(rtl[name][rtl["done"]].mean()) if self.simulated else None

    @property
    def additions(self) -> float:
        """Useful additions of an image."""
        return float(self.results.golden["additions"].sum() / max(1, self.images))

    @property
    def utilisation(self) -> float | None:
        """Useful additions of the images on the RTL by adder slots."""
        rtl = self.results.rtl
        if not self.simulated:
            return None
        useful = self.results.golden["additions"][rtl["done"]].sum()
        return float(useful / (self.adders * rtl["cycles"].sum()))

    @cached_property
    def layers(self) -> list[dict[str, object]]:
        """Of each layer: its name, and an image's mean spikes and useful additions, bytes, and
        cycles as the cycle model predicts them for mean activity."""
        golden = self.results.golden
        means = {name: golden[name].sum(0) / max(1, self.images)
                 for name in ("spikes", "additions", "bits")}
        program = compile_model(self.model, get_preset(self.preset))
        bits = {name: float(value) for name, value in zip(map_names(self.model), means["bits"],
                                                          strict=True) if name}
        cycles = predict(self.model, program, bits).layers
        return [{"name": layer.name, "kind": layer.kind, "spikes": float(means["spikes"][index]),
                 "useful_additions": float(means["additions"][index]),
                 "bytes_read": read, "bytes_written": written, "cycles_predicted": cycles[index]}
                for index, (layer, (read, written)) in enumerate(
                    zip(self.model.layers, program.transfers(), strict=True))]

    def as_json(self) -> dict[str, object]:
        """Everything but the single images."""
        right = self.right
        return {"model": self.model.name, "of": self.results.of, "images": self.images,
                "right": right,
                "accuracy": None if right is None else right / max(1, self.images),
                "time_steps": self.model.time_steps, "preset": self.preset, "adders": self.adders,
                "useful_additions": self.additions, "rtl_images": self.simulated,
                "rtl_equal": self.equal, "cycles": self.mean("cycles"),
                "adder_cycles": None if not self.simulated else
                self.adders * self.mean("cycles"), "utilisation": self.utilisation,
                "bytes_read": self.mean("bytes_read"),
                "bytes_written": self.mean("bytes_written"),
                "values_compared": int(self.results.rtl["values"].sum()),
                "differences": self.results.differences, "layers": self.layers}


def evaluate_set(model: IntegerModel, images: Images, preset: str, results: Path, *, rtl: int = 0,
                 seed: int = 0, effort: str | None = None, jobs: int | None = None,
                 scheduler: str | None = None, step: Step = silent) -> Evaluation:
    """Evaluate `model` on `images`.

    `rtl` images, drawn by `seed`, also run on the RTL of `preset`, its simulation compiled as
    `effort` says (`sw.run.run`). The file `results` keeps what is done: the same call goes on from
    there, one with more `rtl` images adds them; results of another model, set, preset, seed or
    version of the code are refused. `scheduler` is the address of a dask scheduler; without one,
    `jobs` processes are made (default: one for each processor). Scripts that call this need
    `if __name__ == "__main__":`.

    Raises `EvaluationError`, and what the accelerator raises.
    """
    size, jobs = get_preset(preset), checked_jobs(jobs)
    if not 0 <= rtl <= len(images):
        raise EvaluationError(f"rtl is {rtl}, must be 0..{len(images)}, the number of the images")
    found = Results.empty(
        {"model": digest(to_bytes(model)), "images": digest(images.pixels.numpy().tobytes()),
         "preset": preset, "seed": str(seed), "version of the code": code_digest()},
        len(images), len(model.layers), model.logits.classes)
    if results.exists():
        found.load(results)
    sample = np.random.default_rng(seed).permutation(len(images))[:rtl]
    try:
        _work(model, images, (preset, effort), found, sample, results, scheduler, jobs, step)
    finally:
        if found.golden["done"].any() or found.rtl["done"].any():
            found.save(results)
    labels = None if images.labels is None else np.array(images.labels)
    return Evaluation(model, preset, size.adders, found, labels)


def _work(model: IntegerModel, images: Images, how: tuple, found: Results, sample: np.ndarray,
          path: Path, scheduler: str | None, jobs: int, step: Step) -> None:
    """Do what is not done."""
    golden = np.flatnonzero(~found.golden["done"])
    rtl = sample[~found.rtl["done"][sample]]
    todo = len(golden) + len(rtl)
    if not todo:
        return
    what, done, saved = f"{model.name}: {len(golden)} golden, {len(rtl)} RTL", 0, time.monotonic()
    step(what, 0, todo)
    with cluster(scheduler, jobs) as client:
        shards = _shards(images, golden, rtl, how)
        for (side, indices), result in results_of(client, model, shards):
            if side == "rtl":
                result, differences = result
                found.differences += differences
            found.put(side, indices, result)
            done += len(indices)
            if time.monotonic() > saved + SAVE_SECONDS:
                found.save(path)
                saved = time.monotonic()
                step(what, done, todo)
    step(what, todo, todo)


def _shards(images: Images, golden: np.ndarray, rtl: np.ndarray, how: tuple) -> Iterator[Shard]:
    """`how` are `rtl_shard`'s further arguments.

    One of the RTL is first, so that workers don't all build the simulation at once.
    """
    values = images.pixels[0].numel()

    def cut(side: str, indices: np.ndarray, most: int) -> list[tuple[str, np.ndarray]]:
        size = max(1, most // values)
        return [(side, indices[first:first + size]) for first in range(0, len(indices), size)]

    first, *rest = cut("rtl", rtl, RTL_VALUES) or [None]
    for key in [first] * (first is not None) + cut("golden", golden, GOLDEN_VALUES) + rest:
        side, indices = key
        part = Images([images.names[index] for index in indices], images.pixels[indices].clone())
        if side == "golden":
            yield key, golden_shard, (part,)
        else:
            yield key, rtl_shard, (part, *how)
