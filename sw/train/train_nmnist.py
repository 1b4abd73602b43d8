# SPDX-License-Identifier: Apache-2.0
"""Train and test a Meta-SpikeFormer on recordings of N-MNIST, by cross-validation.

    python -m sw.train.train_nmnist --data nmnist_small_1100.npz --output run

The recordings (`sw.events`) are counted into three frames, one for each movement of the camera.
Fold K holds out every recording whose place in a shuffled order is K modulo the folds. On the
others a few convolutional networks are trained first, the teachers, then the spiking network, which
learns from the labels and from the teachers' answers; it is quantised, calibrated by recordings
that it was trained on, and tested on the fold: in float, and on the integer golden model. Nothing
is chosen by the fold: epochs and recipe are fixed. Folds that are done are not done again, and
`--fold` does one alone, so that several may run side by side. It runs on a GPU where there is one;
on a CPU a fold takes hours.

Writes `foldK.safetensors` (checkpoint), `foldK_integer.safetensors` (model file),
`foldK_frames.npz` (the fold's frames and labels), `foldK.json`, and `result.json` of all folds that
are done.
"""

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.events import load_recordings
from sw.export import write_arrays, write_json
from sw.golden.network import evaluate, quantise_images
from sw.images import ImageError
from sw.model_file import save_model
from sw.models.checkpoint import write_checkpoint
from sw.models.config import MetaSpikeFormerConfig
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.run import quantise_checkpoint
from sw.train.augment import bend, crop_and_flip, warp
from sw.train.trainer import initialise, rate_scale, update_average

__all__ = ["STEPS", "fold_of", "network", "read_frames", "train_fold"]

STEPS, SIZE = 3, (34, 34)
CLASSES = tuple(str(digit) for digit in range(10))
CALIBRATION = 128
"""Recordings of the training set that calibrate."""
TEACHER_EPOCHS = 120
TAUGHT, HEAT = 0.8, 2.0
"""Share of the loss that is the distance to the teachers' mean answer, and their temperature."""


def network() -> MetaSpikeFormer:
    """The network: maps of 17x17, 9x9 and 5x5, one transformer block."""
    return MetaSpikeFormer(MetaSpikeFormerConfig(
        in_channels=2, num_classes=10, stem_channels=32, embed_dims=(64, 112, 144, 144),
        depths=(1, 1, 0, 0, 1, 0), num_heads=8, conv_ratio=2, mlp_ratio=2, kernels=(3, 3, 3, 3, 3),
        strides=(2, 2, 2, 1, 1), time_steps=STEPS))


def read_frames(path: Path) -> tuple[Tensor, Tensor]:
    """Frames float32 `[N, 3, 2, 34, 34]` (events counted) and labels of a recording file."""
    recordings = load_recordings(path, SIZE)
    frames = torch.stack([recordings.frames(number, STEPS) for number in range(len(recordings))])
    return frames, torch.tensor(recordings.labels)


def fold_of(count: int, folds: int) -> Tensor:
    """Each recording's fold `[count]`: equal parts of a shuffled order, always the same."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(count))
    place = torch.empty(count, dtype=torch.int64)
    place[order] = torch.arange(count) % folds
    return place


def _teacher() -> nn.Module:
    """A convolutional network on the frames of a recording, all at once."""
    parts: list[nn.Module] = []
    channels = 2 * STEPS
    for width in (24, 48, 96):
        for _ in range(2):
            parts += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
                      nn.ReLU()]
            channels = width
        parts.append(nn.MaxPool2d(2) if width < 96 else nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*parts, nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, 10))


def _fit(name: str, model: nn.Module, data: tuple[Tensor, Tensor], teachers: Sequence[nn.Module], *,
         epochs: int, batch: int, rate: float, seed: int) -> None:
    """Train `model`; its weights are averages over steps in the end.

    Recordings are shifted, turned, sheared, scaled and bent, all frames of one alike.
    """
    frames, labels = data
    average = copy.deepcopy(model)
    run = torch.compile(model) if frames.is_cuda and teachers else model
    generator = torch.Generator(frames.device).manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05,
                                  fused=frames.is_cuda)
    steps = max(1, len(frames) // batch)
    for number in range(epochs * steps):
        if number % steps == 0:
            order = torch.randperm(len(frames), generator=generator, device=frames.device)
            print(f"{name}: epoch {number // steps + 1} of {epochs}", flush=True)
        for group in optimiser.param_groups:
            group["lr"] = rate * rate_scale(number / (epochs * steps), 0.05)
        chosen = order[number % steps * batch:][:batch]
        x = warp(crop_and_flip(frames[chosen].flatten(1, 2), generator, 3, mirrored=0.0),
                 generator, 0.8)
        x = bend(x, generator, 0.7)
        model.train()
        logits = run(x)
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.1)
        if teachers:
            with torch.no_grad():
                told = sum(teacher(x).div(HEAT).softmax(1) for teacher in teachers)
            distance = F.kl_div((logits / HEAT).log_softmax(1), told / len(teachers),
                                reduction="batchmean")
            loss = (1 - TAUGHT) * loss + TAUGHT * HEAT ** 2 * distance
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        update_average(average, model, min(0.99, (number + 1) / 100))
    model.load_state_dict(average.state_dict())
    model.eval()


class _Spiking(nn.Module):
    """The spiking network on frames `[B, 2 T, H, W]`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        initialise(self.network, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.unflatten(1, (STEPS, 2)).transpose(0, 1))


