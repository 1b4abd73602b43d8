# SPDX-License-Identifier: Apache-2.0
"""When each descriptor of a program begins and ends, as three units and one memory allow.

Semaphores match tokens in program order, so one pass over the program is enough: what a descriptor
waits for has always been placed before. Nothing is simulated: a CONV takes as long as its slowest
part (`sw.cycles.work`), a transfer as long as its beats, which reads and writes share.
"""

import dataclasses
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

from hw.descriptor import DESCRIPTOR_BYTES, FORMATS, Flag, Opcode, Target
from hw.presets import Preset
from sw.compile.estimate import LATENCY
from sw.compile.program import Program
from sw.cycles.activity import expected_bits, fills
from sw.cycles.work import conv_work, count_work
from sw.model_file import IntegerModel

__all__ = ["Step", "Timeline", "predict"]

QUEUE = {"load": 16, "store": 16, "compute": 4}
"""Descriptors that wait in front of each unit; as hw.control."""
INSIDE = 4
"""Transfers that a unit has begun and not ended."""
DISPATCH = 4
"""Cycles of a descriptor in the dispatcher beside its beats."""
READ_DELAY, WRITE_DELAY = 12, 14
"""Cycles of a transfer in its unit, before its first beat in memory."""
FIRST = 20
"""Cycles from the start of a CONV to its first addition."""
LAST = 22
"""Cycles from the last addition of a CONV to its end."""
_BUCKET = 32
_LOADS = 32
"""Loads of weights that may still be under way."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A descriptor in the timeline."""

    index: int
    unit: str
    layer: int
    ready: float
    """All that it waits for is there."""
    begin: float
    end: float


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What a program is foretold to take."""

    steps: tuple[Step, ...]
    layers: tuple[int, ...]
    """Cycles of each layer of the model, from its first compute descriptor to that of the next."""
    cycles: int


class _Memory:
    """Cycles of the memory that reads and writes have taken, in buckets of cycles.

    Transfers come in program order, reads far ahead of their time: so that writes get their turn, a
    bucket full of reads still takes half as many writes, and the next read makes up for it.
    """

    def __init__(self) -> None:
        self.used: list[list[float]] = []  # by reads, by writes
        self.full = 0
        self.debt = 0.0

    def take(self, start: float, needed: float, writes: bool = False) -> float:
        """The end of a transfer that takes `needed` cycles alone, from `start` on."""
        bucket = max(int(start) // _BUCKET, 0 if writes else self.full)
        time = max(start, bucket * _BUCKET)
        rest = float(needed)
        if not writes:
            rest, self.debt = rest + self.debt, 0.0
        while True:
            while len(self.used) <= bucket:
                self.used.append([0.0, 0.0])
            used = self.used[bucket]
            room = max(0.0, _BUCKET - sum(used))
            free = max(room, _BUCKET / 2 - used[1]) if writes else room
            part = min(rest, free, (bucket + 1) * _BUCKET - time)
            used[writes] += part
            self.debt += max(0.0, part - room)
            rest -= part
            while self.full < len(self.used) and sum(self.used[self.full]) >= _BUCKET:
                self.full += 1
            if rest <= 0:
                return time + part
            bucket += 1
            time = bucket * _BUCKET


def predict(model: IntegerModel, program: Program, bits: Mapping[str, float] | None = None, *,
            latency: int = LATENCY, bandwidth: float | None = None) -> Timeline:
    """The timeline of a batch.

    `bits` are the set bits of each map of an image (`sw.golden.activity.set_bits`; default: what
    the model file expects), `latency` the memory's in cycles, `bandwidth` the bytes that it moves
    in a cycle (default, and at most: a beat).
    """
    preset = program.preset
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0, not {bandwidth}")
    pace = max(1.0, preset.beat_bytes / (bandwidth or preset.beat_bytes))
    filled = fills(model, program, expected_bits(model, program) if bits is None else bits)
    beat, memory = preset.beat_bytes, _Memory()
    head = DESCRIPTOR_BYTES // beat + DISPATCH
    posts: dict[int, list[float]] = defaultdict(list)
    taken: dict[int, int] = defaultdict(int)
    begun: dict[str, list[float]] = {"load": [], "store": [], "compute": []}
    ends: dict[str, list[float]] = {"load": [], "store": []}
    compute = _Compute()
    data_end = {"load": 0.0, "store": 0.0}
    steps: list[Step] = []
    weights: deque[_Load] = deque(maxlen=_LOADS)
    dispatched = latency + 20.0
    for index, packed in enumerate(program.descriptors):
        opcode = Opcode(packed[0])
        d = FORMATS[opcode].unpack(packed)
        memory.take(max(0.0, dispatched - latency), pace * (DESCRIPTOR_BYTES // beat))
        unit = {Opcode.LOAD: "load", Opcode.STORE: "store"}.get(opcode, "compute")
        queue = begun[unit]
        depth = QUEUE[unit]
        dispatched = max(dispatched + head, queue[-depth] if len(queue) >= depth else 0.0)
        ready = dispatched
        for semaphore in range(preset.semaphores):
            if d["wait"] >> semaphore & 1:
                ready = max(ready, posts[semaphore][taken[semaphore]])
                taken[semaphore] += 1
        if opcode is Opcode.END:
            steps.append(Step(index, "end", d["layer"], ready, ready, ready + 4))
            break
        if unit == "compute":
            begin, end = compute.place(preset, opcode, d, ready, filled[d["layer"]], weights)
            post = end
        else:
            begin = max(ready, queue[-1] + 2 if queue else 0.0,
                        ends[unit][-INSIDE] if len(ends[unit]) >= INSIDE else 0.0)
            needed = pace * d["length"] * d["count_1"] * d["count_2"]
            delay = latency + READ_DELAY if unit == "load" else WRITE_DELAY
            end = memory.take(max(begin + delay, data_end[unit]), needed, unit == "store")
            data_end[unit] = end
            ends[unit].append(end)
            if unit == "load" and d["target"] == Target.WEIGHT:
                weights.append(_Load(end - needed, end, preset, d["buffer"]))
            post = end + (3 if unit == "load" else latency + 4)
        queue.append(begin)
        steps.append(Step(index, unit, d["layer"], ready, begin, end))
        for semaphore in range(preset.semaphores):
            if d["post"] >> semaphore & 1:
                posts[semaphore].append(post)
    cycles = round(max(steps[-1].end, max(data_end.values()) + latency))
    return Timeline(tuple(steps), _layers(steps, program.model_layers, cycles), cycles)


def _layers(steps: list[Step], count: int, cycles: int) -> tuple[int, ...]:
    """Cycles of each layer: those in front of the first one's begin are its own."""
    first: dict[int, float] = {}
    for step in steps:
        if step.unit == "compute":
            first.setdefault(step.layer, step.begin)
    found = [0] * count
    marks = sorted(first.items(), key=lambda item: item[1])
    edges = [0, *(round(begin) for _, begin in marks[1:]), cycles]
    for (layer, _), low, high in zip(marks, edges, edges[1:], strict=False):
        found[layer] = high - low
    return tuple(found)


