# SPDX-License-Identifier: Apache-2.0
"""The integer model and its file, as docs/model-format.md defines them.

`load_model` and `save_model` both run `check`, so a model that exists as a file, or that came from
one, obeys every rule. Every message names the file, the layer, the field and the bound.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sw.errors import ModelFileError

__all__ = [
    "ACC_LIMIT", "ARRAYS", "FORMAT", "IntegerModel", "KINDS", "Layer", "Logits", "MAPS",
    "MAX_INTEGER_BITS", "ModelInput", "SHIFT_RANGE", "SUM_LIMIT", "Tensor", "VERSION", "check",
    "load_model", "save_model",
]

FORMAT = "addend-model"
VERSION = 3
KINDS = ("conv", "depthwise", "attention", "key_value", "mask", "pool", "head")
SHIFT_RANGE = (-8, 23)
ACC_LIMIT = 1 << 23       # |acc| of one chunk of a window
SUM_LIMIT = 1 << 27       # |z| and |threshold|
SHIFTED_LIMIT = 1 << 21   # |s| where it joins a residual stream
MAX_TIME_STEPS = 16
MAX_INTEGER_BITS = 12
RESIDUAL_BITS = 16

ARRAYS = {"weight": torch.int8, "bias": torch.int32, "shift": torch.int8,
          "threshold": torch.int32, "step": torch.int32}
ROLES = {"conv": {"residual", "spikes", "levels"},
         "depthwise": {"residual", "spikes", "levels", "integer"},
         "attention": {"spikes", "levels"}, "key_value": {"spikes"}, "mask": {"spikes"},
         "pool": {"spikes", "levels", "integer"},
         "head": {"logits"}}
INPUT_KINDS = {"conv": {"image", "spikes", "levels", "integer"},
               "depthwise": {"image", "spikes", "levels", "integer"},
               "attention": {"spikes", "levels"}, "key_value": {"spikes"}, "mask": {"spikes"},
               "pool": {"residual"},
               "head": {"spikes", "levels", "integer"}}
MAPS = ("spikes", "levels", "integer")      # outputs that are maps of bit planes
NEURONS = {"lif": "spikes", "sfa": "levels"}
LEVELS = (2, 4, 8)        # highest level of a neuron with integer activation
TIES = ("even", "up")
STEP_LIMIT = 1 << 24


@dataclass(frozen=True)
class Tensor:
    """A named tensor between layers: its kind, `[steps, channels, height, width]` and width."""

    name: str
    kind: str                           # image, spikes, levels, residual, integer, logits
    shape: tuple[int, ...]
    bits: int
    producer: str | None                # layer that writes it; None for the input
    levels: int = 1                     # the highest level, of levels and spikes

    @property
    def steps(self) -> int:
        return self.shape[0]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def magnitude(self) -> int:
        """Bound of |value|: the highest level (1 for spikes), else 2^(bits-1)."""
        return self.levels if self.kind in ("spikes", "levels") else 1 << (self.bits - 1)


@dataclass(frozen=True)
class ModelInput:
    """The input tensor, and how the host makes its integers from normalised float images."""

    channels: int
    height: int
    width: int
    scale: float                        # float value of one integer unit
    bits: int = 8
    time_steps: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    tensor: str = "image"


@dataclass(frozen=True)
class Logits:
    """The output: float logit = `scale` * integer logit."""

    tensor: str
    classes: int
    scale: float


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer. Arrays are torch tensors; absent ones are None (attention, pool: no weight)."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    residual: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    repeat: int = 1
    integer_bits: int | None = None
    neuron: Mapping[str, str | int] | None = None
    heads: int | None = None
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    threshold: torch.Tensor | None = None
    step: torch.Tensor | None = None

    @property
    def levels(self) -> int:
        """Highest level of the layer's neuron; 1 of a LIF neuron."""
        return self.neuron.get("levels", 1) if self.neuron else 1

    @property
    def map_output(self) -> tuple[str, str] | None:
        """Role and tensor of the map of bit planes that it writes, if it writes one."""
        return next(((role, self.outputs[role]) for role in MAPS if role in self.outputs), None)

    @property
    def ties_even(self) -> bool:
        """Whether a current half way between two levels gives the even one."""
        return bool(self.neuron) and self.neuron.get("ties") == "even"

    @property
    def neuron_name(self) -> str | None:
        """Published name of the neuron layer fused into this layer (for traces)."""
        return None if self.neuron is None else self.neuron.get("name")

    @property
    def in_positions(self) -> int:
        return self.in_size[0] * self.in_size[1]

    @property
    def out_positions(self) -> int:
        return self.out_size[0] * self.out_size[1]

    @property
    def window(self) -> int:
        """Weights of one output value."""
        taps = self.kernel[0] * self.kernel[1]
        return taps if self.kind == "depthwise" else taps * self.in_channels

    @property
    def macs(self) -> int:
        """Dense synapses of one time step, as if every input were non-zero (pool: its sums)."""
        if self.kind == "attention":
            return 2 * self.in_positions * self.in_channels * self.out_channels // self.heads
        if self.kind in ("pool", "key_value", "mask"):
            return self.in_positions * self.in_channels
        return self.out_positions * self.out_channels * self.window

    @property
    def array_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that this layer has in the file."""
        per_channel = (self.out_channels,)
        names = ["threshold"]
        if self.kind == "mask":
            return {}
        if self.kind not in ("attention", "key_value", "pool"):
            names = ["weight", "bias", "shift", *names]
        elif self.kind == "pool" and "spikes" not in self.outputs:
            names = ["bias", "shift", *names]
        if self.neuron is not None and self.neuron.get("kind") == "sfa":
            names.append("step")
        inputs = 1 if self.kind == "depthwise" else self.in_channels
        return dict.fromkeys(names, per_channel) | (
            {"weight": (self.out_channels, inputs, *self.kernel)} if "weight" in names else {})


@dataclass(frozen=True, eq=False)
class IntegerModel:
    """A whole network in integers: layers in the order of execution over named tensors."""

    name: str
    time_steps: int
    residual_fraction: int
    input: ModelInput
    logits: Logits
    layers: tuple[Layer, ...]
    classes: tuple[str, ...] = ()
    family: str = "meta-spikeformer"
    features: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Maps for detection and segmentation: of each stage the tensors in its "residual" and
    "spikes" or "levels"."""
    activity: Mapping[str, float] = field(default_factory=dict)
    """Mean set bits of an element of each map, where measured (`sw.golden.activity`): a hint for
    the compiler, of no effect on any result."""

    def layer(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ModelFileError(f"model '{self.name}': no layer '{name}'")

    @property
    def macs(self) -> int:
        """Dense synapses of one time step."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, in the order in which they are written."""
        image = self.input
        known = {image.tensor: Tensor(
            image.tensor, "image", (image.time_steps, image.channels, image.height, image.width),
            image.bits, None)}
        for layer in self.layers:
            for tensor in _outputs(layer, known):
                known[tensor.name] = tensor
        return known

    def input_magnitude(self, layer: Layer) -> int:
        """Bound of |input| of a layer."""
        return self.tensors[layer.inputs[0]].magnitude

    def acc_bound(self, layer: Layer) -> int:
        """Largest |acc| that the weights and the width of the input allow, any partial sum."""
        if layer.kind == "attention":
            return (layer.in_positions * (layer.in_channels // layer.heads)
                    * math.prod(self.tensors[name].magnitude for name in layer.inputs))
        if layer.kind == "pool":
            return layer.in_positions << (RESIDUAL_BITS - 1)
        if layer.kind in ("key_value", "mask"):
            return layer.in_positions
        rows = layer.weight.to(torch.int64).abs().flatten(1).sum(1)
        steps = self.tensors[layer.inputs[0]].steps if layer.kind == "head" else 1
        return int(rows.max()) * self.input_magnitude(layer) * steps


def _outputs(layer: Layer, known: Mapping[str, Tensor]) -> list[Tensor]:
    steps = known[layer.inputs[0]].steps
    shape = (layer.out_channels, *layer.out_size)
    made = []
    for role, name in layer.outputs.items():
        if role == "logits":
            made.append(Tensor(name, role, (layer.out_channels,), 32, layer.name))
        elif role in ("spikes", "levels"):
            made.append(Tensor(name, role, (steps * layer.repeat, *shape),
                               layer.levels.bit_length(), layer.name, layer.levels))
        else:
            bits = RESIDUAL_BITS if role == "residual" else layer.integer_bits
            made.append(Tensor(name, role, (steps, *shape), bits, layer.name))
    return made


# Checks ---------------------------------------------------------------------------------------

class _Checker:
    def __init__(self, where: str) -> None:
        self.where = where

    def __call__(self, condition: object, message: str) -> None:
        if not condition:
            raise ModelFileError(f"{self.where}: {message}")


def check(model: IntegerModel, where: str = "model") -> None:
    """Raise `ModelFileError` unless `model` obeys docs/model-format.md."""
    need = _Checker(f"{where} '{model.name}'" if where == "model" else where)
    need(1 <= model.time_steps <= MAX_TIME_STEPS,
         f"time_steps is {model.time_steps}, must be 1 to {MAX_TIME_STEPS}")
    need(0 <= model.residual_fraction <= 15,
         f"residual_fraction is {model.residual_fraction}, must be 0 to 15")
    image = model.input
    need(image.time_steps in (1, model.time_steps),
         f"input.time_steps is {image.time_steps}, must be 1 or time_steps {model.time_steps}")
    need(2 <= image.bits <= 8, f"input.bits is {image.bits}, must be 2 to 8")
    need(image.scale > 0, f"input.scale is {image.scale}, must be positive")
    need(min(image.channels, image.height, image.width) >= 1,
         f"input shape {image.channels}x{image.height}x{image.width} has an empty dimension")
    for name in ("mean", "std"):
        values = getattr(image, name)
        need(len(values) in (0, image.channels),
             f"input.{name} has {len(values)} values for {image.channels} channels")
    need(len(model.classes) in (0, model.logits.classes),
         f"classes has {len(model.classes)} names for {model.logits.classes} logits")
    need(model.layers, "there are no layers")
    known = {image.tensor: Tensor(
        image.tensor, "image", (image.time_steps, image.channels, image.height, image.width),
        image.bits, None)}
    names: set[str] = set()
    for layer in model.layers:
        layer_need = _Checker(f"{need.where}: layer '{layer.name}'")
        layer_need(layer.name and layer.name not in names, "name is empty or used twice")
        names.add(layer.name)
        _check_structure(model, layer, known, layer_need)
        for tensor in _outputs(layer, known):
            layer_need(tensor.name not in known, f"output '{tensor.name}' is written twice")
            known[tensor.name] = tensor
        _check_arrays(layer, layer_need)
        _check_bounds(model, layer, known, layer_need)
    last = known.get(model.logits.tensor)
    need(last is not None and last.kind == "logits",
         f"logits.tensor '{model.logits.tensor}' is not written by any head layer")
    need(last.shape == (model.logits.classes,),
         f"logits.classes is {model.logits.classes}, the head writes {last.shape[0]}")
    for stage, roles in model.features.items():
        for role, name in roles.items():
            need(name in known and known[name].kind == role,
                 f"features.{stage}.{role} '{name}' is not a tensor of that kind")
    for name, bits in model.activity.items():
        need(name in known and known[name].kind in (*MAPS, "image"),
             f"activity.{name} is not a map of the model")
        need(0 <= bits <= known[name].bits, f"activity.{name} is {bits}, must be 0 to "
             f"{known[name].bits}, the tensor's bits")
    need(model.logits.scale > 0, f"logits.scale is {model.logits.scale}, must be positive")


def _check_structure(model: IntegerModel, layer: Layer, known: Mapping[str, Tensor],
                     need: _Checker) -> None:
    need(layer.kind in KINDS, f"kind '{layer.kind}' is unknown, must be one of {', '.join(KINDS)}")
    count = {"attention": 3, "key_value": 2, "mask": 2}.get(layer.kind, 1)
    need(len(layer.inputs) == count, f"inputs has {len(layer.inputs)} tensors, needs {count}")
    for number, name in enumerate(layer.inputs):
        need(name in known, f"input '{name}' is not written before this layer")
        tensor = known[name]
        need(tensor.kind in INPUT_KINDS[layer.kind],
             f"input '{name}' holds {tensor.kind}, a {layer.kind} layer cannot read that")
        expected = (layer.out_channels if number == 2 else layer.in_channels, *layer.in_size)
        need(tensor.shape[1:] == expected,
             f"input '{name}' has shape {tensor.shape}, the layer expects {expected} at each step")
        need(tensor.steps == known[layer.inputs[0]].steps,
             f"input '{name}' has {tensor.steps} steps, unlike '{layer.inputs[0]}'")
    need(layer.stride >= 1, f"stride is {layer.stride}, must be at least 1")
    need(0 <= layer.padding < max(layer.kernel),
         f"padding is {layer.padding}, must be below the kernel {list(layer.kernel)}")
    _check_sizes(layer, need)
    need(layer.outputs, "outputs is empty")
    for role, name in layer.outputs.items():
        need(role in ROLES[layer.kind], f"a {layer.kind} layer cannot output '{role}'")
        need(name == f"{layer.name}.{role}", f"outputs.{role} is '{name}', must be "
             f"'{layer.name}.{role}'")
    _check_neuron(layer, need)
    need(("integer" in layer.outputs) == (layer.integer_bits is not None),
         "outputs.integer and integer_bits must come together")
    if layer.integer_bits is not None:
        need("residual" not in layer.outputs, "outputs has both residual and integer")
        need(2 <= layer.integer_bits <= MAX_INTEGER_BITS,
             f"integer_bits is {layer.integer_bits}, must be 2 to {MAX_INTEGER_BITS}")
    steps = known[layer.inputs[0]].steps
    need(layer.repeat == 1 or layer.kind == "conv",
         f"repeat is {layer.repeat}, a {layer.kind} layer cannot repeat its sum")
    need(layer.repeat == 1 or (steps == 1 and layer.repeat == model.time_steps),
         f"repeat is {layer.repeat} with {steps} input steps, must be 1, or time_steps "
         f"{model.time_steps} on a one-step input")
    if layer.kind != "head" and layer.outputs.keys() & {"spikes", "levels", "integer"}:
        need(steps * layer.repeat == model.time_steps,
             f"writes {steps * layer.repeat} steps, time_steps is {model.time_steps}")
    if layer.residual is not None:
        need("residual" in layer.outputs, "residual is added, but outputs.residual is missing")
        need(layer.residual in known and known[layer.residual].kind == "residual",
             f"residual '{layer.residual}' is not a residual written before this layer")
        added = known[layer.residual]
        need(added.shape[1:] == (layer.out_channels, *layer.out_size),
             f"residual '{layer.residual}' has shape {added.shape}, the layer writes "
             f"{(layer.out_channels, *layer.out_size)} at each step")
        need(added.steps in (1, steps),
             f"residual '{layer.residual}' has {added.steps} steps, the layer {steps}")


def _check_neuron(layer: Layer, need: _Checker) -> None:
    roles = layer.outputs.keys() & NEURONS.values()
    if layer.kind == "mask":
        need(layer.neuron is None, "a mask layer has no neuron")
        return
    need(bool(roles) == (layer.neuron is not None),
         "spikes and levels are written by a neuron: the output and neuron must come together")
    if layer.neuron is None:
        return
    kind = layer.neuron.get("kind")
    need(kind in NEURONS, f"neuron.kind '{kind}' is unknown, must be one of {', '.join(NEURONS)}")
    need(roles == {NEURONS[kind]}, f"a neuron of kind '{kind}' writes {NEURONS[kind]}, "
         f"not {', '.join(sorted(roles))}")
    if kind == "sfa":
        need(layer.neuron.get("levels") in LEVELS,
             f"neuron.levels is {layer.neuron.get('levels')}, must be one of {LEVELS}")
        need(layer.neuron.get("ties") in TIES,
             f"neuron.ties is {layer.neuron.get('ties')!r}, must be one of {', '.join(TIES)}")


def _check_sizes(layer: Layer, need: _Checker) -> None:
    (height, width), (kh, kw) = layer.in_size, layer.kernel
    expected = ((height + 2 * layer.padding - kh) // layer.stride + 1,
                (width + 2 * layer.padding - kw) // layer.stride + 1)
    if layer.kind == "pool":
        expected = (1, 1)
    need(layer.out_size == expected, f"out_size is {list(layer.out_size)}, in_size, kernel, stride "
         f"and padding give {list(expected)}")
    need(min(*layer.out_size, layer.in_channels, layer.out_channels) >= 1, "an empty dimension")
    if layer.kind in ("attention", "key_value", "mask", "pool", "head"):
        need(layer.kernel == (1, 1) and layer.stride == 1 and layer.padding == 0,
             f"kernel, stride and padding of a {layer.kind} layer must be [1, 1], 1 and 0")
    if layer.kind in ("depthwise", "key_value", "mask", "pool"):
        need(layer.in_channels == layer.out_channels,
             f"in_channels {layer.in_channels} and out_channels {layer.out_channels} differ")
    if layer.kind == "head":
        need(layer.in_size == (1, 1), f"in_size is {list(layer.in_size)}, must be [1, 1]")
    need((layer.heads is not None) == (layer.kind == "attention"),
         "heads belongs to attention layers, and only to them")
    if layer.heads is not None:
        need(layer.heads >= 1, f"heads is {layer.heads}, must be at least 1")
        for channels in (layer.in_channels, layer.out_channels):
            need(channels % layer.heads == 0,
                 f"heads is {layer.heads}, must divide the {channels} channels")


def _check_arrays(layer: Layer, need: _Checker) -> None:
    expected = layer.array_shapes
    for name, dtype in ARRAYS.items():
        array = getattr(layer, name)
        if name not in expected:
            need(array is None, f"array {name} does not belong to a {layer.kind} layer")
            continue
        need(array is not None, f"array {name} is missing")
        need(array.dtype == dtype, f"array {name} is {array.dtype}, must be {dtype}")
        need(tuple(array.shape) == expected[name],
             f"array {name} has shape {list(array.shape)}, must be {list(expected[name])}")
    if layer.neuron is None and layer.threshold is not None:
        need(not layer.threshold.any(), "array threshold must be zero without a neuron")
    if layer.step is not None:
        low, high = int(layer.step.min()), int(layer.step.max())
        need(low >= 1 and high < STEP_LIMIT,
             f"array step spans {low} to {high}, must be 1 to {STEP_LIMIT - 1}")
    if layer.shift is not None:
        low, high = int(layer.shift.min()), int(layer.shift.max())
        need(SHIFT_RANGE[0] <= low and high <= SHIFT_RANGE[1],
             f"array shift spans {low} to {high}, must be {SHIFT_RANGE[0]} to {SHIFT_RANGE[1]}")
        if not layer.outputs.keys() & {"residual", "integer"} and layer.kind != "pool":
            need(low == high == 0, "array shift must be zero without a shifted output")
        if layer.integer_bits is not None:
            least = SHIFT_RANGE[0] + MAX_INTEGER_BITS - layer.integer_bits
            need(low >= least, f"array shift begins at {low}, must be at least {least} for an "
                 f"integer output of {layer.integer_bits} bits")


def _check_bounds(model: IntegerModel, layer: Layer, known: Mapping[str, Tensor],
                  need: _Checker) -> None:
    if layer.kind == "mask":
        return
    threshold = int(layer.threshold.to(torch.int64).abs().max())
    need(threshold < SUM_LIMIT, f"|threshold| reaches {threshold}, must be below {SUM_LIMIT}")
    if layer.weight is None:
        source = known[layer.inputs[0]]
        bound = layer.in_positions * source.magnitude
        if layer.kind == "attention":
            bound *= layer.in_channels // layer.heads
            bound *= math.prod(known[name].magnitude for name in layer.inputs[1:])
        if layer.bias is not None:
            bound += int(layer.bias.to(torch.int64).abs().max())
        need(bound < SUM_LIMIT, f"|acc| may reach {bound}, must be below {SUM_LIMIT}")
        if layer.shift is not None:
            top = int(_shifted(torch.full_like(layer.shift, bound, dtype=torch.int64),
                               layer.shift.to(torch.int64)).max())
            limit = 1 << (layer.integer_bits or RESIDUAL_BITS) - 1
            need(top < limit, f"the shifted sum may reach {top}, must be below {limit}")
        return
    source = known[layer.inputs[0]]
    steps = source.steps if layer.kind == "head" else 1
    reach = layer.weight.to(torch.int64).abs().flatten(1).sum(1) * source.magnitude * steps
    bias = layer.bias.to(torch.int64)
    bound = int((reach + bias.abs()).max())
    need(bound < SUM_LIMIT, f"|acc + bias| may reach {bound}, must be below {SUM_LIMIT}")
    if "residual" in layer.outputs:
        bound = int(_shifted(reach + bias.abs(), layer.shift.to(torch.int64)).max()) + 1
        need(bound < SHIFTED_LIMIT, f"a sum behind the shift may reach {bound}, must be below "
             f"{SHIFTED_LIMIT}")
    if layer.integer_bits is not None:
        limit = 1 << (layer.integer_bits - 1)
        shift = layer.shift.to(torch.int64)
        largest, least = reach, -reach
        if source.kind in ("spikes", "levels"):
            rows = source.levels * layer.weight.to(torch.int64).flatten(1)
            largest, least = rows.clamp(min=0).sum(1), rows.clamp(max=0).sum(1)
        high = int(_shifted(bias + largest, shift).max())
        low = int(_shifted(bias + least, shift).min())
        need(-limit <= low and high < limit, f"the integer output may span {low} to {high}, which "
             f"does not fit {layer.integer_bits} bits")


def _shifted(value: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return (value << (-shift).clamp(min=0)) >> shift.clamp(min=0)


# Files ----------------------------------------------------------------------------------------

_LAYER_FIELDS = ("name", "kind", "inputs", "in_channels", "out_channels", "in_size", "out_size",
                 "kernel", "stride", "padding", "residual", "outputs", "repeat", "integer_bits",
                 "neuron", "heads")
_MODEL_FIELDS = ("format", "version", "name", "family", "time_steps", "residual_fraction",
                 "classes", "input", "logits", "features", "activity", "layers")
_INPUT_FIELDS = ("tensor", "channels", "height", "width", "bits", "time_steps", "scale", "mean",
                 "std")
_LOGITS_FIELDS = ("tensor", "classes", "scale")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def to_bytes(model: IntegerModel) -> bytes:
    """Check `model`; the content of its file, the same for equal models."""
    check(model)
    structure = {
        "format": FORMAT, "version": VERSION, "name": model.name, "family": model.family,
        "time_steps": model.time_steps, "residual_fraction": model.residual_fraction,
        "classes": list(model.classes),
        "input": {name: _plain(getattr(model.input, name)) for name in _INPUT_FIELDS},
        "logits": {name: getattr(model.logits, name) for name in _LOGITS_FIELDS},
        "features": {stage: dict(roles) for stage, roles in model.features.items()},
        "activity": dict(model.activity),
        "layers": [{name: _plain(getattr(layer, name)) for name in _LAYER_FIELDS}
                   for layer in model.layers],
    }
    arrays = {f"{layer.name}/{name}": getattr(layer, name).contiguous().clone()
              for layer in model.layers for name in layer.array_shapes}
    return save(arrays, metadata={"addend": json.dumps(structure)})


def save_model(model: IntegerModel, path: str | os.PathLike) -> None:
    """Check `model` and write it to `path` (to a temporary name first, then renamed)."""
    content, path = to_bytes(model), Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        Path(temporary).write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_model(path: str | os.PathLike) -> IntegerModel:
    """Read and check a model file."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not a whole safetensors file ({error})") from error
    need = _Checker(str(path))
    need("addend" in metadata, "metadata key 'addend' is missing: not an Addend model file")
    try:
        structure = json.loads(metadata["addend"])
    except json.JSONDecodeError as error:
        raise ModelFileError(f"{path}: metadata key 'addend' is not JSON ({error})") from error
    need(isinstance(structure, dict), "metadata key 'addend' is not a JSON object")
    need(structure.get("format") == FORMAT,
         f"format is {structure.get('format')!r}, must be {FORMAT!r}")
    need(structure.get("version") == VERSION,
         f"version is {structure.get('version')!r}, this program reads {VERSION}")
    _fields(structure, _MODEL_FIELDS, need)
    _fields(structure["input"], _INPUT_FIELDS, _Checker(f"{path}: input"))
    _fields(structure["logits"], _LOGITS_FIELDS, _Checker(f"{path}: logits"))
    need(isinstance(structure["layers"], list), "layers is not a list")
    layers = []
    for index, entry in enumerate(structure["layers"]):
        name = entry.get("name", index) if isinstance(entry, dict) else index
        layer_need = _Checker(f"{path}: layer '{name}'")
        _fields(entry, _LAYER_FIELDS, layer_need)
        layers.append(_layer(entry, arrays, layer_need))
    used = {f"{layer.name}/{name}" for layer in layers for name in layer.array_shapes}
    extra = sorted(set(arrays) - used)
    need(not extra, f"arrays that belong to no layer: {', '.join(extra[:4])}")
    try:
        model = IntegerModel(
            name=structure["name"], family=structure["family"],
            time_steps=structure["time_steps"],
            residual_fraction=structure["residual_fraction"],
            classes=tuple(structure["classes"]),
            input=ModelInput(**{name: tuple(value) if isinstance(value, list) else value
                                for name, value in structure["input"].items()}),
            logits=Logits(**structure["logits"]), layers=tuple(layers),
            features=structure["features"], activity=structure["activity"])
        check(model, str(path))
    except (TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: a field has the wrong type ({error})") from error
    return model


def _fields(entry: object, names: tuple[str, ...], need: _Checker) -> None:
    need(isinstance(entry, dict), "is not a JSON object")
    missing = [name for name in names if name not in entry]
    need(not missing, f"field {', '.join(missing)} is missing")
    unknown = [name for name in entry if name not in names]
    need(not unknown, f"field {', '.join(unknown)} is unknown")


def _layer(entry: dict, arrays: Mapping[str, torch.Tensor], need: _Checker) -> Layer:
    for name in ("in_channels", "out_channels", "stride", "padding", "repeat"):
        need(type(entry[name]) is int, f"field {name} is {entry[name]!r}, must be an integer")
    for name in ("in_size", "out_size", "kernel"):
        pair = entry[name]
        need(isinstance(pair, list) and len(pair) == 2 and all(type(v) is int for v in pair),
             f"field {name} is {pair!r}, must be two integers")
    need(entry["kind"] in KINDS,
         f"kind '{entry['kind']}' is unknown, must be one of {', '.join(KINDS)}")
    layer = Layer(**{name: tuple(value) if isinstance(value, list) else value
                     for name, value in entry.items()})
    present = {}
    for name in layer.array_shapes:
        key = f"{layer.name}/{name}"
        need(key in arrays, f"array {name} is missing")
        present[name] = arrays[key]
    return replace(layer, **present)
