# SPDX-License-Identifier: Apache-2.0
"""The descriptor processor (fetcher, dispatcher, semaphores, run control).

The bench plays memory and the three units. A program is right when every unit gets its
descriptors in order and unchanged, none before the semaphores that it waits for were raised, and
the run ends behind the last of them.
"""

from __future__ import annotations

import dataclasses
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hw.descriptor import DESCRIPTOR_BYTES, FORMATS, Opcode, Target
from hw.dma.payloads import BEAT_BITS, BURST, REPORT, TRANSFER
from hw.limits import COUNTS, limits
from hw.regmap import ErrorCode
from tb.cocotb_bench import STALLS, bench, generator, pack, pauses, preset, reset, start, unpack

LIMIT = 20_000
"""Cycles of a run, at most."""

UNITS = ("load", "store", "compute")
UNIT = {Opcode.LOAD: "load", Opcode.STORE: "store", Opcode.CONV: "compute",
        Opcode.KTV: "compute"}
END_SEMAPHORE = 15
WIDE = 1 << 32
MODULUS = dict.fromkeys(("buffer_step_1", "buffer_step_2"), 1 << BEAT_BITS)
"""Steps in a buffer count modulo its address."""


@dataclasses.dataclass
class Program:
    """Descriptors, and for each unit those that are its own."""

    descriptors: list[bytes]
    address: int

    def unit(self, name: str) -> list[tuple[int, bytes]]:
        """Number and bytes of a unit's descriptors."""
        return [(number, data) for number, data in enumerate(self.descriptors)
                if UNIT.get(data[0]) == name]


def random_fields(random: np.random.Generator, opcode: Opcode, extreme: bool) -> dict[str, int]:
    """Values for all fields of a kind that their limits allow; the largest ones if ``extreme``."""
    values = {}
    _, counts = COUNTS.get(opcode, (None, ()))
    for field in FORMATS[opcode].fields.values():
        low, high = field.bounds
        value = high if extreme else int(random.integers(low, high, endpoint=True))
        values[field.name] = max(1, value) if field.name in counts else value
    for limit in limits(opcode, preset()):
        value = max(limit.low, values[limit.field])
        if limit.high is not None:
            value = limit.low + (value - limit.low) % (limit.high + 1 - limit.low)
        values[limit.field] = value - value % limit.step
        if extreme and limit.high is not None:
            values[limit.field] = limit.high - limit.high % limit.step
    if opcode is Opcode.STORE:  # of no meaning, and only its lowest bits go to the unit
        values["target"] %= max(Target) + 1
    return values | {"opcode": opcode}


def random_program(random: np.random.Generator, count: int, extreme: bool = False) -> Program:
    """A program that ends: run in program order, every wait is satisfied, and a semaphore is
    lowered by one unit only."""
    level = [0] * END_SEMAPHORE
    descriptors, ends = [], 0
    for _ in range(count):
        opcode = Opcode(int(random.choice([1, 1, 2, 3, 4])))
        unit = UNITS.index(UNIT[opcode])
        mine = [s for s in range(unit, END_SEMAPHORE, 3) if level[s]]
        waits = [s for s in mine if random.random() < 0.6]
        posts = random.choice(END_SEMAPHORE, int(random.integers(0, 4)), replace=False).tolist()
        for s in waits:
            level[s] -= 1
        for s in posts:
            level[s] += 1
        last = random.random() < 0.1
        ends += last
        fields = random_fields(random, opcode, extreme)
        fields |= {"wait": sum(1 << s for s in waits),
                   "post": sum(1 << s for s in posts) | last << END_SEMAPHORE}
        descriptors.append(FORMATS[opcode].pack(**fields))
    wait = (ends > 0) << END_SEMAPHORE
    descriptors.append(FORMATS[Opcode.END].pack(opcode=Opcode.END, wait=wait, layer=5))
    return Program(descriptors, DESCRIPTOR_BYTES * int(random.integers(1 << 16)))


