# SPDX-License-Identifier: Apache-2.0
"""The program format: descriptors of 32 words of 32 bits, little endian.

Declared once here; the hardware slices descriptors by it, the compiler packs them by it, and
``docs/descriptors.md`` is generated from it. Imports no Amaranth.

Units: a *word* is 32 bits (32 channels of one pixel), a *beat* is one AXI transfer
(``Preset.axi_bits``), a *row* is a row of the buffer named.
"""

from __future__ import annotations

import dataclasses
import enum

__all__ = ["CONV", "DESCRIPTOR_BYTES", "DESCRIPTOR_WORDS", "END", "FLAG_TEXT", "FORMATS", "KTV",
           "LOAD", "STORE", "DescriptorError", "Field", "Flag", "Format", "Opcode", "Target",
           "markdown"]

DESCRIPTOR_WORDS = 32
DESCRIPTOR_BYTES = 4 * DESCRIPTOR_WORDS


class DescriptorError(ValueError):
    """A field that does not fit, or a descriptor that can't be decoded."""


class Opcode(enum.IntEnum):
    """First byte of a descriptor: the unit that runs it, and what it does."""

    LOAD = 1
    STORE = 2
    CONV = 3
    KTV = 4
    END = 5


class Target(enum.IntEnum):
    """Buffer that a LOAD fills."""

    MAP = 0
    WEIGHT = 1
    PARAM = 2
    RESIDUAL = 3


class Flag(enum.IntFlag):
    """What a CONV does beside adding; `FLAG_TEXT` explains each."""

    DEPTHWISE = 1 << 0
    SIGNED_DIGITS = 1 << 1
    UNSIGNED_WEIGHTS = 1 << 2
    PSUM_IN = 1 << 3
    PSUM_OUT = 1 << 4
    RESIDUAL_IN = 1 << 5
    RESIDUAL_SUM = 1 << 6
    STREAM = 1 << 7
    OUT_RESIDUAL = 1 << 8
    OUT_SPIKES = 1 << 9
    OUT_INTEGER = 1 << 10
    OUT_RAW = 1 << 11
    FILL = 1 << 12
    FENCE = 1 << 13
    OUT_LEVELS = 1 << 14
    ONES = 1 << 15
    PAIRED = 1 << 16


FLAG_TEXT = {
    Flag.DEPTHWISE: "one tap a cycle: the word is the mask of the lanes",
    Flag.SIGNED_DIGITS: "planes alternate +digits, -digits; doubling before each + plane",
    Flag.UNSIGNED_WEIGHTS: "weight rows are counts 0..255",
    Flag.PSUM_IN: "add the partial sum of earlier chunks",
    Flag.PSUM_OUT: "keep the sum as a partial sum; no epilogue",
    Flag.RESIDUAL_IN: "y = s + residual",
    Flag.RESIDUAL_SUM: "pooling: the residual is added to the accumulator",
    Flag.STREAM: "the neuron's input is y (a residual stream), not z",
    Flag.OUT_RESIDUAL: "write y, 16 bit",
    Flag.OUT_SPIKES: "run the LIF neuron and write spikes",
    Flag.OUT_INTEGER: "write s as signed-digit planes",
    Flag.OUT_RAW: "write s as 32 bit words",
    Flag.FILL: "the bits of an output word above the tile's channels become 0",
    Flag.FENCE: "starts when the CONV before has ended; else their pixels may mix",
    Flag.OUT_LEVELS: "run the SFA neuron and write planes of its level",
    Flag.PAIRED: "depthwise: two pixels of a row share their reads; x_step is 1, the chunk is "
                 "whole kernel rows, string_words + 1 words take no more reads than string_words",
    Flag.ONES: "plane p of a level is level > p (that many spikes), else binary",
}
"""What each flag means."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a descriptor: word, lowest bit, width."""

    name: str
    word: int
    lsb: int
    width: int
    signed: bool
    text: str

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest value."""
        if self.signed:
            return -(1 << self.width - 1), (1 << self.width - 1) - 1
        return 0, (1 << self.width) - 1


class Format:
    """The fields of one kind of descriptor, placed in order; 16 and 8 bit fields share words."""

    def __init__(self, name: str, fields: list[tuple[str, int, str]]) -> None:
        self.name = name
        self.fields: dict[str, Field] = {}
        position = 0
        for field, width, text in fields:
            signed, width = width < 0, abs(width)
            position += -position % width
            self.fields[field] = Field(field, position // 32, position % 32, width, signed, text)
            position += width
        if position > 32 * DESCRIPTOR_WORDS:
            raise DescriptorError(f"{name}: {position} bits do not fit a descriptor")

    def pack(self, **values: int) -> bytes:
        """Return the descriptor's bytes; absent fields are 0, an unknown or too large one fails."""
        words = [0] * DESCRIPTOR_WORDS
        for name, value in values.items():
            if name not in self.fields:
                raise DescriptorError(f"{self.name} has no field {name!r}")
            field = self.fields[name]
            low, high = field.bounds
            if not low <= value <= high:
                raise DescriptorError(
                    f"{self.name}.{name} must be {low} to {high}, not {int(value)}")
            words[field.word] |= (int(value) & ((1 << field.width) - 1)) << field.lsb
        return b"".join(word.to_bytes(4, "little") for word in words)

    def unpack(self, data: bytes) -> dict[str, int]:
        """Return the fields' values by name."""
        values = {}
        for field in self.fields.values():
            word = int.from_bytes(data[4 * field.word:4 * field.word + 4], "little")
            value = (word >> field.lsb) & ((1 << field.width) - 1)
            if field.signed and value >> field.width - 1:
                value -= 1 << field.width
            values[field.name] = value
        return values


