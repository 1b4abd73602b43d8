# SPDX-License-Identifier: Apache-2.0
"""Networks for CIFAR-10 and how each is trained."""

from dataclasses import dataclass, replace

from sw.models.config import MetaSpikeFormerConfig
from sw.models.e_config import ESpikeFormerConfig

__all__ = ["PLANS", "Plan", "Recipe"]

Config = MetaSpikeFormerConfig | ESpikeFormerConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One stage of training."""

    epochs: int
    batch: int
    muon_lr: float
    adam_lr: float
    seconds: float = 0.0        # if given, the stage ends and its schedule runs by time, not epochs
    time_steps: int = 1         # Meta-SpikeFormer only
    rates: bool = False         # Meta-SpikeFormer: one evaluation that stands for four steps
    warm_up: float = 0.02       # share of the stage in which the learning rates rise
    weight_decay: float = 0.1
    ema: float = 0.998
    mix: float = 0.5            # probability of CutMix
    erasing: float = 0.25
    warp: float = 0.0
    colour: float = 0.0
    smoothing: float = 0.1
    clean_share: float = 0.1    # the last share of the stage is without CutMix, warp and colour
    teaching: float = 0.0       # share of the teacher in the loss
    temperature: float = 2.0
    additions: float = 0.0      # a rate penalty holds the additions an image at this number


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A network, the stages of its training, and the name of its file."""

    name: str
    network: Config
    stages: tuple[Recipe, ...]


_V2 = MetaSpikeFormerConfig(
    num_classes=10, stem_channels=32, embed_dims=(64, 96, 128, 128), depths=(1, 1, 1, 0, 1, 1),
    num_heads=8, conv_ratio=2, mlp_ratio=4, kernels=(3, 3, 3, 3, 3), strides=(1, 2, 2, 1, 1))
_V2_WIDE = replace(
    _V2, stem_channels=48, embed_dims=(96, 192, 256, 256), depths=(1, 1, 1, 0, 2, 0), num_heads=16)
_V3 = ESpikeFormerConfig(
    num_classes=10, stem_channels=32, embed_dims=(96, 128, 192), depths=(1, 1, 1, 0, 3),
    num_heads=12, conv_ratio=2, kernels=(3, 3, 3, 3), strides=(1, 2, 2, 1))
_V3_WIDE = replace(_V3, stem_channels=48, embed_dims=(96, 160, 224), num_heads=14)
_V3_STAGE = Recipe(epochs=320, batch=1024, muon_lr=6e-3, adam_lr=4e-3, mix=0.6, warp=0.4,
                   colour=0.4, additions=60e6)

PLANS = {plan.name: plan for plan in (
    Plan(name="cifar10_v2", network=_V2, stages=(
        Recipe(epochs=180, batch=1024, muon_lr=6e-3, adam_lr=4e-3, warm_up=2 / 180),
        Recipe(time_steps=4, epochs=60, batch=512, muon_lr=3e-3, adam_lr=2e-3,
               warm_up=1 / 60))),
    Plan(name="cifar10_v3", network=_V3, stages=(_V3_STAGE,)),
    Plan(name="cifar10_v3_thin", network=_V3, stages=(
        replace(_V3_STAGE, epochs=240, muon_lr=4e-3, adam_lr=2.5e-3, teaching=0.6,
                additions=48e6),)),
    Plan(name="cifar10_v3_wide", network=_V3_WIDE, stages=(
        replace(_V3_STAGE, teaching=0.5, additions=0.0),)),
    Plan(name="cifar10_v2_wide", network=_V2_WIDE, stages=(
        Recipe(rates=True, epochs=90, batch=1024, muon_lr=6e-3, adam_lr=4e-3, teaching=0.6,
               warp=0.3, colour=0.3),
        Recipe(time_steps=4, epochs=170, batch=512, muon_lr=3e-3, adam_lr=2e-3, teaching=0.6,
               warp=0.3, colour=0.3))),
)}
