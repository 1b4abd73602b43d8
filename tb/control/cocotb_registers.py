# SPDX-License-Identifier: Apache-2.0
"""The register bank behind ``cocotbext.axi.AxiLiteMaster``, against ``hw.regmap``."""

from __future__ import annotations

import itertools
import os

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from hw import regmap
from hw.regmap import COUNTERS, REGISTERS, Access
from tb.cocotb_bench import STALLS, bench, generator, pause_channels, preset, start

WIDE = 1 << 32
STROBES = [name for register in REGISTERS if register.access is Access.STROBE
           for name, _, _ in register.ports()]
WRITABLE = [register for register in REGISTERS if register.access is Access.WRITE]
HALVES = {f"{name}_{half}": (name, half) for name in COUNTERS for half in ("low", "high")}


def mask(register: regmap.Register) -> int:
    """Bits of a register that exist."""
    return sum((1 << width) - 1 << lsb for _, lsb, width in register.ports())


class Host:
    """The master, the values that registers must have, and the strobes seen."""

    def __init__(self, dut: object, random: np.random.Generator, stall: float):
        self.dut, self.random = dut, random
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
        for channel in (self.bus.write_if.aw_channel, self.bus.write_if.w_channel,
                        self.bus.write_if.b_channel, self.bus.read_if.ar_channel,
                        self.bus.read_if.r_channel):
            pause_channels(random, stall, channel)
        self.values = {register.name: register.init for register in WRITABLE}
        self.kept = 0
        self.seen = dict.fromkeys(STROBES, 0)
        self.drive()
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            for name in STROBES:
                self.seen[name] += int(getattr(self.dut, name).value)

    def drive(self) -> None:
        """Give every input of the bank a new value."""
        inputs = os.environ["ADDEND_BENCH_INPUTS"].split()
        self.inputs = {}
        for name in inputs:
            if name not in ("clk", "rst") and not name.startswith("bus__"):
                handle = getattr(self.dut, name)
                value = int(self.random.integers(0, 1 << len(handle), dtype=np.uint64))
                handle.value = self.inputs[name] = value

    def expected(self, name: str) -> int:
        """What reading a register must give now."""
        if name in ("identity", "version"):
            return regmap.identity(preset()) if name == "identity" else regmap.VERSION
        if name in HALVES:
            counter, half = HALVES[name]
            if half == "high":
                return self.kept
            self.kept = self.inputs[counter] >> 32
            return self.inputs[counter] % WIDE
        if name in self.values:
            return self.values[name]
        register = next(register for register in REGISTERS if register.name == name)
        if register.access is Access.STROBE:
            return 0
        return sum(self.inputs[port] << lsb for port, lsb, _ in register.ports())

    async def read(self, address: int) -> int:
        return int.from_bytes((await with_timeout(self.bus.read(address, 4), 20, "us")).data,
                              "little")

    async def write(self, address: int, data: bytes) -> None:
        await with_timeout(self.bus.write(address, data), 20, "us")

    async def check(self, name: str) -> None:
        """Read a register and compare."""
        found = await self.read(regmap.address(name))
        expected = self.expected(name)
        assert found == expected, f"{name} reads {found:#x}, not {expected:#x}"

    async def put(self, register: regmap.Register) -> None:
        """Write some bytes of a register."""
        first = int(self.random.integers(4))
        count = int(self.random.integers(1, 5 - first))
        data = self.random.bytes(count)
        await self.write(regmap.address(register.name) + first, data)
        if register.name in self.values:
            strobes = (1 << 8 * count) - 1 << 8 * first
            word = int.from_bytes(data, "little") << 8 * first
            old = self.values[register.name]
            self.values[register.name] = (old & ~strobes | word) & mask(register)
            for port, lsb, width in register.ports():
                assert int(getattr(self.dut, port).value) == (
                    self.values[register.name] >> lsb & (1 << width) - 1), port


@bench
@cocotb.parametrize(stall=STALLS)
async def registers_equal_the_list(dut: object, stall: float) -> None:
    """Reset values; then bytes written, read and counted at random, all registers mixed."""
    random = generator("registers", stall)
    await start(dut)
    host = Host(dut, random, stall)
    for register in REGISTERS:
        await host.check(register.name)
    for _ in range(150):
        register = REGISTERS[random.integers(len(REGISTERS))]
        if register.access is not Access.STROBE and random.random() < 0.5:
            await host.put(register)
        elif random.random() < 0.2:
            host.drive()
            await RisingEdge(dut.clk)
        else:
            await host.check(register.name)
    assert not any(host.seen.values())


@bench
@cocotb.parametrize(stall=STALLS)
async def strobes_last_one_cycle(dut: object, stall: float) -> None:
    """Each written 1 of a strobe register acts in exactly one cycle."""
    random = generator("strobes", stall)
    await start(dut)
    host = Host(dut, random, stall)
    expected = dict.fromkeys(STROBES, 0)
    for _ in range(40):
        word = int(random.integers(0, WIDE, dtype=np.uint64))
        await host.write(regmap.address("control"), word.to_bytes(4, "little"))
        for bit, name in enumerate(STROBES):
            expected[name] += word >> bit & 1
    for _ in range(4):
        await RisingEdge(dut.clk)
    assert host.seen == expected


@bench
@cocotb.parametrize(stall=STALLS)
async def extremes(dut: object, stall: float) -> None:
    """All ones, all zeros, addresses without a register, reads and writes at once."""
    random = generator("extremes", stall)
    await start(dut)
    host = Host(dut, random, stall)
    for word in (0xFFFF_FFFF, 0):
        for register in WRITABLE:
            await host.write(regmap.address(register.name), word.to_bytes(4, "little"))
            host.values[register.name] = word & mask(register)
        for register in WRITABLE:
            await host.check(register.name)
    for address in (4 * len(REGISTERS), (1 << regmap.ADDRESS_BITS) - 4):
        await host.write(address, b"\xff" * 4)
        assert await host.read(address) == 0
    for register, other in itertools.pairwise(WRITABLE):
        task = cocotb.start_soon(host.put(register))
        await host.check(other.name)
        await task
    for register in WRITABLE:
        await host.check(register.name)


@bench
async def reset_while_writing(dut: object) -> None:
    """After a reset every register has its first value and the bus answers."""
    random = generator("reset")
    await start(dut)
    host = Host(dut, random, 0.4)
    for register in WRITABLE:
        await host.write(regmap.address(register.name), b"\xa5" * 4)
    task = cocotb.start_soon(host.bus.write(regmap.address("read_base"), bytes(4)))
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(4):
        await RisingEdge(dut.clk)
    task.cancel()
    dut.rst.value = 0
    host.values = {register.name: register.init for register in WRITABLE}
    for _ in range(2):
        await RisingEdge(dut.clk)
    for register in REGISTERS:
        await host.check(register.name)
