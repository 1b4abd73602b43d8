# SPDX-License-Identifier: Apache-2.0
"""The commands: what they print, write, and return."""

import contextlib
import functools
import json
import os
import pty
import re
import subprocess
import sys
import tty
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import sw.board
import sw.compare
import sw.run
from hw.presets import get_preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.cli import app
from sw.compile.compiler import compile_model
from sw.golden.network import evaluate, quantise_images
from sw.images import load_images
from sw.model_file import IntegerModel, load_model
from sw.report import first_difference
from tb.driver import uart_model
from tb.driver.uio_model import ModelFiles

JSON_KEYS = {
    "bit_exact", "tensors_compared", "values_compared", "images", "predictions", "logits", "adders",
    "cycles", "useful_additions", "utilisation", "bytes_read", "bytes_written", "seconds_build",
    "seconds_run", "layers"}


def addend(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulations that build sooner and run slower."""
    monkeypatch.setattr(sw.run, "run", functools.partial(sw.run.run, effort=QUICK))
    monkeypatch.setattr(sw.compare, "compare",
                        functools.partial(sw.compare.compare, effort=QUICK))


def test_help_teaches() -> None:
    for command in ("quantise", "run", "compare", "compile", "info", "verilog",
                    "evaluate", "profile"):
        result = addend(command, "--help")
        assert result.exit_code == 0 and "Example" in result.output


def test_quantise(folder: Path, tmp_path: Path, model: IntegerModel) -> None:
    result = addend("quantise", folder / "checkpoint.safetensors", "--calibration",
                    folder / "images.npz", "--time-steps", 2, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    made = load_model(tmp_path / "m.safetensors")
    assert made.time_steps == 2 and made.classes[1] == "class1" and len(made.input.mean) == 3
    assert len(made.layers) == len(model.layers)
    for ours, theirs in zip(made.layers, model.layers, strict=True):
        assert ours.weight is None or torch.equal(ours.weight, theirs.weight)


def test_golden_backend(folder: Path, tmp_path: Path, model: IntegerModel) -> None:
    result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--backend", "golden", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report.keys() >= JSON_KEYS
    images = load_images(folder / "images.npz", model)
    golden = evaluate(model, quantise_images(model, images.pixels))
    assert report["logits"] == golden["logits"].tolist()
    assert report["predictions"] == golden["predictions"].tolist()
    assert report["images"] == 4 and report["truths"] == [0, 1, 2, 3]
    assert report["bit_exact"] is None and report["cycles"] is None
    assert "bit-exact: yes" not in result.output


@pytest.mark.parametrize("stalls", [None, 7])
def test_rtl_is_the_golden_model(folder: Path, tmp_path: Path, model: IntegerModel, quick: None,
                                 stalls: int | None) -> None:
    more = [] if stalls is None else ["--stalls", stalls]
    result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--limit", 2, "--json", tmp_path / "r.json", *more)
    assert result.exit_code == 0, result.output
    assert "bit-exact: yes" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report.keys() >= JSON_KEYS
    assert report["bit_exact"] is True and report["images"] == 2
    outputs = [model.tensors[name] for layer in model.layers for name in layer.outputs.values()]
    assert report["tensors_compared"] == 2 * len(outputs)
    assert report["values_compared"] == 2 * sum(torch.Size(t.shape).numel() for t in outputs)
    assert report["adders"] == get_preset("tiny").adders
    assert report["utilisation"] == pytest.approx(
        report["useful_additions"] / (report["adders"] * report["cycles"]))
    assert 0.01 < report["utilisation"] <= 1
    layers = report["layers"]
    assert [layer["name"] for layer in layers] == [layer.name for layer in model.layers]
    assert all(layer["equal"] is True for layer in layers)
    assert sum(layer["useful_additions"] for layer in layers) == report["useful_additions"]
    assert sum(layer["cycles"] for layer in layers) == report["cycles"]


@pytest.mark.parametrize("batch", [2, 3])
def test_a_batch_is_the_golden_model(folder: Path, tmp_path: Path, quick: None,
                                     batch: int) -> None:
    """Three images; the last batch of two is short, and each image has results of its own."""
    reports = []
    for images in (batch, 1):
        result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                        "--preset", "tiny", "--limit", 3, "--batch", images, "--jobs", 1,
                        "--json", tmp_path / "r.json")
        assert result.exit_code == 0 and "bit-exact: yes" in result.output, result.output
        reports.append(json.loads((tmp_path / "r.json").read_text()))
    together, single = reports
    assert together["batch"] == batch and together["logits"] == single["logits"]
    assert together["values_compared"] == single["values_compared"]
    assert len(set(single["useful_additions_per_image"])) == 3      # images that differ
    assert sum(layer["cycles"] for layer in together["layers"]) == together["cycles"]
    if batch == 3:
        assert together["bytes_read"] < single["bytes_read"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_board_is_the_golden_model(folder: Path, tmp_path: Path, model: IntegerModel,
                                     monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """The model behind UIO, its buffer somewhere; and one with a write that gets lost."""
    asked = []

    def files(name: str, buffer: str, memory_bytes: int = 1) -> ModelFiles:
        asked.append((name, buffer, memory_bytes))
        inner = VerilatedTransport(get_preset("tiny"), memory_bytes=0x20_0000, effort=QUICK)
        if lost:
            program = compile_model(model, get_preset("tiny"), memory_base=0x4_0000)
            inner.lose_write(program.tensors[model.logits.tensor].address)
        return ModelFiles(inner, 0x4_0000)

    monkeypatch.setattr(sw.board, "UioFiles", files)
    result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--limit", 3, "--batch", 2 - lost, "--uio", "addend",
                    "--mhz", 1, "--layers", "--json", tmp_path / "r.json")
    assert result.exit_code == lost, result.output
    assert ("bit-exact: no" if lost else "bit-exact: yes") in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["backend"] == "board" and report["images"] == 3 and report["cycles"] > 0
    assert [layer["cycles"] for layer in report["layers"]] == [None] * len(model.layers)
    assert [entry[:2] for entry in asked] == [("addend", "udmabuf0")] * 2
    assert asked[1][2] > 10_000


def test_a_board_at_a_serial_port(folder: Path, tmp_path: Path) -> None:
    """The model behind a pseudo terminal, as a SoC of LiteX."""
    bridge_end, port = pty.openpty()
    tty.setraw(port)
    soc = json.loads(uart_model.SOC) | {"memory": 0x4_0000, "memory_bytes": 0x1c_0000}
    (tmp_path / "soc.json").write_text(json.dumps(soc))
    inner = VerilatedTransport(get_preset("tiny"), memory_bytes=0x20_0000, effort=QUICK)
    with inner, contextlib.closing(uart_model.Bridge(inner, 0x4_0000, end=bridge_end)):
        result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                        "--preset", "tiny", "--limit", 2, "--uart", os.ttyname(port),
                        "--soc", tmp_path / "soc.json")
    os.close(port)
    assert result.exit_code == 0, result.output
    assert "bit-exact: yes" in result.output


def test_no_serial_port(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "soc.json").write_text(uart_model.SOC)
    result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--uart", "/dev/no-port", "--soc", tmp_path / "soc.json")
    assert result.exit_code == 2 and "/dev/no-port: No such file" in result.output


@pytest.mark.parametrize("board", ["--uio", "--uart"])
@pytest.mark.parametrize("more", [["--jobs", 1], ["--stalls", 3], ["--backend", "golden"]])
def test_a_board_is_no_simulation(board: str, more: list) -> None:
    result = addend("run", "m.safetensors", "--images", "i.npz", "--preset", "tiny", board,
                    "addend", *more)
    assert result.exit_code == 2 and "a board takes no" in result.output


def test_one_board_at_a_time() -> None:
    result = addend("run", "m.safetensors", "--images", "i.npz", "--preset", "tiny", "--uio", "a",
                    "--uart", "b")
    assert result.exit_code == 2 and "one board at a time" in result.output


@pytest.fixture
def wrong(model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the golden model be wrong in one value of layer 4; returns the tensor's name."""
    name = next(iter(model.layers[4].outputs.values()))

    def evaluate_wrongly(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
        made = evaluate(*arguments, **options)
        made[name] = made[name].clone()
        made[name][1, 2, 0, 1] ^= 1
        return made

    monkeypatch.setattr(sw.run, "evaluate", evaluate_wrongly)
    return name


def test_a_difference_fails_and_is_named(folder: Path, quick: None, wrong: str,
                                         model: IntegerModel) -> None:
    result = addend("run", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--limit", 1)
    assert result.exit_code == 1
    assert "bit-exact: no" in result.output
    assert (f"layer '{model.layers[4].name}', tensor '{wrong}', time step 1, channel 2, y 0, x 1"
            in result.output)


@pytest.mark.parametrize("more", [[], ["--teacher-forced"]], ids=["whole", "teacher-forced"])
def test_compare_equal(folder: Path, tmp_path: Path, model: IntegerModel, quick: None,
                       more: list[str]) -> None:
    result = addend("compare", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--limit", 2, "--json", tmp_path / "c.json", *more)
    assert result.exit_code == 0, result.output
    assert "Accelerator and golden model are equal" in result.output
    written = json.loads((tmp_path / "c.json").read_text())
    outputs = [model.tensors[name] for layer in model.layers for name in layer.outputs.values()]
    assert written["equal"] is True and written["teacher_forced"] is bool(more)
    assert written["tensors_compared"] == 2 * len(outputs)
    assert written["values_compared"] == 2 * sum(torch.Size(t.shape).numel() for t in outputs)
    assert [image["first"] for image in written["images"]] == [None, None]


def test_compare_names_the_first_difference(folder: Path, tmp_path: Path, quick: None, wrong: str,
                                            model: IntegerModel) -> None:
    result = addend("compare", folder / "model.safetensors", "--images", folder / "images.npz",
                    "--preset", "tiny", "--limit", 1, "--json", tmp_path / "c.json")
    assert result.exit_code == 1
    layer = model.layers[4].name
    assert (f"first difference: image 0, layer '{layer}', tensor '{wrong}', time step 1, "
            "channel 2, y 0, x 1: the golden model has" in result.output)
    assert "differ in 1 of the images, in 1 layers" in result.output
    (image,) = json.loads((tmp_path / "c.json").read_text())["images"]
    assert image["first"]["layer"] == layer and image["first"]["count"] == 1
    assert image["first"]["place"] == {"time step": 1, "channel": 2, "y": 0, "x": 1}
    assert image["first"]["expected"] != image["first"]["found"]
    assert image["later_layers"] == [] and image["differences"] == [image["first"]]


def test_first_difference_counts_and_places() -> None:
    class Named:
        name = "layer"

    ours = torch.zeros(2, 3, 4, 5, dtype=torch.int32)
    theirs = ours.clone()
    assert first_difference(0, Named, "t", ours, theirs) is None
    theirs[1, 2, 3, 4], theirs[1, 0, 3, 4] = 7, -1
    found = first_difference(0, Named, "t", ours, theirs)
    assert found.place == {"time step": 1, "channel": 0, "y": 3, "x": 4}
    assert (found.expected, found.found, found.count) == (0, -1, 2)
    with pytest.raises(ValueError, match="shapes"):
        first_difference(0, Named, "t", ours, theirs[:1])


def test_compile_and_info(folder: Path, tmp_path: Path, model: IntegerModel) -> None:
    result = addend("compile", folder / "model.safetensors", "--preset", "tiny", "-o",
                    tmp_path / "program.bin")
    assert result.exit_code == 0, result.output
    described = json.loads((tmp_path / "program.json").read_text())
    content = (tmp_path / "program.bin").read_bytes()
    assert sum(segment["bytes"] for segment in described["segments"]) == len(content)
    assert described["tensors"].keys() == model.tensors.keys()
    assert len(described["layers"]) == len(model.layers)
    result = addend("info", "--preset", "tiny", "--model", folder / "model.safetensors")
    assert result.exit_code == 0 and "16 (2 groups x 8 lanes)" in result.output
    assert "head" in result.output and "predicted cycles" in result.output
    narrow = addend("info", "--preset", "tiny", "--model", folder / "model.safetensors",
                    "--bandwidth", 0.5, "--latency", 40)
    wide, slow = (int(re.search(r"cycles of an image: ([0-9,]+)", text)[1].replace(",", ""))
                 for text in (result.output, narrow.output))
    assert slow > 2 * wide


@pytest.mark.parametrize("core", [None, "lif", "conv", "sdsa"])
def test_verilog(tmp_path: Path, core: str | None) -> None:
    more = [] if core is None else ["--core", core]
    result = addend("verilog", "--preset", "tiny", "-o", tmp_path, "--mhz", "80", *more)
    assert result.exit_code == 0, result.output
    top = "addend" if core is None else f"addend_{core}"
    assert f"module {top}(" in (tmp_path / f"{top}.v").read_text()
    assert json.loads((tmp_path / f"{top}.json").read_text())["top"] == top
    for suffix in ("h", "py"):
        assert (tmp_path / f"addend_registers.{suffix}").exists() == (core is None)
    assert f"Ports of `{top}`, preset tiny" in (tmp_path / f"{top}_ports.md").read_text()
    template = (tmp_path / f"{top}_template.v").read_text()
    assert f"{top} {top}_0 (" in template
    assert ("ASSOCIATED_BUSIF m_axi:s_axil, " in template) == (core is None)
    for suffix in ("sdc", "xdc"):
        assert "-period 12.500" in (tmp_path / f"{top}.{suffix}").read_text()
    assert "80 MHZ" in (tmp_path / f"{top}.lpf").read_text()


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "none.safetensors", "--images", "i.npz", "--preset", "tiny"],
     "none.safetensors: no such file"),
    (["run", "MODEL", "--images", "none.npz", "--preset", "tiny"], "none.npz: no such file"),
    (["run", "MODEL", "--images", "IMAGES", "--preset", "huge"], "no preset 'huge'"),
    (["run", "CHECKPOINT", "--images", "IMAGES", "--preset", "tiny"], "not an Addend model file"),
    (["run", "MODEL", "--images", "IMAGES", "--preset", "tiny", "--limit", "0"], "limit is 0"),
    (["run", "MODEL", "--images", "IMAGES", "--preset", "tiny", "--batch", "0"], "batch is 0"),
    (["run", "MODEL", "--images", "IMAGES", "--preset", "tiny", "--uio", "nothing"],
     "/sys/class/uio: no devices are called 'nothing'"),
    (["compare", "MODEL", "--images", "none.npz", "--preset", "tiny"], "none.npz: no such file"),
    (["compare", "MODEL", "--images", "IMAGES", "--preset", "tiny", "--jobs", "0"], "jobs is 0"),
    (["evaluate", "MODEL", "--images", "IMAGES", "--preset", "huge"], "no preset 'huge'"),
    (["compile", "IMAGES", "--preset", "tiny"], "not a whole safetensors file"),
    (["info", "--preset", "huge"], "no preset 'huge'"),
    (["info", "--preset", "tiny", "--target", "ice40"], "no target 'ice40'; there are ecp5-85k"),
    (["quantise", "MODEL", "--calibration", "IMAGES", "-o", "m.safetensors"],
     "not a Meta-SpikeFormer"),
    (["quantise", "CHECKPOINT", "--calibration", "IMAGES", "--num-heads", "3", "-o", "m"],
     "do not split into 3 heads"),
    (["quantise", "CHECKPOINT", "--calibration", "IMAGES", "--time-steps", "0", "-o", "m"],
     "time_steps is 0"),
])
def test_bad_input_is_one_sentence(folder: Path, tmp_path: Path, arguments: list[str],
                                   message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": "model.safetensors", "CHECKPOINT": "checkpoint.safetensors",
              "IMAGES": "images.npz"}
    result = addend(*(folder / places[item] if item in places else item for item in arguments))
    assert result.exit_code == 2
    said = [line for line in result.output.splitlines() if not line.startswith("[addend]")]
    assert len(said) == 1 and said[0].startswith("addend: ") and message in said[0]
    assert list(tmp_path.iterdir()) == []       # nothing half written


def test_a_missing_option_is_a_usage_error() -> None:
    assert addend("run", "m.safetensors", "--preset", "tiny").exit_code == 2


def test_the_program_starts() -> None:
    environment = os.environ | {"COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-m", "sw.cli", "--help"], capture_output=True,
                          text=True, env=environment, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "quantise" in done.stdout
