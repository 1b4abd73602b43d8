# SPDX-License-Identifier: Apache-2.0
"""`compile_model`: slices of every tensor, a plan for every layer, then descriptors.

Memory, from the base: the image, every tensor of every layer (nothing shares memory, so that all
of them can be compared after a run), constants, and the program.
"""

from collections.abc import Collection, Mapping

import numpy as np

from hw.descriptor import DESCRIPTOR_BYTES
from hw.presets import WORD_BITS, Preset
from sw.compile.attention import AttentionPlan, attention_slice, lower_attention, plan_attention
from sw.compile.context import Context
from sw.compile.conv import conv_shape, lower_conv, plan_conv
from sw.compile.errors import CompileError
from sw.compile.estimate import Cost
from sw.compile.layout import ImageLayout, Layout, LogitsLayout, MapLayout, ResidualLayout, ceil_div
from sw.compile.mask import MaskPlan, lower_mask, plan_mask
from sw.compile.plan import ConvPlan
from sw.compile.pool import lower_pool, pool_cost
from sw.compile.program import LayerRow, Program
from sw.model_file import MAPS, SUM_LIMIT, IntegerModel, Layer, check

__all__ = ["LEVEL_MODES", "CompileError", "compile_model"]

LEVEL_MODES = ("planes", "steps")

CONVS = ("conv", "depthwise", "head")


def compile_model(model: IntegerModel, preset: Preset, *, memory_base: int = 0,
                  densities: Mapping[str, float] | None = None,
                  layers: Collection[str] | None = None,
                  level_mode: str = "planes", batch: int = 1) -> Program:
    """Compile ``model`` for ``preset``, for runs of ``batch`` images.

    The images of a batch share each weight that is loaded where the buffers allow it.

    With ``layers`` only these are run, in the model's order; the host writes the tensors that they
    read and no other of them makes (`Program.write_tensor`).

    ``level_mode`` is how levels travel: "planes" as binary numbers, a plane for each bit; "steps"
    as D virtual time steps of binary spikes, as the E-SpikeFormer paper describes (level k fires in
    k of them). The results are equal.

    ``memory_base`` is the first byte address to use, a multiple of 64. ``densities`` are measured
    shares of ones in spike tensors by name, which sharpen the estimates that choose the tiling.
    Raises `CompileError` naming the layer and the bound.
    """
    check(model)
    if memory_base % 64:
        raise CompileError(f"memory_base must be a multiple of 64, not {memory_base}")
    if level_mode not in LEVEL_MODES:
        raise CompileError(f"level_mode must be one of {', '.join(LEVEL_MODES)}, "
                           f"not {level_mode!r}")
    if batch < 1:
        raise CompileError(f"batch is {batch}, must be at least 1")
    names = [layer.name for layer in model.layers]
    unknown = set(layers or ()) - set(names)
    if unknown:
        raise CompileError(f"the model has no layer {', '.join(sorted(unknown))}")
    chosen = [n for n, name in enumerate(names) if layers is None or name in layers]
    if not chosen:
        raise CompileError("no layer is to be compiled")
    return _Compiler(model, preset, memory_base, dict(densities or {}),
                     level_mode == "steps", batch).compile(chosen)


