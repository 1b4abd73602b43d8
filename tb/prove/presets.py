# SPDX-License-Identifier: Apache-2.0
"""The preset of the proofs: as small as a preset can be."""

from hw.presets import Preset

__all__ = ["MINUTE"]

MINUTE = Preset(
    name="minute", groups=2, lanes=8, epilogue_lanes=4, axi_bits=64, map_banks=2, map_rows=8,
    weight_rows=64, psum_rows=4, residual_rows=4, param_rows=4, out_banks=2, out_rows=8,
    fifo_depth=4)
