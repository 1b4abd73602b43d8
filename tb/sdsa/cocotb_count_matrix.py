# SPDX-License-Identifier: Apache-2.0
"""The count matrix on a map and a weight memory, against ``sw.golden.sdsa``.

Its interfaces never wait (both memories answer at fixed times), so there is nothing to stall but
the starts.
"""

from __future__ import annotations

import dataclasses
from collections import deque

import cocotb
import numpy as np
import torch
from cocotb.triggers import RisingEdge

from hw.descriptor import KTV, Opcode
from hw.presets import WORD_BITS
from sw.golden.sdsa import sdsa3
from tb.cocotb_bench import STALLS, bench, generator, pauses, preset, reset, start
from tb.conv.windows import to_words

LIMIT = 60_000
"""Cycles of a run, at most."""

MAP_LATENCY, ROW_LATENCY, WRITE_LATENCY = 4, 2, 3
"""Of the map buffer's and the weight buffer's ports."""


@dataclasses.dataclass
class Shape:
    """A layer: T steps of ``rows`` x ``columns`` tokens, ``words`` of channels, ``heads``."""

    steps: int
    rows: int
    columns: int
    words: int
    heads: int
    parts: int = 1
    levels: int = 1
    ones: bool = False

    @property
    def depth(self) -> int:
        """Channels of a head."""
        return WORD_BITS * self.words // self.heads

    @property
    def planes(self) -> int:
        """Planes of K and V."""
        return self.levels if self.ones else self.levels.bit_length()

    def planes_of(self, values: np.ndarray) -> np.ndarray:
        """`[T, C, H, W]` -> `[T, planes, C, H, W]`, most significant first."""
        plane = np.arange(self.planes)[:, None, None, None]
        values = values[:, None]
        return (values > plane if self.ones else values >> self.planes - 1 - plane & 1).astype(
            np.uint8)


SHAPES = {
    "small": Shape(2, 3, 5, 2, 2), "narrow": Shape(3, 1, 7, 1, 4),
    "across": Shape(1, 4, 4, 3, 2), "carries": Shape(1, 13, 23, 1, 8, parts=2),
    "levels": Shape(2, 3, 5, 2, 2, parts=2, levels=4),
    "eight": Shape(1, 7, 5, 1, 2, parts=2, levels=8),
    "ones": Shape(1, 4, 3, 2, 4, levels=4, ones=True),
}


