# SPDX-License-Identifier: Apache-2.0
"""E-SpikeFormer in float: neuron, published sizes and keys, equality with the reference trace."""

import dataclasses
import math
import os
from pathlib import Path

import pytest
import torch

from sw.models.checkpoint import write_checkpoint
from sw.models.e_blocks import linear_attention
from sw.models.e_large import TokenRepConv
from sw.models.e_spikeformer import (
    E_SIZES,
    LARGE_SIZES,
    CheckpointError,
    ESpikeFormer,
    ESpikeFormerConfig,
    MultiSpike,
    infer_e_config,
    load_e_checkpoint,
)
from sw.models.trace import (
    TraceError,
    capture_levels,
    read_levels,
    teacher_forced_levels,
    write_levels,
)

torch.set_num_threads(1)
SHARED = Path(os.environ.get("ADDEND_SHARED", Path(__file__).parents[3] / "shared"))
REFERENCE = SHARED / "reference" / "v3_tiny_64"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="no reference data (set ADDEND_SHARED)")

SMALL = ESpikeFormerConfig(
    in_channels=2, num_classes=5, stem_channels=6, embed_dims=(8, 12, 16, 20),
    depths=(1, 1, 1, 0, 2, 1), num_heads=4, conv_ratio=2, mlp_ratio=3, value_ratio=2, sep_kernel=5,
    kernels=(3, 3, 3, 3, 3), strides=(1, 2, 2, 1, 1), rounding="up")
LARGE = ESpikeFormerConfig(
    in_channels=2, num_classes=5, stem_channels=6, embed_dims=(8, 12, 16), depths=(1, 1, 1, 0, 2),
    num_heads=4, conv_ratio=2, mlp_ratio=3, value_ratio=1, kernels=(3, 3, 3, 3),
    strides=(1, 2, 2, 1), max_level=8, rounding="up", large=True, rep_conv=True, layer_scale=True,
    head_levels=False, kd=True)


def small_model(config: ESpikeFormerConfig = SMALL, seed: int = 0) -> ESpikeFormer:
    """Random network whose neurons take all levels."""
    torch.manual_seed(seed)
    model = ESpikeFormer(config)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.bias, 0, config.max_level / 2)
            torch.nn.init.uniform_(module.running_var, 0.05, 0.2)
        for key, parameter in module.named_parameters(name, recurse=False):
            if "layer_scale" in key:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def overrides(config: ESpikeFormerConfig) -> dict[str, object]:
    """What the keys of a network cannot tell."""
    names = ("strides", "num_heads", "max_level", "rounding", "head_levels")
    return {name: getattr(config, name) for name in names}


@needs_reference
def test_key_layout_is_the_published_one():
    rows = [line.split("\t") for line in (REFERENCE / "keys.txt").read_text().splitlines()]
    _, model = load_e_checkpoint(REFERENCE / "state_dict.pt")
    own = [[key, str(tuple(value.shape)), str(value.dtype).removeprefix("torch.")]
           for key, value in model.state_dict().items()]
    assert own == rows


@needs_reference
def test_reproduces_the_reference_teacher_forced():
    _, model = load_e_checkpoint(REFERENCE / "state_dict.pt")
    io = torch.load(REFERENCE / "io.pt", weights_only=True)
    trace = read_levels(REFERENCE / "trace_T1.npz")
    logits, results = teacher_forced_levels(model, io["input"], trace)
    assert set(results) == set(trace) == set(model.neurons())
    total = near = wrong_near = 0
    for name, (x, levels) in results.items():
        close = model.get_submodule(name).edge_distance(x) < 1e-4
        wrong = levels != trace[name]
        assert not (wrong & ~close).any(), f"{name}: {int((wrong & ~close).sum())} differ"
        total, near = total + x.numel(), near + int(close.sum())
        wrong_near += int(wrong.sum())
    print(f"{near} of {total} neurons ({near / total:.1e}) within 1e-4 of an edge, "
          f"{wrong_near} of them differ")
    assert near / total < 5e-3 and wrong_near / total < 1e-5
    assert (logits - io["logits"][1]).abs().max() < 1e-4


@needs_reference
@pytest.mark.parametrize("fault", ["weight", "limit"])
def test_teacher_forcing_detects_a_fault(fault: str):
    _, model = load_e_checkpoint(REFERENCE / "state_dict.pt")
    trace = read_levels(REFERENCE / "trace_T1.npz")
    name = "block3.2.attn.q_spike"
    if fault == "weight":
        with torch.no_grad():
            model.block3[2].attn.q_conv[0].weight *= -1
    else:
        model.get_submodule(name).max_level = 2
    io = torch.load(REFERENCE / "io.pt", weights_only=True)
    _, results = teacher_forced_levels(model, io["input"], trace)
    differing = [layer for layer, (x, levels) in results.items()
                 if ((levels != trace[layer])
                     & (MultiSpike().edge_distance(x) > 1e-4)).any()]
    assert differing == [name]


