# SPDX-License-Identifier: Apache-2.0
"""The presets that coefficients are fitted on, and those that are held out to test them.

Each variant changes what one term of `sw.fpga.terms` grows with, by as much as a few minutes of
synthesis allow: larger ones would cost more time than they tell.
"""

import dataclasses

from hw.presets import Preset, get_preset

__all__ = ["HELD_OUT", "VARIANTS", "accelerator"]


def accelerator(base: str, **changes: int) -> Preset:
    """Return a preset with changes. All have one name, which is part of what is synthesised."""
    return dataclasses.replace(get_preset(base), name="fit", **changes)


_TINY = {
    "tiny": accelerator("tiny"),
    "tiny, 6 groups": accelerator("tiny", groups=6),
    "tiny, 32 lanes": accelerator("tiny", lanes=32),
    "tiny, 4 groups, 8 banks": accelerator("tiny", groups=4, map_banks=8),
    "tiny, 32 lanes, 16 epilogue lanes, 128 bits": accelerator(
        "tiny", lanes=32, epilogue_lanes=16, axi_bits=128, map_banks=4, out_banks=4)}

VARIANTS = {
    "ecp5": {**_TINY, "small": accelerator("small"),
             "small, 8 groups": accelerator("small", groups=8)},
    "xilinx": {name: dataclasses.replace(preset, lut_inputs=6)
               for name, preset in {**_TINY, "small": accelerator("small")}.items()},
}
"""By the kind of logic, what is synthesised for a fit."""

HELD_OUT = {
    # as large as the device allows
    "ecp5": {"ecp5": accelerator("ecp5")},
    "xilinx": {"large": get_preset("large")},
}
"""By the kind of logic, what no fit sees: a test compares it with its estimate."""
