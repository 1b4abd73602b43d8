# SPDX-License-Identifier: Apache-2.0
"""Payloads of the streams between control, DMA and the memory port."""

from amaranth.lib import data

from hw.limits import BEAT_BITS

__all__ = ["BEAT", "BEAT_BITS", "BURST", "INDEX_BITS", "LAYER_BITS", "MAX_BURST", "REPORT",
           "TRANSFER", "nest", "read_beat", "run"]

MAX_BURST = 16
"""Beats of the longest burst. A burst never crosses a multiple of that many beats."""

BEAT_STEP_BITS = 4
"""Bits of the step from beat to beat in a buffer."""

INDEX_BITS = 24
"""Bits of a descriptor's number in the program."""

LAYER_BITS = 16

REPORT = data.StructLayout({"code": 8, "index": INDEX_BITS, "layer": LAYER_BITS})
"""An error: code of hw.regmap.ErrorCode (0: none), descriptor and layer it belongs to."""

TRANSFER = data.StructLayout({
    "wait": 16, "post": 16, "index": INDEX_BITS, "layer": LAYER_BITS, "target": 2,
    "address": 32, "buffer": BEAT_BITS, "length": 16, "count_1": 16, "count_2": 16,
    "step_1": 32, "step_2": 32, "buffer_step_1": BEAT_BITS, "buffer_step_2": BEAT_BITS,
    "beat_step": BEAT_STEP_BITS,
})
"""A LOAD or STORE descriptor, decoded."""

BURST = data.StructLayout({
    "address": 32, "beats": range(MAX_BURST + 1), "last": 1, "index": INDEX_BITS,
    "layer": LAYER_BITS,
})
"""A piece of memory to read or write; ``last`` marks the last one of a descriptor."""

BEAT = data.StructLayout({
    "beat": BEAT_BITS, "last": 1, "index": INDEX_BITS, "layer": LAYER_BITS,
})
"""A beat address in a buffer; ``last`` marks the last one of a descriptor."""


def nest(width):
    """Two nested loops of runs, addresses of ``width`` bits."""
    return data.StructLayout({
        "start": width, "length": 16, "count_1": 16, "count_2": 16,
        "step_1": width, "step_2": width, "beat_step": BEAT_STEP_BITS, "index": INDEX_BITS,
        "layer": LAYER_BITS,
    })


def run(width):
    """One contiguous run."""
    return data.StructLayout({
        "start": width, "length": 16, "beat_step": BEAT_STEP_BITS, "last": 1,
        "index": INDEX_BITS, "layer": LAYER_BITS,
    })


def read_beat(axi_bits):
    """A beat from memory, and whether the memory answered with an error."""
    return data.StructLayout({"data": axi_bits, "error": 1})
