# SPDX-License-Identifier: Apache-2.0
"""Train a network for CIFAR-10 by one of the plans in `sw.train.recipe`.

    python -m sw.train.train_cifar10 --data cifar-10-batches-bin --output run
    python -m sw.train.train_cifar10 --plan cifar10_v3 --data cifar-10-batches-bin --output run_v3
    python -m sw.train.train_cifar10 --plan cifar10_v3_thin --data cifar-10-batches-bin \\
        --teacher run_v3/cifar10_v3.safetensors --initial run_v3/cifar10_v3.safetensors \\
        --output run_thin
    python -m sw.train.train_cifar10 --plan cifar10_v2_wide --data cifar-10-batches-bin \\
        --teacher run_v3/cifar10_v3.safetensors --output run_v2

On one GPU. After an interruption the same command goes on from the last saved epoch
(`state.pt`, every tenth or every 45 seconds). The result is `PLAN.safetensors` (averaged weights,
matrices in fp16, published keys) and `result.json`. `--smoke` runs the whole path of both families
on the CPU in less than two minutes, with the bundled images.

Test images are looked at only behind the last epoch of each stage. `--holdout N` keeps the last N
training images out of training; the accuracy on them is reported as `watched` (without held-out
images: on the first 2,000 training images).
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from sw.models.checkpoint import read_checkpoint
from sw.models.e_spikeformer import load_e_checkpoint
from sw.models.meta_spikeformer import load_checkpoint
from sw.train.cifar10 import load_cifar10, normalise
from sw.train.recipe import PLANS, Config, Plan
from sw.train.trainer import Data, Network, Trainer

__all__ = ["load_network", "smoke_plan"]


def load_network(path: Path) -> Network:
    """Network of a checkpoint file of either family (by its metadata; Meta-SpikeFormer if none)."""
    meta = read_checkpoint(path)[1]
    load = load_e_checkpoint if meta.get("family") == "e-spikeformer" else load_checkpoint
    return load(path)[1]


def _tensors(images: np.ndarray, labels: np.ndarray, device: str) -> Data:
    x = torch.from_numpy(normalise(images)).to(device, memory_format=torch.channels_last)
    return x, torch.from_numpy(labels.astype(np.int64)).to(device)


def smoke_plan(plan: Plan, additions: float = 3e5) -> Plan:
    """The same plan for a tiny network, two epochs a stage."""
    config = plan.network
    small = dict(stem_channels=8, embed_dims=(16,) * len(config.embed_dims), num_heads=2)
    stages = tuple(dataclasses.replace(
        stage, epochs=2, batch=64, additions=additions if stage.additions else 0.0)
        for stage in plan.stages)
    return Plan(name=plan.name, network=dataclasses.replace(config, **small), stages=stages)


def _smoke(output: Path) -> None:
    with np.load(Path(__file__).parents[2] / "data" / "cifar10_calibration_256.npz") as file:
        data = _tensors(file["images"], file["labels"], "cpu")
    teacher = None
    for name in ("cifar10_v3", "cifar10_v3_thin", "cifar10_v2_wide"):
        print(name, flush=True)
        Trainer(smoke_plan(PLANS[name]), output / name, data, data, data, 0, compile_model=False,
                teacher=teacher, initial=teacher if name == "cifar10_v3_thin" else None).train()
        if teacher is None:
            teacher = load_network(output / name / f"{name}.safetensors")


def _sizes(config: Config) -> Config:
    """A configuration without its number of time steps."""
    return dataclasses.replace(config, **({"time_steps": 1} if hasattr(config, "time_steps")
                                          else {}))


def _changed(plan: Plan, arguments: argparse.Namespace) -> Plan:
    """The plan with the command line's numbers in place of its own."""
    stages = list(plan.stages)
    if arguments.stage is not None:
        if not 0 <= arguments.stage < len(stages):
            raise ValueError(f"{plan.name} has the stages 0 to {len(stages) - 1}")
        stages = stages[arguments.stage:arguments.stage + 1]
    for name in ("epochs", "seconds", "batch"):
        values = getattr(arguments, name)
        if values and len(values) != len(stages):
            raise ValueError(f"--{name} needs {len(stages)} numbers, one for each stage of "
                             f"{plan.name}")
        for i, value in enumerate(values or ()):
            stages[i] = dataclasses.replace(stages[i], **{name: value})
    if arguments.additions is not None:
        stages = [dataclasses.replace(stage, additions=arguments.additions * 1e6)
                  for stage in stages]
    return dataclasses.replace(plan, stages=tuple(stages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plan", choices=sorted(PLANS), default="cifar10_v2")
    parser.add_argument("--data", type=Path, help="folder cifar-10-batches-bin")
    parser.add_argument("--output", type=Path, default=Path("run"))
    parser.add_argument("--stage", type=int, help="only this stage of the plan")
    parser.add_argument("--epochs", type=int, nargs="+", help="of each stage")
    parser.add_argument("--seconds", type=float, nargs="+",
                        help="of each stage: its schedule runs by time and not by epochs")
    parser.add_argument("--until", type=float,
                        help="unix time at which the last stage ends, whatever compilation took")
    parser.add_argument("--batch", type=int, nargs="+", help="of each stage")
    parser.add_argument("--additions", type=float,
                        help="millions an image that a rate penalty holds (0: no penalty)")
    parser.add_argument("--teacher", type=Path, help="network that teaches")
    parser.add_argument("--initial", type=Path, help="network of the same sizes to begin with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--holdout", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="tiny run on the CPU")
    arguments = parser.parse_args()
    if arguments.smoke:
        _smoke(arguments.output)
        return
    if arguments.data is None or not torch.cuda.is_available():
        parser.error("training needs --data and a CUDA device (or --smoke)")
    try:
        plan = _changed(PLANS[arguments.plan], arguments)
        teacher = arguments.teacher and load_network(arguments.teacher)
        initial = arguments.initial and load_network(arguments.initial)
        if any(stage.teaching for stage in plan.stages) and teacher is None:
            raise ValueError(f"{plan.name} is taught by another network: give --teacher")
        if initial and _sizes(initial.config) != _sizes(plan.network):
            raise ValueError(f"{arguments.initial} is not of the sizes of {plan.name}")
    except ValueError as error:
        parser.error(str(error))
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    images, labels = load_cifar10(arguments.data, "train")
    kept = len(images) - arguments.holdout
    watched = slice(kept, None) if arguments.holdout else slice(0, 2000)
    Trainer(plan, arguments.output, _tensors(images[:kept], labels[:kept], "cuda"),
            _tensors(images[watched], labels[watched], "cuda"),
            _tensors(*load_cifar10(arguments.data, "test"), "cuda"), arguments.seed,
            compile_model=not arguments.no_compile, teacher=teacher, initial=initial,
            until=arguments.until).train()


if __name__ == "__main__":
    main()
