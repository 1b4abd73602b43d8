# SPDX-License-Identifier: Apache-2.0
"""Train the small CIFAR-10 Meta-SpikeFormer: T = 1 first, then fine-tuned at T = 4.

    python -m sw.train.train_cifar10 --data cifar-10-batches-bin --output run

On one GPU. After an interruption the same command goes on from the last saved epoch
(`run/state.pt`, every tenth). The result is `run/cifar10_v2.safetensors` (averaged weights, fp32,
published keys) and `run/result.json`. `--smoke` runs the whole path on the CPU in less than two
minutes, with the bundled images.

The recipe is fixed; test images are looked at only behind the last epoch of each stage.
`--holdout N` keeps the last N training images out of training; every tenth epoch the accuracy on
them is reported as `watched` (without held-out images: on the first 2,000 training images).
"""

import argparse
import dataclasses
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.models.checkpoint import write_checkpoint
from sw.models.lif import Lif
from sw.models.meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig
from sw.train.augment import crop_and_flip, cut_mix, erase
from sw.train.cifar10 import CLASSES, MEAN, STD, load_cifar10, normalise
from sw.train.muon import Muon

__all__ = ["NETWORK", "STAGES", "Recipe", "Trainer", "evaluate", "initialise"]

NETWORK = MetaSpikeFormerConfig(
    num_classes=10, stem_channels=32, embed_dims=(64, 96, 128, 128), depths=(1, 1, 1, 0, 1, 1),
    num_heads=8, conv_ratio=2, mlp_ratio=4, kernels=(3, 3, 3, 3, 3), strides=(1, 2, 2, 1, 1))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One stage of training."""

    time_steps: int
    epochs: int
    batch: int
    muon_lr: float
    adam_lr: float
    warm_up: float = 2.0
    weight_decay: float = 0.1
    ema: float = 0.998
    mix: float = 0.5
    erasing: float = 0.25
    smoothing: float = 0.1
    clean_share: float = 0.1  # the last epochs are without CutMix


STAGES = (
    Recipe(time_steps=1, epochs=180, batch=1024, muon_lr=6e-3, adam_lr=4e-3),
    Recipe(time_steps=4, epochs=60, batch=512, muon_lr=3e-3, adam_lr=2e-3, warm_up=1.0),
)


def initialise(model: MetaSpikeFormer) -> None:
    """Batch-norm parameters with which about a sixth of all neurons fire at T = 1 at first."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        if "body" in name:
            continue
        closing = name.endswith((".bn2", "proj_conv.1", "fc2_bn"))  # ends a branch
        nn.init.constant_(module.weight, 0.5 if closing else 1.0)
        nn.init.constant_(module.bias, 0.0 if closing else 1.0)