def test_rounding_at_the_half_and_limits():
    x = torch.tensor([-3.0, 0.0, 0.49, 0.5, 1.5, 2.5, 3.5, 4.0, 7.5, 9.0])
    assert MultiSpike().levels(x).tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 4, 4]
    assert MultiSpike(rounding="up").levels(x).tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4, 4]
    assert MultiSpike(8, "up").levels(x).tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 8, 8]
    assert MultiSpike()(x).tolist() == [0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 1]
    assert MultiSpike(norm=1)(x).tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 4, 4]
    for x, distance in ((-1, 1.5), (0.25, 0.25), (2.0, 0.5), (3.75, 0.25), (9, 5.5)):
        assert MultiSpike().edge_distance(torch.tensor([float(x)])).item() == distance


def test_levels_are_the_spikes_of_a_soft_reset_neuron():
    x = torch.linspace(-2, 10, 4801)
    for limit in (4, 8):
        v, spikes = x.clamp(max=limit) + 0.5, torch.zeros_like(x)
        for _ in range(limit):
            fired = (v >= 1).float()
            v, spikes = v - fired, spikes + fired
        assert torch.equal(MultiSpike(limit, "up").levels(x), spikes.to(torch.uint8))


@pytest.mark.parametrize("rounding", ["even", "up"])
def test_gradient_window(rounding: str):
    x = torch.tensor([-0.1, 0.0, 0.3, 3.9, 4.0, 4.1], requires_grad=True)
    MultiSpike(4, rounding)(x).sum().backward()
    assert x.grad.tolist() == [0, 0.25, 0.25, 0.25, 0.25, 0]


@pytest.mark.parametrize(("size", "count"), [
    ("t", 2_702_048), ("s", 5_105_608), ("m", 10_023_112), ("l", 18_987_504),
    ("12_512", 83_015_952), ("12_768", 171_740_714)])
def test_parameters_of_the_published_sizes(size: str, count: int):
    config = (E_SIZES | LARGE_SIZES)[size]
    with torch.device("meta"):
        model = ESpikeFormer(config)
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert model(torch.empty(1, 3, 224, 224)).shape == (1, 1000) if not config.kd else True
    assert infer_e_config(model.state_dict()) == config


@pytest.mark.parametrize("config", [
    SMALL, LARGE, dataclasses.replace(SMALL, layer_scale=True, kd=True, head_levels=False),
    dataclasses.replace(SMALL, embed_dims=(8, 12, 16), depths=(1, 1, 0, 0, 1), kernels=(3,) * 4,
                        strides=(1, 2, 2, 1)),
    dataclasses.replace(LARGE, rep_conv=False, layer_scale=False, kernels=(7, 5, 3, 1))])
def test_config_is_read_back_from_shapes(config: ESpikeFormerConfig):
    state = ESpikeFormer(config).state_dict()
    assert infer_e_config(state, **overrides(config)) == config


@pytest.mark.parametrize("config", [SMALL, LARGE])
def test_shapes_and_hooks(config: ESpikeFormerConfig):
    model = small_model(config)
    logits, record = capture_levels(model, torch.randn(2, 2, 16, 16))
    assert logits.shape == (2, 5) and set(record) == set(model.neurons())
    for name, levels in record.items():
        varied = levels.float().std() > 0 or name == model.last_neuron
        assert 0 < levels.max() <= config.max_level and varied, name
    block = "block3.1."
    if config.large:
        assert record[block + "attn.v_lif"].shape == (2, 16, 16)
    else:
        assert record[block + "attn.v_spike"].shape == (2, 32, 4, 4)
        assert record[block + "attn.attn_spike"].shape == (2, 32, 16)
        assert record[block + "conv.spike3"].shape == (2, 32, 4, 4)
    assert record["downsample1_2." + ("encode_lif" if config.large else "encode_spike")].shape == (
        2, 6, 16, 16)


def test_attention_by_hand():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randint(0, 5, (2, channels, 6), generator=generator) / 4
               for channels in (8, 8, 16))
    out = linear_attention(q, k, v, 2, 0.5)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        scores = q[1, part].T @ k[1, part]                     # [token, token]: the published order
        expected = scores @ v[1, 8 * head:8 * head + 8].T * 0.5
        assert torch.equal(out[1, 8 * head:8 * head + 8], expected.T)
    attention = small_model().block3[0].attn
    assert attention.scale == 2 / math.sqrt(4)
    assert small_model(LARGE).block3[0].attn.scale == 0.125


