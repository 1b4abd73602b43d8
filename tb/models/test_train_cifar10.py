# SPDX-License-Identifier: Apache-2.0
"""Training code: data layout, augmentation, optimiser, and going on after an interruption."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sw.models.meta_spikeformer import load_checkpoint
from sw.train.augment import crop_and_flip, cut_mix, erase
from sw.train.cifar10 import DataError, load_cifar10, normalise, read_batch, write_batch
from sw.train.convert_tfjs import bundle, convert
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


def test_convert_the_npm_package(tmp_path: Path):
    with np.load(DATA / "cifar10_test_256.npz") as file:
        images, labels = file["images"][:12], file["labels"][:12]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        sheet = images[2 * i:2 * i + 2].reshape(2, 1024, 3)
        Image.fromarray(sheet).save(tmp_path / f"{name}.png")
    (tmp_path / "train_lables.json").write_text(json.dumps(labels[:10].tolist()))
    (tmp_path / "test_lables.json").write_text(json.dumps(labels[10:].tolist()))
    convert(tmp_path, tmp_path / "bin")
    for split, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        found = load_cifar10(tmp_path / "bin", split)
        assert (found[0] == images[part]).all() and (found[1] == labels[part]).all()
    bundle(tmp_path / "bin", tmp_path, 2)
    with np.load(tmp_path / "cifar10_test_2.npz") as file:
        assert (file["images"] == images[10:]).all() and (file["labels"] == labels[10:]).all()
    (tmp_path / "train_lables.json").write_text("[1, 2]")
    with pytest.raises(DataError, match="2 labels for 10 images"):
        convert(tmp_path, tmp_path / "bin")


def test_shipped_checkpoint_classifies_the_bundled_images():
    config, model = load_checkpoint(DATA.parent / "models" / "cifar10_v2.safetensors")
    assert config.time_steps == 4 and config.strides == NETWORK.strides
    with np.load(DATA / "cifar10_test_256.npz") as file:
        x = torch.from_numpy(normalise(file["images"][:64]))
        labels = torch.from_numpy(file["labels"][:64])
    with torch.no_grad():
        hits = int((model(x).argmax(1) == labels).sum())
    assert hits >= 55, f"only {hits} of 64 are right"


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
