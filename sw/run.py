# SPDX-License-Identifier: Apache-2.0
"""Quantise checkpoints and run images, as the command line does: the Python API behind `addend`.

    model = quantise_checkpoint("checkpoint.safetensors", "calibration.npz", time_steps=4)
    report = run(model, load_images("pictures", model), get_preset("ecp5"))
    print(report.bit_exact, report.predictions)
"""

import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from hw.presets import Preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.device import Device, OpenDevice
from sw.driver import DeviceError
from sw.errors import AddendError
from sw.golden.activity import with_activity
from sw.golden.network import evaluate, quantise_images
from sw.golden.numbers import naf_count
from sw.golden.useful import useful_additions
from sw.images import Images, InputSpec, load_images
from sw.model_file import IntegerModel
from sw.models.checkpoint import read_checkpoint
from sw.models.load import load_network
from sw.quantise.calibrate import calibrate
from sw.quantise.quantiser import quantise_with_report
from sw.report import Difference, ImageResult, LayerResult, RunReport, layer_differences
from sw.simulated_device import SimulatedDevice

__all__ = ["BACKENDS", "Step", "checked_jobs", "compile_model", "failure_text", "load_images",
           "quantise_checkpoint", "run", "silent"]

BACKENDS = ("rtl", "golden", "board")
Step = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and the whole."""


def silent(what: str, done: int, total: int) -> None:
    """A `Step` that shows nothing."""


# Quantise -------------------------------------------------------------------------------------

def quantise_checkpoint(checkpoint: str | Path, calibration: str | Path, *,
                        time_steps: int | None = None, name: str | None = None,
                        limit: int | None = None, size: tuple[int, int] | None = None,
                        integer_bits: int = 10, features: bool = False, step: Step = silent,
                        **overrides: object) -> IntegerModel:
    """The integer model of a float checkpoint.

    `calibration` is anything that `load_images` reads; `size` the height and width of the input
    where pictures are given and the checkpoint doesn't say. `overrides` replace the checkpoint's
    sizes (fields of `MetaSpikeFormerConfig`) and its `mean`, `std` and `classes`.
    """
    meta = read_checkpoint(checkpoint)[1]
    said = {key: overrides.pop(key, None) or meta.get(key) or ()
            for key in ("mean", "std", "classes")}
    mean, std = (tuple(map(float, said[key])) for key in ("mean", "std"))
    step("reading the checkpoint", 0, 1)
    config, network = load_network(checkpoint, **overrides)
    for key, value in (("mean", mean), ("std", std)):
        if len(value) not in (0, config.in_channels) or len(mean) != len(std):
            raise AddendError(f"{checkpoint}: {key} has {len(value)} values for "
                              f"{config.in_channels} channels")
    steps = getattr(config, "time_steps", 1) if time_steps is None else time_steps
    if steps < 1:
        raise AddendError(f"time_steps is {steps}, must be at least 1")
    height, width = size or meta.get("image_size") or (None, None)
    spec = InputSpec(channels=config.in_channels, height=height, width=width, mean=mean, std=std,
                     frames=None)
    images = load_images(calibration, spec, limit=limit, split="train")
    pixels = images.pixels
    if pixels.dim() == 5:
        if time_steps is not None and pixels.shape[1] != time_steps:
            raise AddendError(f"{calibration}: {pixels.shape[1]} frames an image, but time_steps "
                              f"is {time_steps}")
        pixels, steps = pixels.transpose(0, 1), pixels.shape[1]
    step("calibrating", 0, len(images))
    measured = calibrate(network, pixels, time_steps=steps)
    step("quantising", len(images), len(images))
    model = quantise_with_report(
        network, config, measured, time_steps=steps, name=name or Path(checkpoint).stem,
        classes=tuple(said["classes"]), mean=mean, std=std, integer_bits=integer_bits,
        features=features)[0]
    step("measuring the activity", len(images), len(images))
    return with_activity(model, quantise_images(model, images.pixels))


# Run ------------------------------------------------------------------------------------------

def run(model: IntegerModel, images: Images, preset: Preset, *, backend: str = "rtl",
        stalls: int | None = None, latency: int = 100, jobs: int | None = None,
        effort: str | None = None, open_device: OpenDevice | None = None,
        keep_going: bool = False, level_mode: str = "planes", batch: int = 1,
        memory_base: int = 0, step: Step = silent) -> RunReport:
    """Run every image and, on an accelerator, compare every tensor with the golden model.

    `backend` "rtl" simulates the accelerator, "golden" evaluates the integers only, "board" is the
    one that `open_device` opens. `stalls` is the seed of random pauses on the memory port,
    `latency` the memory's in cycles, `jobs` how many accelerators run side by side (default: one
    for each processor; a board has one), `effort` the C++ compiler's for the simulation (default:
    for long runs). `open_device` makes them in another way; the first byte of their memory has
    address `memory_base`, a multiple of 64. With `keep_going` an accelerator's failure doesn't end
    the run: what it had written is compared, and the next image gets a fresh accelerator.
    `level_mode` and `batch`, the images of a run, are `compile_model`'s; the cycles and bytes of a
    batch are shared evenly among its images, and a last batch that is short runs its last image
    again in the places that are left.
    """
    if backend not in BACKENDS:
        raise AddendError(f"backend '{backend}' is unknown, must be one of {', '.join(BACKENDS)}")
    if batch < 1:
        raise AddendError(f"batch is {batch}, must be at least 1")
    if backend == "board" and open_device is None:
        raise AddendError("backend 'board' needs open_device")
    jobs = min(-(-len(images) // batch), 1 if backend == "board" else checked_jobs(jobs))
    report = RunReport(model=model.name, preset=preset.name, backend=backend,
                       adders=preset.adders, time_steps=model.time_steps,
                       classes=model.classes, logits_scale=model.logits.scale, batch=batch)
    integers = quantise_images(model, images.pixels)
    devices: list[Device] = []
    if backend == "golden":
        jobs, what = 1, model.name
    else:
        what = f"{model.name} on {preset.name}"
        program = _compile(model, preset, report, level_mode, batch, memory_base, step)
        step(f"opening {preset.name} on the board" if backend == "board" else
             f"building the simulation of {preset.name}", 0, 0)
        fresh = partial(open_device or partial(
            SimulatedDevice, layers=len(model.layers), stalls=stalls, latency=latency,
            effort=effort), program)
        start = time.monotonic()
        devices = [fresh() for _ in range(jobs)]
        report.seconds_build = time.monotonic() - start
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(jobs):
        free.put(slot)

    def work(numbers: range) -> list[ImageResult]:
        slot = free.get()
        try:
            if backend == "golden":
                return [_golden_image(model, images, number, integers[number])
                        for number in numbers]
            if devices[slot].failed:
                devices[slot].close()
                devices[slot] = fresh()
            return _rtl_images(model, images, numbers, integers, devices[slot], keep_going)
        finally:
            free.put(slot)

    start = time.monotonic()
    try:
        with ThreadPoolExecutor(jobs) as pool:
            results = pool.map(work, [range(first, min(first + batch, len(images)))
                                      for first in range(0, len(images), batch)])
            step(f"{what}, images", 0, len(images))
            try:
                for result in results:
                    report.images += result
                    step(f"{what}, images", len(report.images), len(images))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for device in devices:
            device.close()
    report.seconds_run = time.monotonic() - start
    return report


def checked_jobs(jobs: int | None) -> int:
    """How many accelerators are simulated side by side."""
    if jobs is not None and jobs < 1:
        raise AddendError(f"jobs is {jobs}, must be at least 1")
    return jobs or os.cpu_count() or 1


def failure_text(error: Exception, model: IntegerModel) -> str:
    """An accelerator's failure, its layer by name."""
    if isinstance(error, DeviceError) and error.layer < len(model.layers):
        return f"{error} ('{model.layers[error.layer].name}')"
    return str(error)


