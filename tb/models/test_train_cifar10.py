# SPDX-License-Identifier: Apache-2.0
"""Training code: data layout, augmentation, optimiser, and going on after an interruption."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.models.meta_spikeformer import load_checkpoint
from sw.train.augment import crop_and_flip, cut_mix, erase
from sw.train.cifar10 import DataError, normalise, read_batch, write_batch
from sw.train.muon import orthogonalise
from sw.train.train_cifar10 import NETWORK, STAGES, Trainer

torch.set_num_threads(1)
DATA = Path(__file__).parents[2] / "data"


def test_binary_layout_round_trip(tmp_path: Path):
    with np.load(DATA / "cifar10_test_256.npz") as file:
        images, labels = file["images"], file["labels"]
    assert images.shape == (256, 32, 32, 3) and images.dtype == np.uint8
    write_batch(tmp_path / "b.bin", images, labels)
    raw = (tmp_path / "b.bin").read_bytes()
    assert raw[0] == labels[0] and raw[1] == images[0, 0, 0, 0] and raw[2] == images[0, 0, 1, 0]
    assert raw[1 + 1024] == images[0, 0, 0, 1] and raw[3073] == labels[1]
    read = read_batch(tmp_path / "b.bin")
    assert (read[0] == images).all() and (read[1] == labels).all()
    (tmp_path / "b.bin").write_bytes(raw[:-1])
    with pytest.raises(DataError, match=r"b\.bin: 786687 bytes are no whole number"):
        read_batch(tmp_path / "b.bin")
    with pytest.raises(DataError, match=r"c\.bin: no such file"):
        read_batch(tmp_path / "c.bin")


def test_normalised_training_images_are_standard():
    with np.load(DATA / "cifar10_calibration_256.npz") as file:
        x = normalise(file["images"])
    assert x.dtype == np.float32 and abs(x.mean()) < 0.1 and abs(x.std() - 1) < 0.1


def test_augmentation():
    generator = torch.Generator().manual_seed(1)
    images = torch.arange(1.0, 64 * 3 * 32 * 32 + 1).reshape(64, 3, 32, 32)
    moved = crop_and_flip(images, generator)
    centre = moved[:, :, 16, 16]
    assert moved.shape == images.shape and not torch.equal(moved, images)
    assert all(centre[i, 0] in images[i, 0, 12:21, 11:21] for i in range(64))
    same = crop_and_flip(images, generator, padding=0)
    assert all(torch.equal(same[i], images[i]) or torch.equal(same[i], images[i].flip(2))
               for i in range(64))
    erased = erase(images, generator, 0.5)
    share = (erased == 0).flatten(1).float().mean(1)
    assert 16 < (share > 0).sum() < 48 and share.max() < 0.45
    mixed, own = cut_mix(images, generator, 0.5)
    assert torch.allclose((mixed == images).flatten(1).float().mean(1), own)
    assert ((mixed == images) | (mixed == images.roll(1, 0))).all() and 0 < own.mean() < 1


def test_orthogonalise():
    torch.manual_seed(0)
    for shape in ((3, 8, 40), (2, 40, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3


def _trainer(output: Path) -> Trainer:
    torch.manual_seed(3)
    data = torch.randn(64, 3, 8, 8), torch.randint(0, 10, (64,))
    config = dataclasses.replace(NETWORK, stem_channels=4, embed_dims=(4, 4, 8, 8), num_heads=2)
    stages = tuple(dataclasses.replace(stage, epochs=2, batch=32) for stage in STAGES)
    return Trainer(config, stages, output, data, data, data, 0, compile_model=False)


def test_resumes_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = _trainer(tmp_path / "whole")
    whole.train()
    broken = _trainer(tmp_path / "broken")
    epoch = Trainer._train_epoch

    def failing(self: Trainer, recipe: object) -> float:
        if self.stage == 1 and self.epoch == 1:
            raise KeyboardInterrupt
        return epoch(self, recipe)

    monkeypatch.setattr(Trainer, "_train_epoch", failing)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    monkeypatch.undo()
    resumed = _trainer(tmp_path / "broken")
    assert (resumed.stage, resumed.epoch) == (1, 0)
    resumed.train()
    expected, found = whole.average.state_dict(), resumed.average.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    config, model = load_checkpoint(tmp_path / "whole" / "cifar10_v2.safetensors")
    assert config.time_steps == 4 and config.strides == NETWORK.strides
    assert torch.equal(model.head.weight, whole.average.head.weight)
