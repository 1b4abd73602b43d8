# SPDX-License-Identifier: Apache-2.0
"""The account of adder slots: it adds up, agrees with the counters, and names the right cause."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hw.presets import get_preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.cli import app
from sw.golden.network import evaluate
from sw.golden.useful import useful_additions
from sw.model_file import IntegerModel, save_model
from sw.profile import CAUSES, Profile, ProfileError, profile
from tb.random_model import random_image, random_model

NETWORKS = {"binary": {"time_steps": 2}, "levels": {"levels": 4}}


def _network(name: str) -> tuple[IntegerModel, torch.Tensor]:
    model = random_model(7, **NETWORKS[name])
    return model, torch.stack([random_image(model, seed) for seed in (3, 4)])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_account_adds_up(name: str) -> None:
    model, images = _network(name)
    found = profile(model, images, get_preset("tiny"), effort=QUICK)
    assert sum(found.shares().values()) == pytest.approx(1, abs=1e-9)
    assert all(slots >= 0 for part in found.parts for slots in part.slots.values())
    useful = [useful_additions(model, evaluate(model, image)) for image in images]
    layers = found.by_layer()
    for layer in model.layers:
        mine = layers[layer.name]
        wanted = sum(counts[layer.name] for counts in useful)
        assert mine["useful"] + found.elsewhere.get(layer.name, 0) == pytest.approx(wanted)
        assert (mine["masked"] > 0) <= (layer.kind == "depthwise")
    slots = found.adders * found.cycles
    assert found.utilisation == pytest.approx(
        sum(sum(counts.values()) for counts in useful) / slots)
    _check_slices(found)


def _check_slices(found: Profile) -> None:
    """Slices of a unit follow each other, inside the run; every descriptor has one."""
    units = {unit: [piece for piece in found.slices if piece.unit == unit]
             for unit in ("load", "compute", "epilogue", "store")}
    assert all(units.values())
    compute = [part for part in found.parts if part.descriptor >= 0]
    assert len(units["compute"]) == len(compute)
    for pieces in units.values():
        assert all(0 <= piece.begin <= piece.end <= found.cycles for piece in pieces)
    for unit in ("load", "store", "compute"):
        assert all(after.begin >= before.begin
                   for before, after in zip(units[unit], units[unit][1:], strict=False))


def test_slow_weights_are_named() -> None:
    """With a memory of a byte a cycle the groups wait for data, not for themselves."""
    model, images = _network("binary")
    shares = []
    original = VerilatedTransport.set_timing
    for bandwidth in (None, 1.0):
        with pytest.MonkeyPatch.context() as patch:
            if bandwidth:
                patch.setattr(VerilatedTransport, "set_timing",
                              lambda self, latency, _, *rest: original(self, latency, 1.0, *rest))
            shares.append(profile(model, images[:1], get_preset("tiny"), effort=QUICK).shares())
    waits = [sum(found[cause] for cause in ("weights", "memory", "store", "fetch"))
             for found in shares]
    assert waits[1] > 0.5 > 2 * waits[0]


@pytest.mark.parametrize(("moved", "said"), [
    (False, "cycles of groups were probed"), (True, "additions were probed")])
def test_a_wrong_account_is_refused(moved: bool, said: str,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = _network("binary")
    original = VerilatedTransport.profile

    def lost(self: VerilatedTransport) -> tuple[np.ndarray, np.ndarray]:
        states, events = original(self)
        row = states[:, 5].argmax()
        states[row, 5] -= 1  # a cycle of a wait, lost or taken for an addition
        states[row, 0] += moved
        return states, events

    monkeypatch.setattr(VerilatedTransport, "profile", lost)
    with pytest.raises(ProfileError, match=said):
        profile(model, images[:1], get_preset("tiny"), effort=QUICK)


def test_the_command(tmp_path: Path) -> None:
    model, images = _network("binary")
    save_model(model, tmp_path / "m.safetensors")
    np.savez(tmp_path / "x.npz", images=images[:, 0].numpy().astype(np.float32))
    result = CliRunner().invoke(app, [
        "profile", str(tmp_path / "m.safetensors"), "--images", str(tmp_path / "x.npz"),
        "--preset", "tiny", "--json", str(tmp_path / "p.json"),
        "--trace", str(tmp_path / "t.json")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "p.json").read_text())
    assert set(found["shares"]) == set(CAUSES)
    assert sum(found["shares"].values()) == pytest.approx(1, abs=1e-9)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {"load", "compute", "epilogue", "store"}
    assert "utilisation" in result.output and "useful" in result.output
