# SPDX-License-Identifier: Apache-2.0
"""Coroutines that fail in every way there is, to prove that the runner sees each."""

import os

import cocotb
from cocotb.triggers import RisingEdge

from tb.cocotb_bench import start


@cocotb.test
async def passes(dut: object) -> None:
    await start(dut)


@cocotb.test
async def asserts(dut: object) -> None:
    await start(dut)
    assert int(dut.spikes.value) == 2, "planted: no spikes without currents"


@cocotb.test
async def raises(dut: object) -> None:
    await start(dut)
    raise LookupError("planted: nothing here")


@cocotb.test
async def asserts_in_the_background(dut: object) -> None:
    async def watch() -> None:
        await RisingEdge(dut.clk)
        raise AssertionError("planted: in a task")

    await start(dut)
    cocotb.start_soon(watch())
    for _ in range(5):
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="us")
async def hangs(dut: object) -> None:
    await start(dut)
    while True:
        await RisingEdge(dut.clk)


@cocotb.test
async def dies(dut: object) -> None:
    await start(dut)
    os._exit(3)
