# SPDX-License-Identifier: Apache-2.0
"""Choosing one of several values."""

from amaranth import *

__all__ = ["select"]


def select(index, values):
    """Return ``values[index]`` as a balanced tree of two-way choices, the cheapest in LUTs.

    The values beyond the last one read as the last.
    """
    values = [Value.cast(value) for value in values]
    for bit in index:
        if len(values) % 2:
            values.append(values[-1])
        values = [Mux(bit, b, a) for a, b in zip(values[::2], values[1::2], strict=True)]
    assert len(values) == 1, "the index is too narrow"
    return values[0]
