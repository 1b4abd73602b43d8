# SPDX-License-Identifier: Apache-2.0
"""Model files: a round trip, and a clear refusal of everything that breaks a rule."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sw.errors import ModelFileError
from sw.golden.network import evaluate
from sw.model_file import IntegerModel, check, load_model, save_model
from tb.golden.random_model import random_image, random_model


def _edit(model: IntegerModel, which: str, **fields: object) -> IntegerModel:
    return replace(model, layers=tuple(replace(layer, **fields) if layer.name == which else layer
                                       for layer in model.layers))


def test_round_trip(tmp_path: Path) -> None:
    model = random_model(0, time_steps=4)
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = load_model(path)
    assert loaded.input == model.input and loaded.logits == model.logits
    assert loaded.tensors == model.tensors
    image = random_image(model)
    before, after = evaluate(model, image), evaluate(loaded, image)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(random_model(0), path)
    old = path.read_bytes()
    with pytest.raises(ModelFileError):
        save_model(_edit(random_model(0), "down", stride=1), path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


def _eight(array: torch.Tensor, value: int) -> torch.Tensor:
    return torch.full_like(array, value)


_MODEL = random_model(0)
_DOWN, _DEPTHWISE = _MODEL.layer("down"), _MODEL.layer("sep.dw")


def _levels(**fields: object) -> dict[str, object]:
    """Fields that turn "down" into a layer with levels, one of them wrong."""
    neuron = {"kind": "sfa", "levels": fields.pop("levels", 4), "ties": fields.pop("ties", "even")}
    step = torch.full((16,), 256, dtype=torch.int32)
    return {"neuron": neuron, "step": step, **fields,
            "outputs": {"residual": "down.residual", "levels": "down.levels"}}


@pytest.mark.parametrize(("name", "fields", "message"), [
    ("down", {"kind": "deconv"}, "kind 'deconv' is unknown"),
    ("down", {"inputs": ("head.logits",)}, "input 'head.logits' is not written before"),
    ("down", {"inputs": ("stem.residual",)}, "holds residual, a conv layer cannot read"),
    ("down", {"in_channels": 9}, r"input 'sep.pw2.spikes' has shape \(1, 8, 4, 5\)"),
    ("down", {"out_size": (4, 5)}, r"out_size is \[4, 5\].* give \[2, 3\]"),
    ("down", {"outputs": {}}, "outputs is empty"),
    ("down", {"outputs": {"logits": "down.logits"}}, "a conv layer cannot output 'logits'"),
    ("down", {"outputs": {"residual": "down.x", "spikes": "down.spikes"}}, "outputs.residual is"),
    ("down", {"neuron": None}, "the output and neuron must come together"),
    ("down", {"neuron": {"kind": "izhikevich"}}, "neuron.kind 'izhikevich' is unknown"),
    ("down", {"neuron": {"kind": "sfa", "levels": 4, "ties": "even"}},
     "a neuron of kind 'sfa' writes levels, not spikes"),
    ("down", _levels(levels=3), r"neuron.levels is 3, must be one of \(2, 4, 8\)"),
    ("down", _levels(ties="down"), "neuron.ties is 'down', must be one of even, up"),
    ("down", _levels(step=None), "array step is missing"),
    ("down", _levels(step=torch.zeros(16, dtype=torch.int32)), "array step spans 0 to 0, must"),
    ("down", {"repeat": 2}, "repeat is 2 with 1 input steps"),
    ("down", {"residual": "stem.residual"}, r"residual 'stem.residual' has shape \(1, 8, 4, 5\)"),
    ("down", {"residual": "late.residual"}, "is not a residual written before"),
    ("down", {"weight": None}, "array weight is missing"),
    ("down", {"weight": _DOWN.weight[:, :, :2]}, r"array weight has shape \[16, 8, 2, 3\]"),
    ("down", {"weight": _DOWN.weight.int()}, "array weight is torch.int32, must be torch.int8"),
    ("down", {"shift": _eight(_DOWN.shift, 24)}, "shift spans 24 to 24, must be -8 to 23"),
    ("down", {"bias": _eight(_DOWN.bias, 1 << 27)}, r"\|acc \+ bias\| may reach"),
    ("down", {"threshold": _eight(_DOWN.threshold, 1 << 27)}, r"\|threshold\| reaches 134217728"),
    ("down", {"padding": 3}, "padding is 3, must be below the kernel"),
    ("down", {"heads": 2}, "heads belongs to attention layers"),
    ("sep.dw", {"integer_bits": 13}, "integer_bits is 13, must be 2 to 12"),
    ("sep.dw", {"integer_bits": 5}, "does not fit 5 bits"),
    ("sep.dw", {"threshold": _eight(_DEPTHWISE.threshold, 1)}, "zero without a neuron"),
    ("sep.pw1", {"shift": torch.ones(16, dtype=torch.int8)}, "zero without a shifted output"),
    ("block.attn", {"heads": 3}, "heads is 3, must divide the 16 channels"),
    ("block.attn", {"inputs": ("down.spikes",)}, "inputs has 1 tensors, needs 3"),
    ("head", {"name": "pool"}, "layer 'pool': name is empty or used twice"),
])
def test_broken_layers_are_refused(name: str, fields: dict, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        check(_edit(_MODEL, name, **fields))
    assert f"layer '{fields.get('name', name)}'" in str(caught.value)


@pytest.mark.parametrize(("fields", "message"), [
    ({"time_steps": 17}, "time_steps is 17, must be 1 to 16"),
    ({"time_steps": 2}, "writes 1 steps, time_steps is 2"),
    ({"residual_fraction": 16}, "residual_fraction is 16"),
    ({"classes": ("a",)}, "classes has 1 names for 5 logits"),
    ({"layers": ()}, "there are no layers"),
    ({"layers": _MODEL.layers[:-1]}, "logits.tensor 'head.logits' is not written"),
    ({"input": replace(_MODEL.input, bits=9)}, "input.bits is 9, must be 2 to 8"),
    ({"input": replace(_MODEL.input, scale=0.0)}, "input.scale is 0.0, must be positive"),
])
def test_broken_models_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        check(replace(_MODEL, **fields))


def _rewrite(path: Path, change) -> None:
    with safe_open(path, framework="pt") as file:
        structure = json.loads(file.metadata()["addend"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    change(structure, arrays)
    save_file(arrays, path, metadata={"addend": json.dumps(structure)})


@pytest.mark.parametrize(("change", "message"), [
    (lambda s, a: s.update(format="onnx"), "format is 'onnx', must be 'addend-model'"),
    (lambda s, a: s.update(version=4), "version is 4, this program reads 3"),
    (lambda s, a: s.pop("time_steps"), "field time_steps is missing"),
    (lambda s, a: s.update(surprise=1), "field surprise is unknown"),
    (lambda s, a: s["input"].pop("scale"), "input: field scale is missing"),
    (lambda s, a: s["layers"][3].pop("shift_", s["layers"][3].pop("stride")),
     "layer 'sep.pw2': field stride is missing"),
    (lambda s, a: s["layers"][0].update(kernel=[3]), r"layer 'stem': field kernel is \[3\]"),
    (lambda s, a: s["layers"][0].update(stride="2"), "field stride is '2', must be an integer"),
    (lambda s, a: s["layers"][0].update(kind="?"), "layer 'stem': kind '\\?' is unknown"),
    (lambda s, a: s.update(time_steps="four"), "a field has the wrong type"),
    (lambda s, a: s["layers"].__setitem__(0, 7), "layer '0': is not a JSON object"),
    (lambda s, a: a.pop("down/bias"), "layer 'down': array bias is missing"),
    (lambda s, a: a.update({"ghost/bias": torch.zeros(1)}), "belong to no layer: ghost/bias"),
    (lambda s, a: a.update({"down/bias": torch.zeros(16)}), "array bias is torch.float32"),
])
def test_broken_files_are_refused(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "model.safetensors"
    save_model(_MODEL, path)
    _rewrite(path, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(_MODEL, path)
    data = path.read_bytes()
    for cut in (0, 4, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(ModelFileError, match="not a whole safetensors file"):
            load_model(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="not an Addend model file"):
        load_model(path)
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "absent.safetensors")


def test_macs_of_known_layers() -> None:
    model = random_model(0)
    assert model.layer("stem").macs == 4 * 5 * 8 * 27
    assert model.layer("sep.dw").macs == 4 * 5 * 16 * 25
    assert model.layer("block.attn").macs == 2 * 6 * 16 * 8
    assert model.layer("head").macs == 16 * 5
