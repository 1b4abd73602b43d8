# SPDX-License-Identifier: Apache-2.0
"""The accelerator in a cocotb simulation as a Transport: AXI models that are not ours."""

from __future__ import annotations

import logging
import mmap

import numpy as np
from cocotb.task import resume
from cocotb.triggers import RisingEdge, SimTimeoutError, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from sw.transport import Transport
from tb.cocotb_bench import CLOCK_NS, pause_channels

__all__ = ["CocotbTransport"]

_ANSWER_CYCLES = 10_000
"""Cycles after which a register access is given up."""


class CocotbTransport(Transport):
    """Registers through ``AxiLiteMaster``, memory in ``AxiRam``.

    Its functions block, as the driver expects: call the driver inside ``cocotb.bridge``.
    """

    def __init__(self, dut: object, memory_bytes: int) -> None:
        self._dut = dut
        self._ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst,
                           mem=mmap.mmap(-1, memory_bytes))
        self._host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        for name in ("m_axi", "s_axil"):
            logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.WARNING)
        self._memory = np.frombuffer(self._ram.mem, np.uint8)

    def stall(self, random: np.random.Generator, share: float) -> None:
        """Pause every channel of both buses at random."""
        ram, host = self._ram, self._host
        for bus in (ram, host):
            pause_channels(random, share, bus.write_if.aw_channel, bus.write_if.w_channel,
                           bus.write_if.b_channel, bus.read_if.ar_channel, bus.read_if.r_channel)

    @property
    def memory(self) -> np.ndarray:
        return self._memory

    @resume
    async def read32(self, address: int) -> int:
        answer = await with_timeout(self._host.read(address, 4), _ANSWER_CYCLES * CLOCK_NS, "ns")
        return int.from_bytes(answer.data, "little")

    @resume
    async def write32(self, address: int, value: int) -> None:
        await with_timeout(self._host.write(address, value.to_bytes(4, "little")),
                           _ANSWER_CYCLES * CLOCK_NS, "ns")

    @resume
    async def wait(self, timeout: int) -> bool:
        if not int(self._dut.irq.value):
            try:
                await with_timeout(RisingEdge(self._dut.irq), timeout * CLOCK_NS, "ns")
            except SimTimeoutError:
                return False
        return True

    def close(self) -> None:
        """Nothing is held."""
