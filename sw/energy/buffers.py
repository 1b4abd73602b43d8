# SPDX-License-Identifier: Apache-2.0
"""Bits that go in and out of the buffers on chip, computed from a program's descriptors.

No counter of the hardware gives these. An access counts where its value is used: a partial sum is
read with PSUM_IN, a membrane from the second step on, a bias by the first chunk. Kernel rows in the
padding count as map reads.
"""

from collections.abc import Iterable, Iterator, Mapping

from hw.descriptor import FORMATS, Flag, Opcode, Target
from hw.presets import STEP_BITS, WORD_BITS, Preset
from sw.cycles.work import conv_work, count_additions, count_reads

__all__ = ["BUFFERS", "Traffic", "bank_bytes", "buffer_traffic", "weight_copies"]

BUFFERS = ("weight", "map", "psum", "residual", "param", "membrane", "output")
"""Buffers on chip."""

BIAS_BITS, THRESHOLD_BITS, SHIFT_BITS = 28, 28, 6
"""Of a channel's parameters in memory."""

Traffic = dict[str, float]
"""Bits read and written, by buffer."""

_LOADED = {Target.MAP: "map", Target.WEIGHT: "weight", Target.PARAM: "param",
           Target.RESIDUAL: "residual"}


def _membrane_bits(preset: Preset) -> int:
    """Bits of a membrane; as hw.lif.neuron_array."""
    return preset.sum_width + 1


def weight_copies(preset: Preset) -> int:
    """Copies of the weight buffer, one for two groups: each takes every write."""
    return (preset.groups + 1) // 2


def bank_bytes(preset: Preset) -> dict[str, float]:
    """Bytes of one memory of each buffer: a bank, of one copy."""
    lanes = preset.epilogue_lanes
    bits = {
        "weight": preset.weight_rows // 2 * preset.weight_row_bits,
        "map": preset.map_rows * WORD_BITS,
        "psum": preset.psum_rows * preset.sum_width * lanes,
        "residual": preset.residual_rows * preset.residual_row_bits,
        "param": preset.param_rows * preset.param_row_bits,
        "membrane": preset.groups * preset.beats_per_tile * _membrane_bits(preset) * lanes,
        "output": preset.out_rows * preset.axi_bits}
    return {name: bits[name] / 8 for name in BUFFERS}


def buffer_traffic(preset: Preset, descriptors: Iterable[bytes], layers: int,
                   fills: Mapping[int, tuple[float, ...]]) -> list[Traffic]:
    """Traffic of each layer in one run of the program, without the weights that the lanes read.

    These are a byte for each addition, which the hardware counts. `fills` are the set bits of a
    word of each layer's maps (`sw.cycles.activity.fills`), from which follow the rows of counts
    that a KTV adds to.
    """
    found = [dict.fromkeys(BUFFERS, 0.0) for _ in range(layers)]
    for packed in descriptors:
        opcode = Opcode(packed[0])
        d = FORMATS[opcode].unpack(packed)
        if opcode in (Opcode.LOAD, Opcode.STORE):
            moved = _transfer(preset, opcode, d)
        elif opcode is Opcode.CONV:
            moved = _conv(preset, d)
        elif opcode is Opcode.KTV:
            moved = _count(preset, d, fills[d["layer"]])
        else:
            continue
        for buffer, bits in moved:
            found[d["layer"]][buffer] += bits
    return found


def _transfer(preset: Preset, opcode: Opcode,
              d: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    bits = d["length"] * d["count_1"] * d["count_2"] * preset.axi_bits
    if opcode is Opcode.STORE:
        yield "output", bits
        return
    buffer = _LOADED[Target(d["target"])]
    yield buffer, bits * (weight_copies(preset) if buffer == "weight" else 1)


def _conv(preset: Preset, d: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    flags, lanes = Flag(d["flags"]), preset.epilogue_lanes
    yield "map", conv_work(preset, d, 0.0).reading * preset.map_row_bits
    once = d["rows"] * d["columns"] * d["images"] * d["time_steps"] * preset.beats_per_tile
    beats = once * d["repeat"]      # through the epilogue, epilogue_lanes channels each
    sums = beats * preset.sum_width * lanes
    if flags & Flag.PSUM_IN:
        yield "psum", sums
    if flags & Flag.PSUM_OUT:
        yield "psum", sums
    if flags & (Flag.RESIDUAL_IN | Flag.RESIDUAL_SUM):
        yield "residual", beats * preset.residual_row_bits
    yield "param", beats * _parameter_bits(flags) * lanes
    if flags & Flag.PSUM_OUT:
        return
    if flags & Flag.OUT_SPIKES:
        steps = d["time_steps"] * d["repeat"]
        yield "membrane", (2 * beats - beats // steps) * _membrane_bits(preset) * lanes
        yield "output", beats * lanes
    if flags & Flag.OUT_INTEGER:
        yield "output", 2 * d["integer_bits"] * beats * lanes
    if flags & Flag.OUT_LEVELS:
        planes = 1 << d["level_bits"] - 1 if flags & Flag.ONES else d["level_bits"]
        yield "output", planes * beats * lanes
    if flags & Flag.OUT_RESIDUAL:
        yield "output", 16 * once * lanes
    if flags & Flag.OUT_RAW:
        yield "output", 32 * once * lanes


def _parameter_bits(flags: Flag) -> int:
    """Bits of a channel's parameters that a result uses."""
    bias = 0 if flags & Flag.PSUM_IN else BIAS_BITS
    if flags & Flag.PSUM_OUT:
        return bias
    return (bias + SHIFT_BITS + THRESHOLD_BITS * bool(flags & (Flag.OUT_SPIKES | Flag.OUT_LEVELS))
            + STEP_BITS * bool(flags & Flag.OUT_LEVELS))


def _count(preset: Preset, d: Mapping[str, int],
           fills: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    steps, tokens = d["time_steps"], d["rows"] * d["columns"]
    yield "map", steps * tokens * count_reads(preset, d) * preset.map_row_bits
    rows = steps * tokens * count_additions(d, *fills[-2:])
    copies = weight_copies(preset)
    yield "weight", (rows * (1 + copies) + steps * d["clear_rows"] * copies
                     ) * preset.weight_row_bits
