# SPDX-License-Identifier: Apache-2.0
"""Generates the Verilog of a preset.

    python -m hw.generate tiny > addend.v
"""

import sys

from amaranth.back import verilog

from hw.fastmem import fast_memories
from hw.presets import get_preset
from hw.top import Accelerator

__all__ = ["TOP", "generate"]

TOP = "addend"
"""Name of the top module."""


def generate(preset_name, compute=None):
    """Return the Verilog of the accelerator.

    Parameters: ``preset_name``; ``compute``, a class to use instead of hw.compute.Compute.
    """
    preset = get_preset(preset_name)
    top = Accelerator(preset, compute(preset) if compute else None)
    with fast_memories():
        return verilog.convert(top, name=TOP, emit_src=False, strip_internal_attrs=True)


if __name__ == "__main__":
    sys.stdout.write(generate(sys.argv[1] if len(sys.argv) > 1 else "tiny"))
