# SPDX-License-Identifier: Apache-2.0
"""What the lowerings of all layers share: memory, buffers, and helpers to emit transfers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np
import torch

from hw.descriptor import Flag, Target
from hw.presets import PARAM_BITS, WORD_BITS, Preset
from sw.compile.errors import CompileError
from sw.compile.layout import Layout, MapLayout, ResidualLayout, ceil_div
from sw.compile.schedule import Range, Schedule
from sw.model_file import MAX_INTEGER_BITS, IntegerModel, Layer, Tensor

__all__ = ["Banks", "Context", "Memory", "Ring", "compress", "tile_params"]

THRESHOLD_NEVER = (1 << 27) - 1


class Memory:
    """Hands out addresses and keeps the constants that go there."""

    def __init__(self, base: int, beat: int) -> None:
        self.base, self.beat, self.end = base, beat, base
        self.segments: list[tuple[int, np.ndarray]] = []

    def reserve(self, size: int) -> int:
        """Address of ``size`` bytes, on a beat."""
        address = self.end
        self.end += ceil_div(size, self.beat) * self.beat
        if self.end > 1 << 32:
            raise CompileError("the program needs more than 4 GiB of memory")
        return address

    def constant(self, data: np.ndarray) -> int:
        """Address of a copy of ``data`` (uint8)."""
        address = self.reserve(data.size)
        self.segments.append((address, data))
        return address


class Ring:
    """Places items one behind the other in a buffer, and forgets those that are overwritten."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: dict[Hashable, tuple[int, int]] = {}
        self._next = 0

    def _place(self, size: int) -> int:
        start = self._next if self._next + size <= self.size else 0
        self._next = start + size
        return start

    def get(self, key: Hashable, size: int, fill: Callable[[int], None]) -> int:
        """Start of the item ``key``; calls ``fill(start)`` if it is not (or no longer) there."""
        if key in self.items:
            return self.items[key][0]
        if size > self.size:
            raise CompileError(f"an item of {size} does not fit a buffer of {self.size}")
        start = self._place(size)
        for other, (first, end) in list(self.items.items()):
            if first < start + size and start < end:
                del self.items[other]
        self.items[key] = (start, start + size)
        fill(start)
        return start


