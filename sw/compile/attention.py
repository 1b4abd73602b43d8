# SPDX-License-Identifier: Apache-2.0
"""Lowering of attention: counts K^T V by KTV, then a 1x1 CONV of Q on the counts as weights.

For each tile of V channels, the words of K and Q that hold all heads of the tile make the weight
rows: `[step][byte, most significant first][32 rows a word]`. K and Q have the same slices, chosen
so that no head crosses from one slice to the next; V has slices of one word. Planes of levels are
taken together; levels that are ones have a KTV for each plane of V. Where K and V of all tokens do
not fit, they pass by in blocks of rows and the counts keep growing; where the counts of all words
do not fit, words are taken in chunks with partial sums.
"""

import dataclasses
import math

from hw.descriptor import Flag, Opcode
from hw.presets import WORD_BITS, Preset
from sw.compile.context import Context
from sw.compile.errors import CompileError
from sw.compile.estimate import CHANGE_OVER, DEFAULT_DENSITY, Cost, combine
from sw.compile.layout import MapLayout, ceil_div
from sw.compile.plan import Block
from sw.compile.weights import ACC_LIMIT
from sw.model_file import Layer

__all__ = ["AttentionPlan", "attention_slice", "lower_attention", "plan_attention"]


@dataclasses.dataclass(frozen=True)
class AttentionPlan:
    """A tiling that fits."""

    rows: int
    """Token rows of a block, whose outputs are gathered in the output buffer."""
    columns: int
    """Tokens of a row in a block: all, or fewer in blocks of one row."""
    query_rows: int
    key_rows: int
    chunk_words: int
    parts: int
    regions: int
    region_beats: int
    cost: Cost


def attention_slice(layer: Layer) -> int:
    """Fewest words of a slice such that heads do not cross slices."""
    depth = layer.in_channels // layer.heads
    words = ceil_div(layer.in_channels, WORD_BITS)
    for size in range(1, words + 1):
        step = size * WORD_BITS
        if words % size == 0 and all(b % depth == 0 for b in range(0, layer.in_channels, step)):
            return size
    return words


def _key_words(preset: Preset, layer: Layer, tile: int) -> tuple[int, int]:
    """Words of K that hold all heads of a tile."""
    depth, size = layer.in_channels // layer.heads, layer.out_channels // layer.heads
    first = tile * preset.lanes // size
    last = (min((tile + 1) * preset.lanes, layer.out_channels) - 1) // size
    return first * depth // WORD_BITS, ceil_div((last + 1) * depth, WORD_BITS)