class Units:
    """Memory and the three units around the control unit."""

    def __init__(self, dut: object, random: np.random.Generator, stall: float):
        self.dut, self.random, self.stall = dut, random, stall
        self.program = Program([], 0)
        self.faulty: int | None = None  # descriptor that memory answers with an error
        self.silent = False  # units never end
        self.clear()
        dut.watchdog_cycles.value = 0
        dut.irq_enable_done.value = dut.irq_enable_error.value = 1
        self.tasks = [cocotb.start_soon(task) for task in (  # the reset first in each cycle
            self._reset(), self._memory(), self._transfers("load"), self._transfers("store"),
            self._compute())]

    def clear(self) -> None:
        """What a reset of the units does."""
        self.beats: deque[tuple[int, int]] = deque()
        self.taken = dict.fromkeys(UNITS, 0)
        self.running: dict[str, deque] = {unit: deque() for unit in UNITS}
        self.ended = 0
        self.level = [0] * 16
        # slow units let the others run ahead, up to the semaphores
        slow = self.random.choice([0.1, 0.9, 0.98], 3).tolist()
        self.slowness = dict(zip(UNITS, slow, strict=True))
        self.words: list[int] = []
        self.waiting: deque[bytes] = deque()

    async def _reset(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if int(self.dut.reset_units.value):
                self.clear()

    async def _memory(self) -> None:
        """Answer bursts with beats of the program."""
        dut, size = self.dut, preset().beat_bytes
        ask, give = pauses(self.random, self.stall), pauses(self.random, self.stall)
        sent = False
        while True:
            ready = not next(ask)
            dut.o_burst__ready.value = ready
            if not sent and self.beats and not next(give):
                sent = True
                data, error = self.beats[0]
                dut.i_data__payload.value = data | error << 8 * size
            dut.i_data__valid.value = sent
            dut.drained.value = not self.beats
            await RisingEdge(dut.clk)
            if sent and int(dut.i_data__ready.value):
                sent = False
                if self.beats:
                    self.beats.popleft()
            if int(dut.reset_units.value):
                sent = False
                self.beats.clear()
            elif ready and int(dut.o_burst__valid.value):
                burst = unpack(BURST, int(dut.o_burst__payload.value))
                number, rest = divmod(burst["address"] - self.program.address, DESCRIPTOR_BYTES)
                assert rest == 0 and burst["beats"] * size == DESCRIPTOR_BYTES
                data = self.program.descriptors[number]
                self.beats.extend(
                    (int.from_bytes(data[n:n + size], "little"), int(number == self.faulty))
                    for n in range(0, DESCRIPTOR_BYTES, size))

    def _begin(self, unit: str, wait: int) -> bytes:
        """A descriptor starts: its semaphores must have been raised."""
        number, data = self.program.unit(unit)[self.taken[unit]]
        fields = FORMATS[Opcode(data[0])].unpack(data)
        assert wait == fields["wait"], f"descriptor {number} waits for {wait:#x}"
        for s in range(16):
            self.level[s] -= wait >> s & 1
            assert self.level[s] >= 0, f"descriptor {number} began without semaphore {s}"
        self.taken[unit] += 1
        self.running[unit].append((number, fields))
        return data

    def _end(self, unit: str) -> int:
        """End the oldest descriptor of a unit; returns what it posts."""
        _, fields = self.running[unit].popleft()
        self.ended += 1
        for s in range(16):
            self.level[s] += fields["post"] >> s & 1
        return fields["post"]

    def _ends(self, unit: str) -> bool:
        """Whether the oldest descriptor of a unit ends now."""
        return (bool(self.running[unit]) and not self.silent
                and self.random.random() >= self.slowness[unit])

    async def _transfers(self, unit: str) -> None:
        dut, random = self.dut, self.random
        valid, ready, payload = (getattr(dut, f"o_{unit}__{name}")
                                 for name in ("valid", "ready", "payload"))
        post, idle = getattr(dut, f"{unit}_post"), getattr(dut, f"{unit}_idle")
        pause = pauses(random, self.stall)
        while True:
            takes = len(self.running[unit]) < 3 and not next(pause)
            ready.value = takes
            ends = self._ends(unit)
            post.value = self._end(unit) if ends else 0
            idle.value = not self.running[unit] and not ends
            await RisingEdge(dut.clk)
            if takes and int(valid.value) and not int(dut.reset_units.value):
                found = unpack(TRANSFER, int(payload.value))
                number, data = self.program.unit(unit)[self.taken[unit]]
                fields = FORMATS[Opcode(data[0])].unpack(data)
                assert found["index"] == number
                different = [name for name, value in found.items()
                             if name != "index" and value != fields[name] % MODULUS.get(name, WIDE)]
                assert not different, f"descriptor {number}: {different} differ"
                self._begin(unit, found["wait"])

    async def _compute(self) -> None:
        dut, random = self.dut, self.random
        pause = pauses(random, self.stall)
        size, last_layer = preset().beat_bytes, 0
        while True:
            takes = (len(self.waiting) + len(self.running["compute"]) < 2 and not next(pause)
                     and bool(self.words or random.random() >= self.slowness["compute"]))
            ends = self._ends("compute")
            dut.o_compute__ready.value = takes
            dut.compute_request.value = bool(self.waiting)
            if self.waiting:
                dut.compute_wait.value = int.from_bytes(self.waiting[0][4:6], "little")
            dut.done_valid.value = ends
            dut.done_post.value = self._end("compute") if ends else int(random.integers(1 << 16))
            dut.compute_idle.value = not (self.running["compute"] or self.waiting or self.words
                                          or ends)
            dut.compute_layer.value = last_layer
            await RisingEdge(dut.clk)
            if int(dut.reset_units.value):
                continue
            if int(dut.compute_grant.value):
                data = self.waiting.popleft()
                assert self._begin("compute", int.from_bytes(data[4:6], "little")) == data
                last_layer = int.from_bytes(data[2:4], "little")
            if takes and int(dut.o_compute__valid.value):
                self.words.append(int(dut.o_compute__payload.value))
                if len(self.words) * size == DESCRIPTOR_BYTES:
                    data = b"".join(word.to_bytes(size, "little") for word in self.words)
                    self.words = []
                    place = self.taken["compute"] + len(self.waiting)
                    number, expected = self.program.unit("compute")[place]
                    assert data == expected, f"descriptor {number} differs"
                    self.waiting.append(data)

    async def strobe(self, name: str) -> None:
        """Set a control input for one cycle."""
        handle = getattr(self.dut, name)
        handle.value = 1
        await RisingEdge(self.dut.clk)
        handle.value = 0
        await RisingEdge(self.dut.clk)

    async def begin(self, program: Program, count: int | None = None) -> None:
        """Start a program."""
        self.program = program
        self.dut.program_address.value = program.address
        self.dut.program_count.value = count or len(program.descriptors)
        await self.strobe("control_start")

    async def stopped(self) -> None:
        """Wait until the run is over."""
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        for _ in range(LIMIT):
            if not int(self.dut.status_busy.value):
                for _ in range(2):  # a start may follow; through the bus it takes longer still
                    await RisingEdge(self.dut.clk)
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError(f"no end: {self.taken} taken, {self.ended} ended")

    async def check(self, program: Program) -> None:
        """Run a program to its end."""
        dut = self.dut
        await self.begin(program)
        await self.stopped()
        assert int(dut.status_done.value) and int(dut.irq.value) and not int(dut.status_error.value)
        assert self.ended == len(program.descriptors) - 1, "END before the last descriptor"
        await self.strobe("control_irq_clear")
        assert not int(dut.irq.value)


@bench
@cocotb.parametrize(stall=STALLS)
async def programs_run_in_order(dut: object, stall: float) -> None:
    """Random programs, one behind the other without a reset."""
    random = generator("control", stall)
    await start(dut)
    units = Units(dut, random, stall)
    for count in (0, 1, 40, 40, 60):
        await units.check(random_program(random, count))


@bench
@cocotb.parametrize(stall=STALLS)
async def largest_fields(dut: object, stall: float) -> None:
    """Every field at its largest value."""
    random = generator("largest", stall)
    await start(dut)
    await Units(dut, random, stall).check(random_program(random, 20, extreme=True))


def _change(data: bytes, **fields: int) -> bytes:
    form = FORMATS[Opcode(data[0])]
    return form.pack(**{**form.unpack(data), **fields})


FAULTS = {
    "opcode": (ErrorCode.BAD_OPCODE, Opcode.LOAD, {"opcode": 6}),
    "count": (ErrorCode.ZERO_COUNT, Opcode.CONV, {"rows": 0}),
    "target": (ErrorCode.BAD_TARGET, Opcode.LOAD, {"target": 4}),
    "high": (ErrorCode.ADDRESS_HIGH, Opcode.STORE, {"address_high": 1}),
    "aligned": (ErrorCode.MISALIGNED, Opcode.STORE, {"step_1": 1}),
    "buffer": (ErrorCode.BUFFER_RANGE, Opcode.LOAD, {"buffer": 1 << BEAT_BITS}),
    "response": (ErrorCode.READ_RESPONSE, Opcode.LOAD, {}),
    "no_end": (ErrorCode.NO_END, Opcode.STORE, {}),
}


@bench
@cocotb.parametrize(stall=STALLS, fault=list(FAULTS))
async def faults_stop_the_run(dut: object, stall: float, fault: str) -> None:
    """A malformed descriptor is named; none behind it begins; after a soft reset all is well."""
    random = generator("faults", stall, fault)
    code, opcode, fields = FAULTS[fault]
    await start(dut)
    units = Units(dut, random, stall)
    plain = [_change(data, wait=0, post=0)
             for data in random_program(random, 6).descriptors[:-1]]
    bad = FORMATS[opcode].pack(**{**random_fields(random, opcode, False), "wait": 0, "layer": 77,
                                  **fields})
    end = FORMATS[Opcode.END].pack(opcode=Opcode.END)
    units.faulty = len(plain) if fault == "response" else None
    await units.begin(Program([*plain, bad, *plain, end], 0x1000),
                      len(plain) + 1 if fault == "no_end" else None)
    await units.stopped()
    assert int(dut.status_error.value) and int(dut.irq.value) and not int(dut.status_done.value)
    assert int(dut.error_code.value) == code
    assert int(dut.error_index.value) == len(plain) + (fault == "no_end")
    if fault not in ("response", "no_end"):
        assert int(dut.error_layer.value) == 77
    started = len(plain) + (fault in ("no_end", "response"))
    assert sum(units.taken.values()) <= started, "a descriptor behind the error began"
    await units.strobe("control_soft_reset")
    await units.stopped()
    units.faulty = None
    assert int(dut.error_code.value) == 0
    await units.check(random_program(random, 20))


@bench
async def reports_of_units(dut: object) -> None:
    """An error of a unit stops the run with its code, descriptor and layer."""
    random = generator("reports")
    await start(dut)
    units = Units(dut, random, 0.2)
    for number in range(4):
        units.silent = True
        await units.begin(random_program(random, 30))
        for _ in range(150):
            await RisingEdge(dut.clk)
        port = getattr(dut, f"report__{number}")
        port.value = pack(REPORT, {"code": 7 + number, "index": 123 + number, "layer": 9})
        await RisingEdge(dut.clk)
        port.value = 0
        await units.stopped()
        assert (int(dut.error_code.value), int(dut.error_index.value),
                int(dut.error_layer.value)) == (7 + number, 123 + number, 9)
        units.silent = False
        await units.strobe("control_soft_reset")
        await units.stopped()
        await units.check(random_program(random, 10))


@bench
async def watchdog_and_overflow(dut: object) -> None:
    """A run without progress, and a semaphore raised more often than it can hold."""
    random = generator("watchdog")
    await start(dut)
    units = Units(dut, random, 0.0)
    dut.watchdog_cycles.value = 300
    end = FORMATS[Opcode.END].pack(opcode=Opcode.END, wait=2)  # for what is never raised
    await units.begin(Program([end], 0x80))
    await units.stopped()
    assert int(dut.error_code.value) == ErrorCode.WATCHDOG
    await units.strobe("control_soft_reset")
    await units.stopped()
    dut.watchdog_cycles.value = 0
    load = FORMATS[Opcode.LOAD].pack(**{**random_fields(random, Opcode.LOAD, False), "wait": 0,
                                        "post": 1})
    await units.begin(Program([load] * 256 + [end], 0))
    await units.stopped()
    assert int(dut.error_code.value) == ErrorCode.SEMAPHORE_OVERFLOW
    await units.strobe("control_soft_reset")
    await units.stopped()
    await units.check(random_program(random, 10))


@bench
@cocotb.parametrize(kind=["hard", "soft"])
async def reset_between(dut: object, kind: str) -> None:
    """A reset in the middle of a run leaves nothing behind."""
    random = generator("reset", kind)
    await start(dut)
    units = Units(dut, random, 0.3)
    for cycles in (20, 200, 500):
        await units.begin(random_program(random, 60))
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        assert int(dut.status_busy.value)
        if kind == "soft":
            await units.strobe("control_soft_reset")
            await units.stopped()
        else:
            for task in units.tasks:
                task.cancel()
            await reset(dut)
            units = Units(dut, random, 0.3)
        assert not int(dut.status_error.value)
        await units.check(random_program(random, 20))


@bench
@cocotb.parametrize(gap=[0, 1, 2])
async def start_behind_a_soft_reset(dut: object, gap: int) -> None:
    """A start is not lost, however soon it follows a soft reset."""
    random = generator("behind", gap)
    await start(dut)
    units = Units(dut, random, 0.0)
    dut.control_soft_reset.value = 1
    await RisingEdge(dut.clk)
    dut.control_soft_reset.value = 0
    for _ in range(gap):
        await RisingEdge(dut.clk)
    await units.check(random_program(random, 10))
