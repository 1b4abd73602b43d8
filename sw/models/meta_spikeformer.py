# SPDX-License-Identifier: Apache-2.0
"""Meta-SpikeFormer (Spike-driven Transformer V2) for classification, in the published key layout.

A network of any size given by `MetaSpikeFormerConfig`; `load_checkpoint` reads a published or an
own file. Neurons are the modules of class `Lif`, so that forward hooks on them, by module name, see
every neuron's input and output.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from sw.models.blocks import ConvBlock, Downsampling, SpikeBlock
from sw.models.checkpoint import load_state, read_checkpoint
from sw.models.config import (
    DOWNSAMPLINGS,
    STAGES,
    CheckpointError,
    MetaSpikeFormerConfig,
    infer_config,
)
from sw.models.lif import Lif

__all__ = ["CheckpointError", "Lif", "MetaSpikeFormer", "MetaSpikeFormerConfig", "infer_config",
           "load_checkpoint"]

_ORDER = ("downsample1_1", "ConvBlock1_1", "downsample1_2", "ConvBlock1_2", "downsample2",
          "ConvBlock2_1", "ConvBlock2_2", "downsample3", "block3", "downsample4", "block4")


class MetaSpikeFormer(nn.Module):
    """Logits `[B, classes]` of images `[B, C, H, W]` or of frames `[T, B, C, H, W]`.

    An image is shown at each of the `time_steps` steps. Logits are the mean over time of the head
    on the last neuron's spikes. With knowledge-distillation heads (`kd`), evaluation averages both
    heads and training returns the pair.
    """

    def __init__(self, config: MetaSpikeFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.time_steps = config.time_steps
        widths = config.widths
        before = (config.in_channels, *widths)
        downsamplings = {
            name: Downsampling(before[i], widths[i], config.kernels[i], config.strides[i], i == 0)
            for i, name in enumerate(DOWNSAMPLINGS)
        }
        stages = {}
        for i, (stage, depth) in enumerate(zip(STAGES, config.depths, strict=True)):
            width = widths[(0, 1, 2, 2, 3, 4)[i]]
            stages[stage] = nn.ModuleList(
                ConvBlock(width, config.conv_ratio, config.conv_kernel, config.sep_ratio,
                          config.sep_kernel)
                if i < 4 else SpikeBlock(width, config.num_heads, config.mlp_ratio)
                for _ in range(depth))
        for name in _ORDER:
            self.add_module(name, downsamplings[name] if name in downsamplings else stages[name])
        self.lif = Lif()
        self.head = nn.Linear(widths[-1], config.num_classes)
        if config.kd:
            self.head_kd = nn.Linear(widths[-1], config.num_classes)

    def lifs(self) -> dict[str, Lif]:
        """Every neuron layer by module name, in the order of computation."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Lif)}

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        repeated = x.dim() == 4
        x = self.downsample1_1(x.unsqueeze(0) if repeated else x)
        if repeated:  # the stem has no neuron: the same map at every step
            x = x.expand(self.time_steps, -1, -1, -1, -1)
        for name in _ORDER[1:]:
            part = getattr(self, name)
            for block in part if isinstance(part, nn.ModuleList) else (part,):
                x = block(x)
        spikes = self.lif(x.flatten(3).mean(3))
        logits = self.head(spikes).mean(0)
        if not self.config.kd:
            return logits
        distilled = self.head_kd(spikes).mean(0)
        return (logits, distilled) if self.training else (logits + distilled) / 2


def load_checkpoint(
    path: str | Path, **overrides: object
) -> tuple[MetaSpikeFormerConfig, MetaSpikeFormer]:
    """Configuration and network (in evaluation mode) of a checkpoint file.

    The file's metadata supplies strides, heads and time steps, `overrides` replace them.
    Raises `CheckpointError` naming file and key.
    """
    state, meta = read_checkpoint(path)
    known = {name: meta[name] for name in ("strides", "num_heads", "time_steps") if name in meta}
    config = infer_config(state, str(path), **(known | overrides))
    with torch.device("meta"):
        model = MetaSpikeFormer(config)
    load_state(model, state, str(path), "a Meta-SpikeFormer")
    return config, model.eval()
