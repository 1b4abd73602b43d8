# SPDX-License-Identifier: Apache-2.0
"""Shifts and signed digits against hand-worked numbers."""

import pytest
import torch

from sw.errors import OverflowBoundError
from sw.golden.numbers import check_signed, naf, naf_count, shift_floor


def test_shift_floor_rounds_down_and_negative_shifts_multiply() -> None:
    values = torch.tensor([7, -7, -1, 8, 3, -3])
    shifts = torch.tensor([1, 1, 3, 3, -2, -8])
    assert shift_floor(values, shifts).tolist() == [3, -4, -1, 1, 12, -768]


def test_naf_by_hand() -> None:
    assert naf(torch.tensor(7), 8).tolist() == [-1, 0, 0, 1, 0, 0, 0, 0]            # 8 - 1
    assert naf(torch.tensor(-5), 4).tolist() == [-1, 0, -1, 0]                      # -4 - 1
    assert naf(torch.tensor(127), 8).tolist() == [-1, 0, 0, 0, 0, 0, 0, 1]          # 128 - 1
    assert naf_count(torch.tensor([0, 1, 3, 7, 11, -127, 85, -512])).tolist() == [
        0, 1, 2, 2, 3, 2, 4, 1]


@pytest.mark.parametrize("width", [2, 8, 12])
def test_naf_of_every_value(width: int) -> None:
    values = torch.arange(-(1 << (width - 1)), 1 << (width - 1))
    digits = naf(values, width)
    assert torch.equal((digits << torch.arange(width)).sum(-1), values)
    assert not (digits[:, 1:] * digits[:, :-1]).any()
    assert torch.equal((digits != 0).sum(-1), naf_count(values))


def test_widths_are_checked() -> None:
    assert check_signed(torch.tensor([-128, 127]), 8, "x").tolist() == [-128, 127]
    for value in (-129, 128):
        with pytest.raises(OverflowBoundError, match=f"x spans .*{value}.* does not fit 8 bits"):
            check_signed(torch.tensor([0, value]), 8, "x")
    with pytest.raises(OverflowBoundError):
        naf(torch.tensor(8), 4)