def golden_counts(key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
    """Count matrices `[T, heads, d, d]`: what sdsa3 sums for the q that picks one row a token."""
    steps, channels = key.shape[:2]
    depth, tokens = channels // heads, key[0, 0].size
    room = max(tokens, depth)  # more tokens that hold no spike change nothing
    flat = [np.zeros((steps, channels, room, 1), np.int64) for _ in range(3)]
    for padded, given in zip(flat[1:], (key, value), strict=True):
        padded[:, :, :tokens, 0] = given.reshape(steps, channels, tokens)
    for channel in range(channels):
        flat[0][:, channel, channel % depth] = 1
    sums = sdsa3(*map(torch.from_numpy, flat), heads).numpy()
    return sums.reshape(steps, heads, depth, room)[:, :, :, :depth].transpose(0, 1, 3, 2)


class Attention:
    """Random K and V in a map memory, and a count matrix of every head and tile."""

    def __init__(self, random: np.random.Generator, shape: Shape, density: float):
        p = preset()
        self.shape = shape
        size = (shape.steps, WORD_BITS * shape.words, shape.rows, shape.columns)
        key, value = ((random.random(size) < density)
                      * random.integers(1, shape.levels + 1, size) for _ in range(2))
        if density == 1.0:
            key, value = (np.full(size, shape.levels) for _ in range(2))
        self.counts = golden_counts(key, value, shape.heads)
        self.map = random.integers(0, 1 << 32, p.map_words, dtype=np.uint32)
        self.key_base = int(random.integers(8))
        content = [to_words(shape.planes_of(maps).reshape(-1, *size[1:])) for maps in (key, value)]
        # V: a slice for each word of a pixel
        content = [content[0].ravel(), content[1].transpose(0, 3, 1, 2).ravel()]
        self.value_base = self.key_base + content[0].size
        for base, words in zip((self.key_base, self.value_base), content, strict=True):
            self.map[base:base + words.size] = words
        self.weights = random.integers(0, 256, (p.weight_rows, p.lanes), dtype=np.uint8)

    def descriptors(self, random: np.random.Generator, tile: int) -> list[int]:
        """KTVs of all heads of a tile; ``expected`` is what they make of the weights."""
        p, shape = preset(), self.shape
        first = tile * p.lanes
        self.expected = self.weights.copy()
        region = WORD_BITS * shape.words * shape.parts
        weight_base = WORD_BITS * int(random.integers(
            (p.weight_rows - region * shape.steps) // WORD_BITS + 1))
        found = []
        for head in range(shape.heads):
            low, high = head * shape.depth, (head + 1) * shape.depth
            lanes = [n for n in range(p.lanes) if low <= first + n < high]
            if not lanes:
                continue
            word, last = low // WORD_BITS, (high - 1) // WORD_BITS
            column_step, row_step = shape.words, shape.words * shape.columns
            plane = row_step * shape.rows
            fields = dict(
                opcode=Opcode.KTV, time_steps=shape.steps, key_words=last - word + 1,
                columns=shape.columns, rows=shape.rows, key_base=self.key_base + word,
                column_step=column_step, row_step=row_step, time_step=plane * shape.planes,
                key_planes=shape.planes, key_plane_step=plane, key_double=int(not shape.ones),
                value_column_step=1, value_row_step=shape.columns, value_plane_step=plane,
                value_time_step=plane * shape.planes,
                first_mask=(1 << WORD_BITS) - (1 << low % WORD_BITS),
                last_mask=(2 << (high - 1) % WORD_BITS) - 1,
                lane_mask=sum(1 << lane for lane in lanes), value_bit=first % WORD_BITS,
                parts=shape.parts, weight_base=weight_base + WORD_BITS * word,
                part_step=WORD_BITS * shape.words, weight_time_step=region,
                clear_base=weight_base, clear_time_step=region)
            each = shape.planes if shape.ones else 1
            for number in range(each):
                found.append(KTV.pack(
                    **fields, value_planes=shape.planes // each, value_base=self.value_base
                    + first // WORD_BITS * shape.rows * shape.columns + number * plane,
                    clear_rows=region if len(found) == 0 else 0))
            for step in range(shape.steps):
                base = weight_base + step * region
                if len(found) == each:
                    self.expected[base:base + region] = 0
                for part in range(shape.parts):
                    rows = base + part * WORD_BITS * shape.words + np.arange(low, high)
                    columns = [first + lane - low for lane in lanes]
                    count = self.counts[step, head][:, columns] >> 8 * part & 255
                    self.expected[np.ix_(rows, lanes)] = count
        return [int.from_bytes(descriptor, "little") for descriptor in found]


async def run(dut: object, work: Attention, descriptor: int, random: np.random.Generator,
              cycles: int = LIMIT) -> int:
    """Run one KTV on the memories; return its cycles, or -1 when cut off."""
    p = preset()
    lanes = p.lanes
    words = deque([0] * (MAP_LATENCY - 1))
    rows = deque([bytes(lanes)] * (ROW_LATENCY - 1))
    asked = 0  # the row behind the address register
    writes: deque[tuple[int, int, bytes]] = deque()
    bank = np.arange(p.map_banks)
    started = False
    dut.descriptor.value = descriptor
    dut.start.value = 1
    for cycle in range(cycles):
        await RisingEdge(dut.clk)
        dut.start.value = 0
        while writes and writes[0][0] <= cycle - WRITE_LATENCY:
            _, row, content = writes.popleft()
            work.weights[row] = np.frombuffer(content, np.uint8)
        if int(dut.write_valid.value):
            writes.append((cycle, int(dut.write_row.value),
                           int(dut.write_data.value).to_bytes(lanes, "little")))
        if int(dut.map_enable.value):
            address = (int(dut.map_address.value) + bank) % p.map_words
            words.append(int.from_bytes(work.map[address].tobytes(), "little"))
        else:
            words.append(int(random.integers(1 << 60)))
        dut.map_data.value = words.popleft()
        rows.append(work.weights[asked].tobytes())
        asked = int(dut.read_row.value)
        dut.read_data.value = int.from_bytes(rows.popleft(), "little")
        busy = int(dut.busy.value)
        if started and not busy:
            for _, row, content in writes:
                work.weights[row] = np.frombuffer(content, np.uint8)
            return cycle
        started = started or bool(busy)
    assert cycles < LIMIT, "the unit doesn't end"
    return -1


async def layer(dut: object, work: Attention, random: np.random.Generator, stall: float,
                tiles: int = 1000) -> None:
    """Run the tiles of a layer and compare the weight memory, row by row."""
    pause = pauses(random, stall)
    for tile in range(min(tiles, WORD_BITS * work.shape.words // preset().lanes)):
        descriptors = work.descriptors(random, tile)
        for descriptor in descriptors:
            while next(pause):
                await RisingEdge(dut.clk)
            await run(dut, work, descriptor, random)
        wrong = np.argwhere(work.weights != work.expected)
        assert not len(wrong), (
            f"tile {tile}: {len(wrong)} counts differ, first row, lane: {wrong[0].tolist()}")


@bench
@cocotb.parametrize(stall=STALLS, shape=["small", "narrow", "across", "levels", "eight", "ones"])
async def counts_equal_golden(dut: object, stall: float, shape: str) -> None:
    """Heads that share tiles and tiles that share heads, run after run without a reset."""
    random = generator("counts", stall, shape)
    await start(dut)
    for density in (0.05, 0.5):
        await layer(dut, Attention(random, SHAPES[shape], density), random, stall)


@bench
@cocotb.parametrize(shape=["small", "carries", "eight"], density=[0.0, 1.0])
async def corners(dut: object, shape: str, density: float) -> None:
    """No spike at all; every spike, so that counts carry into their second byte."""
    random = generator("corners", shape, density)
    await start(dut)
    await layer(dut, Attention(random, SHAPES[shape], density), random, 0.0, tiles=1)


@bench
async def carries_at_random(dut: object) -> None:
    """Counts above a byte with gaps between the additions to a row."""
    random = generator("carries")
    await start(dut)
    await layer(dut, Attention(random, SHAPES["carries"], 0.97), random, 0.0, tiles=1)


@bench
async def reset_between(dut: object) -> None:
    """A reset in the middle of a run leaves nothing behind."""
    random = generator("reset")
    await start(dut)
    for cycles in (30, 120):
        work = Attention(random, SHAPES["small"], 0.5)
        assert await run(dut, work, work.descriptors(random, 0)[0], random, cycles) < 0
        await reset(dut)
        await layer(dut, Attention(random, SHAPES["small"], 0.3), random, 0.0)
