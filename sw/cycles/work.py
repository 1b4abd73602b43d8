# SPDX-License-Identifier: Apache-2.0
"""What one descriptor asks of each part of the compute unit, in cycles."""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

from hw.descriptor import Flag
from hw.presets import WORD_BITS, Preset

__all__ = ["Work", "conv_work", "count_additions", "count_reads", "count_work"]

SAME_ROW = 0.7
"""Cycles that an addition of the count matrix waits for one to the same row, on average."""
RECURRENCE = 5
"""Cycles from a partial sum to its next use; as hw.lif.plan."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Cycles of a CONV if nothing else held it up."""

    adding: float
    """Of all groups together, by the number of groups."""
    reading: float
    """Of the window reader."""
    results: float
    """Of the epilogue."""
    job: float
    """Of one group for a pixel and all its steps."""
    jobs: int
    """Pixels."""

    @property
    def longest(self) -> float:
        return max(self.adding, self.reading, self.results)


_WINDOW = ("paired", "rows", "columns", "kernel_rows", "string_words", "x_start", "x_step",
           "row_words", "y_start", "y_step", "row_pitch", "rows_words", "chunk_first",
           "chunk_words")


@functools.lru_cache(maxsize=4096)
def _window(banks: int, *values: int) -> tuple[int, int]:
    """(cycles of the reader, words inside the map) of one unit of all pixels."""
    d = dict(zip(_WINDOW, values, strict=True))
    x = d["x_start"] + d["x_step"] * np.arange(d["columns"])
    y = d["y_start"] + d["y_step"] * np.arange(d["rows"])
    low, high = np.maximum(-x, 0), np.minimum(d["string_words"], d["row_words"] - x)
    if not d["kernel_rows"]:
        return d["rows"] * d["columns"], 0
    cycles = words = 0
    if d["paired"]:  # one read for two pixels; a window is a word longer
        x, low = x[::2], low[::2]
        high = np.minimum(d["string_words"] + 1, d["row_words"] - x)
        words = _window(banks, 0, *values[1:])[1]
    for row in range(d["kernel_rows"]):
        place = y + row * d["row_pitch"]
        inside = int(((place >= 0) & (place < d["rows_words"])).sum())
        first = d["chunk_first"] + row * d["string_words"]
        length = (np.minimum(high, d["chunk_words"] - first + d["paired"])
                  - np.maximum(low, -first))
        length = np.maximum(length, 0)
        cycles += (inside * int(np.maximum(-(-length // banks), 1).sum())
                   + (d["rows"] - inside) * len(x))
        words += 0 if d["paired"] else inside * int(length.sum())
    return cycles, words


def _beat_cycles(preset: Preset, d: Mapping[str, int], flags: Flag) -> tuple[int, int]:
    """Epilogue cycles of a beat, and of a beat of a repeat; as hw.lif.plan.BeatPlan."""
    if flags & Flag.PSUM_OUT and not flags & Flag.RESIDUAL_SUM:
        return 1, 1
    planes = 0
    if flags & Flag.OUT_INTEGER:
        planes = d["integer_bits"]
    elif flags & Flag.OUT_LEVELS:
        planes = 1 << d["level_bits"] - 1 if flags & Flag.ONES else d["level_bits"]
    words = math.ceil(planes / preset.out_banks) + bool(flags & Flag.OUT_SPIKES)
    values = bool(flags & Flag.OUT_RESIDUAL) + 2 * bool(flags & Flag.OUT_RAW)
    least = RECURRENCE if flags & Flag.RESIDUAL_SUM else 1
    again = max(1, words, math.ceil(RECURRENCE / preset.beats_per_tile))
    return max(least, values + words), again


def _own_doublings(preset: Preset, d: Mapping[str, int], flags: Flag) -> int:
    """Tokens of a result that double its sum, and could not ride on additions."""
    if not preset.wide_luts:
        return 0
    planes, group = d["planes"], d["group_planes"] or d["planes"]
    if flags & Flag.SIGNED_DIGITS:
        return (planes // 2 - 1) * bool(d["plane_shift"])
    return sum(bool(d["plane_shift" if plane % group else "group_shift"])
               for plane in range(1, planes))


def conv_work(preset: Preset, d: Mapping[str, int], fill: float) -> Work:
    """Work of a CONV with fields `d` whose map has `fill` set bits in a word of a plane."""
    flags = Flag(d["flags"])
    reading, words = _window(preset.map_banks, int(bool(flags & Flag.PAIRED)),
                             *(d[name] for name in _WINDOW[1:]))
    pixels = d["rows"] * d["columns"] * d["images"]
    steps, planes = d["time_steps"], d["planes"]
    units = pixels * steps * planes
    reads, words = (value * d["images"] * steps * planes for value in (reading, words))
    if flags & Flag.DEPTHWISE:
        tokens = words * (1 - (1 - min(1.0, fill / WORD_BITS)) ** WORD_BITS)
    else:
        tokens = words * fill
    # a plane that ends a result, or is doubled, takes a token even if it has none
    marked = planes // 2 if flags & Flag.SIGNED_DIGITS else planes
    if d["kernel_rows"]:
        tokens += pixels * steps * marked * math.exp(-tokens / max(1, units))
        tokens += pixels * steps * _own_doublings(preset, d, flags)
    else:
        tokens = pixels * steps
    first, again = _beat_cycles(preset, d, flags)
    beats = first + (d["repeat"] - 1) * again
    return Work(tokens / preset.groups, reads, pixels * steps * preset.beats_per_tile * beats,
                tokens / max(1, pixels), pixels)


def count_reads(preset: Preset, d: Mapping[str, int]) -> int:
    """Map reads of a KTV for a token of a step."""
    return d["value_planes"] + d["key_planes"] * math.ceil(d["key_words"] / preset.map_banks)


def count_additions(d: Mapping[str, int], fill: float, value_fill: float) -> float:
    """Rows that a KTV adds to for a token of a step, carries not counted; fills as `count_work`."""
    density = min(1.0, fill / WORD_BITS)
    lanes = bin(d["lane_mask"]).count("1")
    if d["diagonal"]:
        return d["key_planes"] * min(1.0, lanes * density)
    first, last = (bin(d[name]).count("1") for name in ("first_mask", "last_mask"))
    bits = ((d["key_words"] - 2) * WORD_BITS + first + last if d["key_words"] > 1
            else bin(d["first_mask"] & d["last_mask"]).count("1"))
    valued = 1 - (1 - min(1.0, value_fill / WORD_BITS)) ** (lanes * d["value_planes"])
    return bits * density * d["key_planes"] * valued


def count_work(preset: Preset, d: Mapping[str, int], fill: float, value_fill: float) -> float:
    """Cycles of a KTV whose K and V have that many set bits in a word of a plane."""
    tokens = d["rows"] * d["columns"]
    reads, added = count_reads(preset, d), count_additions(d, fill, value_fill)
    return d["time_steps"] * (d["clear_rows"] + 24 + tokens * (max(reads, added)
                                                               + SAME_ROW * added))