def _compile(model: IntegerModel, preset: Preset, report: RunReport, level_mode: str, batch: int,
             memory_base: int, step: Step) -> Program:
    """Compile the model, and report how long that took."""
    step(f"compiling {model.name} for {preset.name}", 0, 0)
    start = time.monotonic()
    program = compile_model(model, preset, memory_base=memory_base, level_mode=level_mode,
                            batch=batch)
    report.seconds_compile = time.monotonic() - start
    return program


def _golden_image(model: IntegerModel, images: Images, number: int,
                  image: torch.Tensor) -> ImageResult:
    golden = evaluate(model, image)
    return _result(model, images, number, golden, golden, compared=False)


def _rtl_images(model: IntegerModel, images: Images, numbers: range, integers: torch.Tensor,
                device: Device, keep_going: bool) -> list[ImageResult]:
    """The account of a batch's images, each with its share of the cycles and bytes."""
    given = [{model.input.tensor: integers[min(number, numbers[-1])]}
             for number in range(numbers[0], numbers[0] + device.program.batch)]
    counters = cycles = failure = None
    try:
        counters, cycles = device.run(given, numbers[0])
    except device.failures as error:
        if not keep_going:
            raise
        failure = failure_text(error, model)
    names = [name for layer in model.layers for name in layer.outputs.values()]
    results = []
    for place, number in enumerate(numbers):
        share = partial(_share, place=place, of=len(numbers))
        result = _result(
            model, images, number, evaluate(model, integers[number]),
            device.tensors(names, place), None if cycles is None else list(map(share, cycles)),
            [(share(read), share(written)) for read, written in device.transfers], compared=True)
        if counters is not None:
            result = replace(result, cycles=share(counters.cycles),
                             bytes_read=share(counters.bytes_read),
                             bytes_written=share(counters.bytes_written),
                             additions=share(counters.additions))
        results.append(replace(result, failure=failure))
    return results


