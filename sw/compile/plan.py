# SPDX-License-Identifier: Apache-2.0
"""Tiling of a convolution-like layer: block of pixels, chunks of the window, tiles of channels.

The loop nest is `pass -> group of images -> block -> tile -> slice -> chunk -> image -> CONV`. A
*block* is a rectangle of output pixels; a *chunk* a run of the flattened window (ky, kx, word) of
one input slice, its weights shared by the images of the *group*; a *pass* a range of tiles whose
weights stay on chip for all images and blocks (one pass of all tiles otherwise). `plan` tries every
sensible block, group and weight policy, keeps what fits the preset's buffers, and returns the one
with the fewest estimated cycles.
"""

import dataclasses
import functools
import itertools
import math

from hw.presets import WORD_BITS, Preset
from sw.compile.estimate import LATENCY, Cost, chunk_entries, conv_cost
from sw.compile.layout import ceil_div

__all__ = ["Block", "ConvPlan", "ConvShape", "NoPlan", "bank_rows", "pack", "plan",
           "split_window", "word_beats"]

GROUP_ROWS = 128
"""Weight rows that are loaded at once, at least; a transfer has a price of its own."""


class NoPlan(Exception):
    """Nothing fits; the text says which buffer stood in the way last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvShape:
    """What the planner needs to know of a layer (the image layer as a 1x1 layer of windows)."""

    depthwise: bool
    in_channels: int
    slice_words: int
    planes: int
    steps: int
    repeat: int
    kernel: tuple[int, int]
    stride: int
    padding: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    out_channels: int
    residual_steps: int
    """Time steps of the residual that is added; 0 without one."""
    writes_residual: bool
    raw: bool
    out_planes: int
    """Planes of the spike (1) or integer output; 0 without one."""
    out_slice_words: int
    out_signs: int
    """Output words of 32 channels in a plane: 2 for the digits of integers."""
    batch: int
    """Images of a run."""
    density: float
    """Share of ones in the input's planes."""
    in_signs: int = 1
    """Words of 32 input channels in a plane: 2 for the digits of integers, of which one is 0."""
    chunk_limit: int = 1 << 16
    """Words of a chunk that the accumulators allow."""

    @property
    def words(self) -> int:
        return ceil_div(self.in_channels, WORD_BITS)

    @property
    def slices(self) -> int:
        """Input slices of one result."""
        return 1 if self.depthwise else self.words // self.slice_words

    @property
    def string(self) -> int:
        """Words of a kernel row."""
        return self.kernel[1] * self.slice_words

    @property
    def window(self) -> int:
        """Words of the window in one slice."""
        return self.kernel[0] * self.string

    @property
    def rows_per_word(self) -> int:
        return 1 if self.depthwise else WORD_BITS

    def tiles_per_slice(self, preset: Preset) -> int:
        """Tiles that share a slice of the output map."""
        if not self.out_planes:
            return 1
        return self.out_slice_words // self.out_signs * WORD_BITS // preset.lanes

    @property
    def out_steps(self) -> int:
        return self.steps * self.repeat


