# SPDX-License-Identifier: Apache-2.0
"""The list of layers of a Meta-SpikeFormer, folded but still in real numbers.

Each layer that writes the residual stream is fused with the one neuron that follows it, so a plan
has one entry for each layer of the integer model, in its order and under its names.
"""

from dataclasses import dataclass

from sw.models.blocks import ConvBlock, SpikeBlock
from sw.models.meta_spikeformer import MetaSpikeFormer
from sw.models.v1 import V1Block
from sw.quantise.fold import Folded, fold_conv, fold_head, fold_repconv

__all__ = ["PlannedLayer", "Planner", "plan"]


@dataclass
class PlannedLayer:
    """One folded layer: fields as in the model file, weights and thresholds in real numbers."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    folded: Folded | None = None
    stride: int = 1
    residual: str | None = None
    roles: tuple[str, ...] = ()
    neuron: str | None = None
    theta: float = 1.0
    heads: int | None = None
    scale: float = 1.0                  # attention: real value of one unit of its sum
    levels: int | None = None           # highest level of an SFA neuron
    ties: str = "even"
    norm: int = 1                       # a level is worth 1 / norm to its readers

    def output(self, role: str) -> str:
        return f"{self.name}.{role}"

    @property
    def fires(self) -> str:
        """The output of its neuron."""
        return self.output("spikes" if self.levels is None else "levels")


class Planner:
    """Collects layers; knows the residual stream's last writer."""

    def __init__(self) -> None:
        self.layers: list[PlannedLayer] = []
        self.stream: PlannedLayer | None = None     # the last writer of the residual stream
        self.stages: dict[str, PlannedLayer] = {}   # by stage: its last writer

    def add(self, name: str, kind: str, inputs: tuple[str, ...], folded: Folded | None = None, *,
            neuron: tuple[str, float] | None = None, **fields: object) -> PlannedLayer:
        layer = PlannedLayer(name, kind, inputs, folded, **fields)
        if neuron is not None:
            layer.neuron, layer.theta = neuron
            layer.roles += ("spikes",)
        self.layers.append(layer)
        return layer

    def write_stream(self, name: str, source: str, folded: Folded, *, stride: int = 1,
                     fresh: bool = False) -> None:
        """A convolution that adds to the residual stream, or starts it anew."""
        residual = None if fresh else self.stream.output("residual")
        self.stream = self.add(name, "conv", (source,), folded, stride=stride, residual=residual,
                               roles=("residual",))

    def fire(self, name: str, theta: float) -> str:
        """The neuron `name` on the residual stream: fused into the stream's last writer."""
        self.stream.neuron, self.stream.theta = name, theta
        self.stream.roles += ("spikes",)
        return self.stream.output("spikes")


def _conv_block(p: Planner, name: str, block: ConvBlock) -> None:
    sep = block.Conv
    spikes = p.fire(f"{name}.Conv.lif1", sep.lif1.threshold)
    wide = p.add(f"{name}.Conv.pwconv1", "conv", (spikes,), fold_conv(sep.pwconv1, sep.bn1),
                 neuron=(f"{name}.Conv.lif2", sep.lif2.threshold))
    depthwise = p.add(f"{name}.Conv.dwconv", "depthwise", (wide.output("spikes"),),
                      fold_conv(sep.dwconv), roles=("integer",))
    p.write_stream(f"{name}.Conv.pwconv2", depthwise.output("integer"),
                   fold_conv(sep.pwconv2, sep.bn2))
    spikes = p.fire(f"{name}.lif1", block.lif1.threshold)
    wide = p.add(f"{name}.conv1", "conv", (spikes,), fold_conv(block.conv1, block.bn1),
                 neuron=(f"{name}.lif2", block.lif2.threshold))
    p.write_stream(f"{name}.conv2", wide.output("spikes"), fold_conv(block.conv2, block.bn2))


