# SPDX-License-Identifier: Apache-2.0
"""Prints what a preset is expected to take of a device."""

from rich.table import Table

from hw.presets import Preset
from sw.display import out
from sw.fpga.estimate import FIGURES, Estimate, block_ram, estimate, is_fitted
from sw.fpga.targets import TARGETS, Target

__all__ = ["show_estimate", "show_estimates"]

_TITLES = {"lut": "LUT", "ff": "FF", "block_ram": "block RAM", "ultra_ram": "UltraRAM"}


def show_estimates(preset: Preset) -> None:
    """Print a line for each target: what it has, what of it is taken, and what takes most."""
    table = Table(title=f"{preset.name} on FPGAs, foretold")
    table.add_column("target")
    for title in _TITLES.values():
        table.add_column(title, justify="right")
        table.add_column("of", justify="right")
    table.add_column("most of the scarcest")
    for target in TARGETS.values():
        found = (estimate(preset, target) if is_fitted(target)
                 else Estimate(preset, target, block_ram(preset, target)))
        cells = []
        for figure in FIGURES:
            told = figure.endswith("_ram") or is_fitted(target)
            if not target.available[figure]:
                cells += ["", ""]
                continue
            cells += [_number(found.total(figure)) if told else "?",
                      _number(target.available[figure])
                      + (f" ({found.share(figure):.0%})" if told else "")]
        table.add_row(target.name, *cells,
                      f"{_TITLES[found.scarcest]}: {found.dominant(found.scarcest)}")
    out.print(table)
    out.print(f"foretold for the LUTs of each target; {preset.name} is made for LUTs of "
              f"{preset.lut_inputs} inputs")


def show_estimate(preset: Preset, target: Target) -> None:
    """Print what each part takes of a target, and say which one dominates."""
    found = estimate(preset, target)
    shown = [figure for figure in FIGURES if target.available[figure]]
    table = Table(title=f"{preset.name} on {target.name}, foretold")
    table.add_column("part")
    for figure in shown:
        table.add_column(_TITLES[figure], justify="right")
    for name, part in sorted(found.parts.items(), key=lambda item: -item[1]["lut"]):
        table.add_row(name, *(_number(part[figure]) for figure in shown))
    table.add_section()
    table.add_row("all", *(_number(found.total(figure)) for figure in shown))
    table.add_row(f"of {target.device}", *(_number(target.available[figure]) for figure in shown))
    table.add_row("", *(f"{found.share(figure):.0%}" for figure in shown))
    out.print(table)
    out.print(_sentence(found))
    if preset.lut_inputs != target.lut_inputs:
        out.print(f"foretold with lut_inputs {target.lut_inputs}; "
                  f"{preset.name} has {preset.lut_inputs}")


def _sentence(found: Estimate) -> str:
    """Say what is scarcest, what takes most of it, and whether the preset fits."""
    figure = found.scarcest
    part = found.dominant(figure)
    share = found.parts[part][figure] / found.total(figure)
    lacking = [_TITLES[figure] for figure in FIGURES if found.share(figure) > 1]
    return (f"scarcest: {_TITLES[figure]}, {found.share(figure):.0%}; most of it: {part} "
            f"({share:.0%})" + (f"; does not fit: {' and '.join(lacking)}" if lacking else ""))


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
