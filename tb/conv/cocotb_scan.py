# SPDX-License-Identifier: Apache-2.0
"""Map buffer, window reader and scanners: tokens that add up to ``sw.golden.conv``."""

from __future__ import annotations

import dataclasses
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hw.descriptor import CONV, Flag, Opcode
from hw.payloads import TagLayout, TokenLayout
from hw.presets import WORD_BITS
from tb.cocotb_bench import STALLS, bench, generator, pauses, preset, reset, start, unpack
from tb.conv.windows import MODES, Mode, random_maps, random_weights, sums, to_words, weight_rows

LIMIT = 30_000
"""Cycles of a run, at most."""

SETTLE = 4
"""Cycles from a descriptor to its start."""


@dataclasses.dataclass
class Layer:
    """Output ``images`` x ``rows`` x ``columns``, T steps, ``words`` a pixel, cut in chunks."""

    kernel: int = 3
    stride: int = 1
    words: int = 1
    columns: int = 4
    rows: int = 3
    images: int = 1
    steps: int = 2
    chunks: int = 1


LAYERS = {"plain": Layer(), "strided": Layer(stride=2, columns=3, rows=2),
          "pointwise": Layer(kernel=1, words=3, columns=5), "chunks": Layer(chunks=3, words=1),
          "images": Layer(images=2, rows=2, steps=1)}


