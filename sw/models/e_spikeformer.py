# SPDX-License-Identifier: Apache-2.0
"""E-SpikeFormer (Spike-driven Transformer V3) for classification, in the published key layout.

A network of any size given by `ESpikeFormerConfig`, of the base or of the large family. Neurons are
the modules of class `MultiSpike`, so that forward hooks on them, by module name, see every neuron's
input and output (levels divided by D; the last neuron's are integers).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sw.models.checkpoint import load_state, read_checkpoint
from sw.models.config import CheckpointError
from sw.models.e_blocks import ConvBlock, Downsampling, TransformerBlock
from sw.models.e_config import E_SIZES, LARGE_SIZES, ESpikeFormerConfig, infer_e_config
from sw.models.e_large import LargeConvBlock, LargeTransformerBlock
from sw.models.multispike import MultiSpike

__all__ = ["E_SIZES", "LARGE_SIZES", "CheckpointError", "ESpikeFormer", "ESpikeFormerConfig",
           "MultiSpike", "infer_e_config", "load_e_checkpoint"]

_ORDER = ("downsample1_1", "ConvBlock1_1", "downsample1_2", "ConvBlock1_2", "downsample2",
          "ConvBlock2_1", "ConvBlock2_2", "downsample3", "block3", "downsample4", "block4")
_META = ("strides", "num_heads", "max_level", "rounding", "head_levels")


class ESpikeFormer(nn.Module):
    """Logits `[B, classes]` of images `[B, C, H, W]`.

    With knowledge-distillation heads (`kd`), evaluation averages both heads and training returns
    the pair; the second head always reads levels.
    """

    def __init__(self, config: ESpikeFormerConfig) -> None:
        super().__init__()
        self.config = config
        neurons = partial(MultiSpike, config.max_level, config.rounding)
        widths, large = config.widths, config.large
        before = (config.in_channels, *widths)
        neuron_name, last_name = ("encode_lif", "lif") if large else ("encode_spike", "spike")
        parts: dict[str, nn.Module] = {
            name: Downsampling(before[i], widths[i], config.kernels[i], config.strides[i],
                               neurons if i else None, neuron_name)
            for i, name in enumerate(config.downsamplings)
        }
        conv, transformer = ((LargeConvBlock, LargeTransformerBlock) if large
                             else (ConvBlock, TransformerBlock))
        for i, (stage, depth) in enumerate(zip(config.stages, config.depths, strict=True)):
            width = widths[(0, 1, 2, 2, 3, 4)[i]]
            block: Callable[..., nn.Module] = conv if i < 4 else transformer
            parts[stage] = nn.ModuleList(block(width, config, neurons) for _ in range(depth))
        self.order = tuple(name for name in _ORDER if name in parts)
        for name in self.order:
            self.add_module(name, parts[name])
        self.last_neuron = last_name
        self.add_module(last_name, neurons(norm=1))
        self.head = nn.Linear(widths[-1], config.num_classes)
        if config.kd:
            self.head_kd = nn.Linear(widths[-1], config.num_classes)

    def neurons(self) -> dict[str, MultiSpike]:
        """Every neuron layer by module name, in the order of the modules."""
        return {name: module for name, module in self.named_modules()
                if isinstance(module, MultiSpike)}

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        for name in self.order:
            part = getattr(self, name)
            for block in part if isinstance(part, nn.ModuleList) else (part,):
                x = block(x)
        pooled = x.flatten(2).mean(2)
        levels = getattr(self, self.last_neuron)(pooled)
        logits = self.head(levels if self.config.head_levels else pooled)
        if not self.config.kd:
            return logits
        distilled = self.head_kd(levels)
        return (logits, distilled) if self.training else (logits + distilled) / 2


def load_e_checkpoint(
    path: str | Path, **overrides: object
) -> tuple[ESpikeFormerConfig, ESpikeFormer]:
    """Configuration and network (in evaluation mode) of a checkpoint file.

    The file's metadata supplies strides, heads, levels, rounding and the head's input; `overrides`
    replace them. Raises `CheckpointError` naming file and key.
    """
    state, meta = read_checkpoint(path)
    known = {name: meta[name] for name in _META if name in meta}
    config = infer_e_config(state, str(path), **(known | overrides))
    with torch.device("meta"):
        model = ESpikeFormer(config)
    load_state(model, state, str(path), "an E-SpikeFormer")
    return config, model.eval()
