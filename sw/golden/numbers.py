# SPDX-License-Identifier: Apache-2.0
"""Shifts, widths and signed digits: the number rules that every block shares (docs/numbers.md)."""

import torch

from sw.errors import OverflowBoundError

__all__ = ["GUARD_BITS", "check_signed", "naf", "naf_count", "per_channel", "shift_floor"]

GUARD_BITS = 8
"""Fraction bits of the membrane below one unit of the neuron's input."""


def per_channel(values: torch.Tensor) -> torch.Tensor:
    """`[C]` as int64 `[C, 1, 1]`, to meet maps `[..., C, H, W]`."""
    return values.to(torch.int64).reshape(-1, 1, 1)


def shift_floor(value: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """floor(value / 2^shift) of int64 values; a negative shift multiplies."""
    return (value << (-shift).clamp(min=0)) >> shift.clamp(min=0)


def check_signed(value: torch.Tensor, bits: int, what: str) -> torch.Tensor:
    """`value` unchanged; raises `OverflowBoundError` unless every entry fits `bits` signed bits."""
    limit = 1 << (bits - 1)
    low, high = (int(bound) for bound in value.aminmax())
    if low < -limit or high >= limit:
        raise OverflowBoundError(
            f"{what} spans {low} to {high}, which does not fit {bits} bits signed")
    return value


def naf(value: torch.Tensor, width: int) -> torch.Tensor:
    """Non-adjacent (minimal signed) digits of `width`-bit signed integers.

    Returns `[..., width]` of -1, 0, 1, least significant first; sum(digit * 2^i) = value, and no
    two neighbouring digits are both non-zero.
    """
    rest = check_signed(value.to(torch.int64), width, "signed-digit input")
    digits = []
    for _ in range(width):
        odd = rest & 1
        digit = odd * (2 - (rest & 3))          # rest mod 4: 1 -> +1, 3 -> -1
        digits.append(digit)
        rest = (rest - digit) >> 1
    return torch.stack(digits, -1)


def naf_count(value: torch.Tensor) -> torch.Tensor:
    """Number of non-zero signed digits of each value: the set bits of |v| xor 3|v|."""
    magnitude = value.to(torch.int64).abs()
    bits = magnitude ^ (3 * magnitude)
    count = torch.zeros_like(bits)
    while bool(bits.any()):
        count += bits & 1
        bits = bits >> 1
    return count
