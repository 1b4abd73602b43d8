# SPDX-License-Identifier: Apache-2.0
"""Folding in float64: batch norms into convolutions, RepConv into one dense 3x3, the two heads.

All folds are exact in real arithmetic, borders included: the padding of RepConv's inner map equals
what a zero-padded input would have given, so the folded convolution pads with zeros.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Folded", "fold_conv", "fold_head", "fold_norm", "fold_pair", "fold_repconv",
           "fold_scale", "norm_scale_and_shift"]


class Folded(NamedTuple):
    """`weight` float64 `[O, I, kh, kw]` and `bias` float64 `[O]`."""

    weight: Tensor
    bias: Tensor


def norm_scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(a, b) float64 with norm(x) = a x + b under the running statistics."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale.detach(), (norm.bias.double() - norm.running_mean.double() * scale).detach()


def fold_conv(conv: nn.Module, norm: nn.Module | None = None) -> Folded:
    """A Conv1d or Conv2d and the batch norm behind it."""
    weight = conv.weight.detach().double()
    if weight.dim() == 3:
        weight = weight.unsqueeze(-1)
    bias = torch.zeros(weight.shape[0], dtype=torch.float64)
    if conv.bias is not None:
        bias = conv.bias.detach().double()
    if norm is None:
        return Folded(weight, bias)
    scale, shift = norm_scale_and_shift(norm)
    return Folded(weight * scale[:, None, None, None], bias * scale + shift)


def fold_repconv(projection: nn.Sequential) -> Folded:
    """`Sequential(RepConv, BatchNorm2d)` -> one dense 3x3 with zero padding 1.

        W[o,i] = A[o] sum_c W3[o,c] a1[c] W1[c,i] D[c],  A = a3 a2
        bias[o] = A[o] sum_c W3[o,c] b1[c] sum D[c]  +  a3[o] b2[o] + b3[o]
    """
    body = projection[0].body
    first = body[0].weight.detach().double()[:, :, 0, 0]
    depthwise = body[2][0].weight.detach().double()[:, 0]
    last = body[2][1].weight.detach().double()[:, :, 0, 0]
    (a1, b1), (a2, b2), (a3, b3) = (norm_scale_and_shift(norm)
                                    for norm in (body[1].bn, body[2][2], projection[1]))
    outer = (a3 * a2)[:, None] * last
    weight = torch.stack([
        torch.stack([(outer * (a1 * depthwise[:, y, x])) @ first for x in range(3)], -1)
        for y in range(3)], -2)
    return Folded(weight, outer @ (b1 * depthwise.sum((1, 2))) + a3 * b2 + b3)


def fold_pair(pair: nn.Module, norm: nn.Module | None = None) -> Folded:
    """`TokenRepConv` (1x1, BN, 1x1, BN), and the batch norm behind it -> one 1x1."""
    first, second = (fold_conv(part[0], part[1]) for part in (pair.conv1, pair.conv2))
    outer = second.weight[:, :, 0, 0]
    weight = (outer @ first.weight[:, :, 0, 0])[:, :, None, None]
    folded = Folded(weight, outer @ first.bias + second.bias)
    return folded if norm is None else fold_norm(folded, norm)


def fold_norm(folded: Folded, norm: nn.Module) -> Folded:
    """A folded layer and the batch norm behind it."""
    scale, shift = norm_scale_and_shift(norm)
    return Folded(folded.weight * scale[:, None, None, None], folded.bias * scale + shift)


def fold_scale(folded: Folded, scale: Tensor | None) -> Folded:
    """A folded layer and the layer scale `[O]` behind it, if any."""
    if scale is None:
        return folded
    scale = scale.detach().double()
    return Folded(folded.weight * scale[:, None, None, None], folded.bias * scale)


def fold_head(head: nn.Linear, distilled: nn.Linear | None = None) -> Folded:
    """The classifier; with a distillation head, the average of both."""
    weight, bias = head.weight.detach().double(), head.bias.detach().double()
    if distilled is not None:
        weight = (weight + distilled.weight.detach().double()) / 2
        bias = (bias + distilled.bias.detach().double()) / 2
    return Folded(weight[:, :, None, None], bias)
