# SPDX-License-Identifier: Apache-2.0
"""Cross-validation on event recordings: folds, augmentation, and the whole path once, smaller."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.golden.network import evaluate, quantise_images
from sw.images import load_images
from sw.model_file import load_model
from sw.models.load import load_network
from sw.run import quantise_checkpoint
from sw.train import train_nmnist
from sw.train.train_nmnist import fold_of

ROOT = Path(__file__).parents[2]


def test_folds_are_equal_parts() -> None:
    folds = fold_of(1100, 5)
    assert torch.bincount(folds).tolist() == [220] * 5
    assert (folds == fold_of(1100, 5)).all() and (folds[:220] != 0).any()


def test_the_shipped_network_reads_its_held_out_fold() -> None:
    model = quantise_checkpoint(ROOT / "models/nmnist_v2.safetensors",
                                ROOT / "data/nmnist_calibration_128.npz")
    frames = load_images(ROOT / "data/nmnist_test_220.npz", model, limit=40)
    found = evaluate(model, quantise_images(model, frames.pixels), keep=False)["predictions"]
    right = int((found.flatten() == torch.tensor(frames.labels)).sum())
    assert right >= 38, f"only {right} of 40 are right"


def recordings(path: Path, count: int) -> None:
    """Random events in the layout of a recording file."""
    random = np.random.default_rng(3)
    events = 200 * count
    np.savez(path, t_us=np.arange(events, dtype=np.uint32),
             x=random.integers(0, 34, events, dtype=np.uint8),
             y=random.integers(0, 34, events, dtype=np.uint8),
             p=random.integers(0, 2, events, dtype=np.uint8),
             offsets=np.arange(0, events + 1, 200), label=np.arange(count, dtype=np.uint8) % 10)


def test_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                        capsys: pytest.CaptureFixture[str]) -> None:
    recordings(tmp_path / "r.npz", 12)
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["train_nmnist", "--data", str(tmp_path / "r.npz"),
                                      "--output", str(out), "--folds", "2", "--epochs", "1",
                                      "--teachers", "1"])
    arguments = list(sys.argv)
    monkeypatch.setattr(sys, "argv", [*arguments, "--fold", "1"])
    train_nmnist.main()
    assert list(json.loads((out / "result.json").read_text())["folds_done"]) == ["fold1"]
    monkeypatch.setattr(sys, "argv", arguments)
    train_nmnist.main()
    result = json.loads((out / "result.json").read_text())
    assert [fold["recordings"] for fold in result["folds_done"].values()] == [6, 6]
    right = [fold["integer_right"] for fold in result["folds_done"].values()]
    assert result["mean_integer_accuracy"] == pytest.approx(100 * sum(right) / 12, abs=0.01)
    model = load_model(out / "fold1_integer.safetensors")
    frames = load_images(out / "fold1_frames.npz", model)
    held = np.flatnonzero(fold_of(12, 2).numpy() == 1)
    assert frames.pixels.shape == (6, 3, 2, 34, 34) and frames.labels == (held % 10).tolist()
    assert frames.pixels.sum() == 6 * 200
    config, _ = load_network(out / "fold1.safetensors")
    assert config.in_channels == 2 and model.time_steps == 3
    # a run that is repeated does nothing that is done
    monkeypatch.setattr(train_nmnist, "train_fold", None)
    train_nmnist.main()
    assert json.loads((out / "result.json").read_text()) == result
    for arguments, said in ((["--epochs", "2"], "fold0.json: results of other settings"),
                            (["--folds", "1"], "folds is 1, must be 2..12"),
                            (["--fold", "2"], "fold is 2, must be 0..1"),
                            (["--teachers", "-1"], "teachers is -1"),
                            (["--epochs", "0"], "epochs is 0"),
                            (["--data", "none.npz"], "none.npz")):
        monkeypatch.setattr(sys, "argv", [*sys.argv[:5], "--folds", "2", "--epochs", "1",
                                          "--teachers", "1", *arguments])
        with pytest.raises(SystemExit):
            train_nmnist.main()
        assert said in capsys.readouterr().err
