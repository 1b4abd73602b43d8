# SPDX-License-Identifier: Apache-2.0
"""Layouts that several components share. Widths follow from the preset."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from hw.descriptor import DESCRIPTOR_WORDS, Format
from hw.presets import WORD_BITS, Preset

__all__ = ["EntryLayout", "JobLayout", "RowLayout", "TagLayout", "TokenLayout",
           "UnitLayout", "WordLayout", "descriptor_layout"]


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
            "inner": 8,  # plane of the group
            "last_step": 1,
            "last_plane": 1,
            "last_inner": 1,
            "two": 1,  # pixels: this one and the next, which is the group's neighbour's
            "paired": 1,  # the CONV's flag
            "tag": TagLayout(preset),
        })


class UnitLayout(data.StructLayout):
    """One plane of one time step of a job, for one group."""

    def __init__(self, preset: Preset):
        words = ceil_log2(preset.map_words)
        super().__init__({
            "group": ceil_log2(preset.groups),
            "context": 1,
            "origin": words,
            "low": words + 1,
            "high": words + 1,
            "y": signed(words + 2),
            "weight": ceil_log2(preset.weight_rows),
            "minus": 1,  # digits are -1
            "two": 1,  # the window is that of two pixels
            "double": 4,  # doublings behind it
            "end": 1,  # last plane of its step
        })


class RowLayout(data.StructLayout):
    """The words of one kernel row of a unit."""

    def __init__(self, preset: Preset):
        words = ceil_log2(preset.map_words)
        super().__init__({
            "group": ceil_log2(preset.groups),
            "context": 1,
            "address": words,  # map word of the first one
            "words": words + 1,
            "row": ceil_log2(preset.weight_rows),  # as in an entry
            "last": 1,  # of the unit
            "minus": 1,
            "two": 1,
            "begins": 1,  # the first word is in no window but the first pixel's
            "ends": 1,  # the last word is in no window but the second pixel's
            "double": 4,
            "end": 1,
        })


class EntryLayout(data.StructLayout):
    """Up to ``map_banks`` words of a window, on their way to a group."""

    def __init__(self, preset: Preset):
        super().__init__({
            "words": data.ArrayLayout(WORD_BITS, preset.map_banks),
            "row": ceil_log2(preset.weight_rows),  # word 0's; dense: in units of 32 weight rows
            "context": 1,
            "single": 1,  # at most one word has a set bit
            "minus": 1,  # digits are -1
            "depthwise": 1,
            "unsigned": 1,
            "mask_bit": 5,
            "double": 4,  # doublings before the next entry's first addition
            "end": 1,  # last entry of the unit
        })


class WordLayout(data.StructLayout):
    """What goes with one word of an entry."""

    def __init__(self, preset: Preset):
        super().__init__({
            "row": ceil_log2(preset.weight_rows),
            "last": 1,  # of the entry
            "empty": 1,  # the entry has no set bit at all
            "context": 1,
            "minus": 1,
            "depthwise": 1,
            "unsigned": 1,
            "mask_bit": 5,
            "double": 4,
            "end": 1,
        })


class TokenLayout(data.StructLayout):
    """One addition in the lanes of a group."""

    def __init__(self, preset: Preset):
        super().__init__({
            "row": ceil_log2(preset.weight_rows),
            "mask": preset.lanes,
            "context": 1,
            "add": 1,  # 0: adds nothing (a marker)
            "minus": 1,
            "unsigned": 1,
            "double": 1,  # the accumulators are doubled first
            "end": 1,  # the unit's result is complete after this
        })
