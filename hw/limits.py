# SPDX-License-Identifier: Apache-2.0
"""What the fields of a descriptor may hold on a preset, declared once.

The dispatcher refuses what breaks these limits, and the driver says which one was broken. Imports
no Amaranth.
"""

from __future__ import annotations

import dataclasses

from hw.descriptor import CONV, FORMATS, KTV, LOAD, STORE, Flag, Opcode, Target
from hw.presets import INTEGER_BITS, LEVEL_BITS, WORD_BITS, Preset

__all__ = ["BEAT_BITS", "COUNTS", "Limit", "broken_limit", "limits"]

BEAT_BITS = 24
"""Bits of a beat address in an on-chip buffer."""

COUNTS = {
    Opcode.LOAD: (LOAD, ("length", "count_1", "count_2", "beat_step")),
    Opcode.STORE: (STORE, ("length", "count_1", "count_2", "beat_step")),
    Opcode.CONV: (CONV, ("time_steps", "repeat", "columns", "rows", "images", "planes")),
    Opcode.KTV: (KTV, ("time_steps", "key_words", "columns", "rows", "parts")),
}
"""Counts that must be at least 1."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """A field holds ``low`` to ``high``, in steps of ``step`` (a power of two).

    In a CONV it matters only with one of the flags ``only`` (0: always), and not with ``unless``.
    """

    field: str
    low: int = 0
    high: int | None = None
    step: int = 1
    only: int = 0
    unless: int = 0

    def holds(self, value: int) -> bool:
        """Return whether ``value`` is allowed."""
        return (self.low <= value and (self.high is None or value <= self.high)
                and value % self.step == 0)

    def matters(self, flags: int) -> bool:
        """Return whether it applies to a descriptor with these flags."""
        return (not self.only or bool(self.only & flags)) and not self.unless & flags

    def __str__(self) -> str:
        parts = [] if self.high is None else [f"{self.low} to {self.high}"]
        parts += [f"a multiple of {self.step}"] if self.step > 1 else []
        return " and ".join(parts)


def limits(opcode: Opcode, preset: Preset) -> tuple[Limit, ...]:
    """List the limits of a kind of descriptor, beside COUNTS.

    Bases lie in their buffers. How far a walk gets from there isn't limited: it wraps around.
    """
    maps, weights = preset.map_words - 1, preset.weight_rows - 1
    last_bit = WORD_BITS - preset.lanes
    if opcode in (Opcode.LOAD, Opcode.STORE):
        target = (Limit("target", high=max(Target)),) if opcode is Opcode.LOAD else ()
        return (Limit("address_high", high=0), *target,
                *(Limit(name, step=preset.beat_bytes) for name in ("address", "step_1", "step_2")),
                Limit("buffer", high=(1 << BEAT_BITS) - 1))
    if opcode is Opcode.KTV:
        return (Limit("key_base", high=maps), Limit("value_base", high=maps),
                Limit("value_bit", high=last_bit), Limit("weight_base", high=weights),
                Limit("clear_base", high=weights), Limit("value_planes", low=1, high=LEVEL_BITS),
                Limit("key_planes", low=1, high=1 << LEVEL_BITS - 1), Limit("key_double", high=1),
                Limit("diagonal", high=1))
    if opcode is not Opcode.CONV:
        return ()
    part = preset.beats_per_tile
    whole = {"step": WORD_BITS, "unless": int(Flag.DEPTHWISE)}
    psum = {"step": part, "only": int(Flag.PSUM_IN | Flag.PSUM_OUT)}
    residual = {"step": part, "only": int(Flag.RESIDUAL_IN | Flag.RESIDUAL_SUM)}
    planes = {"only": int(Flag.OUT_SPIKES | Flag.OUT_INTEGER | Flag.OUT_LEVELS)}
    return (
        Limit("plane_shift", high=15), Limit("group_shift", high=15), Limit("map_base", high=maps),
        Limit("kernel_rows", high=256), Limit("window_reads", low=1, high=preset.fifo_depth),
        Limit("weight_base", high=weights), Limit("weight_base", **whole),
        Limit("weight_plane_step", **whole), Limit("weight_group_step", **whole),
        Limit("weight_time_step", **whole),
        Limit("psum_base", high=preset.psum_rows - 1, **psum),
        Limit("psum_pixel_step", **psum), Limit("psum_time_step", **psum),
        Limit("residual_base", high=preset.residual_rows - 1, **residual),
        Limit("residual_pixel_step", **residual), Limit("residual_time_step", **residual),
        Limit("param_base", high=preset.param_rows - 1, step=part),
        Limit("integer_bits", high=INTEGER_BITS, only=int(Flag.OUT_INTEGER)),
        Limit("level_bits", low=1, high=LEVEL_BITS, only=int(Flag.OUT_LEVELS)),
        Limit("ties_even", high=1, only=int(Flag.OUT_LEVELS)),
        Limit("out_bit", high=last_bit, **planes),
        Limit("word_base", high=preset.out_beats * preset.beat_words - 1, **planes),
        Limit("value_base", high=preset.out_beats - 1,
              only=int(Flag.OUT_RESIDUAL | Flag.OUT_RAW)),
        Limit("mask_bit", high=last_bit, only=int(Flag.DEPTHWISE)))


def broken_limit(descriptor: bytes, preset: Preset) -> str | None:
    """Say which field of a descriptor is outside its limits, if any is."""
    if descriptor[0] not in set(Opcode):
        return f"opcode must be {min(Opcode)} to {max(Opcode)}, not {descriptor[0]}"
    opcode = Opcode(descriptor[0])
    fields = FORMATS[opcode].unpack(descriptor)
    _, counts = COUNTS.get(opcode, (None, ()))
    for name in counts:
        if fields[name] == 0:
            return f"{opcode.name}.{name} must be at least 1, not 0"
    for limit in limits(opcode, preset):
        value = fields[limit.field]
        if limit.matters(fields.get("flags", 0)) and not limit.holds(value):
            return f"{opcode.name}.{limit.field} must be {limit}, not {value}"
    return None
