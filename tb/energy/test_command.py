# SPDX-License-Identifier: Apache-2.0
"""`addend energy` on a small network, from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import sw.energy.measure
import sw.run
from hw.presets import get_preset
from sim.build import QUICK
from sw.cli import app
from sw.compile.compiler import compile_model
from sw.energy.tables import TABLES
from sw.golden.network import evaluate
from sw.golden.useful import useful_additions
from sw.model_file import IntegerModel, save_model
from sw.report import RunReport
from tb.random_model import random_image, random_model

IMAGES = 2


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return random_model(7, time_steps=2)


@pytest.fixture(scope="module")
def integers(model: IntegerModel) -> torch.Tensor:
    return torch.stack([random_image(model, seed) for seed in range(IMAGES)])


@pytest.fixture(scope="module")
def folder(model: IntegerModel, integers: torch.Tensor,
           tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.safetensors and x.npz, whose pixels become `integers` again."""
    folder = tmp_path_factory.mktemp("energy")
    save_model(model, folder / "m.safetensors")
    np.savez(folder / "x.npz", images=integers[:, 0].numpy().astype(np.float32)
             * np.float32(model.input.scale))
    return folder


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[RunReport]:
    """Simulations that build sooner; what they report is kept."""
    kept: list[RunReport] = []
    original = sw.energy.measure.measure

    def quick(*arguments: object, **options: object) -> object:
        report, found = original(*arguments, **options | {"effort": QUICK})
        kept.append(report)
        return report, found

    monkeypatch.setattr(sw.energy.measure, "measure", quick)
    return kept


def _energy(folder: Path, *more: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in (
        "energy", folder / "m.safetensors", "--images", folder / "x.npz", "--preset", "tiny",
        *more)])


def test_the_command(folder: Path, tmp_path: Path, model: IntegerModel, integers: torch.Tensor,
                     reports: list[RunReport]) -> None:
    result = _energy(folder, "--table", "jouppi-7nm", "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    for said in ("bit-exact: yes", "jouppi-7nm", "energy of an image", "as papers count",
                 "block0.pw1", "not useful", "descriptors"):
        assert said in result.output, said
    found = json.loads((tmp_path / "e.json").read_text())
    (report,) = reports
    assert found["images"] == len(report.images) == IMAGES and found["bit_exact"] is True
    rows, whole = {row["name"]: row for row in found["layers"]}, found["all"]
    assert list(rows) == [*(layer.name for layer in model.layers), "not useful", "descriptors"]

    # all that the hardware counted is there, and no more
    def mean(name: str) -> float:
        return sum(getattr(image, name) for image in report.images) / IMAGES

    assert whole["additions"] == pytest.approx(mean("additions"))
    assert whole["bytes_read"] == pytest.approx(mean("bytes_read"))
    assert whole["bytes_written"] == pytest.approx(mean("bytes_written"))
    program = compile_model(model, get_preset("tiny"))
    assert rows["descriptors"]["bytes_read"] == pytest.approx(program.program_bytes)
    assert rows["not useful"]["additions"] > 0

    # useful additions are the golden model's
    useful = [useful_additions(model, evaluate(model, image)) for image in integers]
    for layer in model.layers:
        row = rows[layer.name]
        assert row["additions"] + row["additions_outside_lanes"] == pytest.approx(
            sum(counts[layer.name] for counts in useful) / IMAGES), layer.name
    assert {name for name, row in rows.items() if row["additions_outside_lanes"]} == {
        "block3.attn", "pool"}

    # parts add up, and memory costs 1300 pJ for 8 bytes
    energies = whole["microjoules"]
    assert energies["total"] == pytest.approx(
        sum(value for name, value in energies.items() if name != "total"))
    for name, energy in energies.items():
        assert energy == pytest.approx(sum(row["microjoules"][name] for row in rows.values()))
    assert energies["dram"] == pytest.approx(
        (mean("bytes_read") + mean("bytes_written")) / 8 * 1300 / 1e6)
    assert energies["additions"] == pytest.approx(
        (mean("additions") + whole["additions_outside_lanes"]) * (0.007 + 0.023 * 2 / 3) / 1e6)
    assert found["microjoules_dram_high"] == energies["total"]
    papers = sum(row["microjoules_papers"] for row in rows.values())
    assert found["papers"]["microjoules"] == pytest.approx(papers) and papers > 0
    skipped = {"stem", "pool"}
    assert found["papers"]["synaptic_operations"] == pytest.approx(sum(
        count for counts in useful for name, count in counts.items() if name not in skipped)
        / IMAGES)


def test_the_default_table_and_a_limit(folder: Path, tmp_path: Path,
                                       reports: list[RunReport]) -> None:
    result = _energy(folder, "--limit", 1, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["table"] == "horowitz-45nm" and found["images"] == 1
    low, high = found["all"]["microjoules"], found["microjoules_dram_high"]
    assert high == pytest.approx(low["total"] + low["dram"])
    assert "2,600 instead of 1,300 pJ" in result.output


def test_a_difference_fails(folder: Path, model: IntegerModel, reports: list[RunReport],
                            monkeypatch: pytest.MonkeyPatch) -> None:
    name = model.layers[4].outputs["spikes"]

    def evaluate_wrongly(*arguments: object) -> dict[str, torch.Tensor]:
        made = evaluate(*arguments)
        made[name] = made[name].clone()
        made[name][0, 0, 0, 0] ^= 1
        return made

    monkeypatch.setattr(sw.run, "evaluate", evaluate_wrongly)
    result = _energy(folder, "--limit", 1)
    assert result.exit_code == 1
    assert "bit-exact: no" in result.output and f"tensor '{name}'" in result.output


@pytest.mark.parametrize(("more", "said"), [
    (["--table", "4nm"], "no energy table '4nm'; there are " + ", ".join(TABLES)),
    (["--limit", "0"], "limit is 0"), (["--jobs", "0"], "jobs is 0")])
def test_bad_input_is_one_sentence(folder: Path, tmp_path: Path, more: list[str],
                                   said: str) -> None:
    result = _energy(folder, *more, "--json", tmp_path / "e.json")
    assert result.exit_code == 2
    lines = [line for line in result.output.splitlines() if not line.startswith("[addend]")]
    assert len(lines) == 1 and lines[0].startswith("addend: ") and said in lines[0]
    assert not list(tmp_path.iterdir())


def test_help_teaches() -> None:
    result = CliRunner().invoke(app, ["energy", "--help"])
    assert result.exit_code == 0 and "Example" in result.output
