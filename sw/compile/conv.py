# SPDX-License-Identifier: Apache-2.0
"""Lowering of conv, depthwise and head layers."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from hw.descriptor import Flag, Opcode
from hw.presets import WORD_BITS
from sw.compile.context import Context
from sw.compile.errors import CompileError
from sw.compile.estimate import usual_density
from sw.compile.layout import ImageLayout, LogitsLayout, MapLayout, ceil_div
from sw.compile.plan import (
    Block,
    ConvPlan,
    ConvShape,
    NoPlan,
    chunk_entries,
    plan,
    word_beats,
)
from sw.compile.weights import ACC_LIMIT, WeightStore
from sw.model_file import Layer

__all__ = ["conv_shape", "lower_conv", "plan_conv"]


def conv_shape(context: Context, number: int, slice_in: int, slice_out: int,
               density: float | None = None) -> ConvShape:
    """The planner's view of a layer, reading slices of ``slice_in`` and writing ``slice_out``."""
    layer, tensors = context.model.layers[number], context.model.tensors
    source = tensors[layer.inputs[0]]
    head, image = layer.kind == "head", source.kind == "image"
    planes, signs = context.planes(source), context.signs(source)
    if density is None:
        density = usual_density(context.model, source, planes * signs, context.ones)
    channels = layer.in_channels
    if signs > 1:  # the digits -1 are channels of their own
        channels = signs * ceil_div(channels, WORD_BITS) * WORD_BITS
    taps = layer.kernel[0] * layer.kernel[1]
    return ConvShape(
        depthwise=layer.kind == "depthwise",
        in_channels=channels * taps if image else channels,
        slice_words=slice_in, planes=source.steps * planes if head else planes,
        steps=1 if head else source.steps, repeat=layer.repeat,
        kernel=(1, 1) if image else layer.kernel, stride=1 if image else layer.stride,
        padding=0 if image else layer.padding,
        in_size=layer.out_size if image else layer.in_size, out_size=layer.out_size,
        out_channels=layer.out_channels,
        residual_steps=tensors[layer.residual].steps if layer.residual else 0,
        writes_residual="residual" in layer.outputs, raw="logits" in layer.outputs,
        out_planes=context.out_planes(layer), out_slice_words=slice_out,
        out_signs=context.out_signs(layer), batch=context.batch,
        density=density, in_signs=signs)


def _summed_steps(context: Context, layer: Layer) -> int:
    """Time steps that one sum runs over: all in the head."""
    return context.model.tensors[layer.inputs[0]].steps if layer.kind == "head" else 1


