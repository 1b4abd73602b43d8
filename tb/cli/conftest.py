# SPDX-License-Identifier: Apache-2.0
"""A small network as checkpoint and as model file, and images for it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sw.model_file import IntegerModel, load_model, save_model
from sw.models.checkpoint import write_checkpoint
from sw.run import quantise_checkpoint
from tb.quantise.networks import small_network

SIZE = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint.safetensors, model.safetensors (T=2), images.npz (uint8, labels), pictures/."""
    folder = tmp_path_factory.mktemp("cli")
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
    images = coarse.repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
    np.savez(folder / "images.npz", images=images, labels=np.arange(4))
    (folder / "pictures").mkdir()
    for number in (2, 0, 1):
        Image.fromarray(images[number]).save(folder / "pictures" / f"{number}.png")
    write_checkpoint(
        folder / "checkpoint.safetensors", small_network(3, depths=(1, 1, 1, 0, 1, 0)).state_dict(),
        {"num_heads": 4, "mean": MEAN, "std": STD, "image_size": [SIZE, SIZE],
         "classes": [f"class{index}" for index in range(5)]})
    model = quantise_checkpoint(folder / "checkpoint.safetensors", folder / "images.npz",
                                time_steps=2, name="small")
    save_model(model, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def model(folder: Path) -> IntegerModel:
    return load_model(folder / "model.safetensors")
