# SPDX-License-Identifier: Apache-2.0
"""Weights of a layer in memory, and their way into the weight buffer.

Weights are cut into *items*, one for each (tile, slice, chunk) in the order of use, and short items
are packed into *groups*, which are loaded at once and take turns between the banks of the weight
buffer. Rows of channels that do not exist are left out in memory; every word of a window still
takes its 32 rows in the buffer.
"""

import dataclasses

import numpy as np

from hw.descriptor import Target
from hw.presets import WORD_BITS
from sw.compile.context import Context
from sw.compile.errors import CompileError
from sw.compile.layout import ceil_div
from sw.compile.plan import ConvPlan, ConvShape, bank_rows, pack

__all__ = ["WeightStore", "window_rows"]

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


def _most(rows: np.ndarray, first: int, signs: int) -> int:
    """Largest sum of |weights| of one lane: of words `[word, row, lane]` from word ``first`` on,
    of which each ``signs`` have digits of the same channels, only one of them not 0."""
    size = np.abs(rows.astype(np.int64))
    before = first % signs
    behind = -(before + len(rows)) % signs
    size = np.pad(size, [(before, behind), (0, 0), (0, 0)])
    return int(size.reshape(-1, signs, *size.shape[1:]).max(1).sum((0, 1)).max())


class WeightStore:
    """The weights of one layer under one plan."""

    def __init__(self, context: Context, number: int, shape: ConvShape, plan: ConvPlan,
                 weight: np.ndarray, magnitude: int) -> None:
        self._context, self._number = context, number
        preset, layer = context.preset, context.model.layers[number]
        rows, exists = window_rows(shape, weight, preset.lanes)
        self._items: dict[tuple[int, int, int], _Item] = {}
        self._groups: list[list[_Item]] = []
        self._openers: dict[int, int] = {}  # rows of a bank that the pass begun by a group takes
        stored, at = [], 0
        for first, last in plan.passes:
            keys = [(tile, s, chunk) for tile in range(first, last)
                    for s in range(shape.slices) for chunk in range(len(plan.chunks))]
            sizes = [(b - a) * shape.rows_per_word
                     for a, b in (plan.chunks[chunk] for _, _, chunk in keys)]
            packed = pack(sizes)
            if plan.weights_stay:
                self._openers[len(self._groups)] = bank_rows(packed, sizes)
            for members in packed:
                group, place = [], 0
                for index in members:
                    tile, s, chunk = keys[index]
                    a, b = plan.chunks[chunk]
                    data, there = rows[tile, s, a:b], exists[s, a:b]
                    bound = _most(data, a, shape.in_signs) * magnitude
                    if bound >= ACC_LIMIT:
                        raise CompileError(
                            f"layer '{layer.name}': |acc| of chunk {chunk} may reach {bound}, "
                            f"must be below {ACC_LIMIT}")
                    runs = []
                    edges = np.flatnonzero(np.diff(np.r_[0, there.ravel(), 0]))
                    for low, high in edges.reshape(-1, 2).tolist():
                        runs.append((at, place + low, high - low))
                        at += high - low
                    item = _Item(len(self._groups), place, sizes[index], runs)
                    self._items[keys[index]] = item
                    group.append(item)
                    stored.append(data[there])
                    place += sizes[index]
                self._groups.append(group)
        self.address = context.memory.constant(
            np.ascontiguousarray(np.concatenate(stored)).view(np.uint8).ravel())
        self.rows = at

    def load(self, tile: int, slice_: int, chunk: int) -> tuple[int, tuple[int, int]]:
        """(weight row of an item, its beats in the buffer); loads its group if need be."""
        item = self._items[tile, slice_, chunk]
        group = self._groups[item.group]
        beats = self._context.weight_row
        ring = self._context.rings["weight"]

        def fill(start: int) -> None:
            runs = [tuple(beats * value for value in run) for entry in group for run in entry.runs]
            self._context.load_runs(self._number, Target.WEIGHT, self.address, start, runs)

        key = self._number, item.group
        if item.group in self._openers and key not in ring.items:
            ring.make_room(self._openers[item.group] * beats)
        start = ring.get(key, (group[-1].place + group[-1].size) * beats, fill)
        first = start + item.place * beats
        return first // beats, (first, first + item.size * beats)
