# SPDX-License-Identifier: Apache-2.0
"""Signed digits of an integer."""

from amaranth import *

__all__ = ["naf"]


def naf(value, width):
    """Return the +1 and the -1 digits of ``value`` in non-adjacent form, bit i for 2**i.

    Combinational. ``value`` is signed with ``width`` bits, and so are both results' lengths; equals
    ``sw.golden.numbers.naf``. (Reitwiesner's identity: with x3 = 3x, the digits differ from
    0 where x3 and x differ.)
    """
    value = value.as_signed()
    triple = value + (value << 1)
    plus = triple & ~value
    minus = value & ~triple
    return plus[1:width + 1], minus[1:width + 1]
