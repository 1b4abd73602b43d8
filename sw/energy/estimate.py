# SPDX-License-Identifier: Apache-2.0
"""The energy of an account by a table, layer by layer and in all.

It has four parts. *Additions*: 24 bits wide for all that the account counts. *Registers*: the
accumulator of a lane is read and written in each addition. *SRAM*: the buffers on chip, by the size
of one of their memories; a narrower or wider access costs in proportion to its bits. *DRAM*: bytes
read and written. Not in it: the epilogue's arithmetic, scanners, queues and pipeline registers,
clock, wires, control, leakage, and the memory controller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hw.presets import Preset
from sw.energy.account import Row
from sw.energy.buffers import BUFFERS, bank_bytes
from sw.energy.papers import PapersEnergy
from sw.energy.tables import EnergyTable

__all__ = ["PARTS", "PJ_IN_UJ", "Estimate", "RowEnergy", "row_energy"]

PARTS = ("additions", "registers", "sram", "dram")
ACCESS_BITS = 64
"""Bits of the tables' memory accesses."""
PJ_IN_UJ = 1e6
"""pJ in a microjoule."""


@dataclass(frozen=True)
class RowEnergy:
    """The energy of a row of the account, in pJ."""

    row: Row
    parts: dict[str, float]
    sram: dict[str, float]
    """The part "sram", by buffer."""

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def as_json(self) -> dict[str, object]:
        row = self.row
        return {"name": row.name, "kind": row.kind, "additions": row.additions,
                "additions_outside_lanes": row.outside, "bytes_read": row.bytes_read,
                "bytes_written": row.bytes_written, "bytes_on_chip": row.bytes_on_chip,
                "microjoules": _micro(self.parts) | {"total": self.total / PJ_IN_UJ},
                "microjoules_sram": _micro(self.sram)}


def row_energy(row: Row, table: EnergyTable, preset: Preset) -> RowEnergy:
    """The energy of one row."""
    sizes, width = bank_bytes(preset), preset.acc_width
    sram = {buffer: bits / ACCESS_BITS * table.sram_access(sizes[buffer])
            for buffer, bits in row.traffic.items()}
    return RowEnergy(row, sram=sram, parts={
        "additions": (row.additions + row.outside) * table.add(width),
        "registers": row.additions * 2 * table.register(width),
        "sram": sum(sram.values()),
        "dram": 8 * row.bytes_moved / ACCESS_BITS * table.dram})


@dataclass(frozen=True)
class Estimate:
    """The energy of an image, the mean of `images`; in pJ."""

    model: str
    preset: Preset
    table: EnergyTable
    images: int
    rows: tuple[RowEnergy, ...]
    papers: PapersEnergy

    @classmethod
    def of(cls, model: str, preset: Preset, table: EnergyTable, images: int,
           rows: Iterable[Row], papers: PapersEnergy) -> "Estimate":
        """Estimate the rows of an account."""
        return cls(model, preset, table, images,
                   tuple(row_energy(row, table, preset) for row in rows), papers)

    @property
    def whole(self) -> RowEnergy:
        """All rows together."""
        rows = [found.row for found in self.rows]
        row = Row("all", "", sum(row.additions for row in rows), sum(row.outside for row in rows),
                  sum(row.bytes_read for row in rows), sum(row.bytes_written for row in rows),
                  _sums((row.traffic for row in rows), BUFFERS))
        return RowEnergy(row, _sums((found.parts for found in self.rows), PARTS),
                         _sums((found.sram for found in self.rows), BUFFERS))

    @property
    def total(self) -> float:
        return sum(row.total for row in self.rows)

    @property
    def total_dram_high(self) -> float:
        """With DRAM at the upper end of the table's range."""
        dram = sum(row.parts["dram"] for row in self.rows)
        return self.total + dram * (self.table.dram_high / self.table.dram - 1)

    def as_json(self) -> dict[str, object]:
        """Means of an image; energies in microjoules."""
        return {
            "model": self.model, "preset": self.preset.name, "table": self.table.name,
            "source": self.table.source, "images": self.images,
            "all": self.whole.as_json(), "microjoules_dram_high": self.total_dram_high / PJ_IN_UJ,
            "papers": self.papers.as_json(),
            "layers": [row.as_json() | {
                "microjoules_papers": self.papers.layer(row.row.name) / PJ_IN_UJ}
                for row in self.rows]}


def _sums(rows: Iterable[Mapping[str, float]], names: Iterable[str]) -> dict[str, float]:
    found = list(rows)
    return {name: sum(row.get(name, 0.0) for row in found) for name in names}


def _micro(energies: dict[str, float]) -> dict[str, float]:
    return {name: energy / PJ_IN_UJ for name, energy in energies.items()}
