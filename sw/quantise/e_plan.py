# SPDX-License-Identifier: Apache-2.0
"""The list of layers of an E-SpikeFormer, folded but still in real numbers.

As `sw.quantise.plan`, with SFA neurons: a neuron is fused into the layer in front of it, and a
level is worth 1 / D to the layers that read it.
"""

from sw.errors import QuantiseError
from sw.models.e_blocks import ConvBlock, Mlp, SepConv, TransformerBlock
from sw.models.e_large import LargeConvBlock, LargeTransformerBlock
from sw.models.e_spikeformer import ESpikeFormer
from sw.models.multispike import MultiSpike
from sw.quantise.fold import Folded, fold_conv, fold_head, fold_pair, fold_scale
from sw.quantise.plan import PlannedLayer, Planner

__all__ = ["plan_e"]


class _Planner(Planner):
    def sfa(self, layer: PlannedLayer, name: str, neuron: MultiSpike) -> str:
        """Fuse the neuron `name` into a layer; returns its output."""
        layer.neuron, layer.levels = name, neuron.max_level
        layer.ties, layer.norm = neuron.rounding, neuron.norm
        layer.roles += ("levels",)
        return layer.fires

    def fire_stream(self, name: str, neuron: MultiSpike) -> str:
        """The neuron `name` on the residual stream."""
        return self.sfa(self.stream, name, neuron)

    def branch(self, name: str, source: str, folded: Folded, neuron_name: str,
               neuron: MultiSpike, kind: str = "conv") -> str:
        """A convolution that feeds a neuron only; returns the neuron's output."""
        return self.sfa(self.add(name, kind, (source,), folded), neuron_name, neuron)


def _sep_conv(p: _Planner, name: str, block: SepConv, scale: object = None) -> None:
    spikes = p.fire_stream(f"{name}.spike1", block.spike1)
    spikes = p.branch(f"{name}.pwconv1", spikes, fold_conv(*block.pwconv1), f"{name}.spike2",
                      block.spike2)
    spikes = p.branch(f"{name}.dwconv", spikes, fold_conv(*block.dwconv), f"{name}.spike3",
                      block.spike3, "depthwise")
    p.write_stream(f"{name}.pwconv2", spikes, fold_scale(fold_conv(*block.pwconv2), scale))


def _conv_block(p: _Planner, name: str, block: ConvBlock) -> None:
    _sep_conv(p, f"{name}.Conv", block.Conv)
    spikes = p.fire_stream(f"{name}.spike1", block.spike1)
    spikes = p.branch(f"{name}.conv1", spikes, fold_conv(block.conv1, block.bn1),
                      f"{name}.spike2", block.spike2)
    p.write_stream(f"{name}.conv2", spikes, fold_conv(block.conv2, block.bn2))


def _large_conv_block(p: _Planner, name: str, block: LargeConvBlock) -> None:
    spikes = p.fire_stream(f"{name}.neuron1", block.neuron1)
    spikes = p.branch(f"{name}.conv1", spikes, fold_conv(*block.conv1[0]), f"{name}.neuron2",
                      block.neuron2)
    p.write_stream(f"{name}.conv2", spikes, fold_conv(*block.conv2[0]))


def _attention(p: _Planner, name: str, attn: object, kind: str, fold: object,
               scale: object) -> None:
    head = getattr(attn, f"head_{kind}")
    spikes = p.fire_stream(f"{name}.head_{kind}", head)
    parts = tuple(p.branch(f"{name}.{part}_conv", spikes, fold(getattr(attn, f"{part}_conv")),
                           f"{name}.{part}_{kind}", getattr(attn, f"{part}_{kind}"))
                  for part in "qkv")
    norm = 1
    for part in "qkv":
        norm *= getattr(attn, f"{part}_{kind}").norm
    mixed = p.add(name, "attention", parts, heads=attn.heads, scale=attn.scale / norm)
    spikes = p.sfa(mixed, f"{name}.attn_{kind}", getattr(attn, f"attn_{kind}"))
    p.write_stream(f"{name}.proj_conv", spikes, fold_scale(fold(attn.proj_conv), scale))


def _mlp(p: _Planner, name: str, mlp: Mlp, scale: object) -> None:
    first, second = mlp.names
    spikes = p.fire_stream(f"{name}.{first}", getattr(mlp, first))
    spikes = p.branch(f"{name}.fc1_conv", spikes, fold_conv(mlp.fc1_conv, mlp.fc1_bn),
                      f"{name}.{second}", getattr(mlp, second))
    p.write_stream(f"{name}.fc2_conv", spikes,
                   fold_scale(fold_conv(mlp.fc2_conv, mlp.fc2_bn), scale))


def _block(p: _Planner, name: str, block: TransformerBlock) -> None:
    _sep_conv(p, f"{name}.conv", block.conv, block.layer_scale1)
    _attention(p, f"{name}.attn", block.attn, "spike", lambda part: fold_conv(*part),
               block.layer_scale2)
    _mlp(p, f"{name}.mlp", block.mlp, block.layer_scale3)


def _large_block(p: _Planner, name: str, block: LargeTransformerBlock) -> None:
    if block.with_rep_conv:
        spikes = p.fire_stream(f"{name}.lif", block.lif)
        p.write_stream(f"{name}.rep_conv", spikes, fold_pair(block.rep_conv))
    _attention(p, f"{name}.attn", block.attn, "lif", lambda part: fold_pair(*part),
               block.layer_scale1)
    _mlp(p, f"{name}.mlp", block.mlp, block.layer_scale2)


_BLOCKS = {ConvBlock: _conv_block, LargeConvBlock: _large_conv_block, TransformerBlock: _block,
           LargeTransformerBlock: _large_block}


def plan_e(model: ESpikeFormer, features: bool = False) -> Planner:
    """As `sw.quantise.plan.plan`.

    Raises `QuantiseError` for two heads of which one reads real values.
    """
    p, config = _Planner(), model.config
    for name in model.order:
        part = getattr(model, name)
        if name.startswith("downsample"):
            source = "image"
            if p.stream is not None:
                source = p.fire_stream(f"{name}.{part.neuron}", getattr(part, part.neuron))
            p.write_stream(f"{name}.encode_conv", source,
                           fold_conv(part.encode_conv, part.encode_bn),
                           stride=part.encode_conv.stride[0], fresh=True)
            continue
        for index, block in enumerate(part):
            _BLOCKS[type(block)](p, f"{name}.{index}", block)
        if len(part):
            p.stages[name] = p.stream
    if features and p.stream.neuron is None:
        last = getattr(model, model.last_neuron)
        p.fire_stream("features.spike", MultiSpike(last.max_level, last.rounding))
    pool = p.add("pool", "pool", (p.stream.output("residual"),))
    if config.head_levels:
        source = p.sfa(pool, model.last_neuron, getattr(model, model.last_neuron))
    else:
        if config.kd:
            raise QuantiseError("head_kd reads levels and head reads real values: two heads with "
                                "different inputs are not supported")
        pool.roles = ("integer",)
        source = pool.output("integer")
    p.add("head", "head", (source,), fold_head(model.head, getattr(model, "head_kd", None)),
          roles=("logits",))
    return p
