# SPDX-License-Identifier: Apache-2.0
"""LUTs, flip-flops and block RAM of a preset before it is synthesised, from its parameters alone.

Block RAM follows from the shapes of the buffers (`sw.fpga.block_ram`). LUTs and flip-flops are sums
of terms (`sw.fpga.terms`) whose factors `python -m sw.fpga.fit` found; docs/synthesis.md says how
well that does.
"""

import dataclasses
import functools
import json
import math
from collections import defaultdict
from pathlib import Path

from hw.presets import Preset
from sw.errors import AddendError
from sw.fpga.block_ram import map_buffer
from sw.fpga.buffers import buffers
from sw.fpga.targets import Target
from sw.fpga.terms import IGNORED, TERMS

__all__ = ["COEFFICIENTS", "FIGURES", "Estimate", "EstimateError", "block_ram", "coefficients",
           "estimate", "is_fitted"]

COEFFICIENTS = Path(__file__).with_name("coefficients.json")
"""Written by ``python -m sw.fpga.fit``: the factors, and the netlists that they come from."""
FIGURES = ("lut", "ff", "block_ram", "ultra_ram")


class EstimateError(AddendError, ValueError):
    """Nothing is known of this preset on this target."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a preset is expected to take of a device."""

    preset: Preset
    target: Target
    parts: dict[str, dict[str, float]]
    """FIGURES of each part; block RAM as the target counts it."""

    def total(self, figure: str) -> float:
        """One of FIGURES, in all."""
        return sum(part[figure] for part in self.parts.values())

    def share(self, figure: str) -> float:
        """The same, as a part of what the device has: above 1 where it doesn't fit."""
        taken = self.total(figure)
        return taken / self.target.available[figure] if taken else 0

    @property
    def scarcest(self) -> str:
        """The one of FIGURES that the device runs out of first."""
        return max(FIGURES, key=self.share)

    def dominant(self, figure: str) -> str:
        """The part that takes most of a figure."""
        return max(self.parts, key=lambda part: self.parts[part][figure])


def estimate(preset: Preset, target: Target) -> Estimate:
    """Return what ``preset`` is expected to take on ``target``, made for the target's LUTs.

    Raises EstimateError where no coefficients fit: a family that was never synthesised, or a
    parameter of IGNORED with another value than in the presets that were.
    """
    known = coefficients()
    if not is_fitted(target):
        raise EstimateError(f"nothing was fitted for {target.name}: see python -m sw.fpga.fit")
    for name in IGNORED:
        if getattr(preset, name) != known["fixed"][name]:
            raise EstimateError(f"preset {preset.name}: {name} is {getattr(preset, name)}, but "
                                f"estimates hold for {known['fixed'][name]} only")
    preset = dataclasses.replace(preset, lut_inputs=target.lut_inputs)
    factors = known["families"][target.logic]["factors"]
    parts: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(FIGURES, 0))
    for term in TERMS:
        for figure in ("lut", "ff"):
            parts[term.part][figure] += factors[term.name][figure] * term.size(preset)
    for name, part in block_ram(preset, target).items():
        parts[name] = part
    return Estimate(preset, target, {name: {**part, "lut": round(part["lut"]),
                                            "ff": round(part["ff"])}
                                     for name, part in parts.items()})


def block_ram(preset: Preset, target: Target) -> dict[str, dict[str, float]]:
    """Return block RAM, UltraRAM, and LUTs where those are cheaper, of each buffer; nothing is
    fitted."""
    parts: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(FIGURES, 0))
    for buffer in buffers(preset):
        found = map_buffer(buffer, target.family)
        whole = found.block_ram == math.floor(found.block_ram)
        parts[buffer.name]["block_ram"] += int(found.block_ram) if whole else found.block_ram
        parts[buffer.name]["ultra_ram"] += found.ultra_ram
        parts[buffer.name]["lut"] += found.lut
    return dict(parts)


def is_fitted(target: Target) -> bool:
    """Whether LUTs and flip-flops can be told; block RAM always can."""
    return target.logic in coefficients()["families"]


@functools.cache
def coefficients() -> dict[str, object]:
    """Return the content of COEFFICIENTS; nothing is fitted where it is missing."""
    if not COEFFICIENTS.exists():
        return {"fixed": {}, "families": {}}
    return json.loads(COEFFICIENTS.read_text())