def test_layer_scale_and_rep_conv_act():
    model = small_model(LARGE)
    x = torch.randn(1, 2, 16, 16)
    expected = model(x)
    for key in ("layer_scale1", "layer_scale2"):
        changed = small_model(LARGE)
        with torch.no_grad():
            getattr(changed.block3[0], key).zero_()
        assert not torch.equal(changed(x), expected), key
    changed = small_model(LARGE)
    with torch.no_grad():
        changed.block3[1].rep_conv.conv2[1].bias += 3
    assert not torch.equal(changed(x), expected)


def test_token_rep_conv_folds_to_one_matrix():
    torch.manual_seed(0)
    rep = TokenRepConv(6, 9).double().eval()
    for module in rep.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_var, 0.2, 2)
            torch.nn.init.normal_(module.bias)
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    bias = rep(torch.zeros(1, 6, 1, dtype=torch.float64))
    matrix = rep(torch.eye(6, dtype=torch.float64)[..., None]) - bias  # rows: W e_i
    assert torch.allclose(rep(x), torch.einsum("io,bin->bon", matrix[..., 0], x) + bias)


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(LARGE, kd=False)])
def test_own_trace_forces_itself(tmp_path: Path, config: ESpikeFormerConfig):
    model = small_model(config)
    x = torch.randn(1, 2, 16, 16)
    logits, record = capture_levels(model, x)
    write_levels(tmp_path / "t.npz", record)
    trace = read_levels(tmp_path / "t.npz")
    again, results = teacher_forced_levels(model, x, trace)
    assert torch.equal(logits, again)
    assert all(torch.equal(levels, trace[name]) for name, (_, levels) in results.items())
    name = list(trace)[7]
    with pytest.raises(TraceError, match=f"layer '{name}' is traced with shape"):
        teacher_forced_levels(model, x, trace | {name: trace[name][..., :1]})
    del trace[name]
    with pytest.raises(TraceError, match=f"no layer '{name}'"):
        teacher_forced_levels(model, x, trace)


@pytest.mark.parametrize("config", [SMALL, LARGE, dataclasses.replace(SMALL, layer_scale=True)])
def test_gradients_reach_every_parameter(config: ESpikeFormerConfig):
    model = small_model(config).train()
    outputs = model(torch.randn(4, 2, 16, 16))
    sum(out.square().sum() for out in (outputs if config.kd else (outputs,))).backward()
    dead = [name for name, parameter in model.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("config", [SMALL, LARGE])
def test_checkpoint_files_round_trip(tmp_path: Path, config: ESpikeFormerConfig):
    model, meta = small_model(config), overrides(config)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    torch.save({"model": model.state_dict(), "meta": meta}, tmp_path / "wrapped.pt")
    write_checkpoint(tmp_path / "own.safetensors", model.state_dict(), meta)
    x = torch.randn(1, 2, 16, 16)
    for name, extra in (("bare.pt", meta), ("wrapped.pt", {}), ("own.safetensors", {})):
        found, loaded = load_e_checkpoint(tmp_path / name, **extra)
        assert found == config and torch.allclose(loaded(x), model(x), atol=1e-4)
        assert all(torch.equal(value, model.state_dict()[key])
                   for key, value in loaded.state_dict().items())


def test_checkpoint_errors_name_file_and_key(tmp_path: Path):
    state = small_model().state_dict()

    def attempt(message: str, change: dict, remove: str = "", **extra: object) -> None:
        torch.save({key: value for key, value in state.items() if key != remove} | change,
                   tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match=message):
            load_e_checkpoint(tmp_path / "bad.pt", num_heads=4, **extra)

    attempt(r"bad\.pt: no key 'head.weight': not an E-SpikeFormer", {}, "head.weight")
    attempt(r"bad\.pt: no key 'block3.1.mlp.fc2_bn.bias'", {}, "block3.1.mlp.fc2_bn.bias")
    attempt(r"bad\.pt: key 'extra' does not belong to an E-SpikeFormer", {"extra": torch.ones(1)})
    attempt(r"bad\.pt: value_ratio is 2 by the stored shapes, not 4", {}, value_ratio=4)
    attempt(r"bad\.pt: rounding must be one of", {}, rounding="down")


def test_impossible_configurations_are_rejected():
    with pytest.raises(ValueError, match="block3: 16 channels do not split into 3 heads"):
        dataclasses.replace(SMALL, num_heads=3)
    with pytest.raises(ValueError, match="token_kernel must be odd, got 4"):
        dataclasses.replace(SMALL, token_kernel=4)
    with pytest.raises(ValueError, match="embed_dims must have 3 or 4 entries"):
        dataclasses.replace(SMALL, embed_dims=(8, 8))
    with pytest.raises(ValueError, match="rep_conv belongs to the large family"):
        dataclasses.replace(SMALL, rep_conv=True)
    with pytest.raises(ValueError, match="max_level must be at least 1, got 0"):
        MultiSpike(0)
