# SPDX-License-Identifier: Apache-2.0
"""Whole-network evaluation of an integer model: the composition of the golden functions."""

from collections.abc import Mapping

import torch

from sw.errors import ModelFileError
from sw.golden import conv as plain_conv
from sw.golden import fast as fast_twin
from sw.golden import lif as plain_lif
from sw.golden import pool as plain_pool
from sw.golden import sdsa as plain_sdsa
from sw.golden import sfa as plain_sfa
from sw.golden.epilogue import epilogue
from sw.golden.numbers import check_signed
from sw.model_file import IntegerModel, Layer

__all__ = ["evaluate", "evaluate_layer", "normalise_images", "quantise_images"]

Tensors = dict[str, torch.Tensor]


def normalise_images(model: IntegerModel, images: torch.Tensor) -> torch.Tensor:
    """Images `[..., C, H, W]` in 0..1 -> (image - mean) / std of the model's input."""
    if not model.input.mean:
        return images
    mean, std = (torch.tensor(values).reshape(-1, 1, 1)
                 for values in (model.input.mean, model.input.std))
    return (images - mean) / std


def quantise_images(model: IntegerModel, images: torch.Tensor) -> torch.Tensor:
    """Normalised float images (the float network's input) -> integers of the input tensor.

    `[C, H, W]` -> `[1, C, H, W]`, `[B, C, H, W]` -> `[B, 1, C, H, W]`; event frames
    `[T, C, H, W]` -> the same, `[B, T, C, H, W]` -> the same. Rounds half to even, clamps.
    """
    limit = (1 << (model.input.bits - 1)) - 1
    integers = (images.to(torch.float64) / model.input.scale).round().clamp(-limit, limit)
    integers = integers.to(torch.int32)
    return integers.unsqueeze(-4) if model.input.time_steps == 1 else integers


def evaluate(model: IntegerModel, image: torch.Tensor, *, fast: bool = True,
             override: Mapping[str, torch.Tensor] | None = None, keep: bool = True) -> Tensors:
    """Every tensor of the network for `image` `[Ti, C, H, W]`, or `[B, Ti, C, H, W]` for a batch.

    Returns tensors by name in the shapes of docs/model-format.md (with the leading B when the
    image had it): spikes uint8, everything else int32; plus `logits` (of the model's head) and
    `predictions` (index of the first largest logit). A layer reads `override[name]` instead of
    the computed tensor `name`, while the result still holds the computed one (teacher forcing).
    `keep=False` keeps the logits and predictions only. `fast` picks the floating-point twins.

    Raises `OverflowBoundError` where a sum or a residual word leaves its width.
    """
    batched = image.dim() == 5
    given = {model.input.tensor: image, **(override or {})}
    read = {name: _given(model, name, value if batched else value.unsqueeze(0))
            for name, value in given.items()}
    forced = set(read)
    made: Tensors = {model.input.tensor: read[model.input.tensor]}
    last_use = {name: index for index, layer in enumerate(model.layers)
                for name in (*layer.inputs, layer.residual) if name is not None}
    for index, layer in enumerate(model.layers):
        inputs = [read[name] for name in layer.inputs]
        residual = None if layer.residual is None else read[layer.residual]
        results = evaluate_layer(model, layer, inputs, residual, fast=fast)
        for name, value in results.items():
            if keep or name == model.logits.tensor:
                made[name] = value
            if name not in forced:
                read[name] = value
        if not keep:
            for name in [n for n in read if last_use.get(n, -1) <= index and n not in results]:
                del read[name]
    logits = made[model.logits.tensor]
    if not keep:
        made = {model.logits.tensor: logits}
    made["logits"] = logits
    made["predictions"] = logits.argmax(-1)
    return made if batched else {name: value[0] for name, value in made.items()}


def _given(model: IntegerModel, name: str, value: torch.Tensor) -> torch.Tensor:
    tensor = model.tensors.get(name)
    if tensor is None:
        raise ModelFileError(f"model '{model.name}': no tensor '{name}' to override")
    if tuple(value.shape[1:]) != tensor.shape:
        raise ModelFileError(f"model '{model.name}': tensor '{name}' was given as "
                             f"{list(value.shape[1:])}, must be {list(tensor.shape)}")
    if tensor.kind in ("spikes", "levels"):
        low, high = (int(bound) for bound in value.aminmax())
        if low < 0 or high > tensor.levels:
            raise ModelFileError(f"model '{model.name}': tensor '{name}' must hold 0 to "
                                 f"{tensor.levels}, not {low} to {high}")
        return value.to(torch.uint8)
    return check_signed(value, tensor.bits, f"tensor '{name}'").to(torch.int32)


def evaluate_layer(model: IntegerModel, layer: Layer, inputs: list[torch.Tensor],
                   residual: torch.Tensor | None, *, fast: bool = True) -> Tensors:
    """Outputs by tensor name of one layer for a batch `[B, ...]` of its inputs."""
    if fast:
        return _fast_layer(model, layer, inputs, residual)
    images = [_plain_layer(layer, [tensor[b] for tensor in inputs],
                           None if residual is None else residual[b])
              for b in range(inputs[0].shape[0])]
    return {name: torch.stack([image[name] for image in images]) for name in images[0]}