class _Load:
    """Weights on their way into a bank, and how often they hold a group up that reads it."""

    def __init__(self, begin: float, end: float, preset: Preset, buffer: int) -> None:
        self.begin, self.end = begin, end
        beats = preset.weight_row_bits // preset.axi_bits
        self.bank = buffer // beats >= preset.weight_rows // 2
        self.holds = 0.5 / beats  # one of two groups, once a row

    def held(self, begin: float, end: float, bank: bool) -> float:
        """Cycles that all groups lose from `begin` to `end` while they read `bank`."""
        return 0.0 if bank != self.bank else self.holds * max(
            0.0, min(end, self.end) - max(begin, self.begin))


class _Compute:
    """The compute unit: two contexts, and the parts that two CONVs share."""

    def __init__(self) -> None:
        self.adding = self.reading = self.results = 0.0  # busy until
        self.walk = 0.0
        self.ends = [0.0, 0.0]

    def place(self, preset: Preset, opcode: Opcode, d: Mapping[str, int], ready: float,
              fills: tuple[float, ...], weights: Iterable[_Load]) -> tuple[float, float]:
        """Begin and end of a descriptor."""
        begin = max(ready, self.ends[0], self.walk) + 2
        if opcode is Opcode.KTV or Flag(d["flags"]) & Flag.FENCE:
            begin = max(begin, self.ends[1] + 2)
        if opcode is Opcode.KTV:
            end = begin + count_work(preset, d, *fills[-2:]) + 4  # K and V come last
            self.walk = self.adding = self.reading = self.results = end
        else:
            work = conv_work(preset, d, fills[0])
            self.reading = max(self.reading, begin + 6) + work.reading
            added_from = max(self.adding, begin + FIRST)
            bank = d["weight_base"] >= preset.weight_rows // 2
            held = sum(load.held(added_from, added_from + work.longest, bank) for load in weights)
            self.adding = added_from + work.adding + held
            self.results = max(self.results, begin + FIRST + work.job + 4) + work.results
            rounds = math.ceil(work.jobs / preset.groups) * work.job
            last = max(added_from + min(rounds, work.adding + work.job / 2) + held,
                       self.reading + FIRST - 6, self.results)
            # the last jobs are handed out while the groups still add
            self.walk = max(self.reading - 4, self.adding - work.job - 4,
                            self.results - work.job - 64, begin + 4)
            end = last + LAST
        end = max(end, self.ends[1])
        self.ends = [self.ends[1], end]
        return begin, end
