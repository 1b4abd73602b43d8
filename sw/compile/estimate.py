# SPDX-License-Identifier: Apache-2.0
"""Cycle estimates from shapes and spike densities.

A CONV takes as long as its slowest part: additions over the groups, window reads (one a cycle
for all groups), or epilogue beats; plus a fixed change-over. Transfers overlap with it.
"""

import dataclasses
from typing import TYPE_CHECKING

from hw.presets import PARAM_BITS, WORD_BITS, Preset
from sw.compile.layout import ceil_div
from sw.model_file import IntegerModel, Tensor

if TYPE_CHECKING:
    from sw.compile.plan import ConvShape

__all__ = ["CHANGE_OVER", "Cost", "DEFAULT_DENSITY", "INTEGER_DENSITY", "LATENCY",
           "chunk_entries", "combine", "conv_cost", "usual_density"]

CHANGE_OVER = 24
"""Cycles from the last addition of a CONV to the first of the next."""
TRANSFER = 12
"""Cycles that a transfer costs beside its beats."""
LATENCY = 100
"""Cycles from a request to the memory's answer."""
DEFAULT_DENSITY = 0.2
INTEGER_DENSITY = 0.15
"""Share of ones in signed-digit planes: one digit in three, over two planes, less small values."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Estimated cycles of a layer and where they come from."""

    cycles: int
    compute: int
    """Cycles of the compute unit alone."""
    additions: int
    """Weight rows added (each ``lanes`` additions)."""
    read: int
    """Bytes read."""
    written: int
    """Bytes written."""

    def times(self, images: int) -> "Cost":
        """Of that many images, one behind the other."""
        return Cost(*(images * value for value in dataclasses.astuple(self)))


def usual_density(model: IntegerModel, tensor: Tensor, planes: int, ones: bool) -> float:
    """Share of ones in a map of so many planes: as the model file says, else a usual one.

    The file speaks of binary planes, not of levels as `ones` (that many spikes).
    """
    if tensor.name in model.activity and not (tensor.kind == "levels" and ones):
        return model.activity[tensor.name] / planes
    return DEFAULT_DENSITY if tensor.kind in ("spikes", "levels") else INTEGER_DENSITY


def chunk_entries(first: int, last: int, string: int, banks: int) -> int:
    """FIFO entries of window words ``first`` to ``last - 1``."""
    total = 0
    while first < last:
        end = min(last, (first // string + 1) * string)
        total += ceil_div(end - first, banks)
        first = end
    return total


def combine(preset: Preset, compute: float, additions: float, read: int, written: int,
            transfers: int, overlap: bool = True) -> Cost:
    """Overlap compute with transfers."""
    transfer = (read + written) / preset.beat_bytes + TRANSFER * transfers
    slow, fast = max(compute, transfer), min(compute, transfer)
    cycles = slow + (0.05 if overlap else 0.7) * fast
    return Cost(round(cycles), round(compute), round(additions), read, written)


def _beat_cycles(preset: Preset, shape: "ConvShape") -> int:
    """Epilogue cycles of a beat, its repeats included; as hw.lif.plan.BeatPlan."""
    values = shape.writes_residual + 2 * shape.raw
    planes = ceil_div(shape.out_planes, preset.out_banks)
    return max(1, values + planes) + (shape.repeat - 1) * max(1, planes)


def conv_cost(preset: Preset, shape: "ConvShape", *, batch: int, group: int, pixels: int,
              blocks: int, tiles: int, passes: int, chunks: tuple[tuple[int, int], ...],
              map_beats: int, map_stays: bool, weights_stay: bool, tile_rows: int,
              overlap: bool) -> Cost:
    """Cost of a tiling for all images of a batch; the arguments are those of a `ConvPlan`."""
    (height, width), parts = shape.out_size, preset.beats_per_tile
    results = height * width * shape.steps
    units = results * shape.planes
    compute = additions = 0.0
    works = []
    for number, (first, last) in enumerate(chunks):
        share = (last - first) / shape.window
        if shape.depthwise:
            added = units * (last - first) * (1 - (1 - shape.density) ** preset.lanes)
        else:
            taps = shape.kernel[0] * shape.kernel[1]
            added = units * shape.density * share * taps * shape.in_channels / shape.slices
        reads = units * chunk_entries(first, last, shape.string, preset.map_banks)
        last_chunk = number == len(chunks) - 1
        beats = results * parts * (_beat_cycles(preset, shape) if last_chunk else 1)
        works.append(max(added / preset.groups, reads, beats) + blocks * CHANGE_OVER)
        additions += added
    compute = sum(works)
    compute, additions = (value * shape.slices * tiles * batch for value in (compute, additions))
    beat = preset.beat_bytes
    map_loads = blocks * passes * batch
    if shape.depthwise:
        map_loads *= ceil_div(tiles * preset.lanes, WORD_BITS)
    elif not map_stays:
        map_loads *= tiles * shape.slices
    weights = tiles * tile_rows * preset.lanes * (
        1 if weights_stay else blocks * batch // group)
    residual_pixel = 2 * preset.lanes * height * width * tiles * batch
    read = (map_loads * map_beats * beat + weights + tiles * preset.lanes * PARAM_BITS // 8
            + min(shape.residual_steps, shape.steps) * residual_pixel)
    written = (shape.out_steps * shape.out_planes * height * width * 4 * batch
               * ceil_div(shape.out_channels, WORD_BITS) * shape.out_signs)
    if shape.writes_residual:
        written += shape.steps * residual_pixel
    transfers = map_loads + blocks * batch * max(tiles, shape.out_planes)
    if not weights_stay:  # a chunk is loaded while the one before it is used
        rows = [(b - a) * shape.rows_per_word for a, b in chunks]
        pairs = zip(works, [*rows[1:], rows[0]], strict=True)
        # what else the memory gives and takes meanwhile
        other = (read + written - weights) / beat / (tiles * shape.slices * len(chunks))
        compute = max(compute, sum(max(work * batch, other + (row * preset.lanes / beat + TRANSFER)
                                       * blocks * batch / group) for work, row in pairs)
                      * shape.slices * tiles)
    cost = combine(preset, compute, additions, read, written, transfers, overlap)
    # the first block's input and the last block's output overlap with nothing of this layer
    exposed = map_beats + written // (blocks * batch * beat) + 2 * LATENCY
    return dataclasses.replace(cost, cycles=cost.cycles + exposed)
