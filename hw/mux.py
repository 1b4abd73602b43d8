# SPDX-License-Identifier: Apache-2.0
"""Choosing one of several values, asking whether there is one, and joining them."""

from amaranth import *

__all__ = ["at_most_one", "select", "union"]


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


def at_most_one(value):
    """Return whether at most one bit is set, as a balanced tree."""
    nodes = [(bit, C(0, 1)) for bit in value]  # any, many
    while len(nodes) > 1:
        if len(nodes) % 2:
            nodes.append((C(0, 1), C(0, 1)))
        nodes = [(a | b, more | most | (a & b)) for (a, more), (b, most)
                 in zip(nodes[::2], nodes[1::2], strict=True)]
    return ~nodes[0][1]


def union(values):
    """Return the bits that are set in any of the values."""
    total = values[0]
    for value in values[1:]:
        total = total | value
    return total
