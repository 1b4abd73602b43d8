# SPDX-License-Identifier: Apache-2.0
"""Fixed programs for the whole accelerator: what they leave in memory, and what the counters say.

Their golden results are worked out once and kept, so that many accelerators can run them. Tensors
and most counters follow from the golden model and the functional simulator. Cycles and stalls are a
fixed function of program, memory timing and hardware, but no model foretells them: cycles.json
records them, so that no change of the hardware's speed goes unseen. After one that is meant:

    python -m tb.top.cases
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np

from hw.descriptor import DESCRIPTOR_BYTES, Flag, Opcode
from hw.presets import Preset, get_preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.driver import Counters, Driver, Region
from sw.golden.network import evaluate
from sw.isa.machine import Machine
from tb.random_model import random_image, random_model
from tb.top.rtl import POISON

RECORD = Path(__file__).with_name("cycles.json")

__all__ = ["NETWORKS", "Expected", "expected", "recorded_cycles", "run_network"]

NETWORKS: dict[str, tuple[dict[str, object], dict[str, int]]] = {
    "mlp": (dict(seed=1, blocks=("mlp",), channels=8, size=(5, 4), time_steps=1), {}),
    "sep": (dict(seed=2, blocks=("sep",), channels=12, size=(6, 7), time_steps=3, kernel=5,
                 integer_bits=12), dict(latency=20, stall=40, seed=2)),
    "attention": (dict(seed=3, blocks=("attention",), channels=40, heads=2, size=(7, 6),
                       time_steps=2), dict(latency=1)),
    "events": (dict(seed=4, blocks=("channel", "down"), channels=9, size=(8, 9), heads=3,
                    event_frames=True, time_steps=3, input_bits=4, stem=(3, 2, 1)),
               dict(latency=300, stall=128, seed=4)),
    "levels": (dict(seed=6, blocks=("sep", "attention"), channels=12, heads=2, size=(5, 6),
                    time_steps=1, levels=4, value_ratio=2, kernel=3),
               dict(latency=50, stall=60, seed=6)),
    "eight": (dict(seed=7, blocks=("attention", "mlp"), channels=9, heads=3, size=(4, 5),
                   time_steps=2, event_frames=True, levels=8, ties="up"), dict(latency=90)),
    "masking": (dict(seed=8, blocks=("masking",), channels=20, size=(7, 9), time_steps=3),
                dict(latency=20, stall=30, seed=8)),
    "whole": (dict(seed=5, blocks=("sep", "attention", "mlp"), channels=20, heads=4,
                   size=(9, 10), time_steps=4, kernel=3, integer_bits=7, classes=40,
                   expansion=2, stem=(7, 2, 3)), dict(latency=37, stall=90, seed=5)),
}
"""Arguments of random_model, and of the memory."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a run must do: the tensors of each image, and the counters that follow from them."""

    program: Program
    images: list[np.ndarray]
    tensors: list[dict[str, np.ndarray]]
    counters: list[dict[str, int]]


class _Counting(Machine):
    """Counts what the adders of the array do in CONVs, and the zero words that they never see."""

    rows_added = skipped = 0

    def _execute(self, entry, some=None):
        layer = self.report.layer(entry[2]["layer"])
        before = dict(layer)
        super()._execute(entry, some)
        if entry[1] is Opcode.CONV:
            added, words, zeros = (layer[name] - before[name]
                                   for name in ("rows_added", "words", "zero_words"))
            # a depthwise word is one addition, whichever of its bits are the tile's
            self.rows_added += words - zeros if entry[2]["flags"] & Flag.DEPTHWISE else added
            self.skipped += zeros


def _counters(program: Program, image: np.ndarray) -> dict[str, int]:
    """Return what the counters must be, by the functional simulator."""
    memory = np.zeros(-(-(program.base + program.size) // 4096) * 4096, np.uint8)
    program.load(memory)
    program.write_input(memory, image)
    machine = _Counting(program.preset, memory)
    report = machine.run(program.address)
    return {"additions": machine.rows_added * program.preset.lanes, "skipped": machine.skipped,
            "bytes_read": report.bytes_read + program.count * DESCRIPTOR_BYTES,
            "bytes_written": report.bytes_written}


@functools.cache
def expected(name: str, preset_name: str = "tiny", images: int = 2) -> Expected:
    """Return what the network of that name must do."""
    model = random_model(**NETWORKS[name][0])
    program = compile_model(model, get_preset(preset_name))
    inputs = [random_image(model, number) for number in range(images)]
    return Expected(
        program, [image.numpy() for image in inputs],
        [{tensor: value.numpy() for tensor, value in evaluate(model, image).items()
          if tensor in program.tensors} for image in inputs],
        [_counters(program, image.numpy()) for image in inputs])


@functools.cache
def recorded_cycles() -> dict[str, list]:
    """Return what cycles.json holds: for each network, and under "descriptors" for random ones."""
    return json.loads(RECORD.read_text())


def timing(counters: Counters) -> dict[str, int]:
    """Return cycles and stalls."""
    return {"cycles": counters.cycles, **counters.stalls}


def run_network(name: str, preset: Preset | None = None, *, recorded: bool = True,
                **options: object) -> list[Counters]:
    """Run the images one behind the other and check every tensor, and all counters.

    Cycles and stalls equal what is ``recorded``, for preset tiny.
    """
    preset = preset or get_preset("tiny")
    want = expected(name, preset.name)
    program = want.program
    size = -(-(program.base + program.size) // 4096) * 4096
    found = []
    with VerilatedTransport(preset, memory_bytes=size,
                            **{"effort": QUICK} | NETWORKS[name][1] | options) as transport:
        driver = Driver(transport, preset)
        for number, image in enumerate(want.images):
            transport.memory[:] = POISON
            driver.load(program.segments)
            program.write_input(transport.memory, image)
            counters = driver.run(
                program.address, program.count, Region(*program.read_region),
                Region(*program.write_region), watchdog=20_000,
                timeout=20 * program.predicted_cycles + 100_000)
            wrong = [tensor for tensor, value in want.tensors[number].items() if not
                     np.array_equal(program.read_tensor(transport.memory, tensor), value)]
            assert wrong == [], f"image {number}"
            assert {key: getattr(counters, key)
                    for key in want.counters[number]} == want.counters[number]
            found.append(counters)
    if recorded:
        assert [timing(counters) for counters in found] == recorded_cycles()[name], (
            "cycles changed: if that is meant, run python -m tb.top.cases")
    return found


def record() -> None:
    """Write cycles.json anew."""
    from tb.top.random_descriptors import SEEDS, draw

    content = {name: [timing(counters) for counters in run_network(name, recorded=False)]
               for name in NETWORKS}
    content["descriptors"] = [draw(seed).run()[2] for seed in range(SEEDS)]
    partial = RECORD.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(RECORD)


if __name__ == "__main__":
    record()
