# SPDX-License-Identifier: Apache-2.0
"""The buffers of the accelerator that are meant for block RAM, from a preset alone."""

import dataclasses

from hw.presets import STEP_BITS, WORD_BITS, Preset

__all__ = ["Buffer", "buffers"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buffer:
    """Equal memories, each with one port that writes and ``reads`` that read, all on one clock."""

    name: str
    """What `addend info` calls it."""
    component: str
    """Where it is built, by the names of hw.frame.COMPONENTS."""
    count: int
    """Memories of this shape."""
    width: int
    """Bits of a row."""
    depth: int
    """Rows."""
    strobe: int
    """Bits that are written together at least: one write enable for so many. Divides ``width``."""
    reads: int = 1
    """Ports that read."""
    bulk: bool = False
    """Lies in UltraRAM where there is some: see `sw.fpga.targets`."""
    forced: bool = False
    """Lies in block RAM even where distributed memory would be cheaper."""
    shared: bool = False
    """The first of them has the address of the write port: one port of a true dual-port memory."""

    @property
    def strobes(self) -> int:
        """Write enables of a row."""
        return self.width // self.strobe

    @property
    def bits(self) -> int:
        """Bits that the memories hold, in all."""
        return self.count * self.width * self.depth


def buffers(preset: Preset) -> list[Buffer]:
    """List the buffers of a preset. Two groups share a copy of the weights, each in two banks."""
    pairs, single = divmod(preset.groups, 2)
    weights = {"name": "weight buffer", "component": "weights", "width": preset.weight_row_bits,
               "depth": preset.weight_rows // 2, "strobe": preset.axi_bits, "shared": True,
               "bulk": True}
    found = [
        Buffer(name="map buffer", component="maps", count=preset.map_banks,
               width=WORD_BITS + 1, depth=preset.map_rows, strobe=WORD_BITS + 1),
        Buffer(count=2 * pairs, reads=2, **weights), Buffer(count=2 * single, reads=1, **weights),
        Buffer(name="partial sums", component="epilogue", count=1,
               width=preset.sum_width * preset.epilogue_lanes, depth=preset.psum_rows,
               strobe=preset.sum_width * preset.epilogue_lanes),
        Buffer(name="residual buffer", component="epilogue", count=1,
               width=preset.residual_row_bits, depth=preset.residual_rows, strobe=preset.axi_bits),
        Buffer(name="output buffer", component="output", count=preset.out_banks,
               width=preset.axi_bits, depth=preset.out_rows, strobe=preset.epilogue_lanes)]
    if preset.wide_luts:
        lanes = preset.epilogue_lanes
        found += [Buffer(name="parameters", component="epilogue", count=1, width=bits * lanes,
                         depth=preset.param_rows, strobe=bits, forced=True)
                  for bits in (34, 28, STEP_BITS)]  # bias and shift, threshold, step
        membranes = (preset.sum_width + 1) * lanes
        found.append(Buffer(name="membranes", component="epilogue", count=1, width=membranes,
                            depth=preset.groups * preset.beats_per_tile, strobe=membranes,
                            forced=True))
    return [buffer for buffer in found if buffer.count]
