# SPDX-License-Identifier: Apache-2.0
"""What an image asked of each part of the accelerator, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass

from sw.compile.program import Program
from sw.cycles.activity import fills
from sw.energy.buffers import Traffic, buffer_traffic
from sw.model_file import IntegerModel
from sw.profile import Profile

__all__ = ["DESCRIPTORS", "NOT_USEFUL", "Counted", "Row", "account"]

NOT_USEFUL, DESCRIPTORS = "not useful", "descriptors"
"""Rows beside the layers: additions that no spike asked for, and what the fetcher reads."""

WEIGHT_BITS = 8
_ADDED = ("useful", "redundant", "empty", "masked")
"""Causes of a profile's adder slots that hold an addition."""


@dataclass(frozen=True)
class Row:
    """A layer, or something beside the layers, in one image."""

    name: str
    kind: str
    additions: float
    """Of the lanes."""
    outside: float
    """Useful additions of the count matrix and the epilogue."""
    bytes_read: float
    bytes_written: float
    """From and to memory."""
    traffic: Traffic
    """Bits read from and written to the buffers on chip."""

    @property
    def bytes_moved(self) -> float:
        """Bytes from and to memory."""
        return self.bytes_read + self.bytes_written

    @property
    def bytes_on_chip(self) -> dict[str, float]:
        """Bytes read from and written to the buffers on chip."""
        return {buffer: bits / 8 for buffer, bits in self.traffic.items()}


@dataclass(frozen=True)
class Counted:
    """What was counted while images ran, means of an image."""

    additions: float
    """By the hardware: those of the lanes."""
    bytes_read: float
    """By the hardware, descriptors included."""
    useful: Mapping[str, float]
    """By the golden model: useful additions of the lanes, by layer."""
    outside: Mapping[str, float]
    """By the golden model: useful additions elsewhere, by layer."""
    bits: Mapping[str, float]
    """By the golden model: set bits of each map (`sw.golden.activity.set_bits`)."""


def account(model: IntegerModel, program: Program, counted: Counted,
            profile: Profile | None = None) -> tuple[Row, ...]:
    """The rows of an image: all layers, and what belongs to none.

    Counted by the hardware: additions and bytes read of the whole run. Counted by the golden
    model: useful additions of each layer. Computed from the program's descriptors: bytes of each
    layer, and all traffic on chip but the weights that lanes read, which are a byte for each
    addition. Without a profile, additions beyond the useful ones are a row of their own; with one
    (of as many images as the program's batch) they are in their layers.
    """
    images = program.batch
    traffic = buffer_traffic(program.preset, program.descriptors, len(model.layers),
                             fills(model, program, counted.bits))
    added = counted.useful if profile is None else {
        name: sum(slots[cause] for cause in _ADDED) / images
        for name, slots in profile.by_layer().items()}
    rows = [
        Row(layer.name, layer.kind, added[layer.name], counted.outside[layer.name],
            read / images, written / images,
            _with_weights({buffer: bits / images for buffer, bits in moved.items()},
                          added[layer.name]))
        for layer, moved, (read, written) in zip(
            model.layers, traffic, program.transfers(), strict=True)]
    if profile is None:
        rest = counted.additions - sum(counted.useful.values())
        rows.append(Row(NOT_USEFUL, "", rest, 0.0, 0.0, 0.0, _with_weights({}, rest)))
    fetched = counted.bytes_read - sum(row.bytes_read for row in rows)
    return (*rows, Row(DESCRIPTORS, "", 0.0, 0.0, fetched, 0.0, {}))


def _with_weights(traffic: Traffic, additions: float) -> Traffic:
    """With the weights that the lanes read: a byte for each addition."""
    return traffic | {"weight": traffic.get("weight", 0.0) + WEIGHT_BITS * additions}
