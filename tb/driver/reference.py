# SPDX-License-Identifier: Apache-2.0
"""Programs for the stub system, and what they must leave in memory."""

from __future__ import annotations

import numpy as np

from hw.descriptor import CONV, END, LOAD, STORE, Opcode, Target
from hw.presets import Preset

__all__ = ["random_program", "run_reference"]

_MASK = (1 << 32) - 1


def _beats(fields: dict[str, int], step: int, base: str, prefix: str) -> list[int]:
    """List the beats (or byte addresses of beats) of a transfer."""
    result = []
    for j2 in range(fields["count_2"]):
        for j1 in range(fields["count_1"]):
            start = (fields[base] + j2 * fields[f"{prefix}step_2"]
                     + j1 * fields[f"{prefix}step_1"]) & _MASK
            result += [(start + k * step) & _MASK for k in range(fields["length"])]
    return result


def run_reference(program: list[bytes], memory: np.ndarray, preset: Preset) -> None:
    """Run LOADs and STOREs in order on ``memory``."""
    size = preset.beat_bytes
    buffer = np.zeros((preset.out_beats, size), np.uint8)
    for descriptor in program:
        if descriptor[0] not in (Opcode.LOAD, Opcode.STORE):
            continue
        fields = LOAD.unpack(descriptor)
        pairs = zip(_beats(fields, size, "address", ""),
                    _beats(fields, fields["beat_step"], "buffer", "buffer_"), strict=True)
        for address, beat in pairs:
            if descriptor[0] == Opcode.LOAD:
                buffer[beat] = memory[address:address + size]
            else:
                memory[address:address + size] = buffer[beat]


def _transfer(rng: np.random.Generator, preset: Preset, low: int, high: int,
              depth: int) -> dict[str, int]:
    """Choose runs that stay in bytes low .. high - 1 and in ``depth`` beats."""
    size = preset.beat_bytes
    memory = (high - low) // size
    while True:
        length = int(rng.choice([1, 2, 3, int(rng.integers(1, 40)), int(rng.integers(1, 120))]))
        count_1, count_2 = (int(count) for count in rng.integers(1, 7, 2))
        step_1 = int(rng.choice([length, length, int(rng.integers(0, 70))]))
        step_2 = int(rng.choice([step_1 * count_1, int(rng.integers(0, 200))]))
        buffer_1 = int(rng.choice([length, int(rng.integers(0, 50))]))
        buffer_2 = int(rng.integers(0, 100))
        extent = (count_1 - 1) * step_1 + (count_2 - 1) * step_2 + length
        beat_step = int(rng.choice([1, 1, 2, 8, 15]))
        buffer_extent = ((count_1 - 1) * buffer_1 + (count_2 - 1) * buffer_2
                         + (length - 1) * beat_step + 1)
        if extent <= memory and buffer_extent <= depth:
            break
    address = low + size * int(rng.integers(0, memory - extent + 1))
    buffer = int(rng.integers(0, depth - buffer_extent + 1))
    if rng.random() < 0.2:  # walk downwards
        address += size * (count_2 - 1) * step_2
        step_2 = -step_2
    if rng.random() < 0.2:
        address += size * (count_1 - 1) * step_1
        step_1 = -step_1
    if rng.random() < 0.2:
        buffer += (count_1 - 1) * buffer_1
        buffer_1 = -buffer_1
    if rng.random() < 0.2:
        buffer += (count_2 - 1) * buffer_2
        buffer_2 = -buffer_2
    return {
        "address": address, "length": length, "count_1": count_1, "count_2": count_2,
        "step_1": size * step_1 & _MASK, "step_2": size * step_2 & _MASK, "buffer": buffer,
        "buffer_step_1": buffer_1 & _MASK, "buffer_step_2": buffer_2 & _MASK,
        "beat_step": beat_step}


def random_program(rng: np.random.Generator, preset: Preset, rounds: int,
                   source: tuple[int, int], result: tuple[int, int],
                   depths: dict[Target, int]) -> list[bytes]:
    """Return rounds of some LOADs, perhaps a CONV, and some STOREs, ordered by semaphores.

    They keep to the beats of the map buffer and of the target's, if that is smaller.
    """
    depth = min(preset.out_beats, depths[Target.MAP])
    program = []
    for number in range(rounds):
        loads = int(rng.integers(1, 4))
        computes = rng.random() < 0.5
        for k in range(loads):
            target = Target(int(rng.integers(0, 4)))
            program.append(LOAD.pack(
                opcode=Opcode.LOAD, target=target, layer=number,
                wait=2 if number and k == 0 else 0,
                post=(8 if computes else 1) if k == loads - 1 else 0,
                **_transfer(rng, preset, *source, min(depths[target], depth))))
        if computes:
            program.append(CONV.pack(
                opcode=Opcode.CONV, layer=number, wait=8, post=4, time_steps=1, repeat=1,
                columns=int(rng.integers(1, 30)), rows=1, images=1, planes=1, window_reads=1))
        stores = int(rng.integers(1, 4))
        for k in range(stores):
            program.append(STORE.pack(
                opcode=Opcode.STORE, layer=number, wait=(4 if computes else 1) if k == 0 else 0,
                post=2 if k == stores - 1 else 0,
                **_transfer(rng, preset, *result, depth)))
    program.append(END.pack(opcode=Opcode.END, wait=2))
    return program