class _Compiler:
    def __init__(self, model: IntegerModel, preset: Preset, base: int,
                 densities: dict[str, float], ones: bool, batch: int) -> None:
        self.model, self.preset, self.densities = model, preset, densities
        self.context = Context.create(model, preset, base, ones, batch)
        self.readers: dict[str, list[int]] = {}
        for number, layer in enumerate(model.layers):
            for name in dict.fromkeys(layer.inputs):
                self.readers.setdefault(name, []).append(number)
        self.slices: dict[str, int] = {}

    # Slices -----------------------------------------------------------------------------------

    def _density(self, layer: Layer) -> float | None:
        return self.densities.get(layer.inputs[0])

    def _conv_plan(self, number: int, slice_in: int, slice_out: int) -> ConvPlan:
        shape = conv_shape(self.context, number, slice_in, slice_out,
                           self._density(self.model.layers[number]))
        return plan_conv(self.context, number, shape)

    def _plan(self, number: int, slice_in: int, slice_out: int) -> (
            ConvPlan | AttentionPlan | MaskPlan | Cost):
        layer = self.model.layers[number]
        steps = self.model.tensors[layer.inputs[0]].steps
        if layer.kind == "attention":
            return plan_attention(self.context, layer, steps, slice_out)
        if layer.kind in ("key_value", "mask"):
            return plan_mask(self.preset, layer, steps, slice_out)
        if layer.kind == "pool":
            return pool_cost(self.context, layer, steps)
        return self._conv_plan(number, slice_in, slice_out)

    def _cost(self, number: int, slice_in: int, slice_out: int) -> int:
        made = self._plan(number, slice_in, slice_out)
        return (made if isinstance(made, Cost) else made.cost).cycles

    def _candidates(self, name: str, words: int) -> list[int]:
        """Slice sizes that all readers of a tensor can take."""
        signs = self.context.signs(self.model.tensors[name])
        sizes = {size for size in range(signs, words + 1, signs) if words % size == 0}
        wanted = []
        for number in self.readers.get(name, []):
            layer = self.model.layers[number]
            if layer.kind in ("depthwise", "attention", "key_value", "mask"):
                narrow = layer.kind != "attention" or name not in layer.inputs[:2]
                one = 1 if narrow else attention_slice(layer)
                sizes &= {one}
                wanted.append(f"'{layer.name}' {one}")
        if not sizes:
            raise CompileError(f"tensor '{name}': its readers need slices of different sizes, "
                               f"{', '.join(wanted)} words")
        return sorted(sizes)

    def _choose(self, name: str, words: int, writer: int | None) -> int:
        """The slice size with the fewest estimated cycles of writer and readers."""
        candidates = self._candidates(name, words)
        best, error = None, None
        for size in candidates:
            try:
                total = 0
                if writer is not None:
                    layer = self.model.layers[writer]
                    total += self._cost(writer, self.slices.get(layer.inputs[0], 1), size)
                for reader in self.readers.get(name, []):
                    if self.model.layers[reader].kind not in ("attention", "key_value", "mask"):
                        total += self._cost(reader, size, self.context.out_signs(
                            self.model.layers[reader]))
            except CompileError as reason:
                error = reason
                continue
            if best is None or total <= best[0]:
                best = (total, size)
        if best is None:
            raise error
        return best[1]

    def _map_words(self, name: str) -> int:
        tensor = self.model.tensors[name]
        channels = tensor.shape[1]
        if tensor.kind == "image":
            kernel = self.model.layers[self.readers[name][0]].kernel
            channels *= kernel[0] * kernel[1]
        return ceil_div(channels, WORD_BITS) * self.context.signs(tensor)

    def _choose_slices(self) -> None:
        image = self.model.input.tensor
        readers = self.readers.get(image, [])
        if len(readers) != 1 or self.model.layers[readers[0]].kind != "conv":
            raise CompileError(f"the input '{image}' must have exactly one reader, a conv layer")
        self.slices[image] = self._choose(image, self._map_words(image), None)
        for number, layer in enumerate(self.model.layers):
            roles = layer.outputs.keys() & set(MAPS)
            if len(roles) > 1:
                raise CompileError(f"layer '{layer.name}' writes both {' and '.join(roles)}")
            for role in roles:
                name = layer.outputs[role]
                self.slices[name] = self._choose(name, self._map_words(name), number)

    # Memory -----------------------------------------------------------------------------------

    def _layout(self, name: str) -> Layout:
        tensor, beat = self.model.tensors[name], self.preset.beat_bytes
        common = {"name": name, "shape": tuple(tensor.shape), "beat_bytes": beat}
        if tensor.kind == "image":
            layer = self.model.layers[self.readers[name][0]]
            return ImageLayout(**common, kernel=layer.kernel, stride=layer.stride,
                               padding=layer.padding, bits=tensor.bits, out_size=layer.out_size,
                               slice_words=self.slices[name])
        if tensor.kind in MAPS:
            return MapLayout(**common, slice_words=self.slices[name], levels=tensor.levels,
                             ones=self.context.ones, pairs=tensor.kind == "integer",
                             bits=tensor.bits if tensor.kind == "integer" else 0)
        if tensor.kind == "residual":
            return ResidualLayout(**common, lanes=self.preset.lanes)
        return LogitsLayout(**common, lanes=self.preset.lanes,
                            epilogue_lanes=self.preset.epilogue_lanes)

    def _place(self) -> tuple[int, int]:
        """Give every tensor its address; returns the region that the accelerator writes."""
        memory = self.context.memory
        inputs = [name for name, tensor in self.model.tensors.items() if tensor.kind == "image"]
        for images in (inputs, [name for name in self.model.tensors if name not in inputs]):
            start = memory.end
            for number in range(self.context.batch):
                for name in images:
                    self._place_tensor(name, number)
        return start, memory.end

    def _place_tensor(self, name: str, image: int) -> None:
        layout = self._layout(name)
        layout.address = self.context.memory.reserve(layout.size)
        self.context.images[image][name] = layout
        if image:
            layout.name = f"{name}[{image}]"
        if not isinstance(layout, ImageLayout):
            units, rows = ((layout.slices, layout.height) if isinstance(layout, MapLayout) else
                           (layout.tiles, layout.shape[2] if len(layout.shape) > 1 else 1))
            self.context.schedule.declare(layout.name, units, rows)

    # Layers -----------------------------------------------------------------------------------

    def compile(self, chosen: list[int]) -> Program:
        self._choose_slices()
        write_region = self._place()
        rows = [self._lower(number) for number in chosen]
        descriptors = self.context.schedule.finish()
        memory = self.context.memory
        memory.end = ceil_div(memory.end, DESCRIPTOR_BYTES) * DESCRIPTOR_BYTES
        address = memory.constant(np.frombuffer(b"".join(descriptors), np.uint8))
        return Program(
            model_name=self.model.name, preset=self.preset, base=memory.base,
            size=memory.end - memory.base, segments=tuple(memory.segments),
            descriptors=tuple(descriptors), address=address, images=tuple(self.context.images),
            input_name=self.model.input.tensor, logits_name=self.model.logits.tensor,
            read_region=(memory.base, memory.end), write_region=write_region, layers=tuple(rows),
            model_layers=len(self.model.layers))

    def _lower(self, number: int) -> LayerRow:
        layer, schedule = self.model.layers[number], self.context.schedule
        before = len(schedule.ops)
        out = layer.map_output[1] if layer.map_output else None
        slice_in = self.slices.get(layer.inputs[0], 1)
        slice_out = self.slices.get(out, 1)
        blocks = chunks = 1
        self._check_sum(layer)
        made = self._plan(number, slice_in, slice_out)
        if isinstance(made, ConvPlan):
            cost, blocks = made.cost, len(made.blocks(layer.out_size))
            shape = conv_shape(self.context, number, slice_in, slice_out, self._density(layer))
            chunks = len(made.chunks) * shape.slices
            lower_conv(self.context, number, shape, made)
        else:
            cost = (made if isinstance(made, Cost) else made.cost).times(self.context.batch)
            for image in range(self.context.batch):
                self.context.turn_to(number, image)
                blocks = self._lower_image(number, made)
        return LayerRow(
            name=layer.name, kind=layer.kind,
            out_shape=tuple(self.model.tensors[next(iter(layer.outputs.values()))].shape),
            weights=0 if layer.weight is None else layer.weight.numel(),
            tiles=ceil_div(layer.out_channels, self.preset.lanes), blocks=blocks, chunks=chunks,
            cycles=cost.cycles, compute_cycles=cost.compute, additions=cost.additions,
            bytes_read=cost.read, bytes_written=cost.written,
            descriptors=len(schedule.ops) - before)

    def _lower_image(self, number: int, made: AttentionPlan | MaskPlan | Cost) -> int:
        """Emit a layer that takes image after image; returns its blocks."""
        height, width = self.model.layers[number].in_size
        if isinstance(made, MaskPlan):
            lower_mask(self.context, number, made)
            return ceil_div(height, made.rows)
        if isinstance(made, AttentionPlan):
            lower_attention(self.context, number, made)
            return ceil_div(height, made.rows) * ceil_div(width, made.columns)
        lower_pool(self.context, number)
        return 1

    def _check_sum(self, layer: Layer) -> None:
        bound = self.model.acc_bound(layer)
        if layer.bias is not None:
            bound += int(layer.bias.abs().max())
        if bound >= SUM_LIMIT:
            raise CompileError(f"layer '{layer.name}': |sum| may reach {bound}, must be below "
                               f"{SUM_LIMIT}")