_HEAD = [
    ("opcode", 8, "what to do: see Opcode"),
    ("target", 8, "LOAD: the buffer to fill, see Target"),
    ("layer", 16, "number of the layer, for counters and errors"),
    ("wait", 16, "semaphores that must be above 0 before the start; each is then lowered by 1"),
    ("post", 16, "semaphores that are raised by 1 at the end"),
]

_TRANSFER = [
    ("address", 32, "byte address in memory of the first beat; a multiple of the beat"),
    ("address_high", 32, "upper half of the address; must be 0"),
    ("buffer", 32, "first beat in the buffer"),
    ("length", 16, "beats of one contiguous run; at least 1"),
    ("count_1", 16, "runs; at least 1"),
    ("count_2", 16, "times that the runs repeat; at least 1"),
    ("step_1", 32, "bytes in memory from run to run"),
    ("step_2", 32, "bytes in memory from repeat to repeat"),
    ("buffer_step_1", 32, "beats in the buffer from run to run, modulo 2^24"),
    ("buffer_step_2", 32, "beats in the buffer from repeat to repeat, modulo 2^24"),
    ("beat_step", 4, "beats in the buffer from beat to beat of a run; at least 1"),
]

LOAD = Format("LOAD", _HEAD + _TRANSFER)
STORE = Format("STORE", _HEAD + _TRANSFER)
END = Format("END", _HEAD)

CONV = Format("CONV", [
    *_HEAD,
    ("flags", 32, "see Flag"),
    ("time_steps", 8, "T: units of a pixel, each one result"),
    ("repeat", 8, "times that one result is fed to the neuron (static input), else 1"),
    ("columns", 16, "pixels of a row"),
    ("rows", 16, "rows of an image"),
    ("images", 16, "images"),
    ("planes", 8, "bit planes of a unit, most significant first"),
    ("plane_shift", 8, "doublings between planes of a group"),
    ("map_base", 32, "word of row 0, column 0 of plane 0, step 0 in the map buffer"),
    ("map_plane_step", -32, "words from plane to plane"),
    ("map_time_step", -32, "words from the last plane of a step to the first of the next"),
    ("map_image_step", 32, "words from image to image"),
    ("row_pitch", 16, "words from row to row"),
    ("row_words", 16, "valid words of a row: the window is clipped to 0 .. row_words - 1"),
    ("rows_words", 32, "valid rows x row_pitch: the window is clipped to 0 .. rows_words - 1"),
    ("x_start", -16, "first word of the first pixel's window in its row; negative in the padding"),
    ("x_step", 16, "words from pixel to pixel"),
    ("y_start", -32, "row offset (words) of the first row's window; negative in the padding"),
    ("y_step", 32, "words from output row to output row"),
    ("string_words", 16, "words of one kernel row: kw x words a pixel"),
    ("kernel_rows", 16, "kernel rows of the chunk; 0 reads nothing (pooling)"),
    ("chunk_first", -16, "weight word of the first kernel row's word 0; negative: starts later"),
    ("chunk_words", 16, "words of the chunk: those with weight word 0 .. chunk_words - 1 count"),
    ("window_reads", 8, "reads (map_banks words) of a whole window at most; 1 to fifo_depth"),
    ("weight_base", 16, "weight row of weight word 0; word w starts at + 32 w (depthwise + w)"),
    ("weight_plane_step", -16, "rows from plane to plane"),
    ("weight_time_step", -16, "rows from the last plane of a step to the first of the next"),
    ("psum_base", 16, "row of the first result"),
    ("psum_pixel_step", 16, "rows from pixel to pixel"),
    ("psum_time_step", 16, "rows from step to step"),
    ("residual_base", 16, "row of the first result in the residual buffer"),
    ("residual_pixel_step", 16, "rows from pixel to pixel"),
    ("residual_time_step", 16, "rows from step to step"),
    ("param_base", 16, "row of the tile's parameters"),
    ("integer_bits", 8, "width of an integer output: that many pairs of planes"),
    ("out_bit", 8, "bit of the tile's first channel in its output word"),
    ("word_base", 32, "word of the first spike (or plane 0) result in the output buffer"),
    ("word_column_step", 16, "words from pixel to pixel"),
    ("word_row_step", 16, "words from row to row"),
    ("word_image_step", 16, "words from image to image"),
    ("word_time_step", 16, "words from step to step"),
    ("plane_rows", 16, "rows of the output buffer from out_banks digit planes to the next ones"),
    ("value_base", 16, "beat of the first residual (or raw) result in the output buffer"),
    ("value_pixel_step", 16, "beats from pixel to pixel"),
    ("value_time_step", 16, "beats from step to step"),
    ("mask_bit", 8, "depthwise: bit of the tile's first channel in the input word"),
    ("level_bits", 8, "bits of a level, 1 to 4: levels are 0 to 2^(level_bits - 1)"),
    ("ties_even", 8, "1: a level half way between two is the even one, 0: the upper one"),
    ("group_planes", 8, "planes of a group; 0: all planes are one group"),
    ("group_shift", 8, "doublings between the last plane of a group and the next group"),
    ("weight_group_step", -16, "rows from the last plane of a group to the next group"),
    ("map_group_step", -32, "words from the last plane of a group to the next group"),
])

