# SPDX-License-Identifier: Apache-2.0
"""Weights of a layer in memory, and their way into the weight buffer.

Weights are cut into *items*, one for each (tile, slice, chunk) in the order of use, and items are
packed into *groups* that the weight buffer takes at once. Rows of channels that do not exist are
left out in memory; every word of a window still takes its 32 rows in the buffer. A group is loaded
in pieces, so that its first CONV need not wait for the whole of it.
"""

import dataclasses

import numpy as np

from hw.descriptor import Target
from hw.presets import WORD_BITS
from sw.compile.context import Context
from sw.compile.errors import CompileError
from sw.compile.layout import ceil_div
from sw.compile.plan import ConvPlan, ConvShape

__all__ = ["WeightStore", "window_rows"]

PIECE_ROWS = 128
"""Rows that one piece of a group has at least."""
ACC_LIMIT = 1 << 23


@dataclasses.dataclass
class _Item:
    group: int
    place: int
    """First row in the group."""
    size: int
    runs: list[tuple[int, int, int]]
    """(row in memory, row in the group, rows)."""


def window_rows(shape: ConvShape, weight: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight rows int8 `[tile, slice, word, rows of a word, lanes]` and which rows exist
    `[slice, word, rows of a word]`."""
    tiles, taps = ceil_div(shape.out_channels, lanes), shape.kernel[0] * shape.kernel[1]
    padded = np.zeros((tiles * lanes, *weight.shape[1:]), np.int8)
    padded[:weight.shape[0]] = weight
    if shape.depthwise:
        rows = padded.reshape(tiles, lanes, taps).transpose(0, 2, 1)
        return rows[:, None, :, None, :], np.ones((1, taps, 1), bool)
    slices, words = shape.slices, shape.slice_words
    full = np.zeros((tiles * lanes, shape.words * WORD_BITS, taps), np.int8)
    full[:, :shape.in_channels] = padded.reshape(tiles * lanes, -1, taps)
    rows = full.reshape(tiles, lanes, slices, words, WORD_BITS, taps).transpose(0, 2, 5, 3, 4, 1)
    exists = (np.arange(shape.words * WORD_BITS) < shape.in_channels).reshape(
        slices, 1, words, WORD_BITS)
    exists = np.broadcast_to(exists, (slices, taps, words, WORD_BITS))
    return (rows.reshape(tiles, slices, taps * words, WORD_BITS, lanes),
            exists.reshape(slices, taps * words, WORD_BITS))


class WeightStore:
    """The weights of one layer under one plan."""

    def __init__(self, context: Context, number: int, shape: ConvShape, plan: ConvPlan,
                 weight: np.ndarray, magnitude: int) -> None:
        self._context, self._number = context, number
        preset, layer = context.preset, context.model.layers[number]
        rows, exists = window_rows(shape, weight, preset.lanes)
        half = preset.weight_rows // 2
        self._items: dict[tuple[int, int, int], _Item] = {}
        self._groups: list[list[_Item]] = []
        self._loaded: dict[int, int] = {}  # rows of each group that were loaded
        stored, at, place = [], 0, 0
        for first, last in plan.passes:
            self._groups.append([])
            place = 0
            for tile in range(first, last):
                for s in range(shape.slices):
                    for chunk, (a, b) in enumerate(plan.chunks):
                        data, there = rows[tile, s, a:b], exists[s, a:b]
                        bound = int(np.abs(data.astype(np.int64)).sum((0, 1)).max()) * magnitude
                        if bound >= ACC_LIMIT:
                            raise CompileError(
                                f"layer '{layer.name}': |acc| of chunk {chunk} may reach {bound}, "
                                f"must be below {ACC_LIMIT}")
                        size = (b - a) * shape.rows_per_word
                        if not plan.weights_stay and place + size > half:
                            self._groups.append([])
                            place = 0
                        runs = []
                        edges = np.flatnonzero(np.diff(np.r_[0, there.ravel(), 0]))
                        for low, high in edges.reshape(-1, 2).tolist():
                            runs.append((at, place + low, high - low))
                            at += high - low
                        item = _Item(len(self._groups) - 1, place, size, runs)
                        self._items[tile, s, chunk] = item
                        self._groups[-1].append(item)
                        stored.append(data[there])
                        place += size
        self.address = context.memory.constant(
            np.ascontiguousarray(np.concatenate(stored)).view(np.uint8).ravel())
        self.rows = at

    def load(self, tile: int, slice_: int, chunk: int) -> tuple[int, tuple[int, int]]:
        """(weight row of an item, its beats in the buffer); loads its group if need be."""
        item = self._items[tile, slice_, chunk]
        group = self._groups[item.group]
        beats = self._context.weight_row
        size = group[-1].place + group[-1].size
        ring = self._context.rings["weight"]
        start = ring.get((self._number, item.group), size * beats,
                         lambda _: self._loaded.pop(item.group, None))
        self._load_pieces(item, start)
        first = start + item.place * beats
        return first // beats, (first, first + item.size * beats)

    def _load_pieces(self, item: _Item, start: int) -> None:
        """Load the item's group from the first row that is not there yet to the item's last."""
        group, beats = self._groups[item.group], self._context.weight_row
        begin, end = self._loaded.get(item.group, 0), item.place + item.size
        if begin >= end:
            return
        runs: list[tuple[int, int, int]] = []
        for entry in group:
            if entry.place < begin:
                continue
            runs += entry.runs
            begin = entry.place + entry.size
            if begin >= end and sum(run[2] for run in runs) >= PIECE_ROWS:
                break
        self._loaded[item.group] = begin
        self._context.load_runs(self._number, Target.WEIGHT, self.address, start,
                                [tuple(beats * value for value in run) for run in runs])