def _plain_layer(layer: Layer, inputs: list[torch.Tensor],
                 residual: torch.Tensor | None) -> Tensors:
    x = inputs[0]
    if layer.kind == "attention":
        return _neuron(layer, plain_sdsa.sdsa3(*inputs, layer.heads), plain_lif.lif)
    if layer.kind in ("key_value", "mask"):
        return _masking(layer, inputs, plain_lif.lif)
    if layer.kind == "pool":
        return _pooled(layer, plain_pool.pool(x), plain_lif.lif)
    if layer.kind == "head":
        acc = plain_conv.head(x, layer.weight).reshape(1, -1, 1, 1)
        done = epilogue(acc, layer.bias, layer.shift, writes_residual=False, name=layer.name)
        return {layer.outputs["logits"]: done.shifted.flatten().to(torch.int32)}
    summed = plain_conv.depthwise if layer.kind == "depthwise" else plain_conv.conv
    done = epilogue(summed(x, layer.weight, layer.stride, layer.padding), layer.bias, layer.shift,
                    writes_residual="residual" in layer.outputs, residual=residual,
                    name=layer.name)
    return _outputs(layer, done, plain_lif.lif, 0)


def _fast_layer(model: IntegerModel, layer: Layer, inputs: list[torch.Tensor],
                residual: torch.Tensor | None) -> Tensors:
    x = inputs[0]
    if layer.kind in ("key_value", "mask"):
        return _masking(layer, inputs, fast_twin.lif)
    if layer.kind == "pool":
        return _pooled(layer, fast_twin.pool(x), fast_twin.lif)
    dtype = fast_twin.exact_dtype(model.acc_bound(layer), f"layer '{layer.name}'")
    if layer.kind == "attention":
        return _neuron(layer, fast_twin.sdsa3(*inputs, layer.heads, dtype), fast_twin.lif)
    if layer.kind == "head":
        acc = fast_twin.head(x, layer.weight, dtype)[:, :, None, None]
        done = epilogue(acc, layer.bias, layer.shift, writes_residual=False, name=layer.name)
        return {layer.outputs["logits"]: done.shifted.flatten(1).to(torch.int32)}
    groups = layer.in_channels if layer.kind == "depthwise" else 1
    acc = fast_twin.conv(x, layer.weight, layer.stride, layer.padding, groups, dtype)
    done = epilogue(acc, layer.bias, layer.shift, writes_residual="residual" in layer.outputs,
                    residual=residual, name=layer.name)
    return _outputs(layer, done, fast_twin.lif, 1)


def _outputs(layer: Layer, done, lif, time: int) -> Tensors:
    """The named outputs; `time` is the dimension of the steps."""
    made = {}
    if "residual" in layer.outputs:
        made[layer.outputs["residual"]] = done.residual.to(torch.int32)
    if "integer" in layer.outputs:
        check_signed(done.shifted, layer.integer_bits, f"layer '{layer.name}': integer output")
        made[layer.outputs["integer"]] = done.shifted.to(torch.int32)
    if layer.neuron is not None:
        current = done.current
        if layer.repeat > 1:
            current = current.repeat_interleave(layer.repeat, time)
        made |= _neuron(layer, current, lif)
    return made


def _neuron(layer: Layer, current: torch.Tensor, lif) -> Tensors:
    """The output of the layer's neuron."""
    if "spikes" in layer.outputs:
        return {layer.outputs["spikes"]: lif(current, layer.threshold)}
    return {layer.outputs["levels"]: plain_sfa.sfa(
        current, layer.threshold, layer.step, layer.levels, layer.ties_even)}


def _masking(layer: Layer, inputs: list[torch.Tensor], lif) -> Tensors:
    """The layers of SDSA-1: the mask, alike for all tokens, and its use."""
    if layer.kind == "mask":
        return {layer.outputs["spikes"]: plain_sdsa.mask(*inputs)}
    fired = lif(plain_sdsa.key_value(*inputs), layer.threshold)
    return {layer.outputs["spikes"]: fired.expand(inputs[0].shape).contiguous()}


def _pooled(layer: Layer, sums: torch.Tensor, lif) -> Tensors:
    """The outputs of a pool: of a neuron, or an integer map; both behind a shift, but for LIF."""
    if "spikes" in layer.outputs:
        return _neuron(layer, check_signed(sums, 28, f"layer '{layer.name}': the sum"), lif)
    done = epilogue(sums, layer.bias, layer.shift, writes_residual=False, name=layer.name)
    if "levels" in layer.outputs:
        return _neuron(layer, check_signed(done.shifted, 16, f"layer '{layer.name}'"), lif)
    check_signed(done.shifted, layer.integer_bits, f"layer '{layer.name}': integer output")
    return {layer.outputs["integer"]: done.shifted.to(torch.int32)}
