# SPDX-License-Identifier: Apache-2.0
"""Layouts that several components share. Widths follow from the preset."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from hw.descriptor import DESCRIPTOR_WORDS, Format
from hw.presets import WORD_BITS, Preset

__all__ = ["EntryLayout", "JobLayout", "TagLayout", "TokenLayout", "descriptor_layout"]


def descriptor_layout(layout: Format) -> data.FlexibleLayout:
    """Return the view of a 1024-bit descriptor as the fields of ``layout``."""
    return data.FlexibleLayout(32 * DESCRIPTOR_WORDS, {
        field.name: data.Field((signed if field.signed else unsigned)(field.width),
                               32 * field.word + field.lsb)
        for field in layout.fields.values()})


class TagLayout(data.StructLayout):
    """Where the result of one (pixel, time step) goes: rows, words and beats of the buffers."""

    def __init__(self, preset: Preset):
        super().__init__({
            "context": 1,
            "first": 1,
            "psum": ceil_log2(preset.psum_rows),
            "residual": ceil_log2(preset.residual_rows),
            "word": ceil_log2(preset.out_beats * preset.beat_words),
            "value": ceil_log2(preset.out_beats),
        })


class JobLayout(data.StructLayout):
    """One output pixel: its clipped window and where its results go."""

    def __init__(self, preset: Preset):
        words = ceil_log2(preset.map_words)
        super().__init__({
            "origin": words,  # map word of (plane 0, step 0, row 0) + x of the window
            "low": words + 1,  # first and last + 1 word of a kernel row inside the map
            "high": words + 1,
            "y": signed(words + 2),  # row offset of the window, in words
            "weight": ceil_log2(preset.weight_rows),
            "step": 8,
            "plane": 8,
            "tag": TagLayout(preset),
        })


class EntryLayout(data.StructLayout):
    """Up to ``map_banks`` words of a window, on their way to a group."""

    def __init__(self, preset: Preset):
        super().__init__({
            "words": data.ArrayLayout(WORD_BITS, preset.map_banks),
            "row": ceil_log2(preset.weight_rows),  # weight row of word 0, bit 0
            "minus": 1,  # digits are -1
            "depthwise": 1,
            "unsigned": 1,
            "mask_bit": 5,
            "double": 4,  # doublings before the next entry's first addition
            "end": 1,  # last entry of the unit
        })


class TokenLayout(data.StructLayout):
    """One addition in the lanes of a group."""

    def __init__(self, preset: Preset):
        super().__init__({
            "row": ceil_log2(preset.weight_rows),
            "mask": preset.lanes,
            "add": 1,  # 0: adds nothing (a marker)
            "minus": 1,
            "unsigned": 1,
            "clear": 1,  # the accumulators start at 0
            "double": 1,  # the accumulators are doubled first
            "end": 1,  # the unit's result is complete after this
        })
