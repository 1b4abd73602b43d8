# SPDX-License-Identifier: Apache-2.0
"""Lowering of SDSA-1: the mask that keys and values make, and its use on queries.

`key_value`: for each tile, KTVs count the tokens where K and V both fire into 32 rows, and a CONV
that reads one word of ones at every pixel adds up the rows; each pixel's neuron then fires alike,
so that the mask is a whole map. `mask`: a depthwise CONV with two planes, the map and the mask,
weights of 1 and a threshold of 2. A LIF neuron whose input is at most 1 never reaches 2, whatever
it remembers, so that it fires exactly where both do.
"""

import dataclasses

import numpy as np

from hw.descriptor import Flag, Opcode, Target
from hw.presets import WORD_BITS, Preset
from sw.compile.context import Context
from sw.compile.errors import CompileError
from sw.compile.estimate import CHANGE_OVER, Cost, combine
from sw.compile.layout import MapLayout, ceil_div
from sw.model_file import Layer

__all__ = ["MaskPlan", "lower_mask", "plan_mask"]


@dataclasses.dataclass(frozen=True)
class MaskPlan:
    """Token rows of a block of outputs, and of keys and values."""

    rows: int
    key_rows: int
    regions: int
    region_beats: int
    cost: Cost


def plan_mask(preset: Preset, layer: Layer, steps: int, slice_out: int) -> MaskPlan:
    """Choose blocks, or raise `CompileError`."""
    height, width = layer.in_size
    where = f"layer '{layer.name}' on preset '{preset.name}'"
    row = ceil_div(width, preset.beat_words)
    capacity = preset.map_words // preset.beat_words
    most = capacity // (4 * steps * row)  # two maps, and two more while these are in use
    if not most:
        raise CompileError(f"{where}: a row of tokens takes {2 * steps * row} map buffer beats, at "
                           f"most {capacity // 2} can be used")
    key_rows = min(height, most)
    counts = ceil_div(key_rows * width, WORD_BITS) * ceil_div(height, key_rows)
    if counts > 255:
        raise CompileError(f"{where}: a count of {counts} does not fit a byte")
    out_row = ceil_div(width * slice_out, preset.beat_words)

    def beats(rows: int) -> int:
        return ceil_div(steps * rows * out_row, preset.out_banks) * preset.out_banks

    for rows in range(min(height, most if layer.kind == "mask" else height), 0, -1):
        for regions in (2, 1):
            if regions * beats(rows) <= preset.out_beats:
                break
        else:
            continue
        break
    else:
        raise CompileError(f"{where}: a row of tokens needs {beats(1)} of {preset.out_beats} "
                           f"output beats")
    tiles = ceil_div(layer.out_channels, preset.lanes)
    size = 4 * ceil_div(layer.in_channels, WORD_BITS) * steps * layer.in_positions
    compute = tiles * (3 * steps * layer.in_positions + CHANGE_OVER)
    cost = combine(preset, compute, tiles * steps * layer.in_positions, 2 * size, size,
                   4 * tiles * ceil_div(height, rows))
    return MaskPlan(rows, key_rows, regions, beats(rows), cost)


