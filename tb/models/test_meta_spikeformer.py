# SPDX-License-Identifier: Apache-2.0
"""The float network: key layout, neuron, checkpoint errors, equality with the reference traces."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from sw.models.checkpoint import read_checkpoint, write_checkpoint
from sw.models.lif import Lif
from sw.models.meta_spikeformer import (
    CheckpointError,
    MetaSpikeFormer,
    MetaSpikeFormerConfig,
    infer_config,
    load_checkpoint,
)
from sw.models.trace import TraceError, capture, read_trace, teacher_forced, write_trace

torch.set_num_threads(1)
SHARED = Path(os.environ.get("ADDEND_SHARED", Path(__file__).parents[3] / "shared"))
REFERENCE = SHARED / "reference" / "v2_tiny_64"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="no reference data (set ADDEND_SHARED)")

SMALL = MetaSpikeFormerConfig(
    num_classes=5, stem_channels=6, embed_dims=(8, 12, 16, 20), depths=(1, 1, 1, 0, 2, 1),
    num_heads=4, conv_ratio=2, mlp_ratio=3, sep_kernel=5, kernels=(3, 3, 3, 3, 3),
    strides=(1, 2, 2, 1, 1), time_steps=3, kd=True, in_channels=2)


def small_model(config: MetaSpikeFormerConfig = SMALL, seed: int = 0) -> MetaSpikeFormer:
    """Random network whose neurons fire."""
    torch.manual_seed(seed)
    model = MetaSpikeFormer(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.bias, 0, 2)
            torch.nn.init.uniform_(module.running_var, 0.05, 0.2)
    return model.eval()


@needs_reference
def test_key_layout_is_the_published_one():
    rows = [line.split("\t") for line in (REFERENCE / "keys.txt").read_text().splitlines()]
    _, model = load_checkpoint(REFERENCE / "state_dict.pt")
    own = [[key, str(tuple(value.shape)), str(value.dtype).removeprefix("torch.")]
           for key, value in model.state_dict().items()]
    assert own == rows


@needs_reference
@pytest.mark.parametrize("steps", [1, 4])
def test_reproduces_the_reference_teacher_forced(steps: int):
    _, model = load_checkpoint(REFERENCE / "state_dict.pt", time_steps=steps)
    io = torch.load(REFERENCE / "io.pt", weights_only=True)
    trace = read_trace(REFERENCE / f"trace_T{steps}.npz")
    logits, results = teacher_forced(model, io["input"], trace)
    assert set(results) == set(trace) == set(model.lifs())
    total = near = wrong_near = 0
    for name, (h, spikes) in results.items():
        close = (h - model.get_submodule(name).threshold).abs() < 1e-4
        wrong = spikes != trace[name]
        assert not (wrong & ~close).any(), f"{name}: {int((wrong & ~close).sum())} differ"
        total, near = total + h.numel(), near + int(close.sum())
        wrong_near += int(wrong.sum())
    print(f"T={steps}: {near} of {total} neurons ({near / total:.1e}) within 1e-4 of the "
          f"threshold, {wrong_near} of them differ")
    assert near / total < 5e-3 and wrong_near / total < 1e-5
    assert (logits - io["logits"][steps]).abs().max() < 1e-4


@needs_reference
def test_teacher_forcing_detects_a_wrong_weight():
    _, model = load_checkpoint(REFERENCE / "state_dict.pt")
    with torch.no_grad():
        model.block3[2].attn.q_conv[0].body[0].weight *= -1
    io = torch.load(REFERENCE / "io.pt", weights_only=True)
    trace = read_trace(REFERENCE / "trace_T1.npz")
    _, results = teacher_forced(model, io["input"], trace)
    differing = [name for name, (h, spikes) in results.items()
                 if ((spikes != trace[name]) & ((h - 1).abs() > 1e-2)).any()
                 and "attn_lif" not in name]
    assert differing == ["block3.2.attn.q_lif"]


def test_neuron_by_hand():
    x = torch.tensor([[2.0, 1.9], [0.0, 1.1], [2.0, 0.5]])
    # first: h=1 fires, 0, 1 fires; second: h=.95, .95+.075=1.025 fires, .25
    assert Lif()(x).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert Lif(0.5)(torch.tensor([[1.0, 0.99]])).tolist() == [[1, 0]]


def test_neuron_surrogate_gradient():
    x = torch.tensor([[2.0, -4.0]], requires_grad=True)
    Lif()(x).sum().backward()
    assert x.grad[0, 0] == pytest.approx(0.5) and 0 < x.grad[0, 1] < 1e-3


@pytest.mark.parametrize("changes", [{}, {"kd": False}, {"depths": (1, 1, 1, 1, 6, 2)},
                                     {"kernels": (7, 5, 3, 3, 1), "conv_kernel": 5}])
def test_config_is_read_back_from_shapes(changes: dict):
    config = dataclasses.replace(SMALL, **changes)
    state = MetaSpikeFormer(config).state_dict()
    assert infer_config(state, strides=config.strides, num_heads=4, time_steps=3) == config


def test_stem_once_equals_frames_and_hooks_see_every_neuron():
    model = small_model()
    x = torch.randn(2, 2, 16, 16)
    logits, record = capture(model, x)
    frames, _ = capture(model, x.expand(3, -1, -1, -1, -1))
    assert torch.equal(logits, frames) and logits.shape == (2, 5)
    assert list(record) == [name for name in model.lifs() if name in record]
    assert len(record) == len(model.lifs())
    assert all(inputs.shape == spikes.shape and spikes.shape[:2] == (3, 2)
               for inputs, spikes in record.values())
    assert all(0 < spikes.mean() < 1 for name, (_, spikes) in record.items() if name != "lif")


def test_own_trace_forces_itself(tmp_path: Path):
    model = small_model()
    x = torch.randn(1, 2, 16, 16)
    logits, record = capture(model, x)
    write_trace(tmp_path / "t.npz", {name: spikes for name, (_, spikes) in record.items()})
    trace = read_trace(tmp_path / "t.npz")
    again, results = teacher_forced(model, x, trace)
    assert torch.equal(logits, again)
    assert all(torch.equal(spikes, trace[name]) for name, (_, spikes) in results.items())
    del trace["block3.0.attn.q_lif"]
    with pytest.raises(TraceError, match=r"block3\.0\.attn\.q_lif"):
        teacher_forced(model, x, trace)


def test_training_returns_both_heads_and_gradients_reach_every_parameter():
    model = small_model().train()
    first, second = model(torch.randn(4, 2, 16, 16))
    (first.square().sum() + second.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_checkpoint_files_round_trip(tmp_path: Path):
    model = small_model()
    meta = {"strides": SMALL.strides, "num_heads": 4, "time_steps": 3, "mean": [0.5, 0.5]}
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    torch.save({"model": model.state_dict(), "meta": meta}, tmp_path / "wrapped.pt")
    write_checkpoint(tmp_path / "own.safetensors", model.state_dict(), meta)
    x = torch.randn(1, 2, 16, 16)
    expected = model(x)
    for name, extra in (("bare.pt", meta), ("wrapped.pt", {}), ("own.safetensors", {})):
        extra = {key: extra[key] for key in ("strides", "num_heads", "time_steps") if key in extra}
        config, loaded = load_checkpoint(tmp_path / name, **extra)
        assert config == SMALL and torch.equal(loaded(x), expected)
    assert read_checkpoint(tmp_path / "own.safetensors")[1]["mean"] == [0.5, 0.5]


def test_checkpoint_errors_name_file_and_key(tmp_path: Path):
    state = small_model().state_dict()

    def attempt(message: str, change: dict, remove: str = "", **overrides: object) -> None:
        altered = {key: value for key, value in state.items() if key != remove} | change
        torch.save(altered, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "bad.pt", num_heads=4, **overrides)

    attempt(r"bad\.pt: no key 'head.weight'", {}, "head.weight")
    attempt(r"bad\.pt: no key 'block3.1.mlp.fc2_bn.bias'", {}, "block3.1.mlp.fc2_bn.bias")
    attempt(r"bad\.pt: key 'extra' does not belong", {"extra": torch.zeros(1)})
    attempt(r"bad\.pt: key 'head.bias' has shape \(4,\), expected \(5,\)",
            {"head.bias": torch.zeros(4)})
    attempt(r"bad\.pt: key 'head.bias' has values that are not finite",
            {"head.bias": torch.full((5,), float("nan"))})
    attempt(r"bad\.pt: in_channels is 2 by the stored shapes, not 3", {}, in_channels=3)
    attempt(r"bad\.pt: 'colour' is not a field", {}, colour=3)
    attempt(r"bad\.pt: strides must have 5 entries", {}, strides=(1, 2))
    with pytest.raises(CheckpointError, match=r"none\.pt: no such file"):
        load_checkpoint(tmp_path / "none.pt")
    for name in ("junk.pt", "junk.safetensors"):
        (tmp_path / name).write_bytes(b"no checkpoint at all")
        with pytest.raises(CheckpointError, match=r"junk\.\w+: not a readable"):
            load_checkpoint(tmp_path / name)


def test_impossible_configurations_are_rejected():
    with pytest.raises(ValueError, match="block3: 16 channels do not split into 3 heads"):
        dataclasses.replace(SMALL, num_heads=3)
    with pytest.raises(ValueError, match="sep_kernel must be odd, got 4"):
        dataclasses.replace(SMALL, sep_kernel=4)
