# SPDX-License-Identifier: Apache-2.0
"""The whole epilogue (arbiter, sums, neurons, writer) against ``sw.golden``, mode by mode.

The bench plays the groups, their tags, the loads and the output buffer.
"""

from __future__ import annotations

import dataclasses
from collections import deque

import cocotb
import numpy as np
import pytest
import torch
from cocotb.triggers import Lock, RisingEdge

from hw.descriptor import CONV, Flag, Opcode
from hw.payloads import TagLayout
from hw.presets import INTEGER_BITS, PARAM_BITS, WORD_BITS
from sw.errors import OverflowBoundError
from sw.golden.epilogue import epilogue
from sw.golden.lif import lif
from sw.golden.numbers import naf
from sw.golden.pool import pool
from sw.golden.sfa import sfa
from tb.cocotb_bench import STALLS, bench, generator, pack, pauses, preset, reset, start

LIMIT = 20_000
"""Cycles of a run, at most."""

SETTLE = 6
"""Cycles from a descriptor to its first result."""

SUM_LIMIT = (1 << 27) - 1
STREAM = Flag.OUT_SPIKES | Flag.STREAM | Flag.OUT_RESIDUAL


@dataclasses.dataclass(frozen=True)
class Mode:
    """What a layer asks for; ``repeat`` of a static input, ``bits`` of an integer output, bits of
    a ``level``."""

    flags: Flag
    repeat: int = 1
    bits: int = 0
    chunks: int = 1
    pools: bool = False
    level: int = 0
    ties_even: bool = False

    @property
    def planes(self) -> int:
        """Planes of digits or levels."""
        if self.flags & Flag.ONES:
            return 1 << self.level - 1
        return self.level or self.bits

    @property
    def words(self) -> int:
        """Words of a pixel in a plane: two for digits, +1 and -1."""
        return 2 if self.bits else 1


MODES = {
    "spikes": Mode(Flag.OUT_SPIKES), "fill": Mode(Flag.OUT_SPIKES | Flag.FILL),
    "stream": Mode(STREAM | Flag.RESIDUAL_IN), "first_stream": Mode(STREAM),
    "residual": Mode(Flag.OUT_RESIDUAL | Flag.RESIDUAL_IN),
    "injected": Mode(STREAM, repeat=5), "injected_spikes": Mode(Flag.OUT_SPIKES, repeat=3),
    "wide": Mode(Flag.OUT_INTEGER, bits=12), "narrow": Mode(Flag.OUT_INTEGER | Flag.FILL, bits=5),
    "raw": Mode(Flag.OUT_RAW), "chunks": Mode(Flag.OUT_SPIKES, chunks=3),
    "pool": Mode(Flag.OUT_SPIKES, pools=True),
    "levels": Mode(Flag.OUT_LEVELS, level=3, ties_even=True),
    "ones": Mode(Flag.OUT_LEVELS | Flag.ONES | Flag.FILL, level=4),
    "level_stream": Mode(Flag.OUT_LEVELS | Flag.STREAM | Flag.OUT_RESIDUAL | Flag.RESIDUAL_IN,
                         level=2, ties_even=True),
    "high_levels": Mode(Flag.OUT_LEVELS, level=4), "one_level": Mode(Flag.OUT_LEVELS, level=1),
}


@dataclasses.dataclass
class Run:
    """One CONV: its descriptor and the results `[T, pixels]` that groups deliver for it."""

    fields: dict[str, int]
    sums: np.ndarray  # [T, pixels, lanes]


