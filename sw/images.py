# SPDX-License-Identifier: Apache-2.0
"""Images from files, as the float network reads them: normalised `[N, C, H, W]`.

Event frames are `[N, T, C, H, W]`.

* A picture, or a folder of pictures (sorted by name): scaled so that it covers the input, its
  centre cut out, normalised.
* The folder of the CIFAR-10 binary version: the images and labels of a split.
* `.npy`, `.npz`, `.pt` with floats: already normalised.
* The same with uint8 `[N, H, W, C]`: treated as pictures.

An `.npz` or a dictionary in a `.pt` holds `images` (or `input`, or a single array), and may hold
`labels`, the true class of each image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from sw.errors import AddendError
from sw.model_file import IntegerModel
from sw.train.cifar10 import TEST_FILE, DataError, load_cifar10

__all__ = ["ImageError", "Images", "InputSpec", "load_images"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
ARRAYS = (".npy", ".npz", ".pt")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageError(AddendError):
    """Images that cannot be read or do not fit; the message names the file and the shape."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network expects of its input. Height and width None: whatever the arrays have."""

    channels: int
    height: int | None = None
    width: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    frames: int | None = 1              # 1: static images; T: event frames; None: either

    @classmethod
    def of(cls, model: IntegerModel) -> "InputSpec":
        """The input of an integer model."""
        given = model.input
        return cls(channels=given.channels, height=given.height, width=given.width,
                   mean=given.mean, std=given.std, frames=given.time_steps)


@dataclass(frozen=True)
class Images:
    """Images with their names and, where known, their true classes."""

    names: list[str]
    pixels: torch.Tensor                # float32 [N, C, H, W] or [N, T, C, H, W], normalised
    labels: list[int] | None = None

    def __len__(self) -> int:
        return len(self.names)


def load_images(path: str | Path, model: IntegerModel | InputSpec, *,
                limit: int | None = None, split: str = "test") -> Images:
    """Read at most `limit` images for the input of `model`.

    Of the CIFAR-10 folder, those of `split`, "train" or "test". Raises `ImageError`.
    """
    path = Path(path)
    spec = model if isinstance(model, InputSpec) else InputSpec.of(model)
    if limit is not None and limit < 1:
        raise ImageError(f"limit is {limit}, must be at least 1")
    if not path.exists():
        raise ImageError(f"{path}: no such file or folder")
    if (path / TEST_FILE).is_file():
        return _cifar10(path, spec, limit, split)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ImageError(f"{path}: the folder holds no picture ({', '.join(SUFFIXES)})")
        return _pictures(files[:limit], spec)
    if path.suffix.lower() in ARRAYS:
        return _arrays(path, spec, limit)
    if path.suffix.lower() in SUFFIXES:
        return _pictures([path], spec)
    raise ImageError(f"{path}: unknown kind '{path.suffix}', must be one of "
                     f"{', '.join((*SUFFIXES, *ARRAYS))}")


def _cifar10(path: Path, spec: InputSpec, limit: int | None, split: str) -> Images:
    try:
        pixels, labels = (part[:limit] for part in load_cifar10(path, split))
    except DataError as error:
        raise ImageError(str(error)) from error
    return Images([f"{split}[{index:05}]" for index in range(len(pixels))],
                  _from_bytes(path, pixels, spec), labels.tolist())


# Pictures -------------------------------------------------------------------------------------

def _pictures(files: list[Path], spec: InputSpec) -> Images:
    pixels = []
    for file in files:
        try:
            with Image.open(file) as picture:
                pixels.append(_normalised(picture, spec, str(file)))
        except (UnidentifiedImageError, OSError, ValueError,
                Image.DecompressionBombError) as error:
            raise ImageError(f"{file}: not a readable picture ({error})") from error
    return Images([file.name for file in files], torch.stack(pixels))


def _normalised(picture: Image.Image, spec: InputSpec, where: str) -> torch.Tensor:
    """`[C, H, W]`; the picture covers the input, what sticks out on either side is cut off."""
    if spec.frames not in (1, None):
        raise ImageError(f"{where}: a picture, but the model reads {spec.frames} event frames")
    if spec.height is None or spec.width is None:
        raise ImageError(f"{where}: a picture, but the size of the network's input is unknown")
    if spec.channels not in _MODES:
        raise ImageError(f"{where}: a picture, but the model reads {spec.channels} channels")
    picture = ImageOps.exif_transpose(picture).convert(_MODES[spec.channels])
    if picture.size != (spec.width, spec.height):
        picture = ImageOps.fit(picture, (spec.width, spec.height), Image.Resampling.BICUBIC)
    values = np.asarray(picture, np.float32).reshape(spec.height, spec.width, spec.channels) / 255
    pixels = torch.from_numpy(values.transpose(2, 0, 1).copy())
    if not spec.mean:
        return pixels
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (spec.mean, spec.std))
    return (pixels - mean) / std