def _chunk_limit(layer: Layer, shape: ConvShape, magnitude: int) -> int:
    """Words of a chunk for which no accumulator can overflow."""
    weight = np.abs(layer.weight.numpy().astype(np.int64))
    if shape.depthwise or int(weight.reshape(len(weight), -1).sum(1).max()) * magnitude < ACC_LIMIT:
        return 1 << 16
    worst = int(weight.max()) * WORD_BITS * magnitude
    return max(1, (ACC_LIMIT - 1) // worst)


def plan_conv(context: Context, number: int, shape: ConvShape) -> ConvPlan:
    """Plan a layer, or raise `CompileError` that names it."""
    layer = context.model.layers[number]
    limit = _chunk_limit(layer, shape, context.model.input_magnitude(layer)
                         * _summed_steps(context, layer))
    try:
        return plan(context.preset, dataclasses.replace(shape, chunk_limit=limit))
    except NoPlan as reason:
        raise CompileError(f"layer '{layer.name}' does not fit preset "
                           f"'{context.preset.name}': {reason}") from None


def _with_negatives(weight: np.ndarray, layer: Layer) -> np.ndarray:
    """Weights `[O, 64 words, kh, kw]` of digit pairs: of 32 channels, then the same negated."""
    if weight.min() < -127:
        raise CompileError(f"layer '{layer.name}' reads integers: its weights must be -127 to 127, "
                           f"not {weight.min()}")
    out, channels, *kernel = weight.shape
    words = ceil_div(channels, WORD_BITS)
    padded = np.zeros((out, words * WORD_BITS, *kernel), np.int8)
    padded[:, :channels] = weight
    blocks = padded.reshape(out, words, 1, WORD_BITS, *kernel)
    return np.concatenate([blocks, -blocks], 2).reshape(out, 2 * words * WORD_BITS, *kernel)


class _Lowering:
    def __init__(self, context: Context, number: int, shape: ConvShape, tiling: ConvPlan) -> None:
        self.context, self.number, self.shape, self.plan = context, number, shape, tiling
        self.layer = layer = context.model.layers[number]
        self.preset = context.preset
        weight = layer.weight.numpy()
        if isinstance(context.layouts[layer.inputs[0]], ImageLayout):
            weight = weight.reshape(len(weight), -1, 1, 1)
        if self.source.pairs:
            weight = _with_negatives(weight, layer)
        magnitude = context.model.input_magnitude(layer)
        self.weights = WeightStore(context, number, shape, tiling, weight,
                                   magnitude * _summed_steps(context, layer))
        words, values = (tiling.group * beats for beats in (tiling.word_beats, tiling.value_beats))
        total = tiling.word_regions * words + tiling.value_regions * values
        base = self.preset.out_beats - total if number % 2 else 0
        self.words = [base + n * words for n in range(tiling.word_regions)]
        base += tiling.word_regions * words
        self.values = [base + n * values for n in range(tiling.value_regions)]
        self._map_extent = (0, 0)
        self._word_extents = [(0, 0)] * tiling.group
        self.images = range(tiling.group)
        self.place = 0
        self.rows = (0, 0)  # of the block, that the CONV at hand computes

    def run(self) -> None:
        per_slice = self.shape.tiles_per_slice(self.preset)
        tiles = ceil_div(self.shape.out_channels, self.preset.lanes)
        group = self.plan.group
        for first, last in self.plan.passes:
            for image in range(0, self.context.batch, group):
                self.images = range(image, image + group)
                for block in self.plan.blocks(self.shape.out_size):
                    for tile in range(first, last):
                        self._tile(block, tile, tile % per_slice == 0)
                        if self.shape.out_planes and (tile % per_slice == per_slice - 1
                                                      or tile == tiles - 1):
                            for _ in self._each_image():
                                self._store_words(block, tile // per_slice)

    def _each_image(self) -> Iterator[int]:
        """Turn to one image of the group after the other; yields its place in the group."""
        for place, image in enumerate(self.images):
            self.place, self.context.image = place, image
            yield place

    @property
    def source(self) -> MapLayout:
        """The map that the image's windows lie in."""
        source = self.context.layouts[self.layer.inputs[0]]
        return source.windows if isinstance(source, ImageLayout) else source

    @property
    def word_base(self) -> int:
        """Of the image, in the output buffer."""
        return self.words[0] + self.place * self.plan.word_beats

    @property
    def value_base(self) -> int:
        """Of the image, in the output buffer."""
        return self.values[0] + self.place * self.plan.value_beats

    # One tile of a block ----------------------------------------------------------------------

    def _tile(self, block: Block, tile: int, opens: bool) -> None:
        if opens:
            self.words.append(self.words.pop(0))
        self.values.append(self.values.pop(0))
        rows = self.shape.steps * block.pixels * self.preset.beats_per_tile
        psums = self.context.psum_region(self.plan.group * rows)[0]
        slices = self.shape.slices
        count = slices * len(self.plan.chunks)
        # a CONV of other pixels between two of the same ones: so none waits for the one before it
        halves = [(0, block.rows)]
        if count > 1 and self.plan.group == 1 and block.rows > 1:
            halves = [(0, block.rows // 2), (block.rows // 2, block.rows)]
        for s in range(slices):
            for chunk in range(len(self.plan.chunks)):
                at = s * len(self.plan.chunks) + chunk
                for place in self._each_image():
                    for first, last in halves:
                        self.rows = first, last
                        start, end = (psums + place * rows + rows * row // block.rows
                                      for row in self.rows)
                        self._psum = start, end
                        self._conv(block, tile, s, chunk, at == 0, at == count - 1)
        for _ in self._each_image():
            self._store_values(block, tile)

    def _conv(self, block: Block, tile: int, s: int, chunk: int, first: bool,
              last: bool) -> None:
        shape, context, preset = self.shape, self.context, self.preset
        weight_row, weight_beats = self.weights.load(tile, s, chunk)
        reads = [("weight", weight_beats)]
        if first or last:  # the bias enters with the first chunk
            param = context.load_params(self.number, tile)
            start = param * context.param_tile // preset.beats_per_tile
            reads.append(("param", (start, start + context.param_tile)))
        fields = self._window(block, tile, s, chunk)
        reads.append(("map", self._map_extent))
        parts = preset.beats_per_tile
        flags = Flag(0)
        if shape.depthwise:
            flags |= Flag.DEPTHWISE | self._paired()
            fields["mask_bit"] = tile * preset.lanes % WORD_BITS
        if self.source.bits:
            flags |= Flag(0) if self.source.pairs else Flag.SIGNED_DIGITS
            fields["plane_shift"] = 1
        elif self.source.levels > 1 and not self.source.ones:
            fields |= self._binary_levels(fields)
        flags |= Flag(0) if first else Flag.PSUM_IN
        flags |= Flag(0) if last else Flag.PSUM_OUT
        start, end = self.rows
        fields |= {"weight_base": weight_row, "psum_base": self._psum[0],
                   "psum_pixel_step": parts,
                   "psum_time_step": (end - start) * block.columns * parts}
        writes: list[tuple[int, int]] = []
        if last:
            flags |= self._results(block, tile, fields, reads, writes)
        if first or last:
            fields["param_base"] = param
        fields["rows"] = end - start
        for name, step in (("y_start", fields["y_step"]),
                           ("residual_base", block.columns * parts),
                           ("value_base", block.columns * fields.get("value_pixel_step", 0)),
                           ("word_base", fields.get("word_row_step", 0))):
            if name in fields:
                fields[name] += start * step
        context.schedule.compute(self.number, Opcode.CONV, {**fields, "flags": flags}, reads,
                                 writes, self._psum)

    def _paired(self) -> Flag:
        """PAIRED, if two pixels' window takes no more reads than one."""
        shape, banks = self.shape, self.preset.map_banks
        fits = (shape.stride * shape.slice_words == 1 and len(self.plan.chunks) == 1
                and self.preset.groups > 1
                and ceil_div(shape.string + 1, banks) == ceil_div(shape.string, banks))
        return Flag.PAIRED if fits else Flag(0)

    def _binary_levels(self, fields: dict[str, int]) -> dict[str, int]:
        """Doublings between the planes of levels; the head takes a plane of all steps in turn."""
        steps, plane = self.source.steps, fields["map_plane_step"]
        if self.layer.kind != "head" or steps == 1:
            return {"plane_shift": 1}
        step = self.source.planes * plane
        return {"group_planes": steps, "group_shift": 1, "map_plane_step": step,
                "map_group_step": plane - (steps - 1) * step}

    def _window(self, block: Block, tile: int, s: int, chunk: int) -> dict[str, int]:
        """Load the block's map, and return the fields that say where windows lie in it."""
        shape, layout, preset = self.shape, self.source, self.preset
        (height, width), (kh, kw) = shape.in_size, shape.kernel
        words, beat_words, stride = shape.slice_words, preset.beat_words, shape.stride
        top, left = block.y0 * stride - shape.padding, block.x0 * stride - shape.padding
        y0 = min(max(top, 0), height - 1)
        y1 = max(min((block.y1 - 1) * stride - shape.padding + kh, height), y0 + 1)
        b0, b1 = 0, layout.row_bytes // preset.beat_bytes
        if block.columns < shape.out_size[1]:
            right = min((block.x1 - 1) * stride - shape.padding + kw, width)
            b0 = min(max(left, 0), width - 1) * words // beat_words
            b1 = max(ceil_div(right * words, beat_words), b0 + 1)
        whole = range(layout.slices)
        if shape.depthwise:
            whole = range(tile * preset.lanes // WORD_BITS, tile * preset.lanes // WORD_BITS + 1)
        elif not self.plan.map_stays:
            whole = range(s, s + 1)
        key = (block, whole.start, whole.stop)
        base = self.context.load_map(self.number, layout, key, (y0, y1), (b0, b1),
                                     (whole.start, whole.stop))
        pitch = (b1 - b0) * beat_words
        plane = len(whole) * (y1 - y0) * pitch
        size = layout.steps * layout.planes * plane
        start = base // beat_words
        self._map_extent = (start, start + size // beat_words)
        if not shape.depthwise and self.plan.map_stays:
            base += s * (y1 - y0) * pitch
        a, b = self.plan.chunks[chunk]
        ky0, ky1 = a // shape.string, (b - 1) // shape.string + 1
        return {
            "time_steps": shape.steps, "repeat": shape.repeat, "columns": block.columns,
            "rows": block.rows, "images": 1, "planes": shape.planes, "map_base": base,
            "map_plane_step": plane, "map_time_step": plane, "row_pitch": pitch,
            "row_words": min(width * words, b1 * beat_words) - b0 * beat_words,
            "rows_words": (y1 - y0) * pitch, "x_start": left * words - b0 * beat_words,
            "x_step": stride * words, "y_start": (top - y0 + ky0) * pitch,
            "y_step": stride * pitch, "string_words": shape.string, "kernel_rows": ky1 - ky0,
            "chunk_first": ky0 * shape.string - a, "chunk_words": b - a,
            "window_reads": chunk_entries(a, b, shape.string, self.preset.map_banks)}

    def _results(self, block: Block, tile: int, fields: dict[str, int],
                 reads: list[tuple[str, tuple[int, int]]],
                 writes: list[tuple[int, int]]) -> Flag:
        """Add the fields, reads and writes of the epilogue; return its flags."""
        shape, layer, preset, context = self.shape, self.layer, self.preset, self.context
        flags, parts = Flag(0), preset.beats_per_tile
        if layer.residual:
            layout = context.layouts[layer.residual]
            row = context.load_residual(self.number, layout, (block, tile), tile,
                                        (block.y0, block.y1), (block.x0, block.x1))
            size = layout.shape[0] * block.pixels * parts
            beats = preset.residual_row_bits // preset.axi_bits
            reads.append(("residual", (row * beats, (row + size) * beats)))
            flags |= Flag.RESIDUAL_IN
            fields |= {"residual_base": row, "residual_pixel_step": parts,
                       "residual_time_step": block.pixels * parts if layout.shape[0] > 1 else 0}
        if shape.writes_residual or shape.raw:
            flags |= Flag.OUT_RESIDUAL if shape.writes_residual else Flag.OUT_RAW
            pixel = preset.lanes * (16 if shape.writes_residual else 32) // preset.axi_bits
            base = self.value_base
            fields |= {"value_base": base, "value_pixel_step": pixel,
                       "value_time_step": pixel * block.pixels}
            writes.append((base, base + shape.steps * block.pixels * pixel))
        if shape.out_planes:
            base, words = self.word_base, shape.out_slice_words
            row = ceil_div(block.columns * words, preset.beat_words)
            size, plane = word_beats(preset, shape, block.rows, block.columns)
            first_word = base * preset.beat_words
            more, flag = context.map_fields(layer, plane)
            fields |= more
            flags |= flag
            if shape.out_planes > 1:
                first_word //= preset.out_banks
            if layer.neuron is not None and shape.writes_residual:
                flags |= Flag.STREAM
            flags |= context.fill_flag(layer, tile)
            channel = tile * preset.lanes
            fields |= {
                "out_bit": channel % WORD_BITS,
                "word_base": first_word + channel // WORD_BITS * shape.out_signs % words,
                "word_column_step": words, "word_row_step": row * preset.beat_words,
                "word_time_step": block.rows * row * preset.beat_words}
            self._word_extents[self.place] = (base, base + size)
            writes.append((base, base + size))
        return flags

    # Stores -----------------------------------------------------------------------------------

    def _store_words(self, block: Block, slice_: int) -> None:
        layout = self.context.layouts[self.layer.map_output[1]]
        self.context.store_map(
            self.number, layout, self.word_base, slice_, (block.y0, block.y1),
            (block.x0, block.x1), self._word_extents[self.place])

    def _store_values(self, block: Block, tile: int) -> None:
        if self.shape.writes_residual:
            self.context.store_values(
                self.number, self.context.layouts[self.layer.outputs["residual"]], self.value_base,
                tile, (block.y0, block.y1), (block.x0, block.x1))
        elif self.shape.raw:
            layout: LogitsLayout = self.context.layouts[self.layer.outputs["logits"]]
            length = layout.tile_bytes // self.preset.beat_bytes
            base = self.value_base
            self.context.schedule.store(self.number, {
                "address": layout.address + tile * layout.tile_bytes, "buffer": base,
                "length": length, "count_1": 1, "count_2": 1}, (base, base + length),
                layout.name, (tile, tile + 1), (0, 1))


def lower_conv(context: Context, number: int, shape: ConvShape, tiling: ConvPlan) -> None:
    """Emit a conv, depthwise or head layer."""
    layer = context.model.layers[number]
    source = context.layouts[layer.inputs[0]]
    if not isinstance(source, MapLayout | ImageLayout):
        raise CompileError(f"layer '{layer.name}': its input is not a map")
    if layer.kind == "head" and source.bits and source.steps > 1:
        raise CompileError(f"layer '{layer.name}': the head can't sum {source.steps} steps of an "
                           f"integer map, only 1")
    _Lowering(context, number, shape, tiling).run()