class Work:
    """A layer's map memory and descriptors, and the sums that its tokens must give."""

    def __init__(self, random: np.random.Generator, mode: Mode, layer: Layer, density: float):
        p, self.layer, self.mode = preset(), layer, mode
        k, words, size = layer.kernel, layer.words, layer.stride
        pad, width, height = k // 2, layer.columns * size, layer.rows * size
        units = layer.images * layer.steps
        mask_bit = int(random.integers(WORD_BITS // p.lanes)) * p.lanes
        maps = random_maps(random, mode, (units, WORD_BITS * words, height, width), density)
        weights = random_weights(random, mode, p.lanes, words, (k, k))
        self.rows = weight_rows(mode, weights).reshape(-1, p.lanes)
        assert len(self.rows) <= p.weight_rows
        content = to_words(maps.planes[:, :1] if mode.counts else maps.planes)
        if mode.depthwise:
            maps.values = maps.values[:, mask_bit:mask_bit + p.lanes]
        self.expected = sums(mode, maps, weights, size, pad).reshape(
            layer.images, layer.steps, p.lanes, -1)
        self.found = np.zeros_like(self.expected)
        self.seen = np.zeros((layer.chunks, *self.expected.shape[:2],
                              self.expected.shape[3]), int)
        self.additions = self._additions(maps.planes, mask_bit)

        pitch = -(-(width * words + int(random.integers(4))) // p.beat_words) * p.beat_words
        base = int(random.integers(p.map_banks))
        planes = content.shape[1]
        self.map = random.integers(0, 1 << 32, p.map_words, dtype=np.uint32)
        area = pitch * height
        for index, plane in enumerate(content.reshape(-1, height, width * words)):
            where = base + index * area + np.arange(height)[:, None] * pitch
            self.map[where + np.arange(width * words)] = plane
        self.beats = -(-(base + units * planes * area) // p.beat_words)
        assert self.beats * p.beat_words <= p.map_words
        taps, per_word = k * k * words, 1 if mode.depthwise else WORD_BITS
        part = -(-taps // layer.chunks)
        flags = (Flag.DEPTHWISE * mode.depthwise | Flag.SIGNED_DIGITS * mode.digits
                 | Flag.UNSIGNED_WEIGHTS * mode.counts)
        pixels = layer.columns * layer.rows
        step = taps * per_word if mode.counts else 0
        self.descriptors = [int.from_bytes(CONV.pack(
            opcode=Opcode.CONV, flags=int(flags), time_steps=layer.steps, repeat=1,
            columns=layer.columns, rows=layer.rows, images=layer.images, planes=mode.planes,
            plane_shift=mode.plane_shift, map_base=base, map_plane_step=0 if mode.counts else area,
            map_time_step=area, map_image_step=layer.steps * planes * area, row_pitch=pitch,
            row_words=width * words, rows_words=height * pitch, x_start=-pad * words,
            x_step=size * words, y_start=-pad * pitch, y_step=size * pitch, string_words=k * words,
            kernel_rows=k, chunk_first=-chunk * part, chunk_words=min(part, taps - chunk * part),
            window_reads=k * -(-k * words // p.map_banks), weight_base=chunk * part * per_word,
            weight_plane_step=step, weight_time_step=-step, word_column_step=1,
            word_row_step=layer.columns, word_image_step=layer.steps * pixels,
            word_time_step=pixels, mask_bit=mask_bit), "little")
            for chunk in range(layer.chunks)]

    def _additions(self, planes: np.ndarray, mask_bit: int) -> int:
        """Tokens that add: spikes that windows see, or, depthwise, words with one."""
        layer, (k, s) = self.layer, (self.layer.kernel, self.layer.stride)
        bits = planes.astype(int)
        if self.mode.depthwise:
            bits = bits.any(2, keepdims=True).astype(int)
        padded = np.pad(bits, [(0, 0)] * 3 + [(k // 2, k // 2)] * 2)
        return sum(int(padded[..., ky:ky + s * layer.rows:s, kx:kx + s * layer.columns:s].sum())
                   for ky in range(k) for kx in range(k))

    def result(self, chunk: int, word: int, sums: np.ndarray) -> None:
        """Note the sums of a (pixel, step), named by its output word."""
        rest, pixel = divmod(word, self.layer.columns * self.layer.rows)
        image, step = divmod(rest, self.layer.steps)
        self.seen[chunk, image, step, pixel] += 1
        self.found[image, step, :, pixel] += sums

    def check(self) -> None:
        """Compare, when all is done."""
        assert (self.seen == 1).all(), f"{(self.seen != 1).sum()} results not exactly once"
        wrong = np.argwhere(self.found != self.expected)
        assert not len(wrong), (
            f"{len(wrong)} sums differ, first image, step, lane, pixel: {wrong[0].tolist()}")


class Scanners:
    """Starts descriptors, loads the map, and adds up the tokens of each group."""

    def __init__(self, dut: object, random: np.random.Generator, stall: float):
        self.dut, self.random, self.stall = dut, random, stall
        groups = preset().groups
        self.tags: list[deque] = [deque() for _ in range(groups)]
        self.sums = [np.zeros(preset().lanes, np.int64) for _ in range(groups)]
        self.done: list[int] = [0] * groups  # results whose tags are still to be popped
        self.left = [0, 0]  # results of a context still to come
        self.owner: list[tuple[Work, int] | None] = [None, None]
        self.additions = 0
        self.enabled = 0
        self.task = cocotb.start_soon(self._consume())

    async def load(self, work: Work) -> None:
        """Write the map, beat by beat."""
        dut, size = self.dut, preset().beat_bytes
        content = work.map.tobytes()
        for beat in range(work.beats):
            dut.map_write_valid.value, dut.map_write_beat.value = 1, beat
            dut.map_write_data.value = int.from_bytes(content[size * beat:size * (beat + 1)],
                                                      "little")
            await RisingEdge(dut.clk)
        dut.map_write_valid.value = 0

    async def _consume(self) -> None:
        dut, layout, groups = self.dut, TokenLayout(preset()), range(preset().groups)
        tag_layout = TagLayout(preset())
        tokens = [getattr(dut, f"tokens__{group}") for group in groups]
        pause = [pauses(self.random, self.stall) for _ in groups]
        rest = [pauses(self.random, self.stall) for _ in groups]
        while True:
            popped = 0
            for group in groups:
                if self.done[group] and not next(rest[group]):
                    self.done[group] -= 1
                    popped |= 1 << group
            self.enabled = sum((not next(pause[group])) << group for group in groups)
            dut.enable.value, dut.tag_popped.value = self.enabled, popped
            await RisingEdge(dut.clk)
            if int(dut.tag_valid.value):
                self.tags[int(dut.tag_group.value)].append(unpack(tag_layout, int(dut.tag.value)))
            taken = int(dut.token_valid.value) & self.enabled
            for group in groups:
                if taken >> group & 1:
                    self._token(group, unpack(layout, int(tokens[group].value)))
            assert not int(dut.overflow.value), "an entry came to a full queue"

    def _token(self, group: int, token: dict[str, int]) -> None:
        work, chunk = self.owner[token["context"]]
        base = self.sums[group] << token["double"]
        if token["add"]:
            self.additions += 1
            row = work.rows[token["row"]]
            row = row.astype(np.int64) if token["unsigned"] else row.view(np.int8).astype(np.int64)
            row = row * [token["mask"] >> lane & 1 for lane in range(row.size)]
            base = base - row if token["minus"] else base + row
        self.sums[group] = base + np.zeros(preset().lanes, np.int64)
        if token["end"]:
            tag = self.tags[group].popleft()
            assert tag["context"] == token["context"]
            work.result(chunk, tag["word"], self.sums[group])
            self.sums[group] = np.zeros(preset().lanes, np.int64)
            self.done[group] += 1
            self.left[token["context"]] -= 1

    async def run(self, work: Work, first: int = 0, cycles: int = LIMIT) -> bool:
        """Run the chunks, each in the context that is free; return whether it came to an end."""
        dut, context = self.dut, first
        self.additions = 0
        await self.load(work)
        for chunk, descriptor in enumerate(work.descriptors):
            while self.left[context] or int(dut.walking.value):
                await RisingEdge(dut.clk)
                cycles -= 1
                if not cycles:
                    return False
            getattr(dut, f"descriptors__{context}").value = descriptor
            for _ in range(SETTLE):
                await RisingEdge(dut.clk)
            self.owner[context] = (work, chunk)
            self.left[context] = work.expected[:, :, 0].size
            dut.start.value, dut.slot.value = 1, context
            await RisingEdge(dut.clk)
            dut.start.value = 0
            await RisingEdge(dut.clk)
            context ^= 1
        while any(self.left):
            await RisingEdge(dut.clk)
            cycles -= 1
            if not cycles:
                return False
        return True


async def run(scanners: Scanners, work: Work, first: int = 0) -> None:
    """Run a layer and compare."""
    assert await scanners.run(work, first), f"{scanners.left} results are missing"
    work.check()
    assert scanners.additions == work.additions


@bench
@cocotb.parametrize(stall=STALLS, mode=list(MODES))
async def tokens_equal_golden(dut: object, stall: float, mode: str) -> None:
    """All modes of addition, densities and contexts, run after run without a reset."""
    random = generator("scan", stall, mode)
    await start(dut)
    scanners = Scanners(dut, random, stall)
    layer = LAYERS["pointwise" if MODES[mode].counts else "plain"]  # two bytes a weight
    for number, density in enumerate((0.03, 0.3)):
        await run(scanners, Work(random, MODES[mode], layer, density), number)


@bench
@cocotb.parametrize(stall=STALLS, layer=["strided", "pointwise", "chunks", "images"])
async def shapes_equal_golden(dut: object, stall: float, layer: str) -> None:
    """Strides, several words, several images; chunks that follow each other in two contexts."""
    random = generator("shapes", stall, layer)
    await start(dut)
    scanners = Scanners(dut, random, stall)
    for mode in ("spikes", "digits") if layer != "images" else ("spikes",):
        await run(scanners, Work(random, MODES[mode], LAYERS[layer], 0.2))


@bench
@cocotb.parametrize(stall=STALLS, density=[0.0, 1.0])
async def empty_and_full_maps(dut: object, stall: float, density: float) -> None:
    """No spike anywhere, and every bit set."""
    random = generator("corners", stall, density)
    await start(dut)
    scanners = Scanners(dut, random, stall)
    for mode in ("spikes", "digits", "depthwise_digits"):
        await run(scanners, Work(random, MODES[mode], LAYERS["plain"], density))


@bench
async def reset_between(dut: object) -> None:
    """A reset in the middle of a run leaves nothing behind."""
    random = generator("reset")
    await start(dut)
    for cycles in (20, 150):
        scanners = Scanners(dut, random, 0.2)
        work = Work(random, MODES["digits"], LAYERS["plain"], 0.5)
        assert not await scanners.run(work, cycles=cycles)
        scanners.task.cancel()
        await reset(dut)
        scanners = Scanners(dut, random, 0.2)
        await run(scanners, Work(random, MODES["spikes"], LAYERS["plain"], 0.3))
        scanners.task.cancel()
