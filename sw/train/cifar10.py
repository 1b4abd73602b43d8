# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 in its standard binary layout (`cifar-10-batches-bin`)."""

from pathlib import Path

import numpy as np

__all__ = ["CLASSES", "MEAN", "STD", "TEST_FILE", "TRAIN_FILES", "DataError", "load_cifar10",
           "normalise", "read_batch", "write_batch"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
_RECORD = 1 + 3 * 32 * 32


class DataError(ValueError):
    """A data file that is missing or not what it should be; the message names it."""


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 32, 32, 3]` and labels uint8 `[N]` of one binary file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file: expected the folder of the CIFAR-10 binary version")
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % _RECORD:
        raise DataError(f"{path}: {raw.size} bytes are no whole number of {_RECORD}-byte records")
    records = raw.reshape(-1, _RECORD)
    labels = records[:, 0].copy()
    if labels.max() > 9:
        raise DataError(f"{path}: label {labels.max()} is not in 0..9")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one binary file of uint8 images `[N, 32, 32, 3]`."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    temporary = path.with_suffix(".tmp")
    np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1).tofile(temporary)
    temporary.replace(path)


def load_cifar10(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 32, 32, 3]` and labels of the `train` (50,000) or `test` (10,000) set."""
    names = {"train": TRAIN_FILES, "test": (TEST_FILE,)}[split]
    batches = [read_batch(Path(folder) / name) for name in names]
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def normalise(images: np.ndarray) -> np.ndarray:
    """Network input float32 `[N, 3, 32, 32]` of uint8 images `[N, 32, 32, 3]`."""
    scaled = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
