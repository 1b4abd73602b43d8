# SPDX-License-Identifier: Apache-2.0
"""Training code: data layout, augmentation, optimiser, and going on after an interruption."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sw.models.e_spikeformer import load_e_checkpoint
from sw.models.meta_spikeformer import load_checkpoint
from sw.train.augment import crop_and_flip, cut_mix, erase, recolour, warp
from sw.train.cifar10 import DataError, load_cifar10, normalise, read_batch, write_batch
from sw.train.convert_tfjs import bundle, convert
from sw.train.cost import additions
from sw.train.muon import orthogonalise
from sw.train.recipe import PLANS, Plan, Recipe
from sw.train.train_cifar10 import load_network, smoke_plan
from sw.train.trainer import Data, Trainer

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
    assert config.time_steps == 4 and config.strides == PLANS["cifar10_v2"].network.strides
    with np.load(DATA / "cifar10_test_256.npz") as file:
        x = torch.from_numpy(normalise(file["images"][:64]))
        labels = torch.from_numpy(file["labels"][:64])
    with torch.no_grad():
        hits = int((model(x).argmax(1) == labels).sum())
    assert hits >= 55, f"only {hits} of 64 are right"


@pytest.mark.parametrize(("name", "right", "millions"), [
    ("cifar10_v3", 58, (55, 65)), ("cifar10_v3_wide", 60, (140, 170))])
def test_shipped_levelled_checkpoint(name: str, right: int, millions: tuple[int, int]) -> None:
    path = DATA.parent / "models" / f"{name}.safetensors"
    config, model = load_e_checkpoint(path)
    assert config == PLANS[name].network
    with np.load(DATA / "cifar10_test_256.npz") as file:
        x = torch.from_numpy(normalise(file["images"][:64]))
        labels = torch.from_numpy(file["labels"][:64])
    with torch.no_grad():
        hits = int((model(x).argmax(1) == labels).sum())
    assert hits >= right, f"only {hits} of 64 are right"
    assert millions[0] * 1e6 < sum(additions(model, x[:16]).values()) < millions[1] * 1e6


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


@pytest.mark.parametrize("change", [warp, recolour])
def test_warp_and_colour_change_the_given_share(change):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(200, 3, 16, 16, generator=generator)
    assert torch.equal(change(images, generator, 0.0), images)
    out = change(images, generator, 0.5)
    changed = (out != images).flatten(1).any(1)
    assert out.shape == images.shape and 70 < changed.sum() < 130


def test_warp_keeps_the_middle_and_colour_keeps_shapes():
    generator = torch.Generator().manual_seed(2)
    spot = torch.zeros(50, 3, 17, 17)
    spot[:, :, 8, 8] = 1
    moved = warp(spot, generator, 1.0)
    assert (moved.flatten(2).argmax(2) == 8 * 17 + 8).all() and (moved[:, :, 8, 8] > 0.9).all()
    grey = torch.randn(50, 1, 8, 8, generator=generator).expand(-1, 3, -1, -1)
    out = recolour(grey, generator, 1.0)  # saturation leaves grey alone, the rest is affine
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-5)
    ratio = (out - out.mean((1, 2, 3), keepdim=True)) / (grey - grey.mean((1, 2, 3), keepdim=True))
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-2)


def test_orthogonalise():
    torch.manual_seed(0)
    for shape in ((3, 8, 40), (2, 40, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3


def _data(count: int = 64) -> Data:
    torch.manual_seed(3)
    return torch.randn(count, 3, 8, 8), torch.randint(0, 10, (count,))


def _plan(name: str, **changes: object) -> Plan:
    plan = PLANS[name]
    dims = {"stem_channels": 4, "num_heads": 2,
            "embed_dims": (4, 4, 8, 8)[:len(plan.network.embed_dims)]}
    stages = tuple(dataclasses.replace(
        stage, **({"epochs": 2, "batch": 32, "teaching": 0.0} | changes)) for stage in plan.stages)
    return Plan(name=name, network=dataclasses.replace(plan.network, **dims), stages=stages)


def _trainer(output: Path, plan: Plan, **options: object) -> Trainer:
    data = _data()
    return Trainer(plan, output, data, data, data, 0, compile_model=False, **options)


@pytest.mark.parametrize(("name", "stop"), [("cifar10_v2", (1, 1)), ("cifar10_v3", (0, 10))])
def test_resumes_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          name: str, stop: tuple[int, int]):
    plan = _plan(name, epochs=2) if name == "cifar10_v2" else _plan(name, epochs=12,
                                                                    additions=1e5)
    whole = _trainer(tmp_path / "whole", plan)
    whole.train()
    broken = _trainer(tmp_path / "broken", plan)
    epoch = Trainer._train_epoch

    def failing(self: Trainer, recipe: Recipe) -> dict[str, float]:
        if (self.stage, self.epoch) == stop:
            raise KeyboardInterrupt
        return epoch(self, recipe)

    monkeypatch.setattr(Trainer, "_train_epoch", failing)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    monkeypatch.undo()
    resumed = _trainer(tmp_path / "broken", plan)
    assert (resumed.stage, resumed.epoch) == (stop[0], stop[1] // 10 * 10)
    resumed.train()
    expected, found = whole.average.state_dict(), resumed.average.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert resumed.weight == whole.weight
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert result["results"][f"stage{stop[0]}_total_additions"] > 0


@pytest.mark.parametrize("name", ["cifar10_v2", "cifar10_v3"])
def test_the_file_holds_the_network_that_was_evaluated(tmp_path: Path, name: str):
    plan = _plan(name, epochs=1)
    trainer = _trainer(tmp_path, plan)
    trainer.train()
    load = load_checkpoint if name == "cifar10_v2" else load_e_checkpoint
    config, model = load(tmp_path / f"{name}.safetensors")
    assert config.strides == plan.network.strides
    assert config == plan.network or config.time_steps == 4
    assert all(torch.equal(value, trainer.average.state_dict()[key])
               for key, value in model.state_dict().items())
    assert type(load_network(tmp_path / f"{name}.safetensors")) is type(model)


def test_schedule_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    plan = _plan("cifar10_v3", epochs=1, seconds=40.0, additions=0.0)
    trainer = _trainer(tmp_path, plan)
    trainer.train()
    assert 30 < trainer.seconds[0] < 50 and trainer.epoch == 0 and trainer.stage == 1
    assert len(trainer.log) > 5
    assert max(group["lr"] for group in trainer.optimisers[0].param_groups) < 2e-3


def test_a_teacher_is_followed(tmp_path: Path):
    teacher = _trainer(tmp_path / "teacher", _plan("cifar10_v3")).model
    plan = _plan("cifar10_v3", teaching=1.0, additions=0.0)
    pupil = _trainer(tmp_path / "pupil", plan, teacher=teacher, initial=teacher)
    x, y = _data()
    pupil.model.eval()
    teacher.eval()
    loss = pupil._loss(x, y, torch.ones(64), plan.stages[0])
    assert abs(loss.item()) < 1e-5  # the same network: nothing to learn
    with torch.no_grad():
        pupil.model.head.bias[0] += 1
    assert pupil._loss(x, y, torch.ones(64), plan.stages[0]).item() > 0.01
    with pytest.raises(ValueError, match="cifar10_v3 is taught by another network"):
        _trainer(tmp_path / "none", plan)


def test_rate_penalty_lowers_the_additions(tmp_path: Path):
    totals = []
    for target in (1e9, 1e3):  # out of reach above and below
        trainer = _trainer(tmp_path / str(target), _plan("cifar10_v3", epochs=14,
                                                         additions=target))
        trainer.train()
        totals.append(trainer.results["stage0_total_additions"])
        assert trainer.weight == 0.01 if target == 1e9 else trainer.weight > 0.5
    assert totals[1] < 0.95 * totals[0]


def test_the_last_stage_ends_in_time(tmp_path: Path):
    plan = _plan("cifar10_v3", epochs=10**6, additions=0.0)
    started = time.time()
    trainer = _trainer(tmp_path, plan, until=started + 4)
    trainer.train()
    assert time.time() - started < 15 and trainer.log[-1]["epoch"] > 2
    assert trainer.stages[-1].seconds < 4.5


def test_smoke_run_of_both_families(tmp_path: Path):
    with np.load(DATA / "cifar10_calibration_256.npz") as file:
        x = torch.from_numpy(normalise(file["images"][:32]))
        data = x, torch.from_numpy(file["labels"][:32].astype(np.int64))
    teacher = None
    for name in ("cifar10_v3", "cifar10_v3_thin", "cifar10_v2_wide"):
        trainer = Trainer(smoke_plan(PLANS[name]), tmp_path / name, data, data, data, 0,
                          compile_model=False, teacher=teacher)
        trainer.train()
        assert np.isfinite([line["loss"] for line in trainer.log]).all()
        teacher = teacher or load_network(tmp_path / name / f"{name}.safetensors")