# Arrays ---------------------------------------------------------------------------------------

def _arrays(path: Path, spec: InputSpec, limit: int | None) -> Images:
    content = _read(path)
    labels = None
    if isinstance(content, Mapping):
        labels = content.get("labels")
        content = _images_of(path, content)
    if isinstance(content, torch.Tensor) and content.is_floating_point():
        content = content.to(torch.float32)     # numpy has no bfloat16
    array = np.asarray(content)
    if array.ndim == 0 or array.shape[0] == 0:
        raise ImageError(f"{path}: shape {list(array.shape)} holds no image")
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != array.shape[:1] or labels.dtype.kind not in "iu":
            raise ImageError(f"{path}: labels are {labels.dtype} {list(labels.shape)}, must be "
                             f"integers [{array.shape[0]}]")
        labels = [int(label) for label in labels[:limit]]
    count = array.shape[0]
    array = array[:limit]
    if array.dtype == np.uint8:
        pixels = _from_bytes(path, array, spec)
    elif array.dtype.kind == "f":
        pixels = _from_floats(path, array, spec)
    else:
        raise ImageError(f"{path}: images are {array.dtype}, must be float32 or uint8")
    width = len(str(count - 1))
    return Images([f"{path.name}[{index:0{width}}]" for index in range(len(array))], pixels,
                  labels)


def _read(path: Path) -> object:
    try:
        if path.suffix.lower() == ".pt":
            return torch.load(path, map_location="cpu", weights_only=True)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # both libraries raise many kinds for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(f"{path}: not a readable array file ({reason})") from error


def _images_of(path: Path, content: Mapping) -> object:
    for name in ("images", "input"):
        if name in content:
            return content[name]
    arrays = [name for name in content if name != "labels"]
    if len(arrays) != 1:
        raise ImageError(f"{path}: holds {', '.join(map(str, content)) or 'nothing'}; the images "
                         "must be called 'images'")
    return content[arrays[0]]


def _from_bytes(path: Path, array: np.ndarray, spec: InputSpec) -> torch.Tensor:
    if array.ndim != 4 or array.shape[3] != spec.channels or spec.channels not in _MODES:
        raise ImageError(f"{path}: uint8 images have shape {list(array.shape)}, must be "
                         f"[N, H, W, {spec.channels}]")
    if spec.height is None or spec.width is None:
        spec = InputSpec(channels=spec.channels, height=array.shape[1], width=array.shape[2],
                         mean=spec.mean, std=spec.std, frames=spec.frames)
    return torch.stack([
        _normalised(Image.fromarray(one[:, :, 0] if spec.channels == 1 else one), spec, str(path))
        for one in array])


def _from_floats(path: Path, array: np.ndarray, spec: InputSpec) -> torch.Tensor:
    def size(value: int | None, name: str) -> str:
        return name if value is None else str(value)

    map_size = [str(spec.channels), size(spec.height, "H"), size(spec.width, "W")]
    static = f"[N, {', '.join(map_size)}]"
    events = f"[N, {size(spec.frames, 'T')}, {', '.join(map_size)}]"
    wanted = {None: f"{static} or {events}", 1: static}.get(spec.frames, events)
    dims = {None: (4, 5), 1: (4,)}.get(spec.frames, (5,))
    fits = array.ndim in dims and all(
        value is None or value == found for value, found in zip(
            (spec.channels, spec.height, spec.width), array.shape[-3:], strict=True))
    if fits and array.ndim == 5:
        fits = spec.frames in (None, array.shape[1])
    if not fits or 0 in array.shape:
        raise ImageError(f"{path}: images have shape {list(array.shape)}, must be {wanted}")
    if not np.isfinite(array).all():
        raise ImageError(f"{path}: images of shape {list(array.shape)} hold values that are not "
                         "finite")
    return torch.from_numpy(array.astype(np.float32))