class Banks(Ring):
    """The weight buffer: two rings, a bank each, that items take in turn, so that one is written
    while the one before it is read. Items start at multiples of `unit`; one larger than a bank
    starts at 0."""

    def __init__(self, size: int, unit: int) -> None:
        super().__init__(size)
        self._unit = unit
        self._bank = 0
        self._places = [0, 0]

    def _place(self, size: int) -> int:
        half = self.size // 2
        if size > half:
            self._places = [half, self._rounded(size - half)]
            return 0
        self._bank = 1 - self._bank
        start = self._places[self._bank]
        start = start if start + size <= half else 0
        self._places[self._bank] = start + self._rounded(size)
        return self._bank * half + start

    def _rounded(self, size: int) -> int:
        return ceil_div(size, self._unit) * self._unit

    def make_room(self, size: int) -> None:
        """What comes next takes up to `size` of each bank and is to lie there at once."""
        self._places = [place if place + size <= self.size // 2 else 0 for place in self._places]


def compress(runs: list[tuple[int, int, int]]) -> list[tuple[int, ...]]:
    """Runs `(source, place, length)` as nested loops.

    Returns `(source, place, length, count_1, source_step_1, place_step_1, count_2, source_step_2,
    place_step_2)`; runs that follow on in both are joined first.
    """
    joined: list[list[int]] = []
    for source, place, length in runs:
        last = joined[-1] if joined else None
        if last and last[0] + last[2] == source and last[1] + last[2] == place:
            last[2] += length
        else:
            joined.append([source, place, length])
    rows = [(s, p, (n,)) for s, p, n in joined]
    for _ in range(2):
        folded, at = [], 0
        while at < len(rows):
            s, p, shape = rows[at]
            count, ds, dp = 1, 0, 0
            if at + 1 < len(rows) and rows[at + 1][2] == shape:
                ds, dp = rows[at + 1][0] - s, rows[at + 1][1] - p
                while (at + count < len(rows) and rows[at + count]
                       == (s + count * ds, p + count * dp, shape)):
                    count += 1
                if ds < 0 or dp < 0:
                    count, ds, dp = 1, 0, 0
            folded.append((s, p, (*shape, count, ds, dp)))
            at += count
        rows = folded
    return [(s, p, *shape) for s, p, shape in rows]


def tile_params(preset: Preset, layer: Layer) -> np.ndarray:
    """Parameters of all tiles: uint64 `[tiles * lanes, 2]`."""
    total = ceil_div(layer.out_channels, preset.lanes) * preset.lanes

    def values(array: torch.Tensor | None, default: int) -> np.ndarray:
        full = np.full(total, default, np.int64)
        full[:layer.out_channels] = 0 if array is None else array.numpy()
        return full

    bias, shift = values(layer.bias, 0), values(layer.shift, 0)
    if layer.integer_bits is not None:  # the hardware takes the upper digits
        shift -= MAX_INTEGER_BITS - layer.integer_bits
    threshold = values(layer.threshold if layer.neuron else None, THRESHOLD_NEVER)
    if layer.kind == "mask":
        threshold[:layer.out_channels] = 2  # both must fire
    words = np.empty((total, PARAM_BITS // 64), "<u8")
    words[:, 0] = (bias & (1 << 28) - 1) | (threshold & (1 << 28) - 1) << 28 | (shift & 63) << 56
    words[:, 1] = values(layer.step, 1)
    return words


@dataclasses.dataclass
class Context:
    """State of one compilation."""

    model: IntegerModel
    preset: Preset
    memory: Memory
    images: list[dict[str, Layout]]
    """The layouts of each image's tensors, by name."""
    schedule: Schedule
    rings: dict[str, Ring]
    """By buffer; that of the weights has `Banks`."""
    params: dict[int, int] = dataclasses.field(default_factory=dict)
    """Addresses of the layers' parameters."""
    constants: dict[tuple[str, ...], int] = dataclasses.field(default_factory=dict)
    """Addresses of constants that layers share."""
    ones: bool = False
    """Levels are that many binary spikes, one in each of D planes (virtual time steps)."""
    image: int = 0
    """Of the batch: the one that is worked on."""
    _psum_turn: bool = False

    @classmethod
    def create(cls, model: IntegerModel, preset: Preset, base: int, ones: bool,
               batch: int) -> Context:
        """A fresh one."""
        schedule = Schedule(preset, [layer.name for layer in model.layers])
        rings = {name: Ring(size) for name, size in schedule.sizes.items() if name != "out"}
        row = preset.weight_row_bits // preset.axi_bits
        rings["weight"] = Banks(schedule.sizes["weight"], WORD_BITS * row)
        return cls(model, preset, Memory(base, preset.beat_bytes), [{} for _ in range(batch)],
                   schedule, rings, ones=ones)

    @property
    def batch(self) -> int:
        """Images of a run."""
        return len(self.images)

    @property
    def layouts(self) -> dict[str, Layout]:
        """Layouts of the tensors of the image that is worked on."""
        return self.images[self.image]

    def turn_to(self, number: int, image: int) -> None:
        """Work on another image: what a layer computed for the last one is forgotten."""
        self.image = image
        for name in ("weight", "residual"):
            items = self.rings[name].items
            for key in [key for key in items if key[0] == number]:
                del items[key]

    def planes(self, tensor: Tensor) -> int:
        """Planes of a map in memory."""
        if tensor.kind == "levels":
            return tensor.levels if self.ones else tensor.levels.bit_length()
        if tensor.kind == "image":
            return 2 * tensor.bits
        return tensor.bits if tensor.kind == "integer" else 1

    def signs(self, tensor: Tensor) -> int:
        """Words of 32 channels in a plane of a map: the digits +1 and -1 of integers, or one."""
        return 2 if tensor.kind == "integer" else 1

    def map_fields(self, layer: Layer, plane_rows: int) -> tuple[dict[str, int], Flag]:
        """Fields and flags of a CONV that writes a layer's map, planes ``plane_rows`` apart."""
        role, _ = layer.map_output
        if role == "spikes":
            return {}, Flag.OUT_SPIKES
        if role == "integer":
            return {"integer_bits": layer.integer_bits, "plane_rows": plane_rows}, Flag.OUT_INTEGER
        return ({"level_bits": layer.levels.bit_length(), "ties_even": int(layer.ties_even),
                 "plane_rows": plane_rows},
                Flag.OUT_LEVELS | (Flag.ONES if self.ones else Flag(0)))

    def out_planes(self, layer: Layer) -> int:
        """Planes of the map that a layer writes; 0 without one."""
        found = layer.map_output
        return self.planes(self.model.tensors[found[1]]) if found else 0

    def out_signs(self, layer: Layer) -> int:
        """Words of 32 channels in a plane of the map that a layer writes."""
        found = layer.map_output
        return self.signs(self.model.tensors[found[1]]) if found else 1

    # Sizes in beats ---------------------------------------------------------------------------

    @property
    def weight_row(self) -> int:
        """Beats of a weight row."""
        return self.preset.weight_row_bits // self.preset.axi_bits

    @property
    def param_tile(self) -> int:
        """Beats of a tile's parameters."""
        return PARAM_BITS * self.preset.lanes // self.preset.axi_bits

    @property
    def value_pixel(self) -> int:
        """Beats of a pixel's residual words."""
        return 16 * self.preset.lanes // self.preset.axi_bits

    # Transfers --------------------------------------------------------------------------------

    def load_runs(self, layer: int, target: Target, address: int, start: int,
                  runs: list[tuple[int, int, int]], source: tuple | None = None) -> None:
        """LOADs for runs of beats `(source beat from address, buffer beat from start, beats)`."""
        beat = self.preset.beat_bytes
        for (s, p, length, count_1, s1, p1, count_2, s2, p2) in compress(runs):
            end = p + (count_2 - 1) * p2 + (count_1 - 1) * p1 + length
            self.schedule.load(layer, target, {
                "address": address + s * beat, "buffer": start + p, "length": length,
                "count_1": count_1, "step_1": s1 * beat, "buffer_step_1": p1,
                "count_2": count_2, "step_2": s2 * beat, "buffer_step_2": p2,
            }, (start + p, start + end), source)

    def psum_region(self, rows: int) -> Range:
        """Partial sum rows for a block of results: not those of the block before, if both fit."""
        half = self.preset.psum_rows // 2
        self._psum_turn = not self._psum_turn and rows <= half
        base = half if self._psum_turn else 0
        return base, base + rows

    def fill_flag(self, layer: Layer, tile: int) -> Flag:
        """FILL for the last tile of a map, if its word has channels beyond it."""
        last = (tile + 1) * self.preset.lanes
        return Flag.FILL if last >= layer.out_channels and last % WORD_BITS else Flag(0)

    def load_params(self, number: int, tile: int) -> int:
        """Parameter row of a tile; tiles are loaded in groups of half the buffer."""
        ring, layer = self.rings["param"], self.model.layers[number]
        tiles = ceil_div(layer.out_channels, self.preset.lanes)
        size = max(1, ring.size // 2 // self.param_tile)
        first = tile // size * size
        count = min(size, tiles - first)
        if number not in self.params:
            self.params[number] = self.memory.constant(
                tile_params(self.preset, layer).ravel().view(np.uint8))
        address = self.params[number]

        def fill(start: int) -> None:
            self.load_runs(number, Target.PARAM, address, start,
                           [(first * self.param_tile, 0, count * self.param_tile)])

        start = ring.get((number, first), count * self.param_tile, fill)
        beats = start + (tile - first) * self.param_tile
        return beats * self.preset.beats_per_tile // self.param_tile

    def together(self, number: int, keys: list[Hashable]) -> None:
        """Before maps are loaded that are used together: unless all are in the map buffer, all are
        loaded anew, one behind the other, or the last could take the place of the first."""
        items = self.rings["map"].items
        if not all((number, self.image, key) in items for key in keys):
            for key in keys:
                items.pop((number, self.image, key), None)

    def load_map(self, number: int, layout: MapLayout, key: Hashable, rows: tuple[int, int],
                 beats: tuple[int, int], slices: tuple[int, int]) -> int:
        """First word of a part of a map in the map buffer: `[step, plane][slice][row][pitch]`.

        ``rows``, ``beats`` of a row and ``slices`` are ranges in the tensor.
        """
        beat = self.preset.beat_bytes
        (y0, y1), (b0, b1), (s0, s1) = rows, beats, slices
        pitch, row = b1 - b0, layout.row_bytes // beat
        size = layout.steps * layout.planes * (s1 - s0) * (y1 - y0) * pitch
        plane = layout.plane_bytes // beat
        item = (y1 - y0) * pitch

        def fill(start: int) -> None:
            whole = pitch == row
            for s in range(s0, s1) if not whole else (s0,):
                offset = s * layout.slice_bytes // beat + y0 * row + b0
                planes = layout.steps * layout.planes
                if whole:
                    loop = (item, s1 - s0, layout.slice_bytes, item)
                else:
                    loop = (pitch, y1 - y0, layout.row_bytes, pitch)
                length, count_1, step_1, place_1 = loop
                place = start + (s - s0) * item
                fields = {"address": layout.address + offset * beat, "buffer": place,
                          "length": length, "count_1": count_1, "step_1": step_1,
                          "buffer_step_1": place_1, "count_2": planes, "step_2": plane * beat,
                          "buffer_step_2": (s1 - s0) * item}
                self.schedule.load(number, Target.MAP, fields, (start, start + size),
                                   (layout.name, slices, rows))

        start = self.rings["map"].get((number, self.image, key), size, fill)
        return start * self.preset.beat_words

    def load_residual(self, number: int, layout: ResidualLayout, key: Hashable, tile: int,
                      rows: tuple[int, int], columns: tuple[int, int]) -> int:
        """First row of a tile's block in the residual buffer: `[step][y][x]`."""
        (y0, y1), (x0, x1) = rows, columns
        pixel, width = self.value_pixel, layout.shape[3]
        pixels = (y1 - y0) * (x1 - x0)
        size = layout.shape[0] * pixels * pixel
        address = layout.address + tile * layout.tile_bytes

        def fill(start: int) -> None:
            runs = [((t * layout.shape[2] + y) * width * pixel + x0 * pixel,
                     (t * pixels + (y - y0) * (x1 - x0)) * pixel, (x1 - x0) * pixel)
                    for t in range(layout.shape[0]) for y in range(y0, y1)]
            self.load_runs(number, Target.RESIDUAL, address, start, runs,
                           (layout.name, (tile, tile + 1), rows))

        start = self.rings["residual"].get((number, self.image, key), size, fill)
        return start * self.preset.beats_per_tile // pixel

    def store_map(self, number: int, layout: MapLayout, base: int, slice_: int,
                  rows: tuple[int, int], columns: tuple[int, int], extent: Range) -> None:
        """STOREs of one slice of a block.

        In the output buffer from beat ``base`` on: spikes `[step][row][pitch]`, digit planes
        `[group of out_banks planes][step][row][pitch][plane of the group]`.
        """
        (y0, y1), (x0, x1) = rows, columns
        banks = self.preset.out_banks if layout.planes > 1 else 1
        pitch = ceil_div((x1 - x0) * layout.slice_words, self.preset.beat_words)
        row = layout.row_bytes // self.preset.beat_bytes
        whole = pitch == row
        first = (layout.address + slice_ * layout.slice_bytes + y0 * layout.row_bytes
                 + x0 * layout.slice_words * 4)
        cells = layout.steps * (y1 - y0) * pitch
        for plane in range(0, layout.planes, banks):
            loops = [(min(banks, layout.planes - plane), layout.plane_bytes, 1),
                     (layout.steps, layout.planes * layout.plane_bytes, (y1 - y0) * pitch * banks)]
            if not whole:
                loops.insert(0, (y1 - y0, layout.row_bytes, pitch * banks))
            self._store_loops(
                number, first + plane * layout.plane_bytes, base + plane * cells,
                (y1 - y0) * pitch if whole else pitch, banks,
                [loop for loop in loops if loop[0] > 1], extent, (layout.name, slice_, rows))

    def _store_loops(self, number: int, address: int, buffer: int, length: int, beat_step: int,
                     loops: list[tuple[int, int, int]], extent: Range,
                     target: tuple[str, int, tuple[int, int]]) -> None:
        """STOREs of nested loops (count, bytes in memory, beats in the buffer), innermost first."""
        if len(loops) > 2:
            count, step, place = loops[-1]
            for n in range(count):
                self._store_loops(number, address + n * step, buffer + n * place, length,
                                  beat_step, loops[:-1], extent, target)
            return
        (count_1, step_1, place_1), (count_2, step_2, place_2) = (
            *loops, *[(1, 0, 0)] * (2 - len(loops)))
        name, unit, rows = target
        self.schedule.store(number, {
            "address": address, "buffer": buffer, "length": length, "count_1": count_1,
            "step_1": step_1, "buffer_step_1": place_1, "count_2": count_2, "step_2": step_2,
            "buffer_step_2": place_2, "beat_step": beat_step,
        }, extent, name, (unit, unit + 1), rows)

    def store_values(self, number: int, layout: ResidualLayout, base: int, tile: int,
                     rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """STOREs of a tile's residual block: in the output buffer `[step][y][x]`."""
        (y0, y1), (x0, x1) = rows, columns
        pixel, width, beat = self.value_pixel, layout.shape[3], self.preset.beat_bytes
        pixels, steps = (y1 - y0) * (x1 - x0), layout.shape[0]
        runs = [(base + (t * pixels + (y - y0) * (x1 - x0)) * pixel,
                 ((t * layout.shape[2] + y) * width + x0) * pixel, (x1 - x0) * pixel)
                for t in range(steps) for y in range(y0, y1)]
        extent = (base, base + steps * pixels * pixel)
        for (s, p, length, count_1, s1, p1, count_2, s2, p2) in compress(runs):
            self.schedule.store(number, {
                "address": layout.address + tile * layout.tile_bytes + p * beat, "buffer": s,
                "length": length, "count_1": count_1, "step_1": p1 * beat, "buffer_step_1": s1,
                "count_2": count_2, "step_2": p2 * beat, "buffer_step_2": s2,
            }, extent, layout.name, (tile, tile + 1), rows)