class _Lowering:
    def __init__(self, context: Context, number: int, plan: MaskPlan) -> None:
        self.context, self.number, self.plan = context, number, plan
        self.preset, self.layer = context.preset, context.model.layers[number]
        self.first, self.second = (context.layouts[name] for name in self.layer.inputs)
        self.out: MapLayout = context.layouts[self.layer.outputs["spikes"]]
        self.steps = self.first.steps
        base = self.preset.out_beats - plan.regions * plan.region_beats if number % 2 else 0
        self.regions = [base + n * plan.region_beats for n in range(plan.regions)]

    def run(self) -> None:
        height, width = self.layer.in_size
        lanes = self.preset.lanes
        tiles = ceil_div(self.layer.out_channels, lanes)
        per_slice = self.out.slice_words * WORD_BITS // lanes
        for y0 in range(0, height, self.plan.rows):
            y1 = min(y0 + self.plan.rows, height)
            for tile in range(tiles):
                if tile % per_slice == 0:
                    self.regions.append(self.regions.pop(0))
                self._tile(tile, y0, y1)
                if tile % per_slice == per_slice - 1 or tile == tiles - 1:
                    self.context.store_map(self.number, self.out, self.regions[0],
                                           tile // per_slice, (y0, y1), (0, width),
                                           self._extent(y0, y1))

    def _extent(self, y0: int, y1: int) -> tuple[int, int]:
        row = ceil_div(self.layer.in_size[1] * self.out.slice_words, self.preset.beat_words)
        return self.regions[0], self.regions[0] + self.steps * (y1 - y0) * row

    def _maps(self, tile: int, y0: int, y1: int) -> list[tuple[int, tuple[int, int]]]:
        """(first word, extent) of the tile's word of both inputs; together in the buffer."""
        word = tile * self.preset.lanes // WORD_BITS
        keys = [(layout.name, word, y0, y1) for layout in (self.first, self.second)]
        self.context.together(self.number, keys)
        found = []
        for layout, key in zip((self.first, self.second), keys, strict=True):
            row = layout.row_bytes // self.preset.beat_bytes
            base = self.context.load_map(self.number, layout, key, (y0, y1), (0, row),
                                         (word, word + 1))
            start = base // self.preset.beat_words
            found.append((base, (start, start + self.steps * (y1 - y0) * row)))
        return found

    def _tile(self, tile: int, y0: int, y1: int) -> None:
        context, preset, layer = self.context, self.preset, self.layer
        width, channel = layer.in_size[1], tile * preset.lanes
        pitch = self.first.row_bytes // 4
        out_row = ceil_div(width * self.out.slice_words, preset.beat_words) * preset.beat_words
        param = context.load_params(self.number, tile)
        start = param * context.param_tile // preset.beats_per_tile
        reads = [("param", (start, start + context.param_tile))]
        fields = {
            "time_steps": self.steps, "repeat": 1, "columns": width, "rows": y1 - y0, "images": 1,
            "kernel_rows": 1, "string_words": 1, "chunk_words": 1, "window_reads": 1,
            "param_base": param, "out_bit": channel % WORD_BITS,
            "word_base": (self.regions[0] * preset.beat_words
                          + channel // WORD_BITS % self.out.slice_words),
            "word_column_step": self.out.slice_words, "word_row_step": out_row,
            "word_time_step": (y1 - y0) * out_row}
        flags = Flag.OUT_SPIKES | context.fill_flag(layer, tile)
        if layer.kind == "mask":
            (base, extent), (other, other_extent) = self._maps(tile, y0, y1)
            weight = self._ones(Target.WEIGHT, "weight", context.weight_row)
            plane = (y1 - y0) * pitch
            flags |= Flag.DEPTHWISE
            fields |= {
                "planes": 2, "map_base": base, "map_plane_step": other - base,
                "map_time_step": base - other + plane, "row_pitch": pitch, "row_words": width,
                "rows_words": plane, "x_step": 1, "y_step": pitch,
                "mask_bit": channel % WORD_BITS, "weight_base": weight // context.weight_row}
            reads += [("map", extent), ("map", other_extent),
                      ("weight", (weight, weight + context.weight_row))]
        else:
            weight = self._counts(tile)
            ones = self._ones(Target.MAP, "map", 1)
            fields |= {"planes": 1, "map_base": ones * preset.beat_words, "row_pitch": 1,
                       "row_words": 1, "rows_words": 1,
                       "weight_base": weight[0] // context.weight_row,
                       "weight_time_step": WORD_BITS}
            flags |= Flag.UNSIGNED_WEIGHTS
            reads += [("weight", weight), ("map", (ones, ones + 1))]
        context.schedule.compute(self.number, Opcode.CONV, {**fields, "flags": flags}, reads,
                                 [self._extent(y0, y1)])

    def _counts(self, tile: int) -> tuple[int, int]:
        """KTVs of a tile; the weight beats that hold its 32 rows a step."""
        context, preset = self.context, self.preset
        height, width = self.layer.in_size
        rows = WORD_BITS * self.steps
        size = rows * context.weight_row
        fresh = False

        def fill(_: int) -> None:
            nonlocal fresh
            fresh = True

        start = context.rings["weight"].get((self.number, "counts", tile), size, fill)
        weight = (start, start + size)
        if not fresh:
            return weight
        channel = tile * preset.lanes
        lanes = min(preset.lanes, self.layer.out_channels - channel)
        clear = {"clear_rows": WORD_BITS, "clear_time_step": WORD_BITS,
                 "clear_base": start // context.weight_row}
        key_rows = self.plan.key_rows
        for y0 in range(0, height, key_rows):
            y1 = min(y0 + key_rows, height)
            (key, key_extent), (value, value_extent) = self._maps(tile, y0, y1)
            pitch = self.first.row_bytes // 4
            steps = {"column_step": 1, "row_step": pitch, "time_step": (y1 - y0) * pitch}
            context.schedule.compute(self.number, Opcode.KTV, {
                "time_steps": self.steps, "key_words": 1, "columns": width, "rows": y1 - y0,
                "key_base": key, "value_base": value, **steps,
                **{f"value_{name}": step for name, step in steps.items()},
                "first_mask": 0xFFFFFFFF, "last_mask": 0xFFFFFFFF, "key_planes": 1,
                "value_planes": 1, "diagonal": 1, "lane_mask": (1 << lanes) - 1,
                "value_bit": channel % WORD_BITS, "parts": 1,
                "weight_base": start // context.weight_row, "weight_time_step": WORD_BITS, **clear,
            }, [("map", key_extent), ("map", value_extent), ("weight", weight)], [])
            clear = {}
        return weight

    def _ones(self, target: Target, ring: str, beats: int) -> int:
        """First beat of `beats` whose bytes are 1 (weights) or whose bits are all 1 (a map)."""
        context = self.context
        value = 1 if target is Target.WEIGHT else 255
        key = ("ones", ring)
        if key not in context.constants:
            context.constants[key] = context.memory.constant(
                np.full(beats * self.preset.beat_bytes, value, np.uint8))

        def fill(start: int) -> None:
            context.load_runs(self.number, target, context.constants[key], start, [(0, 0, beats)])

        return context.rings[ring].get((self.number, *key), beats, fill)


def lower_mask(context: Context, number: int, plan: MaskPlan) -> None:
    """Emit a key_value or mask layer."""
    _Lowering(context, number, plan).run()
