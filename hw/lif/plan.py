# SPDX-License-Identifier: Apache-2.0
"""How many cycles a beat of the epilogue takes in the writer."""

from amaranth import *
from amaranth.utils import exact_log2

from hw.descriptor import Flag

__all__ = ["RECURRENCE", "beat_cycles", "value_cycles"]

RECURRENCE = 5
"""Cycles from the read of a partial sum to the first read that sees its new value; a membrane is
back a cycle earlier."""


def _wants(view, flag):
    return view.flags[exact_log2(int(flag))]


def value_cycles(view):
    """Return the writer's cycles for residual words and raw sums."""
    return _wants(view, Flag.OUT_RESIDUAL) + (_wants(view, Flag.OUT_RAW) << 1)


def beat_cycles(preset, view):
    """Return the cycles of a beat of a CONV, 1 to 27; ``view`` is its descriptor.

    Residual words one, raw sums two, spikes one, digit planes ``out_banks`` a cycle; sums that
    are added up by pooling come back after RECURRENCE.
    """
    banks = preset.out_banks
    planes = ((view.integer_bits << 1) + (banks - 1)) >> exact_log2(banks)
    writes = (value_cycles(view) + _wants(view, Flag.OUT_SPIKES)
              + Mux(_wants(view, Flag.OUT_INTEGER), planes, 0))
    writes = Mux(_wants(view, Flag.PSUM_OUT) | (writes == 0), 1, writes)
    pools = _wants(view, Flag.RESIDUAL_SUM) & (writes < RECURRENCE)
    return Mux(pools, RECURRENCE, writes)[:5]
