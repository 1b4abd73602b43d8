# SPDX-License-Identifier: Apache-2.0
"""Recordings of event cameras as frames: events counted in equal spans of time.

A recording file (`.npz`) holds the events of many recordings, one behind the other: `t_us`, `x`,
`y`, `p` (0 or 1), cut by `offsets`, and `label`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sw.images import ImageError

__all__ = ["Recordings", "bin_events", "load_recordings"]


def bin_events(time: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray, *,
               steps: int, size: tuple[int, int]) -> torch.Tensor:
    """Counts, float32 `[steps, 2, H, W]`: channel 0 counts events of polarity 0.

    The time from the first event to the last is cut into `steps` equal spans. Raises `ImageError`
    for an event outside `size` (height, width).
    """
    height, width = size
    if steps < 1:
        raise ImageError(f"steps is {steps}, must be at least 1")
    frames = np.zeros((steps, 2, height, width), np.float32)
    if not time.size:
        return torch.from_numpy(frames)
    if (x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height
            or not np.isin(polarity, (0, 1)).all()):
        raise ImageError(f"an event lies outside {height}x{width}, or its polarity is not 0 or 1")
    begin, end = int(time.min()), int(time.max()) + 1
    step = (time.astype(np.int64) - begin) * steps // (end - begin)
    np.add.at(frames, (step, polarity.astype(int), y.astype(int), x.astype(int)), 1)
    return torch.from_numpy(frames)


@dataclass(frozen=True)
class Recordings:
    """Recordings of one camera, read on demand."""

    arrays: dict[str, np.ndarray]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.arrays["offsets"]) - 1

    @property
    def labels(self) -> list[int]:
        return self.arrays["label"].tolist()

    def frames(self, number: int, steps: int) -> torch.Tensor:
        """Frames `[steps, 2, H, W]` of one recording."""
        if not 0 <= number < len(self):
            raise ImageError(f"recording {number} does not exist, there are {len(self)}")
        first, last = self.arrays["offsets"][number:number + 2]
        return bin_events(*(self.arrays[name][first:last] for name in ("t_us", "x", "y", "p")),
                          steps=steps, size=self.size)


def load_recordings(path: str | Path, size: tuple[int, int]) -> Recordings:
    """Read a recording file of a camera of `size`; raises `ImageError` naming the file."""
    path = Path(path)
    names = ("t_us", "x", "y", "p", "offsets", "label")
    try:
        with np.load(path) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise ImageError(f"{path}: holds no {', '.join(missing)}")
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: not a readable recording file ({error})") from error
    counts = {len(arrays[name]) for name in ("t_us", "x", "y", "p")}
    if len(counts) != 1 or arrays["offsets"][-1] > counts.pop():
        raise ImageError(f"{path}: t_us, x, y, p and offsets don't fit each other")
    return Recordings(arrays, size)
