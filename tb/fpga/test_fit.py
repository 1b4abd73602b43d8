# SPDX-License-Identifier: Apache-2.0
"""The fit finds factors that were planted, and the command writes them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hw.presets import Preset, get_preset
from sw.fpga import estimate as estimates
from sw.fpga import fit, tools
from sw.fpga.estimate import EstimateError
from sw.fpga.targets import Target
from sw.fpga.terms import SECTIONS, TERMS, section_of
from sw.fpga.variants import HELD_OUT, VARIANTS

FACTORS = {term.name: {"lut": 3.0 + number, "ff": 40.0 - number}
           for number, term in enumerate(TERMS)}


def sections(preset: Preset) -> dict[str, dict[str, float]]:
    """What a preset would take if FACTORS were true."""
    return {section: {figure: sum(FACTORS[term.name][figure] * term.size(preset)
                                  for term in TERMS if term.section == section)
                      for figure in ("lut", "ff")} for section in SECTIONS}


@pytest.mark.parametrize("logic", VARIANTS)
def test_planted_factors(logic: str) -> None:
    """The variants tell all terms apart."""
    presets = list(VARIANTS[logic].values())
    found = fit.factors(presets, [{"sections": sections(preset)} for preset in presets])
    for name, pair in FACTORS.items():
        assert found[name] == pytest.approx(pair, abs=1e-3)


def test_no_factor_is_negative() -> None:
    """Least squares alone would say 5 - x."""
    rows = np.array([[1, 1], [1, 2], [1, 3]])
    found = fit.not_negative(rows, np.array([4, 3, 2]))
    assert found[1] == 0 and 2 < found[0] < 3
    assert fit.not_negative(rows, np.array([4, 5, 6])) == pytest.approx([3, 1])


def test_too_few_presets() -> None:
    with pytest.raises(EstimateError, match="2 presets don't tell 3 terms apart"):
        fit.not_negative(np.ones((2, 3)), np.ones(2))


@pytest.mark.parametrize(("module", "section"), [
    ("compute.counts.scanner", "counts"), ("compute.counts", "counts"),
    ("compute.engine.group", "compute"), ("compute", "compute"), ("", "shell"),
    ("control.counters", "shell"), ("load.walker", "shell")])
def test_section(module: str, section: str) -> None:
    assert section_of(module) == section


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Synthesis that only pretends; what was asked of it."""
    asked = []

    def synthesise(component: str, preset: Preset, target: Target, name: str, step: tools.Step,
                   **options: object) -> dict[str, object]:
        assert component == "accelerator" and options == {"place": False}
        asked.append(target.name)
        found = sections(preset)
        return {"lut": sum(part["lut"] for part in found.values()),
                "ff": sum(part["ff"] for part in found.values()), "block_ram": 1, "ultra_ram": 0,
                "seconds": 2, "hardware": "0123456789ab", "tool_versions": {"yosys": "Yosys 1.2"},
                "per_module": {"": found["shell"], "compute.counts.scanner": found["counts"],
                               "compute.epilogue": found["compute"]}}

    monkeypatch.setattr(fit, "synthesise", synthesise)
    for module in (fit, estimates):
        monkeypatch.setattr(module, "COEFFICIENTS", tmp_path / "coefficients.json")
    monkeypatch.setattr(fit, "TABLE", tmp_path / "estimates.csv")
    estimates.coefficients.cache_clear()
    yield asked
    estimates.coefficients.cache_clear()


def rows_of(logic: str) -> int:
    """Presets that are synthesised for a kind of logic."""
    return len(VARIANTS[logic] | HELD_OUT[logic])


def test_command(flow: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each kind of logic by itself, what is known of the other stays; whole files only."""
    assert fit.main(["--target", "xcup-kv260"]) == 0
    assert fit.main(["--target", "ecp5-45k"]) == 0
    assert flow == ["xcup-kv260"] * rows_of("xilinx") + ["ecp5-45k"] * rows_of("ecp5")
    assert {path.name for path in tmp_path.iterdir()} == {"coefficients.json", "estimates.csv"}
    rows = list(csv.DictReader((tmp_path / "estimates.csv").read_text().splitlines()))
    assert [row["target"] for row in rows] == flow[len(flow) - rows_of("ecp5"):] + (
        ["xcup-kv260"] * rows_of("xilinx"))
    assert rows[0]["preset"] == "tiny" and rows[0]["held_out"] == "0"
    assert float(rows[0]["lut"]) == pytest.approx(float(rows[0]["lut_foretold"]), abs=20)
    known = json.loads((tmp_path / "coefficients.json").read_text())
    assert known["families"].keys() == {"xilinx", "ecp5"}
    assert known["fixed"]["acc_width"] == get_preset("tiny").acc_width
    one = known["families"]["ecp5"]["held_out"]["ecp5"]
    assert one["hardware"] == "0123456789ab" and one["tool"] == "Yosys 1.2"
    assert one["sections"]["counts"] == sections(HELD_OUT["ecp5"]["ecp5"])["counts"]
    said = capsys.readouterr().out
    assert "ecp5 (held out)" in said and "+0.0%" in said


def test_a_synthesis_that_fails(flow: list[str], tmp_path: Path, capsys: pytest.CaptureFixture,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> dict[str, object]:
        raise tools.SynthesisError("yosys failed with exit code 1: see log")

    assert fit.main(["--target", "ecp5-85k"]) == 0
    before = (tmp_path / "coefficients.json").read_text()
    monkeypatch.setattr(fit, "synthesise", fails)
    assert fit.main(["--target", "ecp5-85k"]) == 2
    assert "error: yosys failed with exit code 1" in capsys.readouterr().err
    assert (tmp_path / "coefficients.json").read_text() == before


def test_unknown_target(flow: list[str], capsys: pytest.CaptureFixture) -> None:
    assert fit.main(["--target", "ice40"]) == 2
    assert "error: no target 'ice40'; there are " in capsys.readouterr().err
    assert flow == []
