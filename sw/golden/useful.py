# SPDX-License-Identifier: Apache-2.0
"""Useful additions of every layer: the one definition of the work that an image asks for.

Counted in canonical form: for each non-zero input digit, the output channels that it really
contributes to inside the map; multi-bit inputs (image, integer maps, levels) in minimal signed
digits.
Padding lanes, masked lanes, taps outside the map, zero digits and repeated work do not count.

| kind | additions |
|---|---|
| conv | each digit at (y, x): output positions that see it x output channels |
| depthwise | each digit: output positions that see it |
| attention | pairs of a k and a v digit of one head and token, plus q digits x head width of v |
| key_value | tokens and channels where k and v both fire |
| mask | none |
| pool | one for each non-zero residual word |
| head | spikes x classes |

A RepConv counts in the cheaper of its two forms. Folded it is the dense 3x3 above. Unfolded it is
1x1 on spikes (spikes x C), a depthwise 3x3 and a 1x1 on C real channels, whose inputs count as
8-bit values of 8/3 signed digits: (9 C N + C C N) x 8/3 for N tokens at each step.
"""

from collections.abc import Mapping

import torch

from sw.golden.numbers import naf_count
from sw.model_file import IntegerModel, Layer

__all__ = ["is_repconv", "positions_seen", "useful_additions", "useful_of_layer",
           "useful_outside_lanes"]

_REPCONV = ("q_conv", "k_conv", "v_conv", "proj_conv")


def is_repconv(layer: Layer) -> bool:
    """Whether this conv is a folded RepConv (a projection of the attention)."""
    return (layer.kind == "conv" and layer.kernel == (3, 3)
            and layer.name.split(".")[-1] in _REPCONV and ".attn." in layer.name)


def positions_seen(layer: Layer) -> torch.Tensor:
    """`[H, W]` int64: how many output positions see each input position."""
    counts = []
    for size, out, kernel in zip(layer.in_size, layer.out_size, layer.kernel, strict=True):
        place = torch.arange(size)[:, None] + layer.padding
        tap = place - layer.stride * torch.arange(out)[None, :]
        counts.append(((tap >= 0) & (tap < kernel)).sum(1))
    return counts[0][:, None] * counts[1][None, :]


def useful_of_layer(layer: Layer, inputs: list[torch.Tensor], *, signed_digits: bool) -> int:
    """Useful additions of one layer for its input tensors `[T, C, H, W]`."""
    x = inputs[0]
    if layer.kind == "pool":
        return int(torch.count_nonzero(x))
    if layer.kind == "attention":
        return _attention(layer, inputs)
    if layer.kind == "mask":
        return 0
    if layer.kind == "key_value":
        return int((inputs[0] & inputs[1]).sum(dtype=torch.int64))
    digits = naf_count(x) if signed_digits else x.to(torch.int64)
    if layer.kind == "head":
        return int(digits.sum()) * layer.out_channels
    seen = int((digits.sum((0, 1)) * positions_seen(layer)).sum())
    if layer.kind == "depthwise":
        return seen
    folded = seen * layer.out_channels
    if not is_repconv(layer):
        return folded
    channels = layer.in_channels
    real = layer.in_positions * (9 * channels + channels * layer.out_channels) * x.shape[0] * 8 // 3
    return min(folded, int(digits.sum()) * channels + real)


def useful_outside_lanes(layer: Layer, inputs: list[torch.Tensor]) -> int:
    """Those of a layer's useful additions that aren't made by the lanes of the adder array, but in
    the count matrix (K^T V) or the epilogue (pooling)."""
    if layer.kind == "attention":
        return _pairs(*_head_digits(layer, inputs)[1:])
    if layer.kind in ("pool", "key_value"):
        return useful_of_layer(layer, inputs, signed_digits=False)
    return 0


def _head_digits(layer: Layer, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Digits of each head and token, of each input."""
    return [naf_count(tensor).unflatten(1, (layer.heads, -1)).sum(2) for tensor in inputs]


def _pairs(k: torch.Tensor, v: torch.Tensor) -> int:
    return int((k * v).sum())


def _attention(layer: Layer, inputs: list[torch.Tensor]) -> int:
    q, k, v = _head_digits(layer, inputs)
    return _pairs(k, v) + int(q.sum()) * (layer.out_channels // layer.heads)


def useful_additions(model: IntegerModel, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Useful additions by layer name, from the golden tensors of one image (`evaluate`)."""
    return {layer.name: useful_of_layer(
                layer, [tensors[name] for name in layer.inputs],
                signed_digits=model.tensors[layer.inputs[0]].kind != "spikes")
            for layer in model.layers}