@torch.no_grad()
def evaluate(model: MetaSpikeFormer, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Accuracy in per cent, in fp32."""
    model.eval()
    hits = 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        hits += int((model(x).argmax(1) == y).sum())
    return 100 * hits / len(labels)


@torch.no_grad()
def firing_rates(model: MetaSpikeFormer, images: Tensor) -> dict[str, float]:
    """Mean output of every neuron layer."""
    rates: dict[str, float] = {}

    def hook(name: str):
        def store(module: Lif, args: tuple, spikes: Tensor) -> None:
            rates[name] = spikes.mean().item()
        return store

    handles = [lif.register_forward_hook(hook(name)) for name, lif in model.lifs().items()]
    model.eval()(images)
    for handle in handles:
        handle.remove()
    return rates


class Trainer:
    """Trains through all stages, with its state in `output`."""

    def __init__(self, config: MetaSpikeFormerConfig, stages: tuple[Recipe, ...], output: Path,
                 train: tuple[Tensor, Tensor], watch: tuple[Tensor, Tensor],
                 test: tuple[Tensor, Tensor], seed: int, compile_model: bool) -> None:
        self.config, self.stages, self.output, self.seed = config, stages, output, seed
        (self.images, self.labels), self.watch, self.test = train, watch, test
        self.device = self.images.device
        self.on_gpu = self.device.type == "cuda"
        torch.manual_seed(seed)
        self.model = MetaSpikeFormer(config)
        initialise(self.model)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.average = MetaSpikeFormer(config).to(self.device, memory_format=torch.channels_last)
        self.average.load_state_dict(self.model.state_dict())
        self.run = torch.compile(self.model) if compile_model else self.model
        self.stage = self.epoch = 0
        self.seconds, self.log = [0.0] * len(stages), []
        self.results: dict[str, object] = {}
        self._start_stage()
        output.mkdir(parents=True, exist_ok=True)
        if self.state_file.exists():
            self._restore()

    @property
    def state_file(self) -> Path:
        return self.output / "state.pt"

    def _start_stage(self) -> None:
        recipe = self.stages[self.stage]
        self.model.time_steps = self.average.time_steps = recipe.time_steps
        matrices, others = [], []
        for name, parameter in self.model.named_parameters():
            dense = parameter.dim() > 1 and parameter.shape[1] > 1
            is_end = name.startswith(("downsample1_1", "head"))
            (matrices if dense and not is_end else others).append(parameter)
        plain = [p for p in others if p.dim() == 1]
        shaped = [p for p in others if p.dim() > 1]
        muon = Muon(matrices, recipe.muon_lr, recipe.weight_decay)
        adam = torch.optim.AdamW(
            [{"params": shaped, "weight_decay": recipe.weight_decay / 2},
             {"params": plain, "weight_decay": 0.0}],
            lr=recipe.adam_lr, betas=(0.9, 0.99), fused=self.on_gpu)
        self.optimisers = (muon, adam)

    def _restore(self) -> None:
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.stage, self.epoch = state["stage"], state["epoch"]
        self.seconds, self.results, self.log = state["seconds"], state["results"], state["log"]
        if self.stage < len(self.stages):
            self._start_stage()
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        print(f"resumed at stage {self.stage}, epoch {self.epoch}", flush=True)

    def _save(self) -> None:
        temporary = self.state_file.with_suffix(".tmp")
        torch.save({"stage": self.stage, "epoch": self.epoch, "seconds": self.seconds,
                    "results": self.results, "log": self.log, "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimisers": [optimiser.state_dict() for optimiser in self.optimisers]},
                   temporary)
        os.replace(temporary, self.state_file)

    def export(self) -> None:
        """Write the averaged network and the results so far."""
        steps = self.average.time_steps
        meta = {"strides": self.config.strides, "num_heads": self.config.num_heads,
                "time_steps": steps, "mean": MEAN, "std": STD, "image_size": [32, 32],
                "classes": CLASSES}
        write_checkpoint(self.output / "cifar10_v2.safetensors", self.average.state_dict(), meta)
        result = {"seed": self.seed, "stages": [dataclasses.asdict(s) for s in self.stages],
                  "stage": self.stage, "epoch": self.epoch, "seconds": self.seconds,
                  "parameters": sum(p.numel() for p in self.model.parameters()),
                  "results": self.results, "log": self.log}
        (self.output / "result.json").write_text(json.dumps(result, indent=1))

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        pairs = [(a, b) for a, b in zip(self.average.state_dict().values(),
                                        self.model.state_dict().values(), strict=True)
                 if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)

    def _loss(self, x: Tensor, y: Tensor, own: Tensor, smoothing: float) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu):
            logits = self.run(x.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        first = F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
        second = F.cross_entropy(logits, y.roll(1), reduction="none", label_smoothing=smoothing)
        return (own * first + (1 - own) * second).mean()

    def _train_epoch(self, recipe: Recipe) -> float:
        self.model.train()
        generator = torch.Generator(self.device)
        generator.manual_seed(self.seed * 1_000_003 + self.stage * 10_007 + self.epoch)
        order = torch.randperm(len(self.images), generator=generator, device=self.device)
        steps = max(1, len(order) // recipe.batch)
        mix = recipe.mix if self.epoch < (1 - recipe.clean_share) * recipe.epochs else 0.0
        total = torch.zeros((), device=self.device)
        for step in range(steps):
            chosen = order[step * recipe.batch:(step + 1) * recipe.batch]
            done = self.epoch + step / steps
            scale = min(done / recipe.warm_up + 1e-3, 1.0) * (
                0.5 + 0.5 * math.cos(math.pi * done / recipe.epochs))
            for optimiser, rate in zip(self.optimisers, (recipe.muon_lr, recipe.adam_lr),
                                       strict=True):
                for group in optimiser.param_groups:
                    group["lr"] = rate * scale
            x = crop_and_flip(self.images[chosen], generator)
            x = erase(x, generator, recipe.erasing)
            x, own = cut_mix(x, generator, mix)
            loss = self._loss(x, self.labels[chosen], own, recipe.smoothing)
            loss.backward()
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            self._update_average(min(recipe.ema, (step + self.epoch * steps + 1) / 100))
            total += loss.detach()
        return total.item() / steps

    def train(self) -> None:
        """Run what is left of all stages."""
        while self.stage < len(self.stages):
            recipe = self.stages[self.stage]
            started = time.perf_counter()
            loss = self._train_epoch(recipe)
            taken = time.perf_counter() - started
            self.seconds[self.stage] += taken
            self.epoch += 1
            last = self.epoch == recipe.epochs
            line = {"stage": self.stage, "epoch": self.epoch, "loss": round(loss, 4),
                    "seconds": round(taken, 2)}
            if last or self.epoch % 10 == 0:
                line["watched"] = round(evaluate(self.average, *self.watch), 2)
            self.log.append(line)
            print(json.dumps(line), flush=True)
            if last:
                self._finish_stage()
                self._save()
            elif self.epoch % 10 == 0:
                self.export()
                self._save()
        print(json.dumps(self.results), flush=True)

    def _finish_stage(self) -> None:
        for steps in sorted({1, 4} if self.on_gpu else {1}):
            self.average.time_steps = steps
            key = f"stage{self.stage}_test_accuracy_T{steps}"
            self.results[key] = evaluate(self.average, *self.test)
        self.average.time_steps = self.stages[self.stage].time_steps
        rates = firing_rates(self.average, self.test[0][:256])
        self.results[f"stage{self.stage}_firing_rates"] = rates
        self.results[f"stage{self.stage}_mean_rate"] = sum(rates.values()) / len(rates)
        self.export()
        self.stage, self.epoch = self.stage + 1, 0
        if self.stage < len(self.stages):
            self.model.load_state_dict(self.average.state_dict())
            self._start_stage()


def _tensors(images: np.ndarray, labels: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(normalise(images)).to(device, memory_format=torch.channels_last)
    return x, torch.from_numpy(labels.astype(np.int64)).to(device)


def _smoke(output: Path) -> Trainer:
    with np.load(Path(__file__).parents[2] / "data" / "cifar10_calibration_256.npz") as file:
        data = _tensors(file["images"], file["labels"], "cpu")
    config = dataclasses.replace(NETWORK, stem_channels=8, embed_dims=(16, 16, 16, 16),
                                 num_heads=2)
    stages = tuple(dataclasses.replace(stage, epochs=2, batch=64) for stage in STAGES)
    return Trainer(config, stages, output, data, data, data, 0, compile_model=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder cifar-10-batches-bin")
    parser.add_argument("--output", type=Path, default=Path("run"))
    parser.add_argument("--epochs", type=int, nargs=2, default=[s.epochs for s in STAGES],
                        help="epochs at T = 1 and at T = 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--holdout", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="tiny run on the CPU")
    arguments = parser.parse_args()
    if arguments.smoke:
        _smoke(arguments.output).train()
        return
    if arguments.data is None or not torch.cuda.is_available():
        parser.error("training needs --data and a CUDA device (or --smoke)")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    images, labels = load_cifar10(arguments.data, "train")
    kept = len(images) - arguments.holdout
    watched = slice(kept, None) if arguments.holdout else slice(0, 2000)
    stages = tuple(dataclasses.replace(stage, epochs=epochs)
                   for stage, epochs in zip(STAGES, arguments.epochs, strict=True))
    Trainer(NETWORK, stages, arguments.output,
            _tensors(images[:kept], labels[:kept], "cuda"),
            _tensors(images[watched], labels[watched], "cuda"),
            _tensors(*load_cifar10(arguments.data, "test"), "cuda"),
            arguments.seed, compile_model=not arguments.no_compile).train()


if __name__ == "__main__":
    main()
