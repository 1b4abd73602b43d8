# SPDX-License-Identifier: Apache-2.0
"""What the coroutines of testbenches share: preset, seeds, clock, reset, stalls, packed ports.

Imported inside the simulator, by ``cocotb_*.py``. After ``RisingEdge(dut.clk)`` signals read as
before the edge, and what is written holds in the cycle that begins.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping

import cocotb
import numpy as np
import torch
from amaranth.hdl import Shape
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from hw.presets import Preset
from tb.cocotb_run import bench_preset

__all__ = ["CLOCK_NS", "STALLS", "bench", "generator", "pack", "pause_channels", "pauses",
           "preset", "reset", "signed", "start", "unpack"]

torch.set_num_threads(1)

STALLS = [0.0, 0.4]
"""Shares of cycles in which an interface pauses."""

CLOCK_NS = 10
"""Period of the clock."""

bench = cocotb.test(timeout_time=10, timeout_unit="ms")
"""Makes a coroutine a test, of a million cycles at most."""


def preset() -> Preset:
    """Return the preset of this simulator."""
    return bench_preset(os.environ["ADDEND_BENCH_PRESET"])


def generator(*name: object) -> np.random.Generator:
    """Return random numbers that follow from the run's seed and a name."""
    seed = int(os.environ["ADDEND_BENCH_SEED"])
    return np.random.default_rng([seed, zlib.crc32(repr(name).encode())])


async def start(dut: object) -> None:
    """Start the clock and reset."""
    dut.clk.value = 0
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    await reset(dut)


async def reset(dut: object) -> None:
    """Reset for three cycles, with every other input at 0."""
    for name in os.environ["ADDEND_BENCH_INPUTS"].split():
        if name != "clk":
            getattr(dut, name).value = int(name == "rst")
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


def pauses(random: np.random.Generator, share: float) -> Iterator[bool]:
    """Say for each cycle whether to pause: now and then in long runs, else at random."""
    while True:
        if share and random.random() < 0.02:
            yield from [True] * int(random.integers(5, 40))
        yield from (random.random(64) < share).tolist()


def pause_channels(random: np.random.Generator, share: float, *channels: object) -> None:
    """Let channels of cocotbext-axi pause at random; a share of 0 sets them free."""
    for channel in channels:
        channel.set_pause_generator(map(int, pauses(np.random.default_rng(
            random.integers(1 << 32)), share)))


def pack(layout: data.Layout, values: Mapping[str, object]) -> int:
    """Return the bits of a layout with the given fields; others are 0."""
    result = 0
    for name, value in values.items():
        field = layout[name]
        if isinstance(field.shape, data.ArrayLayout):
            width = Shape.cast(field.shape.elem_shape).width
            value = sum(int(element) << width * n for n, element in enumerate(value))
        width = Shape.cast(field.shape).width
        assert -(1 << width) < int(value) < 1 << width, f"{name} = {value} exceeds {width} bits"
        result |= (int(value) & ((1 << width) - 1)) << field.offset
    return result


def unpack(layout: data.Layout, bits: int) -> dict[str, int]:
    """Return the plain fields of a layout."""
    values = {}
    for name, field in layout:
        shape = Shape.cast(field.shape)
        value = bits >> field.offset & (1 << shape.width) - 1
        values[name] = signed(value, shape.width) if shape.signed else value
    return values


def signed(value: int, width: int) -> int:
    """Return ``width`` bits as a signed number."""
    return value - (value >> width - 1 << width)
