# SPDX-License-Identifier: Apache-2.0
"""LOAD and STORE between ``cocotbext.axi.AxiRam`` and buffers, against ``sw.isa``."""

from __future__ import annotations

import logging
import mmap
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam

from hw.descriptor import DESCRIPTOR_BYTES, END, LOAD, STORE, Opcode, Target
from hw.dma.payloads import REPORT, TRANSFER
from hw.limits import BEAT_BITS
from hw.regmap import ErrorCode
from sw.isa.compute import Buffers
from sw.isa.machine import Machine
from tb.cocotb_bench import (
    STALLS,
    bench,
    generator,
    pack,
    pause_channels,
    pauses,
    preset,
    reset,
    start,
    unpack,
)

LIMIT = 60_000
"""Cycles of a run, at most."""

MEMORY = 1 << 16
SOURCE, RESULT, PROGRAM = (0x1000, 0x7000), (0x7000, 0xE000), 0xE000
SOURCES = ("load", "store", "read port", "write port")
BUFFERS = {Target.MAP: "map", Target.WEIGHT: "weight", Target.PARAM: "param",
           Target.RESIDUAL: "residual"}


def random_transfer(random: np.random.Generator, region: tuple[int, int],
                    depth: int, extreme: bool) -> dict[str, int]:
    """Choose runs inside a region of memory and the beats of a buffer."""
    size = preset().beat_bytes
    memory = (region[1] - region[0]) // size
    while True:
        length = int(random.choice([1, 2, 3, random.integers(1, 40), random.integers(1, 120)]))
        counts = random.integers(1, 5, 2).tolist()
        if extreme:  # one long run, or many of one beat
            length, counts = (depth, [1, 1]) if random.random() < 0.5 else (1, [1, 200])
        gap = 0 if random.random() < 0.5 else int(random.integers(0, 30))
        steps = [length + gap, (length + gap) * counts[0]]
        buffer_gap = int(random.integers(0, 9))
        beat_step = 1 if extreme else int(random.choice([1, 1, 2, 8, 15]))
        span = (length - 1) * beat_step + 1
        buffer_steps = [span + buffer_gap, (span + buffer_gap) * counts[0]]
        extent = steps[1] * counts[1]
        buffer_extent = buffer_steps[1] * counts[1]
        if extent <= memory and buffer_extent <= depth + buffer_gap:
            break
        if extreme:
            depth = min(depth, memory) // 2
    fields = {"address": region[0] + size * int(random.integers(memory - extent + 1)),
              "length": length, "count_1": counts[0], "count_2": counts[1],
              "step_1": size * steps[0], "step_2": size * steps[1],
              "buffer": int(random.integers(max(1, depth - buffer_extent + 1))),
              "buffer_step_1": buffer_steps[0], "buffer_step_2": buffer_steps[1],
              "beat_step": beat_step}
    for base, prefix, bits in (("address", "", 32), ("buffer", "buffer_", BEAT_BITS)):
        for level, count in enumerate(counts, 1):
            if random.random() < 0.2:  # from the last to the first: steps count modulo 2^bits
                name = f"{prefix}step_{level}"
                fields[base] += fields[name] * (count - 1)
                fields[name] = -fields[name] % (1 << bits)
    return fields


