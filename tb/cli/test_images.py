# SPDX-License-Identifier: Apache-2.0
"""Images from every kind of file, and what is said of bad ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sw.images import ImageError, InputSpec, load_images
from sw.model_file import IntegerModel
from tb.cli.conftest import MEAN, SIZE, STD


def normalised(images: np.ndarray) -> torch.Tensor:
    values = (images.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy())


@pytest.fixture
def bytes_of(folder: Path) -> np.ndarray:
    return np.load(folder / "images.npz")["images"]


def test_bytes_pictures_and_floats_agree(folder: Path, model: IntegerModel, tmp_path: Path,
                                         bytes_of: np.ndarray) -> None:
    expected = normalised(bytes_of)
    found = load_images(folder / "images.npz", model)
    assert found.labels == [0, 1, 2, 3] and found.names[1] == "images.npz[1]"
    torch.testing.assert_close(found.pixels, expected)
    pictures = load_images(folder / "pictures", model)
    assert pictures.names == ["0.png", "1.png", "2.png"] and pictures.labels is None
    assert torch.equal(pictures.pixels, found.pixels[:3])
    one = load_images(folder / "pictures" / "1.png", model)
    assert torch.equal(one.pixels, found.pixels[1:2])
    np.save(tmp_path / "a.npy", expected.numpy())
    torch.save({"input": expected}, tmp_path / "b.pt")
    torch.save(expected, tmp_path / "c.pt")
    np.savez(tmp_path / "d.npz", anything=expected.numpy())
    for name in ("a.npy", "b.pt", "c.pt", "d.npz"):
        assert torch.equal(load_images(tmp_path / name, model).pixels, expected)


def test_limit(folder: Path, model: IntegerModel) -> None:
    found = load_images(folder / "images.npz", model, limit=2)
    assert len(found) == 2 and found.labels == [0, 1] and found.pixels.shape[0] == 2
    assert len(load_images(folder / "pictures", model, limit=2)) == 2
    with pytest.raises(ImageError, match="limit is 0"):
        load_images(folder / "images.npz", model, limit=0)


def test_a_picture_is_covered_and_its_centre_cut_out(tmp_path: Path, model: IntegerModel) -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200                    # the centre square; red outside would be cut off
    wide[:, :30, 0] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = load_images(tmp_path / "wide.png", model).pixels
    assert pixels.shape == (1, 3, SIZE, SIZE)
    inner = pixels[0, :, :, 3:-3] * torch.tensor(STD).reshape(3, 1, 1) \
        + torch.tensor(MEAN).reshape(3, 1, 1)
    torch.testing.assert_close(inner, torch.full_like(inner, 200 / 255), atol=0.01, rtol=0)


def test_events(tmp_path: Path) -> None:
    spec = InputSpec(channels=2, height=5, width=6, frames=3)
    frames = np.random.default_rng(0).normal(size=(2, 3, 2, 5, 6))
    np.save(tmp_path / "e.npy", frames)
    assert load_images(tmp_path / "e.npy", spec).pixels.shape == (2, 3, 2, 5, 6)
    np.save(tmp_path / "e.npy", frames[:, :2])
    with pytest.raises(ImageError, match=r"e\.npy: .*\[2, 2, 2, 5, 6\], must be \[N, 3, 2, 5, 6\]"):
        load_images(tmp_path / "e.npy", spec)
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(tmp_path / "p.png")
    with pytest.raises(ImageError, match="event frames"):
        load_images(tmp_path / "p.png", spec)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.npy", np.zeros((2, 3, SIZE, SIZE + 1), np.float32),
     r"a\.npy: images have shape \[2, 3, 16, 17\], must be \[N, 3, 16, 16\]"),
    ("a.npy", np.zeros((3, SIZE, SIZE), np.float32), r"shape \[3, 16, 16\]"),
    ("a.npy", np.zeros((0, 3, SIZE, SIZE), np.float32), r"\[0, 3, 16, 16\] holds no image"),
    ("a.npy", np.zeros((2, 3, SIZE, SIZE), np.int64), "are int64, must be float32 or uint8"),
    ("a.npy", np.full((1, 3, SIZE, SIZE), np.nan, np.float32), "not finite"),
    ("a.npy", np.zeros((2, SIZE, SIZE, 4), np.uint8), r"must be \[N, H, W, 3\]"),
    ("a.npy", b"nonsense", "not a readable array file"),
    ("a.npz", b"nonsense", "not a readable array file"),
    ("a.pt", b"nonsense", "not a readable array file"),
    ("a.png", b"nonsense", "not a readable picture"),
    ("a.txt", b"nonsense", "unknown kind '.txt'"),
])
def test_bad_files(tmp_path: Path, model: IntegerModel, name: str, content: np.ndarray | bytes,
                   message: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(ImageError, match=message):
        load_images(tmp_path / name, model)


def test_bad_places_and_labels(tmp_path: Path, model: IntegerModel, bytes_of: np.ndarray) -> None:
    with pytest.raises(ImageError, match="no such file"):
        load_images(tmp_path / "none.npy", model)
    with pytest.raises(ImageError, match="holds no picture"):
        load_images(tmp_path, model)
    np.savez(tmp_path / "l.npz", images=bytes_of, labels=np.arange(3))
    with pytest.raises(ImageError, match=r"labels are int64 \[3\], must be integers \[4\]"):
        load_images(tmp_path / "l.npz", model)
    np.savez(tmp_path / "m.npz", a=bytes_of, b=bytes_of)
    with pytest.raises(ImageError, match="must be called 'images'"):
        load_images(tmp_path / "m.npz", model)