def train_fold(frames: Tensor, labels: Tensor, *, epochs: int, teachers: int,
               seed: int = 0) -> MetaSpikeFormer:
    """A network trained on `frames`, by as many `teachers`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = frames.to(device), labels.to(device)
    taught: list[nn.Module] = []
    for number in range(teachers):
        torch.manual_seed(seed + 1 + number)
        taught.append(_teacher().to(device))
        _fit(f"teacher {number + 1}", taught[-1], data, (), epochs=min(epochs, TEACHER_EPOCHS),
             batch=64, rate=4e-3, seed=seed + 1 + number)
    torch.manual_seed(seed)
    model = _Spiking().to(device)
    _fit("network", model, data, taught, epochs=epochs, batch=32, rate=2e-3, seed=seed)
    return model.network.cpu()


@torch.no_grad()
def _test(name: str, model: MetaSpikeFormer, train: Tensor, test: tuple[Tensor, Tensor],
          output: Path) -> dict[str, object]:
    """Write a fold's files and count what is right, in float and in integers."""
    frames, labels = test
    for value in model.state_dict().values():
        if value.dim() > 1:
            value.copy_(value.half())  # what the file holds is what is tested
    state = {key: value.half() if value.dim() > 1 else value
             for key, value in model.state_dict().items()}
    write_checkpoint(output / f"{name}.safetensors", state, {
        "family": "meta-spikeformer", "strides": model.config.strides,
        "num_heads": model.config.num_heads, "time_steps": STEPS, "image_size": SIZE,
        "classes": CLASSES})
    write_arrays(output / f"{name}_frames.npz",
                 {"images": frames.numpy(), "labels": labels.numpy()})
    write_arrays(output / f"{name}_calibration.npz", {"images": train[:CALIBRATION].numpy()})
    integer = quantise_checkpoint(output / f"{name}.safetensors",
                                  output / f"{name}_calibration.npz", name=f"nmnist-{name}")
    save_model(integer, output / f"{name}_integer.safetensors")
    found = torch.cat([model(part.transpose(0, 1)).argmax(1) for part in frames.split(50)])
    golden = torch.cat([
        evaluate(integer, quantise_images(integer, part), keep=False)["predictions"].flatten()
        for part in frames.split(20)])
    return {"recordings": len(labels), "float_right": int((found == labels).sum()),
            "integer_right": int((golden == labels).sum())}


def _summary(output: Path, settings: dict[str, object]) -> dict[str, object]:
    """The folds that are done, and their mean accuracies; raises `ValueError` naming a file of
    other settings."""
    folds = {}
    for path in sorted(output.glob("fold*.json")):
        found = json.loads(path.read_text())
        if found["settings"] != settings:
            raise ValueError(f"{path}: results of other settings; name another --output")
        folds[path.stem] = found
    result: dict[str, object] = settings | {"folds_done": {
        name: {key: value for key, value in found.items() if key != "settings"}
        for name, found in folds.items()}}
    for kind in ("float", "integer"):
        shares = [100 * fold[f"{kind}_right"] / fold["recordings"] for fold in folds.values()]
        if shares:
            result[f"mean_{kind}_accuracy"] = round(sum(shares) / len(shares), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="recording file")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold", type=int, help="this one alone")
    parser.add_argument("--epochs", type=int, default=800)
    parser.add_argument("--teachers", type=int, default=5)
    arguments = parser.parse_args()
    settings = {"data": arguments.data.name, "folds": arguments.folds, "epochs": arguments.epochs,
                "teachers": arguments.teachers}
    try:
        frames, labels = read_frames(arguments.data)
    except ImageError as error:
        parser.error(str(error))
    if not 2 <= arguments.folds <= len(labels):
        parser.error(f"folds is {arguments.folds}, must be 2..{len(labels)}")
    if arguments.fold is not None and not 0 <= arguments.fold < arguments.folds:
        parser.error(f"fold is {arguments.fold}, must be 0..{arguments.folds - 1}")
    if arguments.epochs < 1:
        parser.error(f"epochs is {arguments.epochs}, must be at least 1")
    if arguments.teachers < 0:
        parser.error(f"teachers is {arguments.teachers}, must be at least 0")
    folds, output = fold_of(len(labels), arguments.folds), arguments.output
    output.mkdir(parents=True, exist_ok=True)
    wanted = range(arguments.folds) if arguments.fold is None else (arguments.fold,)
    try:
        for number in wanted:
            name = f"fold{number}"
            if name in _summary(output, settings)["folds_done"]:
                continue
            held = folds == number
            model = train_fold(frames[~held], labels[~held], epochs=arguments.epochs,
                               teachers=arguments.teachers)
            found = _test(name, model, frames[~held], (frames[held], labels[held]), output)
            write_json(output / f"{name}.json", found | {"settings": settings})
            result = _summary(output, settings)
            write_json(output / "result.json", result)
            print(json.dumps(result), flush=True)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