@dataclasses.dataclass(frozen=True)
class Block:
    """Output pixels `y0 <= y < y1`, `x0 <= x < x1`."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def rows(self) -> int:
        return self.y1 - self.y0

    @property
    def columns(self) -> int:
        return self.x1 - self.x0

    @property
    def pixels(self) -> int:
        return self.rows * self.columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvPlan:
    """A tiling that fits."""

    rows: int
    columns: int
    group: int
    """Images that a loaded chunk of weights is used for."""
    chunks: tuple[tuple[int, int], ...]
    passes: tuple[tuple[int, int], ...]
    weights_stay: bool
    """The weights of a pass are loaded once and kept for all its blocks."""
    map_stays: bool
    """All input slices of a block are on chip at once."""
    word_regions: int
    word_beats: int
    """Of one image; a region holds those of a group."""
    value_regions: int
    value_beats: int
    cost: Cost

    def blocks(self, out_size: tuple[int, int]) -> list[Block]:
        """The blocks in row order."""
        height, width = out_size
        return [Block(y, min(y + self.rows, height), x, min(x + self.columns, width))
                for y in range(0, height, self.rows) for x in range(0, width, self.columns)]


@functools.cache
def split_window(window: int, string: int, banks: int, entries: int,
                 limit: int) -> list[tuple[tuple[int, int], ...]]:
    """Ways to cut a window into chunks of at most ``limit`` words and ``entries`` FIFO entries:
    at kernel rows, at reads, or equal."""
    ways: dict[tuple[tuple[int, int], ...], None] = {}
    least = ceil_div(window, limit)
    for count in range(least, min(least + 4, window) + 1):
        size = ceil_div(window, count)
        for width in (ceil_div(size, string) * string, ceil_div(size, banks) * banks, size):
            cuts = [(a, min(a + width, window)) for a in range(0, window, width)]
            if width <= limit and all(chunk_entries(a, b, string, banks) <= entries
                                      for a, b in cuts):
                ways[tuple(cuts)] = None
        if ways:
            return list(ways)
    cuts, first = [], 0
    while first < window:
        last = first + 1
        while (last < window and last < first + limit
               and chunk_entries(first, last + 1, string, banks) <= entries):
            last += 1
        cuts.append((first, last))
        first = last
    return [tuple(cuts)]


def pack(sizes: list[int]) -> list[list[int]]:
    """Numbers of the items that share a group of weight rows: such that it is not too short."""
    groups: list[list[int]] = []
    rows = GROUP_ROWS
    for number, size in enumerate(sizes):
        if rows >= GROUP_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(number)
        rows += size
    return groups


def bank_rows(groups: list[list[int]], sizes: list[int]) -> int:
    """Rows of a bank of the weight buffer that groups take at most, which change banks in turn."""
    rows = [ceil_div(sum(sizes[number] for number in group), WORD_BITS) * WORD_BITS
            for group in groups]
    return max(sum(rows[::2]), sum(rows[1::2]))


def _parts(size: int, unit: int) -> list[int]:
    """Sizes worth trying to cut ``size`` into equal parts, multiples of ``unit`` or all."""
    sizes = {size}
    for count in range(2, size + 1):
        part = ceil_div(ceil_div(size, count), unit) * unit
        if part < size:
            sizes.add(part)
    return sorted(sizes, reverse=True)


def map_beats(preset: Preset, shape: ConvShape, rows: int, columns: int,
              slices: int) -> int:
    """Bound of the map buffer beats that a block's input takes."""
    (height, width), (kh, kw) = shape.in_size, shape.kernel
    in_rows = min(height, (rows - 1) * shape.stride + kh)
    row_beats = ceil_div(width * shape.slice_words, preset.beat_words)
    if columns < shape.out_size[1]:
        words = ((columns - 1) * shape.stride + kw) * shape.slice_words
        row_beats = min(row_beats, ceil_div(words, preset.beat_words) + 1)
    return shape.steps * shape.planes * slices * in_rows * row_beats


def word_beats(preset: Preset, shape: ConvShape, rows: int, columns: int) -> tuple[int, int]:
    """(output buffer beats of one slice of a block, beats of one of its planes)."""
    row = ceil_div(columns * shape.out_slice_words, preset.beat_words)
    plane = shape.out_steps * rows * row
    if shape.out_planes > 1:  # planes take turns in the banks
        return ceil_div(shape.out_planes, preset.out_banks) * preset.out_banks * plane, plane
    return ceil_div(plane, preset.out_banks) * preset.out_banks, plane


def value_beats(preset: Preset, shape: ConvShape, pixels: int) -> int:
    """Output buffer beats of a tile's residual or raw values of a block."""
    bits = 16 if shape.writes_residual else 32 if shape.raw else 0
    beats = shape.steps * pixels * preset.lanes * bits // preset.axi_bits
    return ceil_div(beats, preset.out_banks) * preset.out_banks


@functools.cache
def plan(preset: Preset, shape: ConvShape) -> ConvPlan:
    """Return the cheapest tiling, or raise `NoPlan`."""
    unit = 1
    if shape.out_planes:
        unit = preset.beat_words // math.gcd(preset.beat_words, shape.out_slice_words)
    groups = [size for size in range(1, shape.batch + 1) if shape.batch % size == 0]
    # weights that stay serve all images anyway
    ways = [("whole", 1), ("stay", 1), ("passes", 1), *(("stream", group) for group in groups)]
    best, reason = None, NoPlan("no block of pixels fits")
    for rows in _parts(shape.out_size[0], 1):
        for columns in _parts(shape.out_size[1], unit):
            for (policy, group), cut in itertools.product(ways, range(3)):
                try:
                    found = _try(preset, shape, rows, columns, group, policy, cut)
                except NoPlan as error:
                    reason = reason if cut else error
                    continue
                if best is None or found.cost.cycles < best.cost.cycles:
                    best = found
    if best is None:
        raise reason
    return best