KTV = Format("KTV", [
    *_HEAD,
    ("time_steps", 8, "T: count matrices"),
    ("key_words", 8, "words of K that hold the head's channels"),
    ("columns", 16, "tokens of a row"),
    ("rows", 16, "rows of tokens"),
    ("key_base", 32, "word of the first token's first K word in the map buffer"),
    ("value_base", 32, "word of the first token's V word in the map buffer"),
    ("column_step", 16, "words from token to token of K"),
    ("row_step", 16, "words from row to row of K"),
    ("time_step", 32, "words from step to step of K"),
    ("first_mask", 32, "bits of the first K word that belong to the head"),
    ("last_mask", 32, "bits of the last K word that belong to the head"),
    ("lane_mask", 32, "lanes of the tile that belong to the head"),
    ("value_bit", 8, "bit of the tile's first channel in the V word"),
    ("value_planes", 8, "bit planes of V, most significant first; 1 to 4"),
    ("value_plane_step", 32, "words from plane to plane of V"),
    ("value_column_step", 16, "words from token to token of V"),
    ("value_row_step", 16, "words from row to row of V"),
    ("value_time_step", 32, "words from step to step of V"),
    ("key_planes", 8, "bit planes of K, most significant first; 1 to 8"),
    ("key_double", 8, "1: planes of K are binary, at most 4; 0: each weighs 1"),
    ("key_plane_step", 32, "words from plane to plane of K"),
    ("diagonal", 8, "1: K AND V of token n is added to row n mod 32 (SDSA-1); 0: V to K's rows"),
    ("parts", 8, "bytes of a count; counts carry into the row part_step further"),
    ("weight_base", 16, "row of the first K word's bit 0, least significant byte"),
    ("part_step", -16, "rows from a byte to the next more significant one"),
    ("weight_time_step", 16, "rows from step to step"),
    ("clear_rows", 16, "rows from weight_base that are zeroed for each step first; 0: keep"),
    ("clear_time_step", 16, "rows from step to step of the zeroed region"),
    ("clear_base", 16, "first row of the zeroed region"),
])

FORMATS = {Opcode.LOAD: LOAD, Opcode.STORE: STORE, Opcode.CONV: CONV, Opcode.KTV: KTV,
           Opcode.END: END}


def markdown() -> str:
    """Return docs/descriptors.md."""
    lines = ["# Descriptors", "", "Generated by `python -m hw.descriptor`; do not edit.", "",
             f"A descriptor is {DESCRIPTOR_WORDS} words of 32 bits, little endian. Bits that no",
             "field names are 0. A *word* of a buffer is 32 bits, a *beat* one AXI transfer, a",
             "*row* a row of the buffer named. [program.md](program.md) tells what each kind does."]
    for opcode, form in FORMATS.items():
        lines += ["", f"## {form.name} (opcode {opcode.value})", "",
                  "| word | bits | field | range | meaning |", "|---|---|---|---|---|"]
        for field in form.fields.values():
            low, high = field.bounds
            bits = f"{field.lsb + field.width - 1}:{field.lsb}"
            lines.append(f"| {field.word} | {bits} | {field.name} | {low} to {high} | "
                         f"{field.text} |")
    lines += ["", "## Targets of a LOAD", "", "| value | buffer |", "|---|---|"]
    lines += [f"| {target.value} | {target.name.lower()} |" for target in Target]
    lines += ["", "## Flags of a CONV", "", "| bit | flag | meaning |", "|---|---|---|"]
    lines += [f"| {flag.value.bit_length() - 1} | {flag.name} | {text} |"
              for flag, text in FLAG_TEXT.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import pathlib

    pathlib.Path("docs/descriptors.md").write_text(markdown())
