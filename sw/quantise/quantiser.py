# SPDX-License-Identifier: Apache-2.0
"""From a float Meta-SpikeFormer or E-SpikeFormer to an `IntegerModel` (docs/numbers.md,
"Quantisation").

* A layer that only feeds a neuron has a free real scale in each channel: the scale goes into that
  channel's integer threshold and bias. Of a neuron with levels, 256 steps make one level, so that
  its edges are as exact as those of one with spikes.
* A layer that writes the residual stream has a power-of-two scale in each channel: a shift.
* The depthwise map is an integer map; its scale goes into the columns of the next layer.
* All classes of the head share one scale, so the largest integer logit is the largest logit.
* The mean of the error that rounding the weights makes, on inputs of the calibrated firing rates,
  is taken out of the bias.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sw.errors import QuantiseError
from sw.golden.numbers import GUARD_BITS
from sw.model_file import (
    ACC_LIMIT,
    MAX_INTEGER_BITS,
    SHIFT_RANGE,
    STEP_LIMIT,
    IntegerModel,
    Layer,
    Logits,
    ModelInput,
    check,
)
from sw.models.e_spikeformer import ESpikeFormer, ESpikeFormerConfig
from sw.models.meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig
from sw.quantise.calibrate import Calibration
from sw.quantise.e_plan import plan_e
from sw.quantise.plan import PlannedLayer, plan
from sw.quantise.rounding import free_scales, power_of_two_scales, round_weights

__all__ = ["LayerReport", "quantise", "quantise_with_report", "residual_fraction"]

MAX_FRACTION = 12
HEADROOM = 1.5
_BIAS_LIMIT = float(1 << 25)
_GUARD = 1 << GUARD_BITS

Network = MetaSpikeFormer | ESpikeFormer
Config = MetaSpikeFormerConfig | ESpikeFormerConfig


@dataclass(frozen=True)
class LayerReport:
    """What quantisation did to one layer."""

    name: str
    weight_error: float                 # |error| / |weight|, 2-norms over the layer
    acc_bound: int
    shifts: tuple[int, int]
    integer_bits: int | None


def residual_fraction(magnitude: float) -> int:
    """Most fraction bits (at most 12) with which 1.5 x `magnitude` fits a 16-bit word."""
    limit = (1 << 15) - 1
    for fraction in range(MAX_FRACTION, -1, -1):
        if magnitude * HEADROOM * (1 << fraction) <= limit:
            return fraction
    raise QuantiseError(f"the residual stream reaches {magnitude:g}; with headroom {HEADROOM} "
                        f"that exceeds {limit}, the bound of a 16-bit word")


def quantise(model: Network, config: Config, calibration: Calibration, *,
             time_steps: int, name: str, **options: object) -> IntegerModel:
    """The integer model of `model` at `time_steps`; options as in `quantise_with_report`."""
    return quantise_with_report(model, config, calibration, time_steps=time_steps, name=name,
                                **options)[0]


def quantise_with_report(
    model: Network, config: Config, calibration: Calibration, *,
    time_steps: int, name: str, classes: tuple[str, ...] = (), mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (), integer_bits: int = 10, features: bool = False,
) -> tuple[IntegerModel, list[LayerReport]]:
    """The integer model, and a report for each layer with weights.

    `mean`, `std`: the normalisation of images in 0..1, recorded for the host; they also give the
    input's range (else: the calibration's). `integer_bits`: width of the depthwise maps; a layer
    takes fewer where its reader's sums could overflow otherwise.
    `features`: name the maps that each stage ends with, for detection and segmentation.
    Raises `QuantiseError` naming the layer and the bound.
    """
    if not 2 <= integer_bits <= MAX_INTEGER_BITS:
        raise QuantiseError(f"integer_bits is {integer_bits}, must be 2 to {MAX_INTEGER_BITS}")
    magnitude = calibration.input_magnitude
    if mean:
        magnitude = max(max(m, 1 - m) / s for m, s in zip(mean, std, strict=True))
    if not magnitude > 0 or not math.isfinite(magnitude):
        raise QuantiseError(f"the input's largest magnitude is {magnitude}, must be positive")
    image = ModelInput(config.in_channels, calibration.height, calibration.width,
                       scale=magnitude / 127, time_steps=time_steps if calibration.event else 1,
                       mean=tuple(mean), std=tuple(std))
    fraction = residual_fraction(calibration.residual_magnitude)
    quantiser = _Quantiser(image, time_steps, fraction, integer_bits, calibration)
    levels = isinstance(model, ESpikeFormer)
    planner = (plan_e if levels else plan)(model, features)
    planned = planner.layers
    for index, layer in enumerate(planned):
        quantiser.add(layer, planned[index + 1] if "integer" in layer.roles else None)
    result = IntegerModel(
        name=name, time_steps=time_steps, residual_fraction=fraction, input=image,
        logits=Logits("head.logits", config.num_classes, quantiser.logits_scale),
        layers=tuple(quantiser.layers), classes=tuple(classes),
        family="e-spikeformer" if levels else "meta-spikeformer",
        features={stage: {role: layer.output(role) for role in layer.roles}
                  for stage, layer in planner.stages.items()} if features else {})
    check(result)
    return result, quantiser.reports


class _Quantiser:
    """Turns planned layers into integer layers, in order."""

    def __init__(self, image: ModelInput, time_steps: int, fraction: int, integer_bits: int,
                 calibration: Calibration) -> None:
        self.image = image
        self.time_steps = time_steps
        self.fraction = fraction
        self.integer_bits = integer_bits
        self.layers: list[Layer] = []
        self.reports: list[LayerReport] = []
        self.logits_scale = 1.0
        # of each tensor: shape, and for multi-bit ones the real value of a unit and |bound|
        self.shapes = {image.tensor: (image.channels, image.height, image.width)}
        self.units = {image.tensor: torch.full((image.channels,), image.scale,
                                               dtype=torch.float64)}
        self.bounds = {image.tensor: 1 << (image.bits - 1)}
        # mean of each channel of each tensor, in its integer units, as calibrated
        self.rates = calibration.rates
        self.means: dict[str, Tensor] = {}
        if calibration.input_mean is not None:
            self.means[image.tensor] = calibration.input_mean / image.scale

    def add(self, layer: PlannedLayer, reader: PlannedLayer | None) -> None:
        made = self._skeleton(layer)
        if layer.kind == "attention" and layer.levels:
            made = self._attention_levels(layer, made)
        elif layer.kind == "mask":
            pass
        elif layer.kind in ("attention", "key_value"):
            made = replace(made, threshold=self._thresholds(made, 2 * layer.theta / layer.scale))
        elif layer.kind == "pool" and layer.levels:
            made = self._pooled_levels(layer, made)
        elif layer.kind == "pool" and "integer" in layer.roles:
            made = self._pooled_integer(layer, made, reader)
        elif layer.kind == "pool":
            limit = 2 * layer.theta * made.in_positions * (1 << self.fraction)
            made = replace(made, threshold=self._thresholds(made, limit))
        elif "integer" in layer.roles:
            made = self._depthwise(layer, made, reader)
        elif layer.kind == "head":
            made = self._head(layer, made)
        elif "residual" in layer.roles:
            made = self._stream_writer(layer, made)
        else:
            made = self._branch(layer, made)
        for tensor in made.outputs.values():
            self.shapes[tensor] = (made.out_channels, *made.out_size)
        if layer.levels:
            self.units[layer.fires] = torch.full((made.out_channels,), 1 / layer.norm,
                                                 dtype=torch.float64)
            self.bounds[layer.fires] = layer.levels
        if layer.neuron in self.rates:
            self.means[layer.fires] = self.rates[layer.neuron]
        self.layers.append(made)

    def _skeleton(self, layer: PlannedLayer) -> Layer:
        channels, *size = self.shapes[layer.inputs[0]]
        outputs, kernel, padding = channels, (1, 1), 0
        out = tuple(size)
        if layer.folded is not None:
            outputs, kernel = layer.folded.weight.shape[0], tuple(layer.folded.weight.shape[2:])
            padding = kernel[0] // 2
            out = tuple((side + 2 * padding - k) // layer.stride + 1
                        for side, k in zip(size, kernel, strict=True))
        if layer.kind == "pool":
            out = (1, 1)
        if layer.kind == "attention":
            outputs = self.shapes[layer.inputs[2]][0]
        static = layer.inputs[0] == self.image.tensor and self.image.time_steps == 1
        return Layer(
            name=layer.name, kind=layer.kind, inputs=layer.inputs, in_channels=channels,
            out_channels=outputs, in_size=tuple(size), out_size=out, kernel=kernel,
            stride=layer.stride, padding=padding, residual=layer.residual,
            outputs={role: layer.output(role) for role in layer.roles},
            repeat=self.time_steps if static else 1, heads=layer.heads,
            neuron=_neuron(layer))

    def _thresholds(self, layer: Layer, limit: float) -> Tensor:
        return torch.full((layer.out_channels,), math.ceil(limit), dtype=torch.int32)

    def _real_weight(self, layer: PlannedLayer) -> Tensor:
        """Weights in real value per unit of the integer input."""
        unit = self.units.get(layer.inputs[0])
        weight = layer.folded.weight
        if unit is None:
            return weight
        depthwise = layer.kind == "depthwise"
        return weight * (unit[:, None, None, None] if depthwise else unit[None, :, None, None])

    def _mean_window(self, made: Layer) -> Tensor | None:
        """Mean input at each weight `[I, kh, kw]`; taps outside the map meet zeros."""
        mean = self.means.get(made.inputs[0])
        if mean is None:
            return None
        inside = []
        for size, out, kernel in zip(made.in_size, made.out_size, made.kernel, strict=True):
            place = (torch.arange(out)[:, None] * made.stride + torch.arange(kernel)
                     - made.padding)
            inside.append(((place >= 0) & (place < size)).double().mean(0))
        return mean[:, None, None] * inside[0][:, None] * inside[1]

    def _finish(self, layer: Layer, real: Tensor, scale: Tensor, weight: Tensor, bias: Tensor,
                shift: Tensor, threshold: Tensor, step: Tensor | None = None) -> Layer:
        """Attach the arrays after proving the accumulator bound."""
        steps = self.time_steps if layer.kind == "head" else 1
        magnitude = self.bounds.get(layer.inputs[0], 1) * steps
        bound = int(weight.abs().flatten(1).sum(1).max()) * magnitude
        if bound >= ACC_LIMIT:
            raise QuantiseError(f"layer '{layer.name}': |acc| may reach {bound}, "
                                f"must be below {ACC_LIMIT}")
        error = weight * scale[:, None, None, None] - real
        size = float(real.norm()) or 1.0
        self.reports.append(LayerReport(layer.name, float(error.norm()) / size, bound,
                                        (int(shift.min()), int(shift.max())), layer.integer_bits))
        return replace(layer, weight=weight.to(torch.int8), bias=bias.to(torch.int32),
                       shift=shift.to(torch.int8), threshold=threshold.to(torch.int32),
                       step=None if step is None else step.to(torch.int32))

    def _branch(self, layer: PlannedLayer, made: Layer) -> Layer:
        """Feeds a neuron only: x = scale (acc + bias), fires iff u >= 2 theta."""
        real, bias = self._real_weight(layer), layer.folded.bias
        least = bias.abs().clamp(min=2 * layer.theta) / _BIAS_LIMIT
        mean = self._mean_window(made)
        if made.kind == "depthwise" and mean is not None:
            mean = mean.unsqueeze(1)
        if layer.levels:
            least = least.clamp(min=_GUARD / (STEP_LIMIT - 1))
        scale = free_scales(real, least, _importance(mean))
        step = (_GUARD / scale).round().clamp(1, STEP_LIMIT - 1)
        if layer.levels:
            scale = _GUARD / step
        weight = round_weights(real, scale)
        bias = _corrected(bias, real, scale, weight, mean)
        whole = (bias / scale).round()
        if layer.levels:
            # level >= j iff acc + bias / scale >= (j - 1/2) / scale
            threshold = (_GUARD * (whole - bias / scale) - step / 2).ceil()
            return self._finish(made, real, scale, weight, whole, torch.zeros_like(whole),
                                threshold, step)
        # At one step a sum fires iff acc >= (2 theta - bias) / scale: exact for the real bias.
        threshold = whole + ((2 * layer.theta - bias) / scale).ceil()
        zero = torch.zeros_like(whole)
        return self._finish(made, real, scale, weight, whole, zero, threshold)

    def _stream_writer(self, layer: PlannedLayer, made: Layer) -> Layer:
        """Writes the residual stream: scale 2^-e, shift e - fraction."""
        real, bias = self._real_weight(layer), layer.folded.bias
        low, high = (self.fraction + shift for shift in SHIFT_RANGE)
        room = (_BIAS_LIMIT / bias.abs().clamp(min=1e-30)).log2().floor()
        mean = self._mean_window(made)
        integer = layer.inputs[0] == self.image.tensor or layer.inputs[0].endswith(".integer")
        importance = None if integer else _importance(mean)
        exponent = power_of_two_scales(real, importance).minimum(room).clamp(max=high)
        if int(exponent.min()) < low:
            channel = int(exponent.argmin())
            raise QuantiseError(
                f"layer '{layer.name}': channel {channel} reaches weight "
                f"{float(real[channel].abs().max()):g} and bias {float(bias[channel]):g}, which "
                f"needs shift {int(exponent[channel]) - self.fraction}, at least {SHIFT_RANGE[0]}")
        scale = torch.exp2(-exponent)
        weight = round_weights(real, scale)
        bias = _corrected(bias, real, scale, weight, mean)
        shift = (exponent - self.fraction).to(torch.int64)
        half = torch.where(shift > 0, torch.exp2((shift - 1).clamp(min=0).double()), 0.0)
        whole = (bias / scale + half).round()
        threshold = torch.zeros_like(whole)
        if layer.levels:
            step = torch.full_like(whole, _GUARD << self.fraction)
            return self._finish(made, real, scale, weight, whole, shift, -step / 2, step)
        if layer.neuron is not None:
            threshold += math.ceil(2 * layer.theta * (1 << self.fraction))
        return self._finish(made, real, scale, weight, whole, shift, threshold)

    def _depthwise(self, layer: PlannedLayer, made: Layer, reader: PlannedLayer) -> Layer:
        """Writes an integer map, as wide as allowed while its reader's sums stay in bounds."""
        real = self._real_weight(layer)
        mean = self._mean_window(made)
        scale = free_scales(real, importance=None if mean is None
                            else _importance(mean).unsqueeze(1))
        weight = round_weights(real, scale)
        high = weight.clamp(min=0).flatten(1).sum(1).long()
        low = weight.clamp(max=0).flatten(1).sum(1).long()
        for bits in range(self.integer_bits, 1, -1):
            shift = _narrowest_shift(low, high, bits)
            unit = scale * torch.exp2(shift.double())
            self.units[layer.output("integer")] = unit
            self.bounds[layer.output("integer")] = 1 << (bits - 1)
            columns = self._real_weight(reader)
            sums = round_weights(columns, torch.exp2(-power_of_two_scales(columns)))
            if int(sums.abs().flatten(1).sum(1).max()) << (bits - 1) < ACC_LIMIT:
                break
        half = torch.where(shift > 0, 1 << (shift - 1).clamp(min=0), 0)
        if mean is not None:
            sums = (weight * mean.unsqueeze(1)).flatten(1).sum(1)
            self.means[layer.output("integer")] = sums / torch.exp2(shift.double())
        made = replace(made, integer_bits=bits)
        return self._finish(made, real, scale, weight, half, shift, torch.zeros_like(half))

    def _attention_levels(self, layer: PlannedLayer, made: Layer) -> Layer:
        """x = scale * sum: step and threshold that put every edge at its exact integer."""
        even, unit = layer.ties == "even", _GUARD / layer.scale
        edges = []
        for level in range(1, layer.levels + 1):
            edge = (level - 0.5) / layer.scale
            strict = even and level % 2 and edge == math.floor(edge)
            edges.append(math.floor(edge) + 1 if strict else math.ceil(edge))
        for step in sorted(range(math.floor(unit) - 2, math.ceil(unit) + 3),
                           key=lambda step: abs(step - unit)):
            # a sum below the edge must not reach it, the edge must
            reach = [level * step + (even and level % 2) for level in range(1, layer.levels + 1)]
            low = max((edge - 1) * _GUARD - sums for edge, sums in zip(edges, reach,
                                                                       strict=True)) + 1
            high = min(edge * _GUARD - sums for edge, sums in zip(edges, reach, strict=True))
            if low <= high and 1 <= step < STEP_LIMIT:
                break
        else:
            raise QuantiseError(f"layer '{layer.name}': no step puts the edges of its levels at "
                                f"{edges}")
        full = torch.full((made.out_channels,), (low + high) // 2, dtype=torch.int32)
        return replace(made, threshold=full, step=torch.full_like(full, step))

    def _pooled_levels(self, layer: PlannedLayer, made: Layer) -> Layer:
        """Level of the mean: half a step is positions * 2^(fraction - 1) of the sum; the shift
        drops the zeros at its end. Halves go up."""
        half = made.in_positions << self.fraction
        shift = min(SHIFT_RANGE[1], (half & -half).bit_length() - 2)
        if shift < 0 or made.in_positions << 15 >> shift >= 1 << 15:
            raise QuantiseError(f"layer '{layer.name}': the sum of {made.in_positions} residuals "
                                f"does not fit 16 bits behind a shift of {shift}")
        zero = torch.zeros(made.out_channels, dtype=torch.int32)
        step = torch.full_like(zero, _GUARD * (half >> shift))
        if int(step[0]) >= STEP_LIMIT:
            raise QuantiseError(f"layer '{layer.name}': a level is a step of {int(step[0])}, must "
                                f"be below {STEP_LIMIT}")
        made = replace(made, neuron={**made.neuron, "ties": "up"})
        return replace(made, bias=zero, shift=torch.full_like(zero, shift).to(torch.int8),
                       threshold=-step // 2, step=step)

    def _pooled_integer(self, layer: PlannedLayer, made: Layer, reader: PlannedLayer) -> Layer:
        """The mean as an integer of MAX_INTEGER_BITS, for a head that reads real values."""
        bits = MAX_INTEGER_BITS
        shift = max(0, (made.in_positions << 15).bit_length() - bits + 1)
        zero = torch.zeros(made.out_channels, dtype=torch.int32)
        half = 1 << shift - 1 if shift else 0
        unit = 2.0 ** (shift - self.fraction) / made.in_positions
        self.units[layer.output("integer")] = torch.full((made.out_channels,), unit,
                                                         dtype=torch.float64)
        self.bounds[layer.output("integer")] = 1 << bits - 1
        return replace(made, integer_bits=bits, bias=zero + half, threshold=zero,
                       shift=torch.full_like(zero, shift).to(torch.int8))

    def _head(self, layer: PlannedLayer, made: Layer) -> Layer:
        """Sums over T: logit = scale / T (acc + T bias / scale)."""
        real, bias = self._real_weight(layer), layer.folded.bias
        steps = self.time_steps
        least = bias.abs().max() * steps / _BIAS_LIMIT
        scale = free_scales(real.reshape(1, -1, 1, 1), least.reshape(1)).expand(len(bias))
        weight = round_weights(real, scale)
        bias = _corrected(bias, real, scale, weight, self._mean_window(made))
        self.logits_scale = float(scale[0]) / steps
        zero = torch.zeros_like(bias)
        return self._finish(made, real, scale, weight, (steps * bias / scale).round(), zero, zero)


def _neuron(layer: PlannedLayer) -> dict[str, str | int] | None:
    """The model file's entry for a layer's neuron."""
    if layer.neuron is None:
        return None
    if not layer.levels:
        return {"kind": "lif", "name": layer.neuron}
    return {"kind": "sfa", "name": layer.neuron, "levels": layer.levels, "ties": layer.ties}


def _importance(mean: Tensor | None) -> Tensor | None:
    """Weight of each squared error: the firing rate, drawn to the layer's average rate so that
    an input that happened to be silent in the calibration still counts."""
    return None if mean is None else mean + mean.mean()


def _corrected(bias: Tensor, real: Tensor, scale: Tensor, weight: Tensor,
               mean: Tensor | None) -> Tensor:
    """The bias less the mean error of the rounded weights."""
    if mean is None:
        return bias
    error = weight * scale[:, None, None, None] - real
    return bias - (error * mean).flatten(1).sum(1)


def _narrowest_shift(low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Smallest shift at which rounded sums from `low` to `high` fit `bits` signed bits."""
    limit = 1 << (bits - 1)
    shift = torch.zeros_like(high)
    for _ in range(SHIFT_RANGE[1]):
        half = torch.where(shift > 0, 1 << (shift - 1).clamp(min=0), 0)
        fits = (((high + half) >> shift) < limit) & (((low + half) >> shift) >= -limit)
        shift = torch.where(fits, shift, shift + 1)
    return shift
