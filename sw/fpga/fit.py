# SPDX-License-Identifier: Apache-2.0
"""Fits the factors of `sw.fpga.terms` to synthesised presets, and says how well they foretell.

    python -m sw.fpga.fit                       # everything
    python -m sw.fpga.fit --target ecp5-85k     # one kind of logic; what is known of others stays

Synthesises the presets of `sw.fpga.variants`, those held out too, one after the other, without
placing. Netlists come from ``build/synth/cache`` where the hardware is the same, so that a fit
that was stopped goes on where it was. Writes ``sw/fpga/coefficients.json``, and into
``docs/estimates.csv`` what was synthesised beside what is foretold.
"""

import argparse
import csv
import datetime
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from hw.presets import Preset
from sw.display import out, progress
from sw.export import write_bytes, write_json
from sw.fpga import tools
from sw.fpga.estimate import COEFFICIENTS, FIGURES, EstimateError, coefficients, estimate
from sw.fpga.synth import synthesise
from sw.fpga.targets import Target, TargetError, get_target
from sw.fpga.terms import IGNORED, SECTIONS, TERMS, section_of
from sw.fpga.variants import HELD_OUT, VARIANTS

__all__ = ["factors", "main", "not_negative", "sample"]

DEFAULT_TARGETS = ("ecp5-85k", "xcup-kv260")
"""One for each kind of logic."""
TABLE = Path("docs/estimates.csv")
_COLUMNS = ("target", "preset", "held_out", *(f"{figure}{suffix}" for figure in FIGURES
                                              for suffix in ("", "_foretold")), "hardware", "date")


def sample(preset: Preset, target: Target, name: str, step: tools.Step) -> dict[str, object]:
    """Synthesise a preset; return its figures, those of each section, and what was synthesised.

    Raises SynthesisError.
    """
    found = synthesise("accelerator", preset, target, name, step, place=False)
    sections = {section: {"lut": 0, "ff": 0} for section in SECTIONS}
    for module, part in found["per_module"].items():
        for figure in ("lut", "ff"):
            sections[section_of(module)][figure] += part[figure]
    return {**{key: found[key] for key in (*FIGURES, "seconds", "hardware")},
            "sections": sections, "tool": found["tool_versions"]["yosys"], "target": target.name,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def not_negative(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return factors of at least 0 with the least squares of *relative* differences.

    ``rows`` has a row for each value, of sizes; values are above 0. A factor that would be
    negative is left out and the others are fitted again, so that more of anything never takes
    less. Raises EstimateError where there are fewer independent rows than factors.
    """
    scaled, ones = rows / values[:, None], np.ones(len(values))
    if np.linalg.matrix_rank(scaled) < rows.shape[1]:
        raise EstimateError(f"{len(values)} presets don't tell {rows.shape[1]} terms apart")
    kept = list(range(rows.shape[1]))
    while True:
        found = np.linalg.lstsq(scaled[:, kept], ones)[0]
        if not kept or found.min() >= 0:
            result = np.zeros(rows.shape[1])
            result[kept] = found
            return result
        del kept[int(found.argmin())]


def factors(presets: Sequence[Preset],
            samples: Sequence[Mapping[str, object]]) -> dict[str, dict[str, float]]:
    """Return the factor of each term for LUTs and flip-flops, each section fitted by itself."""
    result: dict[str, dict[str, float]] = {term.name: {} for term in TERMS}
    for section in SECTIONS:
        terms = [term for term in TERMS if term.section == section]
        rows = np.array([[term.size(preset) for term in terms] for preset in presets], float)
        for figure in ("lut", "ff"):
            values = np.array([one["sections"][section][figure] for one in samples], float)
            for term, factor in zip(terms, not_negative(rows, values), strict=True):
                result[term.name][figure] = round(float(factor), 4)
    return result


def _fit(target: Target, step: tools.Step) -> dict[str, object]:
    """Synthesise all presets for a kind of logic; return its part of COEFFICIENTS."""
    groups = {}
    for kind, presets in (("fitted", VARIANTS[target.logic]), ("held_out", HELD_OUT[target.logic])):
        groups[kind] = {}
        for number, (name, preset) in enumerate(presets.items()):
            step(f"{target.name}, {kind.replace('_', ' ')}: {name}", number, len(presets))
            file = f"fit-{target.name}-{kind}-{number}"
            groups[kind][name] = sample(preset, target, file, step)
    return {"factors": factors(list(VARIANTS[target.logic].values()),
                               list(groups["fitted"].values())), **groups}


def _save(logic: str, found: Mapping[str, object]) -> None:
    """Put a kind of logic into COEFFICIENTS, as it is now: another fit may run beside this one."""
    coefficients.cache_clear()
    known = coefficients()
    preset = next(iter(VARIANTS[logic].values()))
    known["fixed"] = {name: getattr(preset, name) for name in IGNORED}
    known["families"][logic] = found
    write_json(COEFFICIENTS, known)
    coefficients.cache_clear()


def _rows(logic: str) -> list[dict[str, object]]:
    """What was synthesised beside what is foretold, by the names of _COLUMNS."""
    family, rows = coefficients()["families"][logic], []
    for kind, presets in (("fitted", VARIANTS[logic]), ("held_out", HELD_OUT[logic])):
        for name, one in family[kind].items():
            told = estimate(presets[name], get_target(one["target"]))
            rows.append({"preset": name, "held_out": int(kind == "held_out"),
                         **{key: one[key] for key in ("target", *FIGURES, "hardware", "date")},
                         **{f"{figure}_foretold": told.total(figure) for figure in FIGURES}})
    return rows


def _write_table() -> None:
    """Write TABLE, of every kind of logic that is known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for logic in sorted(coefficients()["families"]):
        writer.writerows(_rows(logic))
    write_bytes(TABLE, text.getvalue().encode())


def _show(target: Target) -> None:
    table = Table(title=f"{target.name}: synthesised, and foretold")
    for column in ("preset", "LUT", "foretold", "", "FF", "foretold", "", "block RAM", "foretold"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    for row in _rows(target.logic):
        cells = []
        for figure in ("lut", "ff"):
            measured, told = row[figure], row[f"{figure}_foretold"]
            cells += [f"{measured:,}", f"{told:,}", f"{told / measured - 1:+.1%}"]
        table.add_row(row["preset"] + (" (held out)" if row["held_out"] else ""), *cells,
                      f"{row['block_ram']:g}", f"{row['block_ram_foretold']:g}")
    out.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Fit, write COEFFICIENTS and show how good they are; exit code 2 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", help="device of a kind of logic; default: "
                        + " and ".join(DEFAULT_TARGETS))
    given = parser.parse_args(arguments)
    try:
        targets = [get_target(name) for name in given.target or DEFAULT_TARGETS]
        with progress() as step:
            for target in targets:
                _save(target.logic, _fit(target, step))
    except (EstimateError, TargetError, tools.SynthesisError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _write_table()
    for target in targets:
        _show(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
