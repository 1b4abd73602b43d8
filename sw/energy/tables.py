# SPDX-License-Identifier: Apache-2.0
"""Published energies of an operation, in pJ, by name."""

import math
from dataclasses import dataclass

from sw.errors import AddendError

__all__ = ["DEFAULT_TABLE", "TABLES", "EnergyTable", "EnergyTableError", "get_table"]

KIB = 1024


class EnergyTableError(AddendError):
    """A table of energies that does not exist."""


@dataclass(frozen=True, kw_only=True)
class EnergyTable:
    """Energies of one process, in pJ. What the source does not give is a method, and says how it
    is found."""

    name: str
    source: str
    """Where the fields below are from, unless they say otherwise."""
    add_8: float
    """Addition of 8-bit integers."""
    add_32: float
    """Addition of 32-bit integers."""
    sram: tuple[tuple[int, float], ...]
    """(bytes of the memory, 64 bits read from it), the smallest first."""
    dram: float
    """64 bits from or to DRAM; where the source gives a range, its lower end."""
    dram_high: float
    """The upper end, or the same."""

    def add(self, bits: int) -> float:
        """Addition of integers: on the line through those of 8 and 32 bits."""
        return self.add_8 + (self.add_32 - self.add_8) * (bits - 8) / 24

    def register(self, bits: int) -> float:
        """Read or write of a register beside an adder: no source gives it; taken as an addition of
        as many bits."""
        return self.add(bits)

    def sram_access(self, size: float) -> float:
        """64 bits read from or written to a memory of `size` bytes.

        Linear in log2(size) between the source's sizes; a smaller memory costs what the smallest
        does, a larger one goes on as between the two largest. A write is taken to cost a read.
        """
        place = math.log2(max(size, self.sram[0][0]))
        pairs = list(zip(self.sram, self.sram[1:], strict=False))
        below, above = next((pair for pair in pairs if size <= pair[1][0]), pairs[-1])
        low, high = math.log2(below[0]), math.log2(above[0])
        return below[1] + (above[1] - below[1]) * (place - low) / (high - low)


TABLES = {table.name: table for table in (
    EnergyTable(
        name="horowitz-45nm",
        source="M. Horowitz, \"Computing's Energy Problem (and what we can do about it)\", ISSCC "
               "2014: 45 nm, 0.9 V",
        add_8=0.03, add_32=0.1,
        sram=((8 * KIB, 10.0), (32 * KIB, 20.0), (1024 * KIB, 100.0)),
        dram=1300.0, dram_high=2600.0),
    EnergyTable(
        name="jouppi-7nm",
        source="N. Jouppi et al., \"Ten Lessons From Three Generations Shaped Google's TPUv4i\", "
               "ISCA 2021, table 2: 7 nm; DRAM: DDR3/4",
        add_8=0.007, add_32=0.03,
        sram=((8 * KIB, 7.5), (32 * KIB, 8.5), (1024 * KIB, 14.0)),
        dram=1300.0, dram_high=1300.0),
)}

DEFAULT_TABLE = "horowitz-45nm"


def get_table(name: str) -> EnergyTable:
    """The table called `name`; raises EnergyTableError with the names that exist."""
    try:
        return TABLES[name]
    except KeyError:
        raise EnergyTableError(f"no energy table '{name}'; there are {', '.join(TABLES)}") from None
