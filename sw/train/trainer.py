# SPDX-License-Identifier: Apache-2.0
"""Training of a network through the stages of a plan, with its state on disk."""

import dataclasses
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.models.checkpoint import write_checkpoint
from sw.models.config import MetaSpikeFormerConfig
from sw.models.e_spikeformer import ESpikeFormer
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.train.augment import crop_and_flip, cut_mix, erase, recolour, warp
from sw.train.cifar10 import CLASSES, MEAN, STD
from sw.train.cost import RatePenalty, additions, neuron_layers, prices
from sw.train.muon import Muon
from sw.train.recipe import Config, Plan, Recipe

__all__ = ["Data", "Trainer", "build", "evaluate", "initialise", "rate_scale", "update_average"]

Data = tuple[Tensor, Tensor]
Network = MetaSpikeFormer | ESpikeFormer


def build(config: Config) -> Network:
    """A network of either family."""
    family = MetaSpikeFormer if isinstance(config, MetaSpikeFormerConfig) else ESpikeFormer
    return family(config)


def initialise(model: Network, bias: float) -> None:
    """Batch-norm parameters to begin with: `bias` in front of neurons, small ends of branches."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or "body" in name:
            continue
        closing = name.endswith((".bn2", "proj_conv.1", "fc2_bn", "pwconv2.1"))  # ends a branch
        nn.init.constant_(module.weight, 0.5 if closing else 1.0)
        nn.init.constant_(module.bias, 0.0 if closing else bias)


def rate_scale(progress: float, warm_up: float) -> float:
    """Of the learning rates, at a share of a stage: linear warm-up, cosine decay."""
    return min(progress / warm_up + 1e-3, 1.0) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards the model's."""
    pairs = [(a, b) for a, b in zip(average.state_dict().values(), model.state_dict().values(),
                                    strict=True) if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Accuracy in per cent, in fp32."""
    model.eval()
    hits = 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        hits += int((model(x).argmax(1) == y).sum())
    return 100 * hits / len(labels)


@torch.no_grad()
def firing_rates(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Mean output of every neuron layer."""
    rates: dict[str, float] = {}

    def hook(name: str):
        def store(module: nn.Module, args: tuple, spikes: Tensor) -> None:
            rates[name] = spikes.mean().item()
        return store

    handles = [neuron.register_forward_hook(hook(name))
               for name, neuron in neuron_layers(model).items()]
    model.eval()(images)
    for handle in handles:
        handle.remove()
    return rates


def metadata(model: Network) -> dict[str, object]:
    """What the file of a network says beside its weights."""
    config = model.config
    meta: dict[str, object] = {
        "strides": config.strides, "num_heads": config.num_heads, "mean": MEAN, "std": STD,
        "image_size": [32, 32], "classes": CLASSES}
    if isinstance(model, MetaSpikeFormer):
        return meta | {"family": "meta-spikeformer", "time_steps": model.time_steps}
    return meta | {"family": "e-spikeformer", "max_level": config.max_level,
                   "rounding": config.rounding, "head_levels": config.head_levels}


class Trainer:
    """Trains through all stages, with its state in `output`."""

    def __init__(self, plan: Plan, output: Path, train: Data, watch: Data, test: Data, seed: int, *,
                 compile_model: bool, teacher: Network | None = None,
                 initial: Network | None = None, until: float | None = None) -> None:
        self.plan, self.stages, self.output, self.seed = plan, plan.stages, output, seed
        (self.images, self.labels), self.watch, self.test = train, watch, test
        self.until = until  # unix time at which the last stage is to end
        self.device = self.images.device
        self.on_gpu = self.device.type == "cuda"
        self.compile = torch.compile if compile_model else lambda model: model
        if teacher is None and any(stage.teaching for stage in self.stages):
            raise ValueError(f"{plan.name} is taught by another network: no teacher given")
        self.teacher = None if teacher is None else self.compile(self._place(teacher).eval())
        torch.manual_seed(seed)
        self.model = build(plan.network)
        if initial is None:
            first = self.stages[0]
            is_meta = isinstance(self.model, MetaSpikeFormer)
            initialise(self.model, (0.5 if first.rates else 1.0) if is_meta else 0.0)
        else:
            self.model.load_state_dict(initial.state_dict())
        self._place(self.model)
        self.average = self._place(build(plan.network))
        self.average.load_state_dict(self.model.state_dict())
        self.probe = self._place(build(plan.network))
        self.stage = self.epoch = 0
        self.seconds, self.log = [0.0] * len(self.stages), []
        self.results: dict[str, object] = {}
        self.weight = 0.05  # of the rate penalty
        self.penalty: RatePenalty | None = None
        self._start_stage()
        output.mkdir(parents=True, exist_ok=True)
        if self.state_file.exists():
            self._restore()

    def _place(self, model: Network) -> Network:
        return model.to(self.device, memory_format=torch.channels_last)

    @property
    def state_file(self) -> Path:
        return self.output / "state.pt"

    def _start_stage(self) -> None:
        recipe = self.stages[self.stage]
        for model in (self.model, self.average, self.probe):
            for neuron in neuron_layers(model).values():
                neuron.rates = recipe.rates
            if isinstance(model, MetaSpikeFormer):
                model.time_steps = recipe.time_steps
        if self.penalty:
            self.penalty.close()
        self.penalty = (RatePenalty(self.model, prices(self.average, self.images[:16]),
                                    recipe.additions) if recipe.additions else None)
        self.run = self.compile(self.penalty or self.model)
        self.optimisers = self._optimisers(recipe)

    def _optimisers(self, recipe: Recipe) -> tuple[Muon, torch.optim.AdamW]:
        matrices, others = [], []
        for name, parameter in self.model.named_parameters():
            dense = parameter.dim() > 1 and parameter.shape[1] > 1
            is_end = name.startswith(("downsample1_1", "head"))
            (matrices if dense and not is_end else others).append(parameter)
        plain = [p for p in others if p.dim() == 1]
        shaped = [p for p in others if p.dim() > 1]
        adam = torch.optim.AdamW(
            [{"params": shaped, "weight_decay": recipe.weight_decay / 2},
             {"params": plain, "weight_decay": 0.0}],
            lr=recipe.adam_lr, betas=(0.9, 0.99), fused=self.on_gpu)
        return Muon(matrices, recipe.muon_lr, recipe.weight_decay), adam

    def _restore(self) -> None:
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.stage, self.epoch = state["stage"], state["epoch"]
        self.seconds, self.results, self.log = state["seconds"], state["results"], state["log"]
        self.weight = state["weight"]
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
                    "average": self.average.state_dict(), "weight": self.weight,
                    "optimisers": [optimiser.state_dict() for optimiser in self.optimisers]},
                   temporary)
        os.replace(temporary, self.state_file)

    def export(self) -> None:
        """Write the averaged network (matrices in fp16) and the results so far."""
        state = {key: value.half() if value.dim() > 1 else value
                 for key, value in self.average.state_dict().items()}
        write_checkpoint(self.output / f"{self.plan.name}.safetensors", state,
                         metadata(self.average))
        result = {"plan": dataclasses.asdict(self.plan), "seed": self.seed, "stage": self.stage,
                  "epoch": self.epoch, "seconds": self.seconds, "images": len(self.images),
                  "parameters": sum(p.numel() for p in self.model.parameters()),
                  "torch": torch.__version__, "results": self.results, "log": self.log}
        temporary = self.output / "result.tmp"
        temporary.write_text(json.dumps(result, indent=1))
        os.replace(temporary, self.output / "result.json")

    def _augment(self, x: Tensor, generator: torch.Generator, recipe: Recipe,
                 clean: bool) -> tuple[Tensor, Tensor]:
        x = crop_and_flip(x, generator)
        if recipe.warp and not clean:
            x = warp(x, generator, recipe.warp)
        if recipe.colour and not clean:
            x = recolour(x, generator, recipe.colour)
        x = erase(x, generator, recipe.erasing)
        x, own = cut_mix(x, generator, 0.0 if clean else recipe.mix)
        return x.contiguous(memory_format=torch.channels_last), own

    def _loss(self, x: Tensor, y: Tensor, own: Tensor, recipe: Recipe) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu):
            logits = self.run(x)
            if recipe.teaching:
                with torch.no_grad():
                    taught = self.teacher(x).float() / recipe.temperature
        logits = logits.float()
        first, second = (F.cross_entropy(logits, target, reduction="none",
                                         label_smoothing=recipe.smoothing)
                         for target in (y, y.roll(1)))
        loss = (own * first + (1 - own) * second).mean()
        if recipe.teaching:
            distance = F.kl_div(F.log_softmax(logits / recipe.temperature, 1),
                                F.log_softmax(taught, 1), log_target=True, reduction="batchmean")
            loss = ((1 - recipe.teaching) * loss
                    + recipe.teaching * recipe.temperature ** 2 * distance)
        return loss

    def _limit(self, recipe: Recipe) -> Recipe:
        """Fit the last stage into the time that is left until `until`."""
        if self.until is not None and self.stage == len(self.stages) - 1:
            seconds = max(1.0, self.seconds[self.stage] + self.until - time.time())
            recipe = dataclasses.replace(recipe, seconds=seconds)
            self.stages = (*self.stages[:-1], recipe)
        return recipe

    def _progress(self, recipe: Recipe, part: float) -> float:
        """Share of the stage that is done."""
        if recipe.seconds:
            return self.seconds[self.stage] / recipe.seconds
        return (self.epoch + part) / recipe.epochs

    def _schedule(self, recipe: Recipe, progress: float) -> None:
        scale = rate_scale(progress, recipe.warm_up)
        for optimiser, rate in zip(self.optimisers, (recipe.muon_lr, recipe.adam_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * scale

    def _adjust_penalty(self, recipe: Recipe, progress: float) -> float:
        """Raise the penalty's weight while additions are above the target; returns additions."""
        self.probe.load_state_dict(self.model.state_dict())  # hooks stay off the compiled network
        found = sum(additions(self.probe, self.images[:250]).values())
        target = recipe.additions * (1 + max(0.0, 0.5 - progress))  # reached at half the stage
        excess = min(max(found / target - 1, -1.0), 1.0)
        self.weight = min(max(self.weight * math.exp(0.8 * excess), 0.01), 5.0)
        return found

    def _train_epoch(self, recipe: Recipe) -> dict[str, float]:
        before, started = self.seconds[self.stage], time.perf_counter()
        line = {}
        if recipe.additions:
            found = self._adjust_penalty(recipe, self._progress(recipe, 0.0))
            self.penalty.set_weight(self.weight, recipe.batch)
            line = {"additions": round(found / 1e6, 2), "weight": round(self.weight, 4)}
        self.model.train()
        generator = torch.Generator(self.device)
        generator.manual_seed(self.seed * 1_000_003 + self.stage * 10_007 + self.epoch)
        order = torch.randperm(len(self.images), generator=generator, device=self.device)
        steps = max(1, len(order) // recipe.batch)
        total = torch.zeros((), device=self.device)
        for step in range(steps):
            chosen = order[step * recipe.batch:(step + 1) * recipe.batch]
            progress = self._progress(recipe, step / steps)
            self._schedule(recipe, progress)
            x, own = self._augment(self.images[chosen], generator, recipe,
                                   progress >= 1 - recipe.clean_share)
            loss = self._loss(x, self.labels[chosen], own, recipe)
            loss.backward()
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            taken = self.epoch * steps + step + 1
            update_average(self.average, self.model, min(recipe.ema, taken / 100))
            total += loss.detach()
            if step == 0 and not self.warm:  # do not count the compilation
                total.item()
                self.warm, started = True, time.perf_counter()
                recipe = self._limit(recipe)
            self.seconds[self.stage] = before + time.perf_counter() - started
        loss = total.item() / steps
        self.seconds[self.stage] = before + time.perf_counter() - started
        return {"loss": round(loss, 4), "seconds": round(self.seconds[self.stage], 2)} | line

    def train(self) -> None:
        """Run what is left of all stages."""
        saved = time.perf_counter()
        self.warm = False
        while self.stage < len(self.stages):
            recipe = self.stages[self.stage]
            started = self.seconds[self.stage]
            line = {"stage": self.stage, "epoch": self.epoch + 1} | self._train_epoch(recipe)
            recipe = self.stages[self.stage]
            ended = time.perf_counter()
            self.epoch += 1
            half = (self.seconds[self.stage] - started) / 2
            last = (self.seconds[self.stage] + half >= recipe.seconds if recipe.seconds
                    else self.epoch >= recipe.epochs)
            due = time.perf_counter() - saved > 45 if recipe.seconds else self.epoch % 10 == 0
            if last or due:
                line["watched"] = round(evaluate(self.average, *self.watch), 2)
            self.log.append(line)
            print(json.dumps(line), flush=True)
            if last:
                self._finish_stage()
            elif due:
                self.seconds[self.stage] += time.perf_counter() - ended
                self.export()
            if last or due:
                self._save()
                saved = time.perf_counter()
        print(json.dumps(self.results), flush=True)

    def _round_average(self) -> None:
        """Give the averaged network the values that its file holds."""
        state = self.average.state_dict()
        for value in state.values():
            if value.dim() > 1:
                value.copy_(value.half())

    def _finish_stage(self) -> None:
        self._round_average()
        stage = f"stage{self.stage}"
        self.results[f"{stage}_watched_accuracy"] = evaluate(self.average, *self.watch)
        self.results[f"{stage}_test_accuracy"] = evaluate(self.average, *self.test)
        rates = firing_rates(self.average, self.test[0][:256])
        self.results[f"{stage}_firing_rates"] = rates
        self.results[f"{stage}_mean_rate"] = sum(rates.values()) / len(rates)
        if not self.stages[self.stage].rates:
            work = additions(self.average, self.test[0][:1000])
            self.results[f"{stage}_additions"] = {key: round(value) for key, value in work.items()}
            self.results[f"{stage}_total_additions"] = round(sum(work.values()))
        self.export()
        self.stage, self.epoch, self.warm = self.stage + 1, 0, False
        if self.stage < len(self.stages):
            self.model.load_state_dict(self.average.state_dict())
            self._start_stage()
