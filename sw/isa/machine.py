# SPDX-License-Identifier: Apache-2.0
"""A functional simulator of programs: memory in, memory out, no cycles.

`Machine` follows docs/program.md literally and is the reference for the hardware. Descriptors are
dispatched in program order to three in-order units (LOAD, STORE, compute) with short queues;
semaphores hold them back. Which unit moves next is open: unit order and queue depth come from a
seed, and so does which pixels of a CONV an unfenced CONV behind it overtakes, so that a program
with a missing semaphore or fence gives wrong results for some seed; buffers start with garbage. A
program that can't go on raises `MachineError` naming what each unit waits for.
"""

import dataclasses

import numpy as np

from hw.descriptor import DESCRIPTOR_BYTES, FORMATS, Flag, Opcode, Target
from hw.limits import BEAT_BITS
from hw.presets import Preset
from sw.isa import compute
from sw.isa.compute import Buffers, MachineError

__all__ = ["Machine", "MachineError", "Report"]

SEMAPHORE_MAX = 255
_UNIT = {Opcode.LOAD: "load", Opcode.STORE: "store", Opcode.CONV: "compute",
         Opcode.KTV: "compute"}
_TARGET = {Target.MAP: "map", Target.WEIGHT: "weight", Target.PARAM: "param",
           Target.RESIDUAL: "residual"}


@dataclasses.dataclass
class Report:
    """What a run did; the per-layer lists are indexed by the descriptors' layer number."""

    descriptors: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    layers: dict[int, dict[str, int]] = dataclasses.field(default_factory=dict)

    def layer(self, number: int) -> dict[str, int]:
        """Counts of a layer: weight rows added, map words seen, zero ones, bytes, descriptors."""
        return self.layers.setdefault(number, {
            "rows_added": 0, "words": 0, "zero_words": 0, "bytes_read": 0, "bytes_written": 0,
            "descriptors": 0})


