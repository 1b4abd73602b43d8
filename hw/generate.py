# SPDX-License-Identifier: Apache-2.0
"""Generates the Verilog of a preset, or of one core of it.

    python -m hw.generate tiny > addend.v
"""

import sys

from amaranth.back import verilog
from amaranth.lib import wiring

from hw.conv.group import Group
from hw.fastmem import fast_memories
from hw.lif.epilogue import Epilogue
from hw.presets import Preset, get_preset
from hw.sdsa.count_matrix import CountMatrix
from hw.top import Accelerator

__all__ = ["CORES", "TOP", "convert", "generate", "instance"]

TOP = "addend"
"""Name of the top module."""

CORES = {"lif": Epilogue, "conv": Group, "sdsa": CountMatrix}
"""Components that stand alone too; module ``addend_lif`` and so on."""


def instance(preset: Preset, core: str | None = None) -> tuple[str, wiring.Component]:
    """Return the module's name and the component: the accelerator, or a core."""
    if core is None:
        return TOP, Accelerator(preset)
    return f"{TOP}_{core}", CORES[core](preset)


def convert(name: str, component: wiring.Component) -> str:
    """Return Verilog."""
    with fast_memories():
        return verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)


def generate(preset_name, compute=None):
    """Return the Verilog of the accelerator.

    Parameters: ``preset_name``; ``compute``, a class to use instead of hw.compute.Compute.
    """
    preset = get_preset(preset_name)
    return convert(TOP, Accelerator(preset, compute(preset) if compute else None))


if __name__ == "__main__":
    sys.stdout.write(generate(sys.argv[1] if len(sys.argv) > 1 else "tiny"))