def _share(total: int, place: int, of: int) -> int:
    """One of `of` parts of a total, as even as integers are."""
    return total // of + (place < total % of)


def _result(model: IntegerModel, images: Images, number: int, golden: dict[str, torch.Tensor],
            found: dict[str, torch.Tensor], cycles: list[int] | None = None,
            transfers: list[tuple[int, int]] | None = None, *, compared: bool) -> ImageResult:
    """One image's account."""
    useful = useful_additions(model, golden)
    layers, tensors, values = [], 0, 0
    differences: list[Difference] = []
    for index, layer in enumerate(model.layers):
        wrong = []
        if compared:
            wrong = layer_differences(number, layer, golden, found)
            tensors += len(layer.outputs)
            values += sum(golden[name].numel() for name in layer.outputs.values())
            differences += wrong
        fires = layer.outputs.get("spikes") or layer.outputs.get("levels")
        spikes = 0 if fires is None else int(golden[fires].sum())
        read, written = (None, None) if transfers is None else transfers[index]
        layers.append(LayerResult(
            name=layer.name, kind=layer.kind, spikes=spikes,
            rate=None if fires is None else spikes / golden[fires].numel() / layer.levels,
            bytes_read=read, bytes_written=written,
            digits=sum(_digits(model, golden, name) for name in layer.inputs),
            useful_additions=useful[layer.name], cycles=None if cycles is None else cycles[index],
            equal=not wrong if compared else None))
    logits = found[model.logits.tensor].tolist()
    return ImageResult(
        name=images.names[number], truth=None if images.labels is None else images.labels[number],
        prediction=max(range(len(logits)), key=logits.__getitem__), logits=logits, layers=layers,
        tensors_compared=tensors, values_compared=values, differences=differences,
        features={name: found[name] for roles in model.features.values()
                  for name in roles.values()})


def _digits(model: IntegerModel, golden: dict[str, torch.Tensor], name: str) -> int:
    """Non-zero digits of a tensor: its ones, or those of its integers' signed digits."""
    kind, value = model.tensors[name].kind, golden[name]
    if kind in ("image", "integer", "levels"):
        return int(naf_count(value).sum())
    return int(torch.count_nonzero(value))
