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
from pathlib import Path

import numpy as np
import torch

from hw.presets import Preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.driver import Counters, Driver, Region
from sw.errors import AddendError
from sw.golden.network import evaluate, quantise_images
from sw.golden.numbers import naf_count
from sw.golden.useful import useful_additions
from sw.images import Images, InputSpec, load_images
from sw.layer_clock import LayerClock
from sw.model_file import IntegerModel
from sw.models.checkpoint import read_checkpoint
from sw.models.meta_spikeformer import load_checkpoint
from sw.quantise.calibrate import calibrate
from sw.quantise.quantiser import quantise_with_report
from sw.report import Difference, ImageResult, LayerResult, RunReport, first_difference

__all__ = ["BACKENDS", "compile_model", "load_images", "quantise_checkpoint", "run"]

BACKENDS = ("rtl", "golden")
STALL = 64
"""Of 256 cycles, those in which `stalls` pauses each channel of the memory port."""
_POISON = 0xA5
"""What fills the writable memory before each image: a tensor that is not written differs."""

Step = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and the whole."""


def _silent(what: str, done: int, total: int) -> None:
    pass


# Quantise -------------------------------------------------------------------------------------

def quantise_checkpoint(checkpoint: str | Path, calibration: str | Path, *,
                        time_steps: int | None = None, name: str | None = None,
                        limit: int | None = None, size: tuple[int, int] | None = None,
                        integer_bits: int = 10, step: Step = _silent,
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
    config, network = load_checkpoint(checkpoint, **overrides)
    for key, value in (("mean", mean), ("std", std)):
        if len(value) not in (0, config.in_channels) or len(mean) != len(std):
            raise AddendError(f"{checkpoint}: {key} has {len(value)} values for "
                              f"{config.in_channels} channels")
    steps = config.time_steps if time_steps is None else time_steps
    if steps < 1:
        raise AddendError(f"time_steps is {steps}, must be at least 1")
    height, width = size or meta.get("image_size") or (None, None)
    spec = InputSpec(channels=config.in_channels, height=height, width=width, mean=mean, std=std,
                     frames=None)
    images = load_images(calibration, spec, limit=limit)
    pixels = images.pixels
    if pixels.dim() == 5:
        if time_steps is not None and pixels.shape[1] != time_steps:
            raise AddendError(f"{calibration}: {pixels.shape[1]} frames an image, but time_steps "
                              f"is {time_steps}")
        pixels, steps = pixels.transpose(0, 1), pixels.shape[1]
    step("calibrating", 0, len(images))
    measured = calibrate(network, pixels, time_steps=steps)
    step("quantising", len(images), len(images))
    return quantise_with_report(
        network, config, measured, time_steps=steps, name=name or Path(checkpoint).stem,
        classes=tuple(said["classes"]), mean=mean, std=std, integer_bits=integer_bits)[0]


# Run ------------------------------------------------------------------------------------------

def run(model: IntegerModel, images: Images, preset: Preset, *, backend: str = "rtl",
        stalls: int | None = None, latency: int = 100, jobs: int | None = None,
        effort: str | None = None, step: Step = _silent) -> RunReport:
    """Run every image and, on the RTL, compare every tensor with the golden model.

    `backend` "rtl" simulates the accelerator, "golden" evaluates the integers only. `stalls` is
    the seed of random pauses on the memory port, `latency` the memory's in cycles, `jobs` how many
    accelerators are simulated side by side (default: one for each processor), `effort` the C++
    compiler's for the simulation (default: for long runs).
    """
    if backend not in BACKENDS:
        raise AddendError(f"backend '{backend}' is unknown, must be one of {', '.join(BACKENDS)}")
    if jobs is not None and jobs < 1:
        raise AddendError(f"jobs is {jobs}, must be at least 1")
    jobs = min(len(images), jobs or os.cpu_count() or 1)
    report = RunReport(model=model.name, preset=preset.name, backend=backend,
                       adders=preset.adders, time_steps=model.time_steps,
                       classes=model.classes, logits_scale=model.logits.scale)
    integers = quantise_images(model, images.pixels)
    if backend == "golden":
        one, devices = _golden_image, []
    else:
        one, devices = _rtl_image, _devices(model, preset, jobs, stalls, latency, effort, report,
                                            step)
    free: queue.SimpleQueue[_Device | None] = queue.SimpleQueue()
    for device in devices or [None]:
        free.put(device)
    what = model.name if backend == "golden" else f"{model.name} on {preset.name}"

    def work(number: int) -> ImageResult:
        device = free.get()
        try:
            return one(model, images, number, integers[number], device)
        finally:
            free.put(device)

    start = time.monotonic()
    try:
        with ThreadPoolExecutor(max(1, len(devices))) as pool:
            results = pool.map(work, range(len(images)))
            step(f"{what}, images", 0, len(images))
            try:
                for result in results:
                    report.images.append(result)
                    step(f"{what}, images", len(report.images), len(images))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for device in devices:
            device.close()
    report.seconds_run = time.monotonic() - start
    return report


def _golden_image(model: IntegerModel, images: Images, number: int, image: torch.Tensor,
                  device: None) -> ImageResult:
    golden = evaluate(model, image)
    return _result(model, images, number, golden, golden, None, None)


def _rtl_image(model: IntegerModel, images: Images, number: int, image: torch.Tensor,
               device: "_Device") -> ImageResult:
    found, counters, cycles = device.run(image, number)
    return _result(model, images, number, evaluate(model, image), found, counters, cycles)


def _devices(model: IntegerModel, preset: Preset, count: int, stalls: int | None, latency: int,
             effort: str | None, report: RunReport, step: Step) -> "list[_Device]":
    # not at the top: the simulator needs Amaranth
    from sim.build import FAST, build

    step(f"compiling {model.name} for {preset.name}", 0, 0)
    start = time.monotonic()
    program = compile_model(model, preset)
    report.seconds_compile = time.monotonic() - start
    step(f"building the simulation of {preset.name}", 0, 0)
    start = time.monotonic()
    effort = FAST if effort is None else effort
    build(preset.name, effort=effort)
    report.seconds_build = time.monotonic() - start
    return [_Device(model, program, stalls, latency, effort) for _ in range(count)]


class _Device:
    """A simulated accelerator with the program of a model in its memory."""

    def __init__(self, model: IntegerModel, program: Program, stalls: int | None, latency: int,
                 effort: str) -> None:
        from sim.verilated import VerilatedTransport

        self.program, self.latency, self.stalls = program, latency, stalls
        self.transport = LayerClock(VerilatedTransport(
            program.preset, memory_bytes=_whole_pages(program), effort=effort), len(model.layers))
        self.driver = Driver(self.transport, program.preset)
        self.driver.load(program.segments)

    def close(self) -> None:
        self.transport.close()

    def run(self, image: torch.Tensor,
            number: int) -> tuple[dict[str, torch.Tensor], Counters, list[int]]:
        """Every tensor that the accelerator writes, its counters, and the cycles of each layer."""
        program, memory = self.program, self.transport.memory
        readable, writable = Region(*program.read_region), Region(*program.write_region)
        memory[writable.base:writable.limit] = _POISON
        program.write_input(memory, image.numpy())
        self.transport.start()
        # every image has a seed of its own, whichever device runs it, and whenever
        self.transport.inner.set_timing(
            self.latency, program.preset.beat_bytes, 0 if self.stalls is None else STALL,
            0 if self.stalls is None else self.stalls + number)
        counters = self.driver.run(
            program.address, program.count, readable, writable,
            timeout=100 * program.predicted_cycles + 10_000_000)
        found = {name: torch.from_numpy(np.ascontiguousarray(program.read_tensor(memory, name)))
                 for name in program.tensors if name != program.input_name}
        return found, counters, self.transport.layers(counters.cycles)


def _whole_pages(program: Program) -> int:
    return -(-(program.base + program.size) // 4096) * 4096


def _result(model: IntegerModel, images: Images, number: int, golden: dict[str, torch.Tensor],
            found: dict[str, torch.Tensor], counters: Counters | None,
            cycles: list[int] | None) -> ImageResult:
    """One image's account; compares when there are counters, that is, a device's tensors."""
    useful = useful_additions(model, golden)
    layers, compared, values = [], 0, 0
    differences: list[Difference] = []
    for index, layer in enumerate(model.layers):
        equal = None
        if counters is not None:
            before = len(differences)
            for name in layer.outputs.values():
                compared += 1
                values += golden[name].numel()
                difference = first_difference(number, layer, name, golden[name], found[name])
                if difference is not None:
                    differences.append(difference)
            equal = len(differences) == before
        spikes = layer.outputs.get("spikes")
        layers.append(LayerResult(
            name=layer.name, kind=layer.kind,
            spikes=0 if spikes is None else int(golden[spikes].sum()),
            digits=sum(_digits(model, golden, name) for name in layer.inputs),
            useful_additions=useful[layer.name], cycles=None if cycles is None else cycles[index],
            equal=equal))
    logits = found[model.logits.tensor].tolist()
    result = ImageResult(
        name=images.names[number], truth=None if images.labels is None else images.labels[number],
        prediction=max(range(len(logits)), key=logits.__getitem__), logits=logits, layers=layers,
        tensors_compared=compared, values_compared=values, differences=differences)
    if counters is None:
        return result
    return replace(result, cycles=counters.cycles, bytes_read=counters.bytes_read,
                   bytes_written=counters.bytes_written, additions=counters.additions)


def _digits(model: IntegerModel, golden: dict[str, torch.Tensor], name: str) -> int:
    """Non-zero digits of a tensor: its ones, or those of its integers' signed digits."""
    kind, value = model.tensors[name].kind, golden[name]
    if kind in ("image", "integer"):
        return int(naf_count(value).sum())
    return int(torch.count_nonzero(value))