def plan_attention(context: Context, layer: Layer, steps: int, slice_out: int,
                   density: float = DEFAULT_DENSITY) -> AttentionPlan:
    """Choose blocks and chunks, or raise `CompileError`."""
    preset, tensors = context.preset, context.model.tensors
    q, k, v = (tensors[name] for name in layer.inputs)
    planes = max(context.planes(tensor) for tensor in (q, k, v))
    out_planes = context.out_planes(layer)
    banks = preset.out_banks if out_planes > 1 else 1
    height, width = layer.in_size
    tokens, depth = height * width, layer.in_channels // layer.heads
    where = f"layer '{layer.name}' on preset '{preset.name}'"
    most_count = tokens * k.levels * v.levels
    parts = ceil_div(most_count.bit_length(), 8)
    tiles = ceil_div(layer.out_channels, preset.lanes)
    most = max(b - a for a, b in (_key_words(preset, layer, tile) for tile in range(tiles)))
    word_rows = WORD_BITS * steps * parts
    chunk = (preset.weight_rows // 2 // word_rows or preset.weight_rows // word_rows)
    chunk = min(chunk, preset.fifo_depth // 2 * preset.map_banks, most)
    if not chunk:
        raise CompileError(f"{where}: the counts of one word take {word_rows} weight rows, "
                           f"there are {preset.weight_rows}")
    most_sum = most_count * q.levels * min(depth, chunk * WORD_BITS)
    if most_sum >= ACC_LIMIT:
        raise CompileError(f"{where}: |acc| may reach {most_sum}, must be below {ACC_LIMIT}")
    row = ceil_div(width * attention_slice(layer), preset.beat_words)
    capacity = preset.map_words // preset.beat_words
    key_rows = query_rows = height
    if 3 * steps * planes * height * row > capacity:
        key_rows = query_rows = min(height, capacity // 4 // (steps * planes * row))
    if not key_rows:
        raise CompileError(f"{where}: a row of tokens takes {steps * planes * row} map buffer "
                           f"beats, at most {capacity // 4} can be used")
    limit = tokens
    if chunk < most:
        limit = preset.psum_rows // (preset.beats_per_tile * steps)
    unit = preset.beat_words // math.gcd(preset.beat_words, slice_out)

    def beats(rows: int, columns: int) -> int:
        plane = steps * rows * ceil_div(columns * slice_out, preset.beat_words)
        size = ceil_div(out_planes, banks) * banks * plane
        return ceil_div(size, preset.out_banks) * preset.out_banks

    shapes = [(rows, width) for rows in range(height, 0, -1)]
    shapes += [(1, columns) for columns in range(width - 1, 0, -1) if columns % unit == 0]
    found = [(rows, columns, regions) for rows, columns in shapes for regions in (2, 1)
             if rows * columns <= limit and regions * beats(rows, columns) <= preset.out_beats]
    if not found:
        raise CompileError(f"{where}: a block of {unit} tokens needs more than {preset.out_beats} "
                           f"output beats or {preset.psum_rows} partial sum rows")
    rows, columns, regions = found[0]
    if (rows, columns) != (height, width):
        rows, columns, regions = next((shape for shape in found if shape[2] == 2), found[0])
    blocks = ceil_div(height, rows) * ceil_div(width, columns)
    spikes = steps * planes * tokens * density * WORD_BITS * most
    scan = steps * planes * tokens * most
    compute = tiles * (blocks * (scan + spikes + CHANGE_OVER)
                       + max(spikes * parts / preset.groups, scan * parts) + CHANGE_OVER)
    maps = 4 * ceil_div(layer.in_channels, WORD_BITS) * steps * planes * tokens
    loads = 3 * maps * blocks * (1 if key_rows == height else tiles)
    cost = combine(preset, compute, tiles * spikes * (blocks + parts), loads, maps, 3 * tiles)
    return AttentionPlan(rows, columns, min(query_rows, rows), key_rows, chunk, parts, regions,
                         beats(rows, columns), cost)


class _Lowering:
    def __init__(self, context: Context, number: int, tiling: AttentionPlan) -> None:
        self.context, self.number, self.plan = context, number, tiling
        self.preset = context.preset
        self.layer = layer = context.model.layers[number]
        self.q, self.k, self.v = (context.layouts[name] for name in layer.inputs)
        self.out: MapLayout = context.layouts[layer.map_output[1]]
        self.steps, self.depth = self.q.steps, layer.in_channels // layer.heads
        self.size = layer.out_channels // layer.heads
        total = tiling.regions * tiling.region_beats
        base = self.preset.out_beats - total if number % 2 else 0
        self.regions = [base + n * tiling.region_beats for n in range(tiling.regions)]

    def run(self) -> None:
        height, width = self.layer.in_size
        tiles = ceil_div(self.layer.out_channels, self.preset.lanes)
        per_slice = self.out.slice_words * WORD_BITS // self.preset.lanes
        blocks = [Block(y, min(y + self.plan.rows, height), x, min(x + self.plan.columns, width))
                  for y in range(0, height, self.plan.rows)
                  for x in range(0, width, self.plan.columns)]
        for block in blocks:
            for tile in range(tiles):
                if tile % per_slice == 0:
                    self.regions.append(self.regions.pop(0))
                self._tile(tile, block)
                if tile % per_slice == per_slice - 1 or tile == tiles - 1:
                    self.context.store_map(
                        self.number, self.out, self.regions[0], tile // per_slice,
                        (block.y0, block.y1), (block.x0, block.x1), self._extent(block))

    def _out_row(self, block: Block) -> int:
        """Beats of a block's row in the output buffer."""
        return ceil_div(block.columns * self.out.slice_words, self.preset.beat_words)

    def _extent(self, block: Block) -> tuple[int, int]:
        base, banks = self.regions[0], self.preset.out_banks
        size = self.steps * block.rows * self._out_row(block)
        if self.out.planes > 1:
            size *= ceil_div(self.out.planes, banks) * banks
        return base, base + size

    def _tile(self, tile: int, block: Block) -> None:
        first, last = _key_words(self.preset, self.layer, tile)
        for a in range(first, last, self.plan.chunk_words):
            b = min(a + self.plan.chunk_words, last)
            rows = WORD_BITS * (b - a)
            beats = self.context.weight_row
            size = self.steps * self.plan.parts * rows * beats
            start = self.context.rings["weight"].get((self.number, block, tile, a), size,
                                                     lambda _: None)
            weight = (start, start + size)
            if a == first:
                self._psum = self.context.psum_region(
                    block.pixels * self.steps * self.preset.beats_per_tile)
            self._keys(tile, a, b, weight)
            for y in range(block.y0, block.y1, self.plan.query_rows):
                self._query(tile, a, b, weight, block,
                            (y, min(y + self.plan.query_rows, block.y1)), a == first, b == last)

    def _key(self, name: str, slice_: int, rows: tuple[int, int]) -> tuple:
        return getattr(self, name).name, slice_, rows

    def _map(self, name: str, slice_: int, rows: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """(first word, extent in beats) of a slice's rows of Q, K or V."""
        layout: MapLayout = getattr(self, name)
        row = layout.row_bytes // self.preset.beat_bytes
        base = self.context.load_map(self.number, layout, self._key(name, slice_, rows), rows,
                                     (0, row), (slice_, slice_ + 1))
        start = base // self.preset.beat_words
        planes = layout.steps * layout.planes
        return base, (start, start + planes * (rows[1] - rows[0]) * row)

    def _keys(self, tile: int, a: int, b: int, weight: tuple[int, int]) -> None:
        """KTVs of words ``a`` to ``b - 1`` of K for a tile."""
        lanes, words = self.preset.lanes, self.k.slice_words
        slice_, parts = a // words, self.plan.parts
        base_row, rows = weight[0] // self.context.weight_row, WORD_BITS * (b - a)
        c0, c1 = tile * lanes, min((tile + 1) * lanes, self.layer.out_channels)
        height, width = self.layer.in_size
        step = rows * parts
        clear = {"clear_rows": step, "clear_time_step": step, "clear_base": base_row}
        for y0 in range(0, height, self.plan.key_rows):
            y1 = min(y0 + self.plan.key_rows, height)
            self.context.together(self.number, [
                self._key("k", slice_, (y0, y1)), self._key("v", c0 // WORD_BITS, (y0, y1))])
            key, key_extent = self._map("k", slice_, (y0, y1))
            value, value_extent = self._map("v", c0 // WORD_BITS, (y0, y1))
            pitch, value_pitch = self.k.row_bytes // 4, self.v.row_bytes // 4
            for head in range(c0 // self.size, (c1 - 1) // self.size + 1):
                low, high = head * self.depth, (head + 1) * self.depth
                first, last = max(low, a * WORD_BITS), min(high, b * WORD_BITS)
                if first >= last:
                    continue
                word, end = first // WORD_BITS, ceil_div(last, WORD_BITS)
                low, high = max(head * self.size, c0), min((head + 1) * self.size, c1)
                mask = ((1 << high - c0) - 1) & ~((1 << low - c0) - 1)
                fields = {
                    "time_steps": self.steps, "key_words": end - word, "columns": width,
                    "rows": y1 - y0, "key_base": key + word - slice_ * words,
                    "column_step": words, "row_step": pitch,
                    "time_step": self.k.planes * (y1 - y0) * pitch,
                    "key_planes": self.k.planes, "key_plane_step": (y1 - y0) * pitch,
                    "key_double": int(not self.k.ones),
                    "value_column_step": 1, "value_row_step": value_pitch,
                    "value_time_step": self.v.planes * (y1 - y0) * value_pitch,
                    "value_plane_step": (y1 - y0) * value_pitch,
                    "first_mask": 0xFFFFFFFF << first % WORD_BITS & 0xFFFFFFFF,
                    "last_mask": 0xFFFFFFFF >> -last % WORD_BITS, "lane_mask": mask,
                    "value_bit": c0 % WORD_BITS, "parts": parts,
                    "weight_base": base_row + (parts - 1) * rows + WORD_BITS * (word - a),
                    "part_step": -rows if parts > 1 else 0, "weight_time_step": step}
                each = self.v.planes if self.v.ones else 1  # planes that weigh 1 come one by one
                for plane in range(each):
                    self.context.schedule.compute(self.number, Opcode.KTV, {
                        **fields, "value_planes": self.v.planes // each,
                        "value_base": value + plane * (y1 - y0) * value_pitch, **clear,
                    }, [("map", key_extent), ("map", value_extent), ("weight", weight)], [])
                    clear = {}

    def _query(self, tile: int, a: int, b: int, weight: tuple[int, int],
               block: Block, query: tuple[int, int], first: bool, last: bool) -> None:
        """The CONV of some rows of Q on the counts."""
        preset, context, words = self.preset, self.context, self.q.slice_words
        q0, q1 = query
        slice_, parts, rows = a // words, self.plan.parts, WORD_BITS * (b - a)
        base, extent = self._map("q", slice_, query)
        pitch, width = self.q.row_bytes // 4, self.q.width
        out_row = self._out_row(block) * preset.beat_words
        results = preset.beats_per_tile
        reads, writes = [("map", extent), ("weight", weight)], []
        flags = Flag.UNSIGNED_WEIGHTS
        planes, plane = self.q.planes, (q1 - q0) * pitch
        double = int(not self.q.ones and planes > 1)
        fields = {
            # for each byte of the counts, the planes of Q
            "time_steps": self.steps, "repeat": 1, "columns": block.columns, "rows": q1 - q0,
            "images": 1, "planes": parts * planes, "group_planes": planes, "plane_shift": double,
            "group_shift": 8 - double * (planes - 1), "map_base": base, "map_plane_step": plane,
            "map_group_step": -(planes - 1) * plane, "map_time_step": plane, "row_pitch": pitch,
            "row_words": width * words, "rows_words": (q1 - q0) * pitch,
            "x_start": block.x0 * words + a - slice_ * words,
            "x_step": words, "y_step": pitch, "string_words": b - a, "kernel_rows": 1,
            "chunk_words": b - a, "window_reads": ceil_div(b - a, preset.map_banks),
            "weight_base": weight[0] // context.weight_row, "weight_group_step": rows,
            "weight_time_step": rows,
            "psum_base": self._psum[0] + (q0 - block.y0) * block.columns * results,
            "psum_pixel_step": results, "psum_time_step": block.pixels * results}
        flags |= Flag(0) if first else Flag.PSUM_IN
        flags |= Flag(0) if last else Flag.PSUM_OUT
        if first or last:
            param = context.load_params(self.number, tile)
            start = param * context.param_tile // results
            reads.append(("param", (start, start + context.param_tile)))
            fields["param_base"] = param
        if last:
            flags |= context.fill_flag(self.layer, tile)
            more, flag = context.map_fields(
                self.layer, self.steps * block.rows * self._out_row(block))
            fields |= more
            flags |= flag
            banks = preset.out_banks if self.out.planes > 1 else 1
            region, channel = self.regions[0], tile * preset.lanes
            fields |= {
                "out_bit": channel % WORD_BITS,
                "word_base": (region * preset.beat_words // banks + (q0 - block.y0) * out_row
                              + channel // WORD_BITS % self.out.slice_words),
                "word_column_step": self.out.slice_words, "word_row_step": out_row,
                "word_time_step": block.rows * out_row}
            writes.append(self._extent(block))
        context.schedule.compute(self.number, Opcode.CONV, {**fields, "flags": flags}, reads,
                                 writes, self._psum)


def lower_attention(context: Context, number: int, tiling: AttentionPlan) -> None:
    """Emit an attention layer."""
    _Lowering(context, number, tiling).run()
