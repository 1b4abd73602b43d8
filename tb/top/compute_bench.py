# SPDX-License-Identifier: Apache-2.0
"""The bench of the compute unit, but on the whole Verilated accelerator."""

from __future__ import annotations

import zlib

import numpy as np

from hw.descriptor import END, FORMATS, LOAD, STORE, Format, Opcode, Target
from hw.presets import Preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.driver import Counters, Driver, Region
from tb.compute_bench import BUFFERS, Bench

__all__ = ["AcceleratorBench"]

_LOADED, _COMPUTED, _STORED = 1, 2, 4
"""Semaphores; those of the descriptors in between are the others."""


def _with_noise(descriptor: bytes, form: Format) -> bytes:
    """Set bits at random, by the descriptor's content, that are in no field."""
    random = np.random.default_rng(zlib.crc32(descriptor))
    noise = int.from_bytes(random.bytes(len(descriptor)), "little")
    for field in form.fields.values():
        noise &= ~(((1 << field.width) - 1) << (32 * field.word + field.lsb))
    return (int.from_bytes(descriptor, "little") | noise).to_bytes(len(descriptor), "little")


class AcceleratorBench(Bench):
    """LOADs fill the buffers, the descriptors run, a STORE brings the whole output buffer back.

    ``options`` are those of VerilatedTransport.
    """

    def __init__(self, preset: Preset, seed: int, **options: object) -> None:
        super().__init__(preset, seed)
        self.options = {"effort": QUICK, "stall": 30, "seed": seed} | options
        self.counters: Counters | None = None
        self._contents: list[tuple[Target, np.ndarray]] = []

    def expected(self) -> np.ndarray:
        """The result, worked out once; buffers are loaded as they were before it."""
        if not self._contents:
            self._contents = [(BUFFERS[name], self.buffers.beats[name][:used].copy())
                              for name, used in self.used.items() if used]
            super().expected()
        return self.buffers.beats["out"]

    def run(self, limit: int = 50000) -> tuple[np.ndarray, np.ndarray, int]:
        preset, size = self.preset, self.preset.beat_bytes
        want, contents = self.expected(), self._contents
        program, data, address = [], [], 1 << 16
        for target, content in contents:
            program.append(LOAD.pack(
                opcode=Opcode.LOAD, target=target, address=address, length=len(content),
                count_1=1, count_2=1, beat_step=1, post=_LOADED))
            data.append((address, content.tobytes()))
            address += content.size
        last = len(self.descriptors) - 1
        for number, fields in enumerate(self.descriptors):
            wait = 0 if number else _LOADED
            post = _COMPUTED if number == last else 8 << number % 13
            form = FORMATS[fields["opcode"]]
            program.append(_with_noise(form.pack(**fields | {"wait": wait, "post": post}), form))
        # the transfers before the last only start it
        for descriptor in range(len(contents) - 1):
            program[descriptor] = LOAD.pack(**LOAD.unpack(program[descriptor]) | {"post": 0})
        program.append(STORE.pack(
            opcode=Opcode.STORE, address=address, length=preset.out_beats, count_1=1, count_2=1,
            beat_step=1, wait=_COMPUTED, post=_STORED))
        program.append(END.pack(opcode=Opcode.END, wait=_STORED))
        end = address + preset.out_beats * size
        with VerilatedTransport(preset, memory_bytes=1 << 18, **self.options) as transport:
            driver = Driver(transport, preset)
            driver.load([(0x1000, b"".join(program)), *data])
            transport.memory[address:end] = 0xA5
            self.counters = driver.run(
                0x1000, len(program), Region(0x1000, address), Region(address, end),
                timeout=4 * limit + 20 * (end - (1 << 16)), watchdog=100_000)
            assert driver.register("layer") == self.descriptors[-1].get("layer", 0)
            got = driver.read(address, end - address).reshape(-1, size)
        return got, want, self.counters.cycles
