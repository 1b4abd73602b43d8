# SPDX-License-Identifier: Apache-2.0
"""Compile, run on the functional machine, and compare every tensor with the golden model."""

import numpy as np
import torch

from hw.limits import broken_limit
from hw.presets import Preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.golden.network import evaluate
from sw.isa.machine import Machine, Report
from sw.model_file import IntegerModel
from tb.random_model import random_image

__all__ = ["compare", "run"]


def run(program: Program, images: list[torch.Tensor],
        seed: int | None = None) -> tuple[np.ndarray, Report]:
    """Memory after a run, and the machine's report; memory starts with garbage."""
    memory = np.random.default_rng(seed or 0).integers(0, 256, program.size, dtype=np.uint8)
    program.load(memory, program.base)
    for number, image in enumerate(images):
        program.write_input(memory, image, program.base, number)
    machine = Machine(program.preset, memory, memory_base=program.base, seed=seed,
                      read_region=program.read_region, write_region=program.write_region)
    return memory, machine.run(program.address, program.count)


def compare(model: IntegerModel, preset: Preset, *, seed: int | None = None,
            memory_base: int = 0, image_seed: int = 5,
            level_mode: str = "planes", batch: int = 1) -> tuple[Program, Report]:
    """Demand that every tensor of every image equals the golden one."""
    program = compile_model(model, preset, memory_base=memory_base, level_mode=level_mode,
                            batch=batch)
    for descriptor in program.descriptors:
        assert not (broken := broken_limit(descriptor, preset)), broken
    images = [random_image(model, image_seed + number) for number in range(batch)]
    memory, report = run(program, images, seed)
    for number, image in enumerate(images):
        golden = evaluate(model, image)
        for name in model.tensors:
            got = program.read_tensor(memory, name, program.base, number)
            want = golden[name].numpy()
            assert got.shape == want.shape, name
            wrong = np.flatnonzero(got.ravel() != want.ravel())
            assert not wrong.size, (
                f"{model.name} on {preset.name}: tensor {name} of image {number} differs in "
                f"{wrong.size} of {got.size} values, first at "
                f"{np.unravel_index(wrong[0], got.shape)}: "
                f"{got.ravel()[wrong[0]]}, not {want.ravel()[wrong[0]]}")
    return program, report
