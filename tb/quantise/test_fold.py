# SPDX-License-Identifier: Apache-2.0
"""Folded convolutions equal the float modules in float64, borders included."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from sw.models.blocks import RepConv
from sw.quantise.fold import fold_conv, fold_head, fold_repconv
from tb.quantise.networks import randomise_norms


def test_repconv_is_one_dense_3x3_with_zero_padding() -> None:
    torch.manual_seed(0)
    projection = nn.Sequential(RepConv(6), nn.BatchNorm2d(6)).double().eval()
    randomise_norms(projection)
    spikes = (torch.rand(2, 6, 5, 4) < 0.3).double()
    folded = fold_repconv(projection)
    assert folded.weight.shape == (6, 6, 3, 3)
    with torch.no_grad():
        expected = projection(spikes)
    found = functional.conv2d(spikes, folded.weight, folded.bias, padding=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.1


@pytest.mark.parametrize(("conv", "norm", "shape"), [
    (nn.Conv2d(3, 5, 7, stride=2, padding=3), nn.BatchNorm2d(5), (2, 3, 9, 8)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4), (2, 4, 6, 5)),
    (nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6), (2, 4, 10)),
])
def test_norm_folds_into_the_convolution(conv: nn.Module, norm: nn.Module, shape: tuple) -> None:
    torch.manual_seed(1)
    pair = nn.Sequential(conv, norm).double().eval()
    randomise_norms(pair)
    x = torch.randn(shape, dtype=torch.float64)
    folded = fold_conv(conv, norm)
    flat = x if x.dim() == 4 else x.unsqueeze(-1)
    stride, padding = conv.stride[0], conv.padding[0]
    found = functional.conv2d(flat, folded.weight, folded.bias, stride, padding,
                              groups=conv.groups)
    with torch.no_grad():
        expected = pair(x)
    torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=0, atol=1e-12)


def test_two_heads_fold_into_their_average() -> None:
    torch.manual_seed(2)
    head, distilled = nn.Linear(7, 3).double(), nn.Linear(7, 3).double()
    folded = fold_head(head, distilled)
    x = torch.randn(4, 7, dtype=torch.float64)
    found = x @ folded.weight[:, :, 0, 0].T + folded.bias
    torch.testing.assert_close(found, (head(x) + distilled(x)).detach() / 2)
