# SPDX-License-Identifier: Apache-2.0
"""Random descriptors within the rules of docs/program.md, far wilder than a compiler's.

Every buffer is full of random data, sums, biases and thresholds span their widths, geometry is
arbitrary, and fields that must not matter (steps of a count of 1, fields of absent flags) are
random in all of their bits. What the functional simulator refuses is drawn again.
"""

from __future__ import annotations

import functools

import numpy as np

from hw.descriptor import FORMATS, Flag, Opcode
from hw.limits import broken_limit
from hw.presets import Preset, get_preset
from sw.isa.machine import MachineError
from tb.top.compute_bench import AcceleratorBench

__all__ = ["SEEDS", "draw"]

SEEDS = 200
"""Programs of the fast test."""

_MATTER = {
    "psum_": Flag.PSUM_IN | Flag.PSUM_OUT, "residual_": Flag.RESIDUAL_IN | Flag.RESIDUAL_SUM,
    "word_": Flag.OUT_SPIKES | Flag.OUT_INTEGER | Flag.OUT_LEVELS,
    "value_": Flag.OUT_RESIDUAL | Flag.OUT_RAW, "plane_rows": Flag.OUT_INTEGER | Flag.OUT_LEVELS,
    "integer_bits": Flag.OUT_INTEGER, "level_bits": Flag.OUT_LEVELS, "ties_even": Flag.OUT_LEVELS,
    "mask_bit": Flag.DEPTHWISE}
"""Fields, by the beginning of their names, that matter only with one of some flags."""


_KINDS = ("spikes", "residuals", "integers", "levels")
"""What a program writes."""


