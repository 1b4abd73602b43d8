# SPDX-License-Identifier: Apache-2.0
"""Train and test a Meta-SpikeFormer on recordings of N-MNIST, by cross-validation.

    python -m sw.train.train_nmnist --data nmnist_small_1100.npz --output run

The recordings (`sw.events`) are counted into three frames, one for each movement of the camera.
Fold K holds out every recording whose place in a shuffled order is K modulo the folds; a network is
trained on the others, quantised, calibrated by recordings that it was trained on, and tested on
the fold: in float, and on the integer golden model. Nothing is chosen by the fold: epochs and
recipe are fixed. Folds that are done are not done again. It runs on a GPU where there is one; on a
CPU a fold takes half an hour.

Writes `foldK.safetensors` (checkpoint), `foldK_integer.safetensors` (model file),
`foldK_frames.npz` (the fold's frames and labels) and `result.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sw.events import load_recordings
from sw.export import write_arrays, write_json
from sw.golden.network import evaluate, quantise_images
from sw.images import ImageError
from sw.model_file import save_model
from sw.models.checkpoint import write_checkpoint
from sw.models.config import MetaSpikeFormerConfig
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.run import quantise_checkpoint
from sw.train.augment import crop_and_flip, warp
from sw.train.trainer import initialise, rate_scale, update_average

__all__ = ["STEPS", "fold_of", "network", "read_frames", "train_fold"]

STEPS, SIZE = 3, (34, 34)
CLASSES = tuple(str(digit) for digit in range(10))
CALIBRATION = 128
"""Recordings of the training set that calibrate."""


def network() -> MetaSpikeFormer:
    """The network: maps of 17x17, 9x9 and 5x5, one transformer block."""
    return MetaSpikeFormer(MetaSpikeFormerConfig(
        in_channels=2, num_classes=10, stem_channels=24, embed_dims=(48, 96, 128, 128),
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


def train_fold(frames: Tensor, labels: Tensor, *, epochs: int, batch: int = 64, rate: float = 3e-3,
               seed: int = 0) -> MetaSpikeFormer:
    """A network trained on `frames`; shifts and small turns of the frames are its only help."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frames, labels = frames.to(device), labels.to(device)
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model, average = network(), network()
    initialise(model, 1.0)
    model, average = model.to(device), average.to(device)
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    steps = max(1, len(frames) // batch)
    for number in range(epochs * steps):
        if number % steps == 0:
            order = torch.randperm(len(frames), generator=generator, device=device)
            print(f"epoch {number // steps + 1} of {epochs}", flush=True)
        for group in optimiser.param_groups:
            group["lr"] = rate * rate_scale(number / (epochs * steps), 0.05)
        chosen = order[number % steps * batch:][:batch]
        x = frames[chosen].flatten(1, 2)                    # all frames of one move alike
        x = warp(crop_and_flip(x, generator, 3, mirrored=0.0), generator, 0.8)
        logits = model.train()(x.unflatten(1, (STEPS, 2)).transpose(0, 1))
        F.cross_entropy(logits, labels[chosen], label_smoothing=0.1).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        update_average(average, model, min(0.99, (number + 1) / 100))
    return average.cpu().eval()


@torch.no_grad()
def _test(name: str, model: MetaSpikeFormer, train: Tensor, test: tuple[Tensor, Tensor],
          output: Path) -> dict[str, object]:
    """Write a fold's files and count what is right, in float and in integers."""
    frames, labels = test
    write_checkpoint(output / f"{name}.safetensors", model.state_dict(), {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="recording file")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=80)
    arguments = parser.parse_args()
    settings = {"data": arguments.data.name, "folds": arguments.folds, "epochs": arguments.epochs}
    try:
        frames, labels = read_frames(arguments.data)
    except ImageError as error:
        parser.error(str(error))
    if not 2 <= arguments.folds <= len(labels):
        parser.error(f"folds is {arguments.folds}, must be 2..{len(labels)}")
    if arguments.epochs < 1:
        parser.error(f"epochs is {arguments.epochs}, must be at least 1")
    folds, output = fold_of(len(labels), arguments.folds), arguments.output
    output.mkdir(parents=True, exist_ok=True)
    path = output / "result.json"
    done = json.loads(path.read_text()) if path.exists() else settings | {"folds_done": {}}
    if {name: done.get(name) for name in settings} != settings:
        parser.error(f"{path}: results of other settings; name another --output")
    for number in range(arguments.folds):
        name = f"fold{number}"
        if name in done["folds_done"]:
            continue
        held = folds == number
        model = train_fold(frames[~held], labels[~held], epochs=arguments.epochs)
        done["folds_done"][name] = _test(name, model, frames[~held], (frames[held], labels[held]),
                                    output)
        for kind in ("float", "integer"):
            shares = [100 * fold[f"{kind}_right"] / fold["recordings"]
                      for fold in done["folds_done"].values()]
            done[f"mean_{kind}_accuracy"] = round(sum(shares) / len(shares), 2)
        write_json(path, done)
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