class Layer:
    """A tile of a layer: parameters, residuals, the CONVs, and what they must write."""

    def __init__(self, random: np.random.Generator, mode: Mode, place: int, pixels: int = 6,
                 steps: int = 3, extreme: bool = False):
        p = preset()
        self.mode, self.random, self.place = mode, random, place
        self.steps = 1 if mode.repeat > 1 else steps
        self.pixels = pixels
        self.out_bit = int(random.integers(WORD_BITS // p.lanes)) * p.lanes
        self.param_base = place * p.beats_per_tile
        self.residual_base = place * p.residual_rows // 2
        self._numbers(extreme)
        self.fields = self._fields()
        self.runs = self._runs()

    def _numbers(self, extreme: bool) -> None:
        """Random numbers within the bounds of docs/numbers.md."""
        random, mode, lanes = self.random, self.mode, preset().lanes
        shape = (self.steps, lanes, 1, self.pixels)
        scale = 1 << int(random.integers(4, 23))
        acc = random.integers(-scale, scale, (mode.chunks, *shape))
        bias = random.integers(-scale, scale, lanes)
        threshold = random.integers(-scale // 2, 2 * scale, lanes)
        shift = random.integers(-2, 12, lanes)
        if extreme:
            acc = random.choice([-(1 << 23) + 1, 0, (1 << 23) - 1], acc.shape)
            room = SUM_LIMIT - mode.chunks * ((1 << 23) - 1)
            bias = random.choice([-room, 0, room], lanes)
            threshold = random.choice([-SUM_LIMIT, 0, SUM_LIMIT], lanes)
        if mode.flags & Flag.OUT_RAW:
            shift[:] = 0  # the rule for raw words
        if mode.bits:  # s of that many bits
            shift = random.integers(4 - mode.bits, 12, lanes)
            bound = (1 << mode.bits - 1) * 2.0 ** shift
            acc = acc % np.maximum(1, (bound / 2).astype(int))[:, None, None]
            acc = acc * random.choice([-1, 1], acc.shape)
            bias = (bound / 2).astype(int) * random.choice([-1, 0], lanes)
        elif mode.flags & (Flag.OUT_RESIDUAL | Flag.STREAM):  # s of 15 bits
            top = np.abs(acc).sum(0).max((0, 2, 3)) + np.abs(bias)
            least = np.ceil(np.log2(top + 1)) - 14
            shift = (least.astype(int) + random.integers(0, 3, lanes)).clip(-8, 23)
            threshold = threshold // 2 if extreme else random.integers(-9000, 9000, lanes)
        self.residual = random.integers(-(1 << 14), 1 << 14, shape)
        if extreme:
            self.residual = random.choice([-(1 << 14), (1 << 14) - 1], shape)
        if mode.pools:
            acc = np.zeros_like(acc)
        self.acc, self.bias, self.threshold, self.shift = acc, bias, threshold, shift
        self.step = random.integers(1, 1 << 24, lanes)
        if mode.level:
            self._steps(extreme)

    def _steps(self, extreme: bool) -> None:
        """Steps that spread the currents over the levels, many of them exactly on an edge."""
        current = self.golden()[3].numpy()[:, :, 0].transpose(1, 0, 2).reshape(preset().lanes, -1)
        span = np.maximum(np.ptp(current, axis=1) >> self.mode.level - 1, 1)
        self.step = (span << 8).clip(1, (1 << 24) - 1)
        edge = current[:, 0] * 256 - self.step * self.random.integers(0, 4, len(current))
        self.threshold = edge.clip(-SUM_LIMIT, SUM_LIMIT)
        if extreme:
            self.step = self.random.choice([1, (1 << 24) - 1], len(current))
            self.threshold = self.random.choice([-SUM_LIMIT, 0, SUM_LIMIT], len(current))

    def _fields(self) -> dict[str, int]:
        p, mode = preset(), self.mode
        aligned = p.residual_row_bits // p.axi_bits
        values = p.beats_per_tile * aligned * (2 if mode.flags & Flag.OUT_RAW else 1)
        half = p.out_rows // 2  # a layer's rows of the output buffer; its values in their middle
        first = self.place * half * (1 if mode.planes else p.out_banks)
        words = mode.words
        time = words * (self.pixels + int(self.random.integers(3)))
        return dict(
            time_steps=self.steps, repeat=mode.repeat, columns=self.pixels, rows=1, images=1,
            psum_base=self.place * p.psum_rows // 2,
            psum_pixel_step=0 if mode.pools else p.beats_per_tile,
            psum_time_step=p.beats_per_tile * (1 if mode.pools else self.pixels),
            residual_base=self.residual_base, residual_pixel_step=p.beats_per_tile,
            residual_time_step=p.beats_per_tile * self.pixels, param_base=self.param_base,
            integer_bits=mode.bits, out_bit=self.out_bit, level_bits=mode.level,
            ties_even=int(mode.ties_even),
            word_base=first * p.beat_words + words * int(self.random.integers(4)),
            word_column_step=words, word_time_step=time,
            plane_rows=-(-(4 * words + time * self.steps) // p.beat_words),
            value_base=(self.place * half + half // 2) * p.out_banks, value_pixel_step=values,
            value_time_step=values * self.pixels)

    def _runs(self) -> list[Run]:
        """Chunks of the window that add to partial sums; pixels that add up; or one CONV."""
        mode, fields = self.mode, self.fields
        sums = self.acc.transpose(0, 1, 4, 2, 3)[..., 0]
        if mode.pools:
            first, last = slice(0, 1), slice(self.pixels - 1, self.pixels)
            parts = ((first, Flag.PSUM_OUT), (slice(1, self.pixels - 1),
                                              Flag.PSUM_IN | Flag.PSUM_OUT),
                     (last, Flag.PSUM_IN | mode.flags))
            return [Run({**fields, "flags": int(flags | Flag.RESIDUAL_SUM | Flag.FENCE),
                         "columns": part.stop - part.start,
                         "residual_base": fields["residual_base"]
                         + part.start * fields["residual_pixel_step"]}, sums[0][:, part])
                    for part, flags in parts]
        runs = []
        for chunk in range(mode.chunks):
            flags = mode.flags if chunk == mode.chunks - 1 else Flag.PSUM_OUT
            flags |= Flag.PSUM_IN | Flag.FENCE if chunk else Flag(0)
            runs.append(Run({**fields, "flags": int(flags)}, sums[chunk]))
        return runs

    # Memory content ---------------------------------------------------------------------------

    def parameters(self) -> bytes:
        """The tile's rows of the parameter buffer."""
        bits = INTEGER_BITS - self.mode.bits if self.mode.bits else 0
        stored = (self.shift - bits) & 63
        mask = (1 << 28) - 1
        return b"".join(
            (int(b) & mask | (int(t) & mask) << 28 | int(s) << 56 | int(step) << 64).to_bytes(
                PARAM_BITS // 8, "little")
            for b, t, s, step in zip(self.bias, self.threshold, stored, self.step, strict=True))

    def residuals(self) -> bytes:
        """`[T][pixel][lanes]` of int16."""
        return self.residual[:, :, 0].transpose(0, 2, 1).astype("<i2").tobytes()

    # What must be written ---------------------------------------------------------------------

    def golden(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """z, s, y and the neuron's input, `[T, lanes, 1, pixels]` (one pixel after pooling)."""
        acc, residual = torch.from_numpy(self.acc.sum(0)), torch.from_numpy(self.residual)
        if self.mode.pools:
            acc = pool(residual)
        streams = bool(self.mode.flags & (Flag.OUT_RESIDUAL | Flag.STREAM))
        bias, shift = torch.from_numpy(self.bias), torch.from_numpy(self.shift)
        done = epilogue(acc, bias, shift, writes_residual=streams,
                        residual=residual if self.mode.flags & Flag.RESIDUAL_IN else None)
        return acc + bias.reshape(-1, 1, 1), done.shifted, done.residual, done.current

    def write(self, words: np.ndarray) -> None:
        """Write the outputs into the output buffer's words, as docs/program.md says."""
        p, flags = preset(), self.mode.flags
        z, s, y, current = self.golden()
        if flags & Flag.OUT_RESIDUAL:
            self._values(words, y.numpy()[:, :, 0].transpose(0, 2, 1).astype("<i2"))
        if flags & Flag.OUT_RAW:
            raw = z.numpy()[:, :, 0].transpose(0, 2, 1).astype("<i4")
            halves = np.ascontiguousarray(raw).view("<i2").reshape(
                *raw.shape[:2], p.beats_per_tile, p.epilogue_lanes, 2)
            self._values(words, np.ascontiguousarray(halves.swapaxes(-1, -2)))
        if flags & Flag.OUT_SPIKES:
            fed = current.repeat(self.mode.repeat, 1, 1, 1) if self.mode.repeat > 1 else current
            spikes = lif(fed, torch.from_numpy(self.threshold)).numpy()[:, :, 0]
            for step, pixel in np.ndindex(spikes.shape[0], spikes.shape[2]):
                self._put(words, self._word(step, pixel), spikes[step, :, pixel])
        if flags & Flag.OUT_INTEGER:
            digits = naf(s, self.mode.bits).flip(-1).numpy()[:, :, 0]
            for step, pixel, plane, minus in np.ndindex(digits.shape[0], digits.shape[2],
                                                        self.mode.bits, 2):
                self._put(words, self._plane_word(step, pixel, plane) + minus,
                          digits[step, :, pixel, plane] == 1 - 2 * minus)
        if flags & Flag.OUT_LEVELS:
            levels = sfa(current, torch.from_numpy(self.threshold), torch.from_numpy(self.step),
                         1 << self.mode.level - 1, self.mode.ties_even).numpy()[:, :, 0]
            for step, pixel, plane in np.ndindex(levels.shape[0], levels.shape[2],
                                                 self.mode.planes):
                level = levels[step, :, pixel]
                self._put(words, self._plane_word(step, pixel, plane), level > plane
                          if flags & Flag.ONES else level >> self.mode.level - 1 - plane & 1)

    def _plane_word(self, step: int, pixel: int, plane: int) -> int:
        p = preset()
        beat, part = divmod(self._word(step, pixel), p.beat_words)
        row = beat + plane // p.out_banks * self.fields["plane_rows"]
        return (row * p.out_banks + plane % p.out_banks) * p.beat_words + part

    def _word(self, step: int, pixel: int) -> int:
        fields = self.fields
        return (fields["word_base"] + pixel * fields["word_column_step"]
                + step * fields["word_time_step"])

    def _put(self, words: np.ndarray, word: int, bits: np.ndarray) -> None:
        lanes = preset().lanes
        mask = (1 << (WORD_BITS - self.out_bit if self.mode.flags & Flag.FILL else lanes)) - 1
        value = sum(int(bit) << lane for lane, bit in enumerate(bits))
        kept = int(words[word]) & ~(mask << self.out_bit)
        words[word] = kept | value << self.out_bit

    def _values(self, words: np.ndarray, values: np.ndarray) -> None:
        fields, size = self.fields, preset().beat_words
        for step, pixel in np.ndindex(values.shape[:2]):
            content = np.ascontiguousarray(values[step, pixel]).view("<u4").ravel()
            beat = (fields["value_base"] + pixel * fields["value_pixel_step"]
                    + step * fields["value_time_step"])
            words[beat * size:beat * size + content.size] = content


class Groups:
    """The groups, tags, loads and output buffer around the epilogue."""

    def __init__(self, dut: object, random: np.random.Generator, stall: float):
        p = preset()
        self.dut, self.random, self.stall = dut, random, stall
        self.words = random.integers(0, 1 << 32, p.out_beats * p.beat_words, dtype=np.uint32)
        self.queues = [deque() for _ in range(p.groups)]
        self.left = [0, 0]
        self.overflows: list[int] = []
        self.port = Lock()
        self.tasks = [cocotb.start_soon(task) for task in (
            self._deliver(), self._tags(), self._collect())]

    async def _deliver(self) -> None:
        """Offer each group's oldest result until it is freed; then another, at the earliest two
        cycles later, when the old one may be gone."""
        dut, groups = self.dut, range(preset().groups)
        width = preset().lanes * preset().acc_width
        pause = [pauses(self.random, self.stall) for _ in groups]
        results = [getattr(dut, f"results__{group}") for group in groups]
        offered, resting = [False] * len(groups), [False] * len(groups)
        while True:
            valid = contexts = 0
            for group in groups:
                queue = self.queues[group]
                if not offered[group] and not resting[group]:
                    offered[group] = bool(queue) and not next(pause[group])
                    bits = queue[0][1] if offered[group] else int.from_bytes(
                        self.random.bytes(width // 8), "little")
                    results[group].value = bits
                valid |= offered[group] << group
                contexts |= (queue[0][0]["context"] if offered[group] else 0) << group
            dut.result_valid.value, dut.result_contexts.value = valid, contexts
            await RisingEdge(dut.clk)
            free = int(dut.free.value)
            for group in groups:
                resting[group] = bool(free >> group & 1)
                if resting[group]:
                    assert offered[group], f"group {group} had no result"
                    offered[group] = False
                    self.queues[group].popleft()

    async def _tags(self) -> None:
        """Answer with the oldest tag of a group, in the next cycle."""
        dut, layout = self.dut, TagLayout(preset())
        while True:
            await RisingEdge(dut.clk)
            queue = self.queues[int(dut.tag_group.value)]
            dut.tag.value = pack(layout, queue[0][0]) if queue else 0

    async def _collect(self) -> None:
        dut, p = self.dut, preset()
        unit = (1 << p.epilogue_lanes) - 1
        units = range(p.axi_bits // p.epilogue_lanes)
        content = self.words.view(np.uint8).reshape(-1, p.beat_bytes)
        ports = [[getattr(dut, f"write_{name}__{bank}") for name in ("enable", "row", "data")]
                 for bank in range(p.out_banks)]
        while True:
            await RisingEdge(dut.clk)
            for bank, (enable, row, data) in enumerate(ports):
                if chosen := int(enable.value):
                    mask = sum(unit << n * p.epilogue_lanes for n in units if chosen >> n & 1)
                    beat = int(row.value) * p.out_banks + bank
                    old = int.from_bytes(content[beat].tobytes(), "little")
                    new = old & ~mask | int(data.value) & mask
                    content[beat] = np.frombuffer(new.to_bytes(p.beat_bytes, "little"), np.uint8)
            if int(dut.finished.value):
                self.left[int(dut.finished_context.value)] -= 1
            if int(dut.overflow.value):
                self.overflows.append(int(dut.overflow_context.value))

    async def load(self, layer: Layer) -> None:
        """Write parameters and residuals, beat by beat; others may be at work."""
        p = preset()
        async with self.port:
            await self._load("param", p.param_row_bits, layer.param_base, layer.parameters())
            await self._load("residual", p.residual_row_bits, layer.residual_base,
                             layer.residuals())

    async def _load(self, name: str, row_bits: int, row: int, content: bytes) -> None:
        dut, size = self.dut, preset().beat_bytes
        strobe, place = getattr(dut, f"load_{name}"), getattr(dut, f"load_{name}_beat")
        for beat in range(len(content) // size):
            strobe.value = 1
            place.value = row * row_bits // preset().axi_bits + beat
            dut.load_data.value = int.from_bytes(content[beat * size:(beat + 1) * size], "little")
            await RisingEdge(dut.clk)
        strobe.value = 0

    async def begin(self, run: Run, context: int) -> None:
        """Give a descriptor to a context, and its pixels to groups."""
        dut, p = self.dut, preset()
        getattr(dut, f"descriptors__{context}").value = int.from_bytes(
            CONV.pack(opcode=Opcode.CONV, **run.fields), "little")
        for _ in range(SETTLE):
            await RisingEdge(dut.clk)
        self.left[context] += run.sums.shape[0] * run.sums.shape[1]
        fields, mask = run.fields, (1 << p.acc_width) - 1
        for pixel in range(run.sums.shape[1]):
            queue = self.queues[pixel % p.groups if not self.stall else int(
                self.random.integers(p.groups))]
            for step in range(run.sums.shape[0]):
                tag = {name: fields[f"{name}_base"] + pixel * fields[f"{name}_pixel_step"]
                       + step * fields[f"{name}_time_step"]
                       for name in ("psum", "residual", "value")}
                tag["word"] = (fields["word_base"] + pixel * fields["word_column_step"]
                               + step * fields["word_time_step"])
                bits = sum((int(value) & mask) << p.acc_width * lane
                           for lane, value in enumerate(run.sums[step, pixel]))
                queue.append(({**tag, "context": context, "first": step == 0}, bits))

    async def end(self, context: int) -> None:
        """Wait for the last result of a context."""
        for _ in range(LIMIT):
            if not self.left[context]:
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError(f"{self.left} results are missing")

    async def layer(self, layer: Layer, context: int) -> None:
        """Run a layer's CONVs in a context, one behind the other."""
        await self.load(layer)
        for run in layer.runs:
            await self.begin(run, context)
            await self.end(context)

    async def check(self, *layers: Layer) -> None:
        """Run layers, each in a context of its own, and compare the output buffer."""
        expected = self.words.copy()
        for layer in layers:
            layer.write(expected)
        for task in [cocotb.start_soon(self.layer(layer, context))
                     for context, layer in enumerate(layers)]:
            await task
        for _ in range(4):
            await RisingEdge(self.dut.clk)
        wrong = np.flatnonzero(self.words != expected)
        assert not wrong.size, f"{wrong.size} words of the output buffer differ, first {wrong[:4]}"
        assert self.left == [0, 0]
        assert not self.overflows

    def stop(self) -> None:
        """End the tasks around the epilogue."""
        for task in self.tasks:
            task.cancel()


@bench
@cocotb.parametrize(stall=STALLS, mode=list(MODES))
async def outputs_equal_golden(dut: object, stall: float, mode: str) -> None:
    """Every kind of output, layer after layer without a reset."""
    random = generator("epilogue", stall, mode)
    await start(dut)
    groups = Groups(dut, random, stall)
    for place in range(2):
        await groups.check(Layer(random, MODES[mode], place))


@bench
@cocotb.parametrize(stall=STALLS)
async def two_layers_mix(dut: object, stall: float) -> None:
    """Results of two CONVs in turn, as after a CONV that overtakes the one before."""
    random = generator("mix", stall)
    await start(dut)
    groups = Groups(dut, random, stall)
    for one, other in (("spikes", "stream"), ("wide", "fill"), ("injected", "raw"),
                       ("chunks", "narrow"), ("levels", "wide"), ("ones", "stream")):
        await groups.check(Layer(random, MODES[one], 0), Layer(random, MODES[other], 1))


@bench
@cocotb.parametrize(stall=STALLS, mode=["spikes", "stream", "raw", "chunks", "pool", "injected",
                                        "levels", "ones", "level_stream"])
async def limits(dut: object, stall: float, mode: str) -> None:
    """Accumulators, biases, residuals and thresholds at their limits, or 0."""
    random = generator("limits", stall, mode)
    await start(dut)
    groups = Groups(dut, random, stall)
    await groups.check(Layer(random, MODES[mode], 0, extreme=True))


@bench
async def overflow_is_reported(dut: object) -> None:
    """A residual word beyond 16 bits raises ``overflow``, in its context, as golden raises."""
    random = generator("overflow")
    await start(dut)
    groups = Groups(dut, random, 0.0)
    for context in range(2):
        layer = Layer(random, MODES["stream"], context, pixels=2)
        layer.residual[:] = (1 << 15) - 1
        layer.bias[:], layer.shift[:] = 1 << 24, 10
        with pytest.raises(OverflowBoundError):
            layer.golden()
        groups.overflows.clear()
        await groups.layer(layer, context)
        for _ in range(4):
            await RisingEdge(dut.clk)
        assert set(groups.overflows) == {context}


@bench
async def reset_between(dut: object) -> None:
    """A reset in the middle of a run leaves nothing behind."""
    random = generator("reset")
    await start(dut)
    for cycles in (30, 60):
        groups = Groups(dut, random, 0.2)
        task = cocotb.start_soon(groups.layer(Layer(random, MODES["injected"], 0, pixels=12), 0))
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        assert not task.done()
        task.cancel()
        groups.stop()
        await reset(dut)
        groups = Groups(dut, random, 0.2)
        await groups.check(Layer(random, MODES["stream"], 0))
        groups.stop()
