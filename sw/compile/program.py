# SPDX-License-Identifier: Apache-2.0
"""A compiled program: what goes into memory, where tensors are, and what each layer costs."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from hw.descriptor import DESCRIPTOR_BYTES, FORMATS, Opcode
from hw.presets import Preset
from sw.compile.layout import Layout

__all__ = ["LayerRow", "Program"]


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer in the compiler's table."""

    name: str
    kind: str
    out_shape: tuple[int, ...]
    weights: int
    tiles: int
    blocks: int
    chunks: int
    cycles: int
    """Predicted."""
    compute_cycles: int
    additions: int
    """Predicted weight rows added; times lanes, the additions of the array."""
    bytes_read: int
    bytes_written: int
    descriptors: int


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything a driver needs to run a batch of images of a model on one preset.

    Addresses are absolute. Functions that take ``memory`` (uint8) expect its first byte at address
    ``origin``.
    """

    model_name: str
    preset: Preset
    base: int
    size: int
    """Bytes of memory from ``base``: constants, program, input and every tensor."""
    segments: tuple[tuple[int, np.ndarray], ...]
    """(address, bytes) that must be in memory before a run, the program included."""
    descriptors: tuple[bytes, ...]
    address: int
    """Of the first descriptor."""
    images: tuple[dict[str, Layout], ...]
    """The layouts of each image's tensors, by name."""
    input_name: str
    logits_name: str
    read_region: tuple[int, int]
    write_region: tuple[int, int]
    layers: tuple[LayerRow, ...]
    model_layers: int
    """Layers of the model, those that the program doesn't run included."""

    @property
    def batch(self) -> int:
        """Images of a run."""
        return len(self.images)

    @property
    def tensors(self) -> dict[str, Layout]:
        """The layouts of the first image's tensors, by name."""
        return self.images[0]

    @property
    def count(self) -> int:
        """Descriptors, END included."""
        return len(self.descriptors)

    @property
    def program_bytes(self) -> int:
        return DESCRIPTOR_BYTES * self.count

    def transfers(self) -> list[tuple[int, int]]:
        """Bytes that each layer's LOADs read and its STOREs write; all layers of the model."""
        found = [[0, 0] for _ in range(self.model_layers)]
        for descriptor in self.descriptors:
            if descriptor[0] in (Opcode.LOAD, Opcode.STORE):
                fields = FORMATS[Opcode(descriptor[0])].unpack(descriptor)
                size = fields["length"] * fields["count_1"] * fields["count_2"]
                found[fields["layer"]][descriptor[0] == Opcode.STORE] += (
                    size * self.preset.beat_bytes)
        return [(read, written) for read, written in found]

    @property
    def predicted_cycles(self) -> int:
        return sum(row.cycles for row in self.layers)

    def load(self, memory: np.ndarray, origin: int = 0) -> None:
        """Write constants and program."""
        for address, data in self.segments:
            memory[address - origin:address - origin + data.size] = data

    def write_input(self, memory: np.ndarray, image: np.ndarray, origin: int = 0,
                    number: int = 0) -> None:
        """Write an integer image `[Ti, C, H, W]` (numpy or torch), the batch's `number`."""
        self.write_tensor(memory, self.input_name, image, origin, number)

    def write_tensor(self, memory: np.ndarray, name: str, value: np.ndarray, origin: int = 0,
                     number: int = 0) -> None:
        """Write a tensor of an image of the batch, in the model's shape (numpy or torch)."""
        layout = self.images[number][name]
        data = layout.encode(np.asarray(value))
        memory[layout.address - origin:layout.address - origin + data.size] = data

    def read_tensor(self, memory: np.ndarray, name: str, origin: int = 0,
                    number: int = 0) -> np.ndarray:
        """A tensor of an image of the batch, in the model's shape."""
        layout = self.images[number][name]
        start = layout.address - origin
        return layout.decode(memory[start:start + layout.size])

    def rows(self) -> list[dict[str, object]]:
        """The layer table as dicts."""
        return [dataclasses.asdict(row) for row in self.layers]

    def table(self, cycles: Sequence[int]) -> Table:
        """The layer table for a terminal; `cycles` of each layer, as `sw.cycles` predicts them."""
        table = Table(title=f"{self.model_name} on {self.preset.name}: {self.count} descriptors, "
                      f"{self.size / 1e6:.2f} MB, {sum(cycles):,} cycles predicted")
        names = ["layer", "kind", "output", "weights", "tiles", "blocks", "chunks", "descriptors",
                 "bytes", "cycles", "busy"]
        for name in names:
            table.add_column(name, justify="left" if name in ("layer", "kind") else "right")
        for row, taken in zip(self.layers, cycles, strict=True):
            busy = row.additions / self.preset.groups / max(taken, 1)
            table.add_row(row.name, row.kind, "x".join(map(str, row.out_shape)),
                          f"{row.weights:,}", str(row.tiles), str(row.blocks), str(row.chunks),
                          str(row.descriptors), f"{row.bytes_read + row.bytes_written:,}",
                          f"{taken:,}", f"{busy:.0%}")
        return table