def _spike_block(p: Planner, name: str, block: SpikeBlock) -> None:
    attn, mlp = block.attn, block.mlp
    spikes = p.fire(f"{name}.attn.head_lif", attn.head_lif.threshold)
    parts = [p.add(f"{name}.attn.{part}_conv", "conv", (spikes,),
                   fold_repconv(getattr(attn, f"{part}_conv")),
                   neuron=(f"{name}.attn.{part}_lif", getattr(attn, f"{part}_lif").threshold))
             for part in "qkv"]
    mixed = p.add(f"{name}.attn", "attention", tuple(part.output("spikes") for part in parts),
                  heads=attn.heads, scale=attn.scale,
                  neuron=(f"{name}.attn.attn_lif", attn.attn_lif.threshold))
    p.write_stream(f"{name}.attn.proj_conv", mixed.output("spikes"), fold_repconv(attn.proj_conv))
    spikes = p.fire(f"{name}.mlp.fc1_lif", mlp.fc1_lif.threshold)
    wide = p.add(f"{name}.mlp.fc1_conv", "conv", (spikes,), fold_conv(mlp.fc1_conv, mlp.fc1_bn),
                 neuron=(f"{name}.mlp.fc2_lif", mlp.fc2_lif.threshold))
    p.write_stream(f"{name}.mlp.fc2_conv", wide.output("spikes"),
                   fold_conv(mlp.fc2_conv, mlp.fc2_bn))


def _v1_block(p: Planner, name: str, block: V1Block) -> None:
    attn, mlp = block.attn, block.mlp
    spikes = p.fire(f"{name}.attn.shortcut_lif", attn.shortcut_lif.threshold)
    q, k, v = (p.add(f"{name}.attn.{part}_conv", "conv", (spikes,),
                     fold_conv(getattr(attn, f"{part}_conv"), getattr(attn, f"{part}_bn")),
                     neuron=(f"{name}.attn.{part}_lif", getattr(attn, f"{part}_lif").threshold))
               for part in "qkv")
    counted = p.add(f"{name}.attn.kv", "key_value", (k.fires, v.fires),
                    neuron=(f"{name}.attn.talking_heads_lif", attn.talking_heads_lif.threshold))
    mixed = p.add(f"{name}.attn.mask", "mask", (q.fires, counted.fires), roles=("spikes",))
    p.write_stream(f"{name}.attn.proj_conv", mixed.output("spikes"),
                   fold_conv(attn.proj_conv, attn.proj_bn))
    spikes = p.fire(f"{name}.mlp.fc1_lif", mlp.fc1_lif.threshold)
    wide = p.add(f"{name}.mlp.fc1_conv", "conv", (spikes,), fold_conv(mlp.fc1_conv, mlp.fc1_bn),
                 neuron=(f"{name}.mlp.fc2_lif", mlp.fc2_lif.threshold))
    p.write_stream(f"{name}.mlp.fc2_conv", wide.output("spikes"),
                   fold_conv(mlp.fc2_conv, mlp.fc2_bn))


_BLOCKS = {ConvBlock: _conv_block, SpikeBlock: _spike_block, V1Block: _v1_block}


def plan(model: MetaSpikeFormer, features: bool = False) -> Planner:
    """The folded layers of `model` in the order of execution, and the last of each stage.

    With `features` the last stage's map gets a neuron too (threshold 1), as those of the others
    have from the layers that read them.
    """
    p = Planner()
    for name, part in model.named_children():
        if name.startswith("downsample"):
            source = ("image" if p.stream is None
                      else p.fire(f"{name}.encode_lif", part.encode_lif.threshold))
            p.write_stream(f"{name}.encode_conv", source,
                           fold_conv(part.encode_conv, part.encode_bn),
                           stride=part.encode_conv.stride[0], fresh=True)
        elif name.startswith(("ConvBlock", "block")):
            for index, block in enumerate(part):
                _BLOCKS[type(block)](p, f"{name}.{index}", block)
            if len(part):
                p.stages[name] = p.stream
    if features and p.stream.neuron is None:
        p.fire("features.lif", 1.0)
    pool = p.add("pool", "pool", (p.stream.output("residual"),),
                 neuron=("lif", model.lif.threshold))
    p.add("head", "head", (pool.output("spikes"),),
          fold_head(model.head, getattr(model, "head_kd", None)), roles=("logits",))
    return p