class Movers:
    """Memory and buffers around the units, and the transfers to run."""

    def __init__(self, dut: object, random: np.random.Generator, stall: float):
        self.dut, self.random, self.stall = dut, random, stall
        logging.getLogger(f"cocotb.{dut._name}.m_axi").setLevel(logging.WARNING)
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst,
                          mem=mmap.mmap(-1, MEMORY))
        for bus in (self.ram.write_if, self.ram.read_if):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if hasattr(bus, name):
                    pause_channels(random, stall, getattr(bus, name))
        self.memory = np.frombuffer(self.ram.mem, np.uint8)
        self.tasks: list[object] = []

    async def begin_anew(self) -> None:
        """Reset the units and the memory's bus, with new content everywhere."""
        dut, random = self.dut, self.random
        for task in self.tasks:
            task.cancel()
        await reset(dut)
        self.memory[:] = random.integers(0, 256, MEMORY, dtype=np.uint8)
        self.buffers = dict(Buffers(preset(), int(random.integers(1 << 30))).beats)
        self.posts: dict[str, list[int]] = {"load": [], "store": []}
        self.moved = {"load": 0, "store": 0}
        self.errors: list[tuple[str, dict[str, int]]] = []
        dut.read_base.value, dut.read_limit.value = SOURCE
        dut.write_base.value, dut.write_limit.value = RESULT
        self.tasks = [cocotb.start_soon(task) for task in (
            self._fill(), self._drain(), self._watch())]
        self.sizes: dict[str, list[int]] = {"load": [], "store": []}

    async def _fill(self) -> None:
        """Take beats of LOADs into buffers."""
        dut, size = self.dut, preset().beat_bytes
        for pause in pauses(self.random, self.stall):
            dut.load_ready.value = not pause
            await RisingEdge(dut.clk)
            if not pause and int(dut.load_valid.value):
                buffer = self.buffers[BUFFERS[Target(int(dut.load_target.value))]]
                buffer[int(dut.load_beat.value)] = np.frombuffer(
                    int(dut.load_data.value).to_bytes(size, "little"), np.uint8)
                self.moved["load"] += 1

    async def _drain(self) -> None:
        """Answer reads of the output buffer three cycles later."""
        dut, out = self.dut, self.buffers["out"]
        late = deque([0, 0])
        while True:
            await RisingEdge(dut.clk)
            data = int(self.random.integers(1 << 60))
            if int(dut.store_enable.value):
                beat = int(dut.store_beat.value)
                data = int.from_bytes(out[beat % len(out)].tobytes(), "little")
            late.append(data)
            dut.store_data.value = late.popleft()

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            self.moved["store"] += int(dut.m_axi_wvalid.value) & int(dut.m_axi_wready.value)
            for unit in self.posts:
                if post := int(getattr(dut, f"{unit}_post").value):
                    self.posts[unit].append(post)
                    done = sum(self.sizes[unit][:len(self.posts[unit])])
                    assert self.moved[unit] >= done, f"{unit} {post} posts too early"
            for number, source in enumerate(SOURCES):
                report = unpack(REPORT, int(getattr(dut, f"errors__{number}").value))
                if report["code"]:
                    self.errors.append((source, report))

    async def _send(self, unit: str) -> None:
        dut = self.dut
        payload, valid, ready = (getattr(dut, f"i_{unit}__{name}")
                                 for name in ("payload", "valid", "ready"))
        pause = pauses(self.random, self.stall / 2)
        for transfer in self.queues[unit]:
            while next(pause):
                await RisingEdge(dut.clk)
            payload.value, valid.value = pack(TRANSFER, transfer), 1
            await RisingEdge(dut.clk)
            while not int(ready.value):
                await RisingEdge(dut.clk)
            valid.value = 0

    def begin(self, loads: list[dict[str, int]], stores: list[dict[str, int]]) -> list[object]:
        """Start to hand transfers to the units; returns the tasks that do."""
        work = {"load": loads, "store": stores}
        self.sizes = {unit: [t["length"] * t["count_1"] * t["count_2"] for t in transfers]
                      for unit, transfers in work.items()}
        self.posts = {unit: [] for unit in work}
        self.moved = dict.fromkeys(work, 0)
        self.queues: dict[str, list[dict[str, int]]] = {unit: [] for unit in work}
        for unit, transfers in work.items():
            for number, transfer in enumerate(transfers, 1):
                self.queues[unit].append({**transfer, "post": number, "index": number,
                                          "layer": 7 * number})
        return [cocotb.start_soon(self._send(unit)) for unit in work]

    def _machine(self, loads: list[dict[str, int]], stores: list[dict[str, int]]) -> Machine:
        """Run the transfers on a machine with the same memory and buffers; its program lies
        behind the memory, and its END waits for the last of either kind."""
        program = []
        for form, opcode, transfers, post in ((LOAD, Opcode.LOAD, loads, 1),
                                              (STORE, Opcode.STORE, stores, 2)):
            program += [form.pack(opcode=opcode, post=0 if n < len(transfers) else post, **transfer)
                        for n, transfer in enumerate(transfers, 1)]
        program = b"".join([*program, END.pack(opcode=Opcode.END, wait=3)])
        machine = Machine(preset(), np.concatenate([self.memory, np.frombuffer(program, np.uint8)]))
        for name, content in self.buffers.items():
            machine.buffers.beats[name][:] = content
        machine.run(MEMORY, len(program) // DESCRIPTOR_BYTES)
        return machine

    async def check(self, loads: list[dict[str, int]], stores: list[dict[str, int]]) -> None:
        """Run transfers on the units and on the machine, and compare memory and buffers."""
        dut = self.dut
        machine = self._machine(loads, stores)
        self.begin(loads, stores)
        for _ in range(LIMIT):
            await RisingEdge(dut.clk)
            assert not self.errors, self.errors
            if (len(self.posts["load"]) == len(loads) and len(self.posts["store"]) == len(stores)):
                break
        assert self.posts == {"load": [*range(1, len(loads) + 1)],
                              "store": [*range(1, len(stores) + 1)]}
        for _ in range(8):
            await RisingEdge(dut.clk)
        assert int(dut.load_idle.value) and int(dut.store_idle.value)
        np.testing.assert_array_equal(self.memory, machine.memory[:MEMORY])
        for name, content in self.buffers.items():
            np.testing.assert_array_equal(content, machine.buffers.beats[name], err_msg=name)
        moved = {unit: sum(sizes) for unit, sizes in self.sizes.items()}
        assert self.moved == moved, "beats more or less than asked for"

def random_work(random: np.random.Generator, count: int, movers: Movers,
                extreme: bool = False) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Transfers for both units."""
    loads = []
    for number in range(count):
        target = list(Target)[number % len(Target)]
        depth = len(movers.buffers[BUFFERS[target]])
        loads.append({"target": int(target), **random_transfer(random, SOURCE, depth, extreme)})
    depth = len(movers.buffers["out"])
    return loads, [random_transfer(random, RESULT, depth, extreme) for _ in range(count)]


@bench
@cocotb.parametrize(stall=STALLS)
async def transfers_equal_the_machine(dut: object, stall: float) -> None:
    """Both units at once, transfer after transfer, without a reset."""
    random = generator("movers", stall)
    await start(dut)
    movers = Movers(dut, random, stall)
    await movers.begin_anew()
    for _ in range(3):
        await movers.check(*random_work(random, 6, movers))


@bench
@cocotb.parametrize(stall=STALLS)
async def long_and_short_runs(dut: object, stall: float) -> None:
    """A run as long as the buffer, and hundreds of one beat."""
    random = generator("runs", stall)
    await start(dut)
    movers = Movers(dut, random, stall)
    await movers.begin_anew()
    await movers.check(*random_work(random, 4, movers, extreme=True))


FAULTS = {
    "load": ("load", ErrorCode.BUFFER_RANGE, {"buffer": (1 << 24) - 1}),
    "store": ("store", ErrorCode.BUFFER_RANGE, {"buffer": (1 << 24) - 1}),
    "read_port": ("load", ErrorCode.READ_REGION, {"address": RESULT[0]}),
    "write_port": ("store", ErrorCode.WRITE_REGION, {"address": SOURCE[0]}),
}


@bench
@cocotb.parametrize(stall=STALLS, fault=list(FAULTS))
async def faults_are_reported(dut: object, stall: float, fault: str) -> None:
    """A transfer outside its buffer or region; memory stays as it was; after a reset all is well.
    """
    random = generator("faults", stall, fault)
    unit, code, fields = FAULTS[fault]
    await start(dut)
    movers = Movers(dut, random, stall)
    await movers.begin_anew()
    before = movers.memory.copy()
    bad = {"target": 0, "address": (SOURCE if unit == "load" else RESULT)[0], "length": 1,
           "count_1": 1, "count_2": 1, "beat_step": 1, **fields}
    movers.begin(*([bad], []) if unit == "load" else ([], [bad]))
    for _ in range(LIMIT):
        await RisingEdge(dut.clk)
        if movers.errors:
            break
    for _ in range(200):
        await RisingEdge(dut.clk)
    (source, report), = movers.errors
    assert (source, report) == (fault.replace("_", " "), {"code": code, "index": 1, "layer": 7})
    outside = np.r_[0:RESULT[0], RESULT[1]:MEMORY]
    np.testing.assert_array_equal(movers.memory[outside], before[outside])
    await movers.begin_anew()
    await movers.check(*random_work(random, 2, movers))


@bench
async def reset_between(dut: object) -> None:
    """A reset in the middle of transfers leaves nothing behind."""
    random = generator("reset")
    await start(dut)
    movers = Movers(dut, random, 0.3)
    for cycles in (40, 150, 300):
        await movers.begin_anew()
        tasks = movers.begin(*random_work(random, 8, movers))
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        assert not int(dut.load_idle.value) or not int(dut.store_idle.value)
        for task in tasks:
            task.cancel()
        await movers.begin_anew()
        await movers.check(*random_work(random, 3, movers))
