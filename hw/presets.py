# SPDX-License-Identifier: Apache-2.0
"""Sizes of the accelerator, by preset name. Everything else in the project follows from these.

Imports no Amaranth, so that the host side can use it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

__all__ = ["INTEGER_BITS", "LEVEL_BITS", "PARAM_BITS", "PRESETS", "SHIFTED_BITS", "STEP_BITS",
           "WORD_BITS", "Preset", "PresetError", "get_preset"]

INTEGER_BITS = 12
"""Bits of the widest integer map."""

SHIFTED_BITS = 22
"""Bits of a sum behind the shift, where it joins the residual stream."""

LEVEL_BITS = 4
"""Bits of the largest level, 8."""

STEP_BITS = 24
"""Bits of the step from level to level."""

PARAM_BITS = 128
"""Bits of a channel's parameters: bias 28, threshold 28, shift 6 and 2 unused; then step 24."""

WORD_BITS = 32
"""Channels in one spike word, and the width of a memory word."""


class PresetError(ValueError):
    """A preset that can't be built, or a name that is not known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One size of the accelerator.

    The adder array is ``groups`` x ``lanes``. Buffers are counted in their own rows; a *beat* is
    ``axi_bits`` bits, the unit in which DMA writes and reads every buffer.
    """

    name: str
    groups: int
    """Accumulator groups; each works on its own output pixel."""
    lanes: int
    """Adders in a group: output channels of a tile. Divides 32."""
    epilogue_lanes: int
    """Channels that the epilogue handles in a cycle. Divides ``lanes``."""
    axi_bits: int
    """Width of the AXI4 memory port, in bits."""
    map_banks: int
    """Words (32 spikes) that one window read returns."""
    map_rows: int
    """Rows of the map buffer, ``map_banks`` words each."""
    weight_rows: int
    """Weight rows on chip, ``lanes`` int8 each; two banks of half as many."""
    psum_rows: int
    """Partial sums on chip, ``epilogue_lanes`` each row."""
    residual_rows: int
    """Residual words on chip, ``epilogue_lanes`` each row."""
    param_rows: int
    """Bias / threshold / shift entries on chip, ``epilogue_lanes`` each row."""
    out_banks: int
    """Banks of the output buffer, one beat wide: digit planes written in a cycle."""
    out_rows: int
    """Rows of the output buffer, ``out_banks`` beats each."""
    acc_width: int = 24
    """Bits of an accumulator in a group."""
    sum_width: int = 28
    """Bits of a partial sum, a bias and a threshold."""
    guard_bits: int = 8
    """Fraction bits of an SFA neuron's threshold and step, below the unit of its input."""
    fifo_depth: int = 16
    """Window entries (``map_banks`` words each) that a group can hold."""
    semaphores: int = 16
    """Semaphores that order the load, compute and store units."""
    lut_inputs: int = 4
    """Inputs of the device's LUTs, 4 or 6. With 6 adders choose their operands themselves, for
    which doublings, of sums between bit planes, take tokens of their own; and parameters and
    membranes lie in block RAM, of which such devices have more."""

    def __post_init__(self) -> None:
        def demand(holds: bool, text: str) -> None:
            if not holds:
                raise PresetError(f"preset {self.name}: {text}")

        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                demand(value > 0, f"{field.name} must be positive, not {value}")
        for name in ("map_rows", "weight_rows", "psum_rows", "residual_rows", "param_rows",
                     "out_rows", "out_banks", "map_banks", "fifo_depth", "axi_bits"):
            value = getattr(self, name)
            demand(value & (value - 1) == 0, f"{name} must be a power of two, not {value}")
        demand(WORD_BITS % self.lanes == 0, f"lanes must divide 32, not {self.lanes}")
        demand(self.lanes % self.epilogue_lanes == 0,
               f"epilogue_lanes must divide {self.lanes}, not {self.epilogue_lanes}")
        demand(self.residual_row_bits <= self.axi_bits * self.out_banks,
               f"out_banks must hold a residual row of {self.residual_row_bits} bits, "
               f"not {self.out_banks} x {self.axi_bits}")
        demand(self.lut_inputs in (4, 6), f"lut_inputs must be 4 or 6, not {self.lut_inputs}")
        demand(64 <= self.axi_bits <= self.weight_row_bits,
               f"axi_bits must be 64 to {self.weight_row_bits}, not {self.axi_bits}")
        for name in ("weight_row_bits", "residual_row_bits", "map_row_bits"):
            value = getattr(self, name)
            demand(value % self.axi_bits == 0,
                   f"{name} must be a multiple of axi_bits {self.axi_bits}, not {value}")

    @property
    def adders(self) -> int:
        """Adders of the array."""
        return self.groups * self.lanes

    @property
    def wide_luts(self) -> bool:
        """Whether it is made for LUTs of six inputs."""
        return self.lut_inputs == 6

    @property
    def beats_per_tile(self) -> int:
        """Epilogue beats of one result (``lanes`` channels)."""
        return self.lanes // self.epilogue_lanes

    @property
    def beat_bytes(self) -> int:
        """Bytes of an AXI beat."""
        return self.axi_bits // 8

    @property
    def beat_words(self) -> int:
        """32-bit words of an AXI beat."""
        return self.axi_bits // WORD_BITS

    @property
    def weight_row_bits(self) -> int:
        """Bits of a weight row."""
        return 8 * self.lanes

    @property
    def map_row_bits(self) -> int:
        """Bits of a map buffer row."""
        return WORD_BITS * self.map_banks

    @property
    def residual_row_bits(self) -> int:
        """Bits of a residual buffer row."""
        return 16 * self.epilogue_lanes

    @property
    def param_row_bits(self) -> int:
        """Bits of a parameter row: PARAM_BITS a channel."""
        return PARAM_BITS * self.epilogue_lanes

    @property
    def map_words(self) -> int:
        """Words of the map buffer."""
        return self.map_rows * self.map_banks

    @property
    def out_beats(self) -> int:
        """Beats of the output buffer."""
        return self.out_rows * self.out_banks

    def identity(self) -> int:
        """Return 32 bits that name this configuration; the driver refuses other hardware."""
        fields = dataclasses.asdict(self)
        if not self.wide_luts:  # hardware from before the field keeps its name
            del fields["lut_inputs"]
        text = json.dumps(fields, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


PRESETS = {preset.name: preset for preset in (
    Preset(name="tiny", groups=2, lanes=8, epilogue_lanes=4, axi_bits=64, map_banks=2,
           map_rows=1024, weight_rows=512, psum_rows=128, residual_rows=256, param_rows=16,
           out_banks=2, out_rows=512),
    Preset(name="small", groups=4, lanes=16, epilogue_lanes=8, axi_bits=128, map_banks=8,
           map_rows=1024, weight_rows=1024, psum_rows=256, residual_rows=512, param_rows=16,
           out_banks=4, out_rows=512),
    Preset(name="ecp5", groups=8, lanes=32, epilogue_lanes=8, axi_bits=128, map_banks=8,
           map_rows=1024, weight_rows=2048, psum_rows=1024, residual_rows=2048, param_rows=16,
           out_banks=4, out_rows=1024),
    Preset(name="large", groups=16, lanes=32, epilogue_lanes=16, axi_bits=128, map_banks=8,
           map_rows=4096, weight_rows=4096, psum_rows=2048, residual_rows=2048, param_rows=16,
           out_banks=8, out_rows=1024, lut_inputs=6),
)}


def get_preset(name: str) -> Preset:
    """Return the preset called ``name``, or raise PresetError with the names that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise PresetError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None
