# SPDX-License-Identifier: Apache-2.0
"""What a worker does: some images on the golden model, or on the RTL of its own machine."""

from pathlib import Path

import numpy as np
import torch

from hw.presets import get_preset
from sw.evaluation.results import digest
from sw.golden.activity import set_bits
from sw.golden.network import evaluate, quantise_images
from sw.golden.useful import useful_additions
from sw.images import Images
from sw.model_file import IntegerModel
from sw.run import run

__all__ = ["code_digest", "golden_shard", "map_names", "rtl_shard"]

_BATCH_VALUES = 32 * 32 * 3 * 10
"""Input values that are evaluated at once: every tensor of a batch is in memory."""
_ROOT = Path(__file__).resolve().parents[2]


def code_digest() -> str:
    """A short name of the code that makes results, equal on machines with the same Addend."""
    files = [file for folder in ("hw", "sim", "sw") for file in (_ROOT / folder).rglob("*")
             if file.suffix in (".py", ".cpp", ".vlt")]
    return digest(*(file.read_bytes() for file in sorted(files)))


def golden_shard(model: IntegerModel, images: Images) -> dict[str, np.ndarray]:
    """`Results.golden` of some images."""
    torch.set_num_threads(1)
    integers = quantise_images(model, images.pixels)
    batch = max(1, _BATCH_VALUES // integers[0].numel())
    logits, additions, spikes, bits = [], [], [], []
    for group in integers.split(batch):
        made = evaluate(model, group)
        logits.append(made["logits"].reshape(len(group), -1))
        for number in range(len(group)):
            one = {name: value[number] for name, value in made.items()}
            useful = useful_additions(model, one)
            additions.append([useful[layer.name] for layer in model.layers])
            spikes.append([_fired(layer.outputs, one) for layer in model.layers])
            found = set_bits(model, one | {model.input.tensor: group[number]})
            bits.append([found.get(name, 0) for name in map_names(model)])
    return {"logits": torch.cat(logits).numpy(), "additions": np.array(additions, np.int64),
            "spikes": np.array(spikes, np.int64), "bits": np.array(bits, np.int64)}


def map_names(model: IntegerModel) -> list[str | None]:
    """The image, and the map that each layer writes, if it does."""
    written = (layer.map_output for layer in model.layers)
    return [model.input.tensor, *(found[1] if found else None for found in written)]


def _fired(outputs: dict[str, str], made: dict[str, torch.Tensor]) -> int:
    """Ones of a layer's spikes, or the sum of its levels."""
    name = outputs.get("spikes") or outputs.get("levels")
    return 0 if name is None else int(made[name].sum(dtype=torch.int64))


def rtl_shard(model: IntegerModel, images: Images, preset: str,
              effort: str | None = None) -> tuple[dict[str, np.ndarray], list[str]]:
    """`Results.rtl` of some images, and the first difference of each that differs."""
    torch.set_num_threads(1)
    report = run(model, images, get_preset(preset), effort=effort, jobs=1)
    found = {"logits": [image.logits for image in report.images],
             "cycles": [image.cycles for image in report.images],
             "bytes_read": [image.bytes_read for image in report.images],
             "bytes_written": [image.bytes_written for image in report.images],
             "values": [image.values_compared for image in report.images],
             "wrong": [len(image.differences) for image in report.images]}
    return ({name: np.array(values) for name, values in found.items()},
            [f"{image.name}: {image.differences[0]}" for image in report.images
             if image.differences])