class _Draw:
    """Draws fields with one generator."""

    def __init__(self, random: np.random.Generator, preset: Preset) -> None:
        self.random, self.preset = random, preset

    def of(self, *values: int) -> int:
        """One of the values."""
        return int(self.random.choice(values))

    def within(self, low: int, high: int) -> int:
        """A number from low to high."""
        return int(self.random.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Whether something happens."""
        return bool(self.random.random() < probability)

    def noise(self, opcode: Opcode, name: str) -> int:
        """Any value of a field."""
        return self.within(*FORMATS[opcode].fields[name].bounds)

    def buffers(self, bench: AcceleratorBench, kind: str) -> None:
        """Fill all buffers, so that what is written of that kind fits its bits."""
        preset, random, buffers = self.preset, self.random, bench.buffers
        density = self.of(1, 2, 5, 10, 18, 32) / 32
        bits = random.random((preset.map_words, 32)) < density
        if self.chance(0.3):
            bits[random.random(preset.map_words) < 0.7] = 0
        buffers.map[:] = (bits * (1 << np.arange(32, dtype=np.uint64))).sum(1)
        buffers.weight[:] = random.integers(-128, 128, buffers.weight.shape)
        bits = self.within(*{"spikes": (4, 26), "residuals": (4, 13), "integers": (9, 20),
                              "levels": (4, 22)}[kind])
        scale = 2.0 ** bits
        shape = (preset.param_rows * preset.epilogue_lanes,)
        bias, threshold = (random.integers(-scale, scale, shape).astype(np.int64)
                           for _ in range(2))
        shifts = {"spikes": (-8, 24), "levels": (-8, 24), "residuals": (2, 6),
                  "integers": (max(bits, 14) - 10, 24)}
        shift = random.integers(*shifts[kind], shape).astype(np.int64)
        mask = (1 << 28) - 1
        shift[-preset.lanes:] = 0               # for `reader`
        if kind == "levels":
            threshold = (threshold * 16.0).clip(-mask // 2, mask // 2).astype(np.int64)
        step = random.integers(1, 2 << min(23, bits + self.within(0, 8)), shape)
        step |= random.integers(0, 1 << 40, shape) << 24        # bits in no field
        param = (bias & mask) | (threshold & mask) << 28 | (shift & 63) << 56
        buffers.param[:] = np.stack([param, step], -1).astype(np.uint64).reshape(
            buffers.param.shape)
        high = 30000 if self.chance(0.5) else 300
        buffers.residual[:] = random.integers(-high, high, buffers.residual.shape)
        for name in bench.used:
            bench.used[name] = len(buffers.beats[name])

    def conv(self, flags: Flag) -> dict[str, int]:
        """A CONV that does what the flags say."""
        preset, part = self.preset, self.preset.beats_per_tile
        deep = bool(flags & Flag.DEPTHWISE)
        whole = 1 if deep else 32
        steps = self.within(1, 4)
        digits = self.chance(0.4) and not deep
        planes = 2 * self.within(1, 6) if digits else self.of(1, 1, 1, 2, 3, 4)
        rows, words = self.within(0, 5), self.within(1, 7)
        reads = max(1, rows * -(-words // preset.map_banks))
        if digits:
            flags |= Flag.SIGNED_DIGITS
        if self.chance(0.2):
            flags |= Flag.UNSIGNED_WEIGHTS
        repeat = self.within(1, 5) if steps == 1 and flags & Flag.OUT_SPIKES else 1
        columns, lines, images = self.within(1, 6), self.within(1, 4), self.of(1, 1, 2, 3)
        pixels = columns * lines * images
        fields = dict(
            layer=self.within(0, 65535), time_steps=steps, repeat=repeat, columns=columns,
            rows=lines, images=images, planes=planes,
            plane_shift=1 if digits else self.within(0, 3), map_base=self.within(0, 1000),
            map_plane_step=self.within(-60, 90), map_time_step=self.within(-60, 90),
            map_image_step=self.within(-90, 200), row_pitch=self.within(1, 30),
            row_words=self.within(1, 30), rows_words=self.within(1, 200),
            x_start=self.within(-6, 3), x_step=self.within(0, 5), y_start=self.within(-40, 30),
            y_step=self.within(0, 40), string_words=words, kernel_rows=rows,
            chunk_first=self.within(-12, 4), chunk_words=self.within(1, 40 if deep else 14),
            window_reads=self.within(min(reads, preset.fifo_depth), preset.fifo_depth),
            weight_base=whole * self.within(0, 480 // whole),
            weight_plane_step=whole * self.within(-2, 2),
            weight_time_step=whole * self.within(-2, 2),
            psum_base=part * self.within(0, 20), psum_pixel_step=part * steps,
            psum_time_step=part, residual_base=part * self.within(0, 20),
            residual_pixel_step=part * self.within(0, 3),
            residual_time_step=part * self.within(0, 9),
            param_base=part * self.within(0, preset.param_rows // part - 1),
            mask_bit=self.within(0, 24), integer_bits=self.within(1, 12),
            out_bit=preset.lanes * self.within(0, 32 // preset.lanes - 1),
            word_base=self.within(0, 90),
            word_column_step=1, word_row_step=columns, word_image_step=columns * lines,
            word_time_step=pixels, plane_rows=1 + pixels * steps * repeat // 2 + 46,
            value_base=self.within(400, 450), value_pixel_step=2 * part,
            value_time_step=2 * part * pixels, level_bits=self.within(1, 4),
            ties_even=self.within(0, 1), group_planes=self.of(0, 1, 2, 3),
            group_shift=self.within(0, 4), map_group_step=self.within(-60, 90),
            weight_group_step=whole * self.within(-2, 2))
        if flags & Flag.OUT_INTEGER:    # two words side by side
            fields["plane_rows"] += pixels * steps * repeat // 2 + 46
            for name in fields:
                if name.startswith("word_"):
                    fields[name] *= 2
        banks = preset.map_banks
        if deep and -(-(words + 1) // banks) == -(-words // banks) and self.chance(0.6):
            flags |= Flag.PAIRED
            fields |= {"x_step": 1, "chunk_first": 0, "chunk_words": max(1, rows * words)}
        if digits:
            fields["group_planes"] = 0
        if not 0 < fields["group_planes"] < planes:
            for name in ("group_shift", "map_group_step", "weight_group_step"):
                fields[name] = self.noise(Opcode.CONV, name)
            fields["group_shift"] &= 15
            fields["weight_group_step"] &= -whole
        for count, ends in (
                (planes, ("map_plane_step", "weight_plane_step")),
                (steps, ("map_time_step", "weight_time_step", "psum_time_step",
                         "residual_time_step", "value_time_step")),
                (steps * repeat, ("word_time_step",)), (images, ("map_image_step",
                                                                 "word_image_step")),
                (columns, ("x_step", "word_column_step")), (lines, ("y_step", "word_row_step")),
                (pixels, ("psum_pixel_step", "residual_pixel_step", "value_pixel_step"))):
            if count == 1:
                for name in ends:
                    fields[name] = self.noise(Opcode.CONV, name)
                    if name.startswith(("psum", "residual")):
                        fields[name] &= -part
                    elif name.startswith("weight"):
                        fields[name] &= -whole
        if flags & Flag.OUT_INTEGER:
            for name in fields:
                if name.startswith("word_"):
                    fields[name] &= -2
        for start, needed in _MATTER.items():
            if not flags & needed:
                for name in fields:
                    if name.startswith(start):
                        fields[name] = self.noise(Opcode.CONV, name)
        return self.packed(Opcode.CONV, fields | {"flags": int(flags)})

    def chunk(self, last: dict[str, int]) -> dict[str, int]:
        """A CONV of other windows whose sums are the first part of those of ``last``."""
        kept = Flag(last["flags"]) & Flag.RESIDUAL_SUM
        first = self.conv(kept | (Flag.DEPTHWISE if self.chance(0.3) else Flag(0)))
        same = ("time_steps", "columns", "rows", "images", "param_base",
                *(name for name in last if name.startswith(("psum_", "residual_"))))
        return {**first, **{name: last[name] for name in same}, "repeat": 1,
                "flags": int(Flag(first["flags"]) | Flag.PSUM_OUT)}

    def packed(self, opcode: Opcode, fields: dict[str, int]) -> dict[str, int]:
        """The fields within their bounds."""
        bounds = {name: FORMATS[opcode].fields[name].bounds for name in fields}
        return {name: min(max(value, bounds[name][0]), bounds[name][1])
                for name, value in fields.items()}

    def kind_of_conv(self, kind: str) -> dict[str, int]:
        """A CONV that writes that kind."""
        flags = Flag.DEPTHWISE if self.chance(0.25) else Flag(0)
        if self.chance(0.2):
            flags |= Flag.RESIDUAL_SUM
        if kind == "residuals":
            out = Flag.OUT_RESIDUAL
            out |= Flag.OUT_SPIKES if self.chance(0.7) else Flag(0)
            out |= Flag.STREAM if self.chance(0.8) else Flag(0)
            if not flags & Flag.RESIDUAL_SUM and self.chance(0.7):
                out |= Flag.RESIDUAL_IN
        else:
            out = {"spikes": Flag.OUT_SPIKES, "integers": Flag.OUT_INTEGER,
                   "levels": Flag.OUT_LEVELS}[kind]
            out |= Flag.ONES if kind == "levels" and self.chance(0.4) else Flag(0)
        out |= Flag.FILL if self.chance(0.3) else Flag(0)
        return self.conv(flags | out)

    def key_value(self) -> dict[str, int]:
        """A KTV."""
        columns, rows, parts = self.within(1, 12), self.within(1, 12), self.of(1, 1, 2)
        if self.chance(0.2):
            columns, rows = self.of(rows, self.within(13, 250)), self.of(1, 1, columns)
        steps = self.of(1, 2, 3) if parts == 1 else 1
        fields = dict(
            layer=self.within(0, 65535), time_steps=steps, key_words=self.within(1, 3),
            columns=columns, rows=rows, key_base=self.within(0, 900),
            value_base=self.within(0, 900), column_step=self.within(0, 9),
            row_step=self.within(0, 60), time_step=self.within(0, 300), parts=parts,
            first_mask=self.noise(Opcode.KTV, "first_mask"),
            last_mask=self.noise(Opcode.KTV, "last_mask"),
            lane_mask=self.noise(Opcode.KTV, "lane_mask"), value_bit=self.within(0, 24),
            weight_base=32 * self.within(0, 3), part_step=32 * self.within(3, 6),
            weight_time_step=32 * self.within(3, 5), clear_base=0,
            clear_rows=512, clear_time_step=0, diagonal=int(self.chance(0.2)),
            value_planes=self.of(1, 1, 2, 3, 4), key_planes=self.of(1, 1, 2, 3, 4),
            key_double=self.within(0, 1),
            value_column_step=self.within(0, 70 if columns <= 12 else 9),
            value_row_step=self.within(0, 60), value_time_step=self.within(0, 300),
            key_plane_step=self.within(0, 60), value_plane_step=self.within(0, 60))
        if fields["diagonal"]:
            fields |= {"key_words": 1, "key_planes": 1, "value_planes": 1}
        elif not fields["key_double"] and self.chance(0.3):
            fields["key_planes"] = self.within(5, 8)
        if steps > 1:                   # what one step clears is no other's
            fields |= {"clear_base": fields["weight_base"], "clear_rows": 96,
                       "clear_time_step": fields["weight_time_step"]}
        elif parts == 2:                # counts go on, and carry
            fields["clear_rows"] = 0
        elif self.chance(0.5):
            fields |= {"clear_base": self.within(0, 100), "clear_rows": self.within(0, 300)}
        for count, ends in ((columns, ("column_step", "value_column_step")),
                            (rows, ("row_step", "value_row_step")), (parts, ("part_step",)),
                            (fields["value_planes"], ("value_plane_step",)),
                            (fields["key_planes"], ("key_plane_step", "key_double")),
                            (steps, ("time_step", "value_time_step", "weight_time_step",
                                     "clear_time_step"))):
            if count == 1:
                fields |= {name: self.noise(Opcode.KTV, name) for name in ends}
        fields["key_double"] &= 1
        return self.packed(Opcode.KTV, fields)

    def reader(self, row: int, place: int) -> dict[str, int]:
        """A CONV that writes raw sums of few of the 64 weight rows from ``row`` on."""
        part, columns = self.preset.beats_per_tile, 20
        return self.packed(Opcode.CONV, dict(
            layer=self.within(0, 65535), time_steps=1, repeat=1, columns=columns, rows=1, images=1,
            planes=1, map_base=self.within(0, 900), row_pitch=1, row_words=2 * columns,
            rows_words=1, x_step=2, string_words=2, kernel_rows=1, chunk_words=2, window_reads=2,
            weight_base=row, param_base=self.preset.param_rows - part,
            value_base=place, value_pixel_step=2 * part,
            flags=int(Flag.OUT_RAW | Flag.UNSIGNED_WEIGHTS | Flag.FENCE)))


def _try(seed: list[int], preset: Preset, kind: str) -> AcceleratorBench | None:
    """Draw a program; None if the functional simulator refuses it, or nothing is written."""
    draw = _Draw(np.random.default_rng(seed), preset)
    bench = AcceleratorBench(preset, 1)
    draw.buffers(bench, kind)
    if draw.chance(0.4):
        if draw.chance(0.5):
            bench.buffers.weight[:] &= 0x3F
        bench.add(Opcode.KTV, **draw.key_value())
        if draw.chance(0.4):        # counts go on
            bench.add(Opcode.KTV, **draw.key_value() | {"clear_rows": 0})
    for number in range(draw.within(1, 3)):
        fields = draw.kind_of_conv(kind)
        fence = Flag.FENCE if number else Flag(0)
        if draw.chance(0.25):
            steps, part = fields["time_steps"], preset.beats_per_tile
            fields |= {"psum_base": part * draw.within(0, 5), "psum_time_step": part,
                       "psum_pixel_step": part * (steps + draw.within(0, 2))}
            first = draw.chunk(fields)
            bench.add(Opcode.CONV, **first | {"flags": int(Flag(first["flags"]) | fence)})
            fence = Flag.FENCE | Flag.PSUM_IN
        bench.add(Opcode.CONV, **fields | {"flags": int(Flag(fields["flags"]) | fence)})
    if bench.descriptors[0]["opcode"] is Opcode.KTV:
        for number in range(3):
            bench.add(Opcode.CONV, **draw.reader(64 * draw.within(0, 7), 700 + 80 * number))
    if any(broken_limit(FORMATS[fields["opcode"]].pack(**fields), preset)
           for fields in bench.descriptors):
        return None
    try:
        return bench if bench.expected().any() else None
    except MachineError:
        return None


@functools.cache
def draw(seed: int, preset_name: str = "tiny") -> AcceleratorBench:
    """Return a bench with the program of that seed, and its result."""
    for number in range(1000):
        bench = _try([seed, number], get_preset(preset_name), _KINDS[seed % 4])
        if bench is not None:
            return bench
    raise RuntimeError(f"no program of seed {seed} holds to the rules")