class Machine:
    """One accelerator over ``memory`` (uint8), whose first byte has address ``memory_base``.

    ``read_region`` and ``write_region`` are (base, limit) byte addresses that LOAD and STORE may
    touch. Without a ``seed`` units move in a fixed order with queues of 4.
    """

    def __init__(self, preset: Preset, memory: np.ndarray, *, memory_base: int = 0,
                 read_region: tuple[int, int] | None = None,
                 write_region: tuple[int, int] | None = None, seed: int | None = None) -> None:
        self.preset, self.memory, self.memory_base = preset, memory, memory_base
        whole = (memory_base, memory_base + memory.size)
        self.read_region = read_region or whole
        self.write_region = write_region or whole
        self.buffers = Buffers(preset, seed or 0)
        self.semaphores = [0] * preset.semaphores
        self.report = Report()
        self._random = None if seed is None else np.random.default_rng(seed)
        self._depth = 4 if seed is None else int(self._random.choice([1, 2, 4, 8, 64]))
        self._weights = (np.ones(3) if seed is None
                         else self._random.choice([0.01, 0.3, 1.0], 3))

    # Control ----------------------------------------------------------------------------------

    def run(self, address: int, limit: int = 1 << 24) -> Report:
        """Run the program at ``address`` (at most ``limit`` descriptors) until its END."""
        queues: dict[str, list] = {"load": [], "compute": [], "store": []}
        names = list(queues)
        index, end = 0, None
        while True:
            while end is None and (index < limit):
                entry = self._fetch(address, index)
                opcode = entry[1]
                if opcode is Opcode.END:
                    end = entry
                elif len(queues[_UNIT[opcode]]) < self._depth:
                    queues[_UNIT[opcode]].append(entry)
                else:
                    break
                index += 1
            if end is not None and self._may_start(end):
                busy = [name for name in names if queues[name]]
                if busy:
                    raise MachineError(f"END may start while {' and '.join(busy)} still has work")
                self._take(end)
                return self.report
            ready = [n for n, name in enumerate(names)
                     if queues[name] and self._may_start(queues[name][0])]
            if ready:
                chosen = ready[0]
                if self._random is not None:
                    weight = self._weights[ready]
                    chosen = self._random.choice(ready, p=weight / weight.sum())
                self._step(queues[names[chosen]])
                continue
            self._deadlock(queues, end, index, limit)

    def _fetch(self, address: int, index: int) -> tuple[int, Opcode, dict[str, int]]:
        start = address + index * DESCRIPTOR_BYTES - self.memory_base
        data = self.memory[start:start + DESCRIPTOR_BYTES].tobytes()
        if start < 0 or len(data) < DESCRIPTOR_BYTES:
            raise MachineError(f"descriptor {index} is outside the memory")
        try:
            opcode = Opcode(data[0])
        except ValueError:
            raise MachineError(f"descriptor {index}: opcode {data[0]} is unknown") from None
        return index, opcode, FORMATS[opcode].unpack(data)

    def _may_start(self, entry: tuple) -> bool:
        return all(count or not entry[2]["wait"] >> n & 1
                   for n, count in enumerate(self.semaphores))

    def _take(self, entry: tuple) -> None:
        for n in range(len(self.semaphores)):
            self.semaphores[n] -= entry[2]["wait"] >> n & 1

    def _step(self, queue: list[tuple[int, Opcode, dict[str, int]]]) -> None:
        """Run the first descriptor, and perhaps the next CONV among its pixels."""
        entry = queue.pop(0)
        self._take(entry)
        late = self._late_pixels(entry, queue)
        if late is None:
            self._execute(entry)
            self._post(entry)
            return
        after = queue.pop(0)
        count = entry[2]["images"] * entry[2]["rows"] * entry[2]["columns"]
        self._execute(entry, np.setdiff1d(np.arange(count), late))
        self._take(after)
        self._execute(after)
        self._execute(entry, late)
        self._post(entry)
        self._post(after)

    def _late_pixels(self, entry: tuple, queue: list[tuple]) -> np.ndarray | None:
        """Pixels of a CONV that the CONV behind it overtakes, as the hardware may do."""
        if (self._random is None or entry[1] is not Opcode.CONV or not queue
                or queue[0][1] is not Opcode.CONV or queue[0][2]["flags"] & Flag.FENCE
                or not self._may_start(queue[0]) or self._random.random() < 0.5):
            return None
        count = entry[2]["images"] * entry[2]["rows"] * entry[2]["columns"]
        return np.flatnonzero(self._random.random(count) < 0.3)

    def _execute(self, entry: tuple[int, Opcode, dict[str, int]],
                 some: np.ndarray | None = None) -> None:
        index, opcode, d = entry
        counts = self.report.layer(d["layer"])
        try:
            if opcode is Opcode.CONV:
                self._demand(d, "time_steps", "repeat", "columns", "rows", "images", "planes")
                if some is None or some.size:
                    compute.conv(self.preset, self.buffers, d, counts, some)
            elif opcode is Opcode.KTV:
                self._demand(d, "time_steps", "key_words", "columns", "rows", "parts")
                compute.key_value(self.preset, self.buffers, d, counts)
            else:
                self._demand(d, "length", "count_1", "count_2", "beat_step")
                self._transfer(opcode, d, counts)
        except MachineError as error:
            raise MachineError(
                f"descriptor {index} ({opcode.name}, layer {d['layer']}): {error}") from None

    def _post(self, entry: tuple[int, Opcode, dict[str, int]]) -> None:
        index, _, d = entry
        self.report.descriptors += 1
        self.report.layer(d["layer"])["descriptors"] += 1
        for n in range(len(self.semaphores)):
            self.semaphores[n] += d["post"] >> n & 1
            if self.semaphores[n] > SEMAPHORE_MAX:
                raise MachineError(f"descriptor {index}: semaphore {n} exceeds {SEMAPHORE_MAX}")

    @staticmethod
    def _demand(d: dict[str, int], *names: str) -> None:
        for name in names:
            if d[name] < 1:
                raise MachineError(f"{name} must be at least 1")

    def _deadlock(self, queues: dict[str, list], end: tuple | None, index: int,
                  limit: int) -> None:
        heads = [(name, queue[0]) for name, queue in queues.items() if queue]
        if end is not None:
            heads.append(("end", end))
        if not heads and index >= limit:
            raise MachineError(f"no END within {limit} descriptors")
        waits = []
        for name, (number, opcode, d) in heads:
            missing = [n for n, count in enumerate(self.semaphores)
                       if d["wait"] >> n & 1 and not count]
            waits.append(f"{name}: descriptor {number} ({opcode.name}, layer {d['layer']}) waits "
                         f"for semaphore {', '.join(map(str, missing))}")
        raise MachineError("deadlock: " + "; ".join(waits))

    # LOAD and STORE ---------------------------------------------------------------------------

    def _transfer(self, opcode: Opcode, d: dict[str, int], counts: dict[str, int]) -> None:
        beat = self.preset.beat_bytes
        if d["address_high"]:
            raise MachineError("address_high must be 0")
        for name in ("address", "step_1", "step_2"):
            if d[name] % beat:
                raise MachineError(f"{name} {d[name]:#x} is not a multiple of {beat}")
        load = opcode is Opcode.LOAD
        if load and d["target"] not in list(Target):
            raise MachineError(f"target {d['target']} is unknown")
        name = _TARGET[Target(d["target"])] if load else "out"
        j2, j1, run = np.ix_(np.arange(d["count_2"]), np.arange(d["count_1"]),
                             np.arange(d["length"]))
        start = d["address"] + j2 * d["step_2"] + j1 * d["step_1"]
        address = (start % (1 << 32) + run * beat).ravel()
        place = ((d["buffer"] + j2 * d["buffer_step_2"] + j1 * d["buffer_step_1"]
                  + run * d["beat_step"]) % (1 << BEAT_BITS)).ravel()
        low, limit = self.read_region if load else self.write_region
        if address.min() < low or address.max() + beat > limit:
            raise MachineError(f"addresses {address.min():#x} to {address.max():#x} leave the "
                               f"region {low:#x} to {limit:#x}")
        buffer = self.buffers.beats[name]
        if place.max() >= len(buffer):
            raise MachineError(f"beat {place.max()} is outside the {name} buffer of "
                               f"{len(buffer)} beats")
        offset = self.memory_base % beat
        start = (address - self.memory_base) // beat
        memory = self.memory[:self.memory.size // beat * beat].reshape(-1, beat)
        if offset:
            raise MachineError("memory_base must be a multiple of the beat")
        key, total = ("bytes_read", "bytes_read") if load else ("bytes_written", "bytes_written")
        if load:
            buffer[place] = memory[start]
        else:
            memory[start] = buffer[place]
        counts[key] += beat * place.size
        setattr(self.report, total, getattr(self.report, total) + beat * place.size)
