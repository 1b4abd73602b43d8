# SPDX-License-Identifier: Apache-2.0
"""Lowering of the pool: residual words of all pixels added into one partial sum, then the
neuron.

CONVs with no kernel rows: the first pixel starts the partial sum, the middle ones add to it, and
the last one runs the epilogue.
"""

import functools

from hw.descriptor import Flag, Opcode, Target
from hw.presets import WORD_BITS
from sw.compile.context import Context
from sw.compile.errors import CompileError
from sw.compile.estimate import CHANGE_OVER, Cost, combine
from sw.compile.layout import MapLayout, ResidualLayout, ceil_div
from sw.model_file import SUM_LIMIT, Layer

__all__ = ["lower_pool", "pool_cost"]


def pool_cost(context: Context, layer: Layer, steps: int) -> Cost:
    """Estimated cost."""
    preset = context.preset
    tiles = ceil_div(layer.out_channels, preset.lanes)
    results = steps * layer.in_positions * tiles
    return combine(preset, results * preset.beats_per_tile + 3 * tiles * CHANGE_OVER, 0,
                   results * 2 * preset.lanes, 4 * steps * context.out_planes(layer)
                   * ceil_div(layer.out_channels, WORD_BITS)
                   * context.out_signs(layer),
                   tiles)


def lower_pool(context: Context, number: int) -> None:
    """Emit a pool layer."""
    preset, layer = context.preset, context.model.layers[number]
    source: ResidualLayout = context.layouts[layer.inputs[0]]
    out: MapLayout = context.layouts[layer.map_output[1]]
    steps, pixels, parts = source.shape[0], layer.in_positions, preset.beats_per_tile
    where = f"layer '{layer.name}' on preset '{preset.name}'"
    if pixels << 15 >= SUM_LIMIT:
        raise CompileError(f"{where}: |sum| may reach {pixels << 15}, must be below {SUM_LIMIT}")
    count = min(pixels, preset.residual_rows // 2 // (steps * parts))
    if not count or steps * parts > preset.psum_rows:
        raise CompileError(f"{where}: {steps} time steps need {steps * parts} rows of residuals "
                           f"and partial sums")
    row = ceil_div(out.slice_words, preset.beat_words)
    plane = out.steps * row
    banks = preset.out_banks if out.planes > 1 else 1
    size = ceil_div(ceil_div(out.planes, banks) * banks * plane, preset.out_banks)
    size *= preset.out_banks
    regions = [0, size] if 2 * size <= preset.out_beats else [0]
    if size > preset.out_beats:
        raise CompileError(f"{where}: needs {size} of {preset.out_beats} output beats")
    per_slice = out.slice_words // out.signs * WORD_BITS // preset.lanes
    tiles, pixel = ceil_div(layer.out_channels, preset.lanes), context.value_pixel
    for tile in range(tiles):
        if tile % per_slice == 0:
            regions.append(regions.pop(0))
        channel, region = tile * preset.lanes, regions[0]
        psum = context.psum_region(steps * parts)
        for first in range(0, pixels, count):
            last = min(first + count, pixels)
            length = (last - first) * pixel

            runs = [((t * pixels + first) * pixel, t * length, length) for t in range(steps)]
            start = context.rings["residual"].get(
                (number, tile, first), steps * length, functools.partial(
                    context.load_runs, number, Target.RESIDUAL,
                    source.address + tile * source.tile_bytes, runs=runs,
                    source=(source.name, (tile, tile + 1), (0, layer.in_size[0]))))
            extent = (start, start + steps * length)
            for a, b in _pieces(first, last, pixels):
                reads, writes = [("residual", extent)], []
                flags = Flag.RESIDUAL_SUM | (Flag.PSUM_IN if a else Flag(0))
                fields = {
                    "time_steps": steps, "repeat": layer.repeat, "columns": b - a, "rows": 1,
                    "images": 1, "planes": 1, "window_reads": 1,
                    "psum_base": psum[0], "psum_time_step": parts,
                    "residual_base": (start + (a - first) * pixel) * parts // pixel,
                    "residual_pixel_step": parts,
                    "residual_time_step": (last - first) * parts}
                if a == 0 or b == pixels:
                    param = context.load_params(number, tile)
                    beats = param * context.param_tile // parts
                    reads.append(("param", (beats, beats + context.param_tile)))
                    fields["param_base"] = param
                if b < pixels:
                    flags |= Flag.PSUM_OUT
                else:
                    flags |= context.fill_flag(layer, tile)
                    more, flag = context.map_fields(layer, plane)
                    flags |= flag | (Flag.STREAM if "levels" in layer.outputs else Flag(0))
                    fields |= {**more, "out_bit": channel % WORD_BITS,
                               "word_base": (region * preset.beat_words // banks
                                             + channel // WORD_BITS * out.signs % out.slice_words),
                               "word_time_step": row * preset.beat_words}
                    writes.append((region, region + size))
                context.schedule.compute(number, Opcode.CONV, {**fields, "flags": flags}, reads,
                                         writes, psum)
        if tile % per_slice == per_slice - 1 or tile == tiles - 1:
            context.store_map(number, out, region, tile // per_slice, (0, 1), (0, 1),
                              (region, region + size))


def _pieces(first: int, last: int, pixels: int) -> list[tuple[int, int]]:
    """Pixels ``first`` to ``last - 1`` cut behind pixel 0 and before the last of all."""
    cuts = sorted({first, last} | {cut for cut in (1, pixels - 1) if first < cut < last})
    return list(zip(cuts, cuts[1:], strict=False))
