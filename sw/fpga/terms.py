# SPDX-License-Identifier: Apache-2.0
"""What the LUTs and flip-flops of a preset grow with.

Names in a flattened netlist tell neighbours apart only roughly: the registers of a result count
to its group in one netlist and to the epilogue in another. So the accelerator has three sections
that are fitted by themselves, along borders that netlists keep; within one, terms tell parts apart
by what changes from preset to preset.
"""

import dataclasses
from collections.abc import Callable

from hw.presets import Preset

__all__ = ["IGNORED", "SECTIONS", "TERMS", "Term", "section_of"]

SECTIONS = ("compute", "counts", "shell")
"""The compute unit without its count matrix; that; everything around (control, DMA, registers, and
the frame that ports lie in)."""

IGNORED = ("acc_width", "fifo_depth", "guard_bits", "param_rows", "semaphores", "sum_width")
"""Parameters that no term grows with: they must be those of the presets that were fitted."""


@dataclasses.dataclass(frozen=True)
class Term:
    """LUTs and flip-flops in proportion to ``size``; the factors are fitted, and not negative."""

    name: str
    section: str
    part: str
    """What `addend info` counts it to."""
    size: Callable[[Preset], float]
    """Larger the more there is of it; 1 where it is there once."""


TERMS = (
    Term("sequencing", "compute", "sequencing and walks", lambda preset: 1),
    # scanner, queue of entries but for its words, tags, picking, room
    Term("group", "compute", "groups", lambda preset: preset.groups),
    # accumulator, held result, weight register, and its share of the choice of a result
    Term("adder", "compute", "adders", lambda preset: preset.adders),
    # words of a window: in the map buffer's rotation, in the reader, and in each group's queue
    Term("window word", "compute", "windows",
         lambda preset: preset.map_banks * (preset.groups + 2)),
    # the datapath from sum to spike, parameters and membranes
    Term("epilogue lane", "compute", "epilogue", lambda preset: preset.epilogue_lanes),
    # beats of the output buffer, written and chosen from
    Term("output bit", "compute", "output", lambda preset: preset.out_banks * preset.axi_bits),
    Term("counting", "counts", "count matrix", lambda preset: 1),
    Term("count lane", "counts", "count matrix", lambda preset: preset.lanes),
    Term("count word", "counts", "count matrix", lambda preset: preset.map_banks),
    Term("control", "shell", "control and DMA", lambda preset: 1),
    Term("memory bit", "shell", "control and DMA", lambda preset: preset.axi_bits),
)


def section_of(module: str) -> str:
    """Return the section of a module as ``sw.fpga.census`` calls it."""
    if module.split(".")[:2] == ["compute", "counts"]:
        return "counts"
    return "compute" if module.split(".")[0] == "compute" else "shell"
