# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation, image by image, in a file that an interrupted one goes on from."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sw.errors import AddendError
from sw.export import write_bytes

__all__ = ["EvaluationError", "Results", "digest"]


class EvaluationError(AddendError):
    """An evaluation that cannot start or go on; the message names the file, worker or images."""


def digest(*parts: bytes) -> str:
    """A short name of bytes."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]


@dataclass
class Results:
    """What is known of each of the N images of a set, for L layers and C classes.

    `golden` holds `done` bool `[N]`, `logits` int32 `[N, C]`, and for each layer the sums
    `additions` (useful ones) and `spikes` int64 `[N, L]`, and `bits`, the set bits of its map
    (`sw.golden.activity.set_bits`; those of the image first) `[N, L + 1]`. `rtl` holds `done`,
    `logits`, and int64 `[N]`: `cycles`, `bytes_read`, `bytes_written`, `values` compared and
    `wrong` tensors.
    """

    of: dict[str, str]
    """What the results belong to: digests of model, images and code, preset and seed."""
    golden: dict[str, np.ndarray]
    rtl: dict[str, np.ndarray]
    differences: list[str] = field(default_factory=list)
    """The first differing element of each image that differs, as text."""

    @classmethod
    def empty(cls, of: dict[str, str], images: int, layers: int, classes: int) -> "Results":
        """Nothing known yet."""
        def logits() -> dict[str, np.ndarray]:
            return {"done": np.zeros(images, bool),
                    "logits": np.zeros((images, classes), np.int32)}

        return cls(
            of=of,
            golden=logits() | {name: np.zeros((images, layers), np.int64)
                               for name in ("additions", "spikes")}
            | {"bits": np.zeros((images, layers + 1), np.int64)},
            rtl=logits() | {name: np.zeros(images, np.int64) for name in (
                "cycles", "bytes_read", "bytes_written", "values", "wrong")})

    def put(self, side: str, indices: np.ndarray, found: dict[str, np.ndarray]) -> None:
        """Enter what a shard found."""
        arrays = getattr(self, side)
        for name, values in found.items():
            arrays[name][indices] = values
        arrays["done"][indices] = True

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays = {f"{side}.{name}": array for side in ("golden", "rtl")
                  for name, array in getattr(self, side).items()}
        write_bytes(path, save(arrays, {"of": json.dumps(self.of),
                                        "differences": json.dumps(self.differences)}))

    def load(self, path: Path) -> None:
        """Take over what the file of an earlier evaluation knows. Raises `EvaluationError`."""
        try:
            with safe_open(path, "numpy") as file:
                of, differences = (json.loads((file.metadata() or {})[name])
                                   for name in ("of", "differences"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise EvaluationError(f"{path}: no results of an evaluation ({error})") from error
        for name, value in self.of.items():
            if of.get(name) != value:
                raise EvaluationError(
                    f"{path}: results of another {name} ({of.get(name)}, not {value}); "
                    "name another file with --results")
        for side in ("golden", "rtl"):
            for name, array in getattr(self, side).items():
                read = arrays.get(f"{side}.{name}")
                if read is None or read.shape != array.shape or read.dtype != array.dtype:
                    raise EvaluationError(f"{path}: {side}.{name} is missing or not "
                                          f"{array.dtype} {list(array.shape)}")
                array[:] = read
        self.differences = differences