def _fits(sizes: list[int], rows: int) -> bool:
    """Whether items fit that many rows of each bank."""
    return sum(sizes) <= 2 * rows and bank_rows(pack(sizes), sizes) <= rows


def _try(preset: Preset, shape: ConvShape, rows: int, columns: int, group: int,
         policy: str, cut: int) -> ConvPlan:
    pixels, parts = rows * columns, preset.beats_per_tile
    tiles = ceil_div(shape.out_channels, preset.lanes)
    blocks = ceil_div(shape.out_size[0], rows) * ceil_div(shape.out_size[1], columns)
    tile_rows = shape.slices * shape.window * shape.rows_per_word
    half = preset.weight_rows // 2
    limit = shape.chunk_limit
    if policy != "whole":
        limit = min(limit, half // shape.rows_per_word)
    cuts = split_window(shape.window, shape.string, preset.map_banks, preset.fifo_depth // 2,
                        limit)
    if cut >= len(cuts):
        raise NoPlan("there are fewer ways to cut the window")
    chunks = cuts[cut]
    sizes = [(b - a) * shape.rows_per_word for a, b in chunks] * shape.slices
    passes = ((0, tiles),)
    if policy == "whole" and (tiles * len(sizes) > 1 or not half < sizes[0] <= 2 * half):
        raise NoPlan("weights are not one item of more than a bank")
    if policy == "stay" and not _fits(sizes * tiles, half):
        raise NoPlan("weights do not stay")
    if policy == "passes":
        per_slice = shape.tiles_per_slice(preset)
        size = half // tile_rows // per_slice * per_slice
        while size and not _fits(sizes * size, half // 2):
            size -= per_slice
        if not size or size >= tiles or blocks * shape.batch == 1 or shape.depthwise:
            raise NoPlan("passes do not help")
        passes = tuple((a, min(a + size, tiles)) for a in range(0, tiles, size))
    results = shape.steps * pixels * group
    if len(chunks) * shape.slices > 1 and results * parts > preset.psum_rows:
        raise NoPlan(f"a block of {rows} x {columns} pixels needs {results * parts} of "
                     f"{preset.psum_rows} partial sum rows")
    if pixels > 65535:
        raise NoPlan("too many pixels")
    capacity = preset.map_words // preset.beat_words
    item = group * map_beats(preset, shape, rows, columns, shape.slices)
    items = blocks * shape.batch // group
    items *= ceil_div(tiles * preset.lanes, WORD_BITS) if shape.depthwise else 1
    map_stays = item <= capacity
    crowded = items > 1 and item > capacity // 2    # the next maps wait for these
    if not map_stays:
        crowded = False
        item = group * map_beats(preset, shape, rows, columns, 1)
        if item > capacity // 2:
            raise NoPlan(f"a block of {rows} x {columns} pixels needs {item} of "
                         f"{capacity // 2} map buffer beats")
    residual = min(shape.residual_steps, shape.steps) * pixels * parts
    several = blocks * tiles * shape.batch > 1
    if residual > preset.residual_rows:
        raise NoPlan(f"a block of {rows} x {columns} pixels needs {residual} of "
                     f"{preset.residual_rows} residual rows")
    words = word_beats(preset, shape, rows, columns)[0] if shape.out_planes else 0
    values = value_beats(preset, shape, pixels)
    for regions in (2, 1):
        if regions * group * (words + values) <= preset.out_beats:
            break
    else:
        raise NoPlan(f"a block of {rows} x {columns} pixels needs {group * (words + values)} of "
                     f"{preset.out_beats} output beats")
    overlap = not several or (regions == 2 and 2 * residual <= preset.residual_rows)
    cost = conv_cost(preset, shape, batch=shape.batch, group=group, pixels=pixels, blocks=blocks,
                     tiles=tiles, passes=len(passes), chunks=chunks, map_beats=item // group,
                     map_stays=map_stays,
                     weights_stay=policy != "stream", tile_rows=tile_rows, overlap=overlap)
    if crowded:
        cost = dataclasses.replace(cost, cycles=cost.cycles + items * (item + LATENCY))
    return ConvPlan(rows=rows, columns=columns, group=group, chunks=chunks, passes=passes,
                    weights_stay=policy != "stream", map_stays=map_stays, word_regions=regions,
                    word_beats=words, value_regions=regions, value_beats=values, cost=cost)
