# SPDX-License-Identifier: Apache-2.0
"""The faults. Each is planted where it belongs, and predicted from the golden model."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from hw.descriptor import Flag, Opcode, Target
from hw.presets import PARAM_BITS
from sw.compile.program import Program
from sw.device import POISON
from sw.golden.network import evaluate, evaluate_layer
from sw.model_file import Layer
from sw.simulated_device import SimulatedDevice
from tb.faults.edit import constants, descriptors, replace, with_number
from tb.faults.hardware import NO_RESET
from tb.faults.subject import Fault, Subject, network, one_pixel

__all__ = ["FAULTS", "first_burst"]

BIT = 6
"""The weight bit that flips: 64 more or less."""


def _changed(subject: Subject, layer: Layer, program: Program, planted: str) -> Fault:
    """A fault in the program that makes the hardware run another ``layer``."""
    return Fault(planted, subject, subject.predict(layer), lambda _: subject.device(program))


def _one_word(subject: Subject) -> Iterator[tuple[int, Layer]]:
    """Dense layers of spikes whose pixels are one word: their rows lie in window order."""
    for number, layer in enumerate(subject.model.layers):
        spikes = subject.model.tensors[layer.inputs[0]].kind == "spikes"
        if layer.kind == "conv" and spikes and layer.in_channels <= 32:
            yield number, layer


def weight_bit() -> Fault:
    """A bit of a weight is flipped in memory."""
    subject, lanes = network(), network().preset.lanes
    for number, layer in _one_word(subject):
        for place in np.ndindex(*layer.weight.shape):
            weight = layer.weight.clone()
            weight[place] ^= 1 << BIT
            wrong = dataclasses.replace(layer, weight=weight)
            if subject.visible(wrong):
                out, channel, y, x = place
                taps, channels = layer.kernel[0] * layer.kernel[1], layer.in_channels
                row = (out // lanes * taps + y * layer.kernel[1] + x) * channels + channel
                address = (constants(subject.program, number, Target.WEIGHT)
                           + row * lanes + out % lanes)
                program = with_number(subject.program, address, 1, lambda byte: byte ^ 1 << BIT)
                return _changed(subject, wrong, program, f"memory {address:#x}, bit {BIT}: "
                                f"'{layer.name}' weight {list(place)}")
    raise AssertionError("no weight bit shows")


def threshold() -> Fault:
    """A threshold is one too high."""
    subject = network()
    for number, layer in enumerate(subject.model.layers):
        for channel in range(layer.out_channels if layer.neuron else 0):
            raised = layer.threshold.clone()
            raised[channel] += 1
            wrong = dataclasses.replace(layer, threshold=raised)
            if subject.visible(wrong):
                address = (constants(subject.program, number, Target.PARAM)
                           + PARAM_BITS // 8 * channel)
                program = with_number(subject.program, address, 8, lambda word: word + (1 << 28))
                return _changed(subject, wrong, program, f"memory {address:#x}: '{layer.name}' "
                                f"channel {channel} fires at {raised[channel]}")
    raise AssertionError("no threshold shows")


def tap() -> Fault:
    """Every tap of a depthwise kernel gets the weights of the next."""
    subject, lanes = network(), network().preset.lanes
    layer = next(layer for layer in subject.model.layers if layer.kind == "depthwise")
    number = subject.layer_number(layer.name)
    loads = descriptors(subject.program, number, Opcode.LOAD, Target.WEIGHT)
    program = replace(subject.program, {
        index: [{**fields, "address": fields["address"] + lanes}]
        for index, fields in loads.items()})
    # rows [tile, tap]; behind the last one comes the next constant
    tiles, taps = layer.out_channels // lanes, layer.kernel[0] * layer.kernel[1]
    rows = layer.weight.reshape(tiles, lanes, taps).permute(0, 2, 1).reshape(-1, lanes)
    memory = np.zeros(program.base + program.size, np.uint8)
    program.load(memory)
    end = constants(subject.program, number, Target.WEIGHT) + len(rows) * lanes
    behind = torch.from_numpy(memory[end:end + lanes].view(np.int8).copy())
    rows = torch.cat([rows[1:], behind.unsqueeze(0)])
    weight = rows.reshape(tiles, taps, lanes).permute(0, 2, 1).reshape(layer.weight.shape)
    return _changed(subject, dataclasses.replace(layer, weight=weight), program,
                    f"{len(loads)} LOADs: the weights of '{layer.name}' from one row further")


def chunk_twice() -> Fault:
    """The first chunk of a tile is added twice."""
    subject, lanes = network(), network().preset.lanes
    for number, layer in _one_word(subject):
        row = subject.program.layers[number]
        if row.chunks == 1 or row.blocks > 1:
            continue
        # the CONVs of the first chunk, for the rows that each computes
        convs = list(descriptors(subject.program, number, Opcode.CONV).items())
        start = next(place for place, (_, fields) in enumerate(convs)
                     if fields["flags"] & (Flag.PSUM_IN | Flag.PSUM_OUT) == Flag.PSUM_OUT)
        index, fields = convs[start]
        chunk = list(itertools.takewhile(
            lambda conv, base=fields["weight_base"]: conv[1]["weight_base"] == base, convs[start:]))
        taps = fields["chunk_words"]
        weight = layer.weight.to(torch.int32).flatten(2)
        weight[:lanes, :, :taps] *= 2
        wrong = dataclasses.replace(layer, weight=weight.reshape(layer.weight.shape))
        if subject.visible(wrong):
            program = replace(subject.program, {
                place: [{**conv, "post": 0},
                        {**conv, "wait": 0, "flags": conv["flags"] | Flag.PSUM_IN | Flag.FENCE}]
                for place, conv in chunk})
            return _changed(subject, wrong, program, f"descriptor {index}: '{layer.name}' adds "
                            f"taps 0 to {taps - 1} of channels 0 to {lanes - 1} again")
    raise AssertionError("no chunk shows")


def keys_and_values() -> Fault:
    """K and V of an attention layer are swapped."""
    subject = network()
    layer = next(layer for layer in subject.model.layers if layer.kind == "attention")
    q, k, v = layer.inputs
    counts = descriptors(subject.program, subject.layer_number(layer.name), Opcode.KTV)
    program = replace(subject.program, {
        index: [{**fields, "key_base": fields["value_base"], "value_base": fields["key_base"]}]
        for index, fields in counts.items()})
    return _changed(subject, dataclasses.replace(layer, inputs=(q, v, k)), program,
                    f"{len(counts)} KTVs: key_base and value_base of '{layer.name}'")


def write_beat() -> Fault:
    """A beat that the accelerator writes never arrives in memory."""
    subject = network()
    name = next(layer.outputs["spikes"] for layer in subject.model.layers
                if layer.outputs.get("spikes") and layer.out_channels % 32 == 0)
    layout, golden = subject.program.tensors[name], subject.golden[0]
    content = layout.encode(golden[name].numpy())
    for at in range(0, layout.size, layout.beat_bytes):
        lost = content.copy()
        lost[at:at + layout.beat_bytes] = POISON
        value = torch.from_numpy(layout.decode(lost))
        if not torch.equal(value, golden[name]):
            break
    address = layout.address + at
    wrong = evaluate(subject.model, subject.images[0], override={name: value}) | {name: value}

    def open_device(program: Program) -> SimulatedDevice:
        device = subject.device(program)
        device.transport.inner.lose_write(address)
        return device

    return Fault(f"bus: the first write to {address:#x}, '{name}'", subject,
                 [subject.differences(0, wrong), []], open_device)


def read_beat() -> Fault:
    """A beat that the accelerator reads never comes: it waits, until the watchdog stops it.

    The second image runs on a fresh accelerator, without a fault.
    """
    subject = network()
    number = len(subject.model.layers) - 1                  # no LOAD comes after the head's
    address = first_burst(subject.program, number)
    name = subject.model.logits.tensor
    layout = subject.program.tensors[name]
    nothing = layout.decode(np.full(layout.size, POISON, np.uint8))
    wrong = subject.golden[0] | {name: torch.from_numpy(nothing)}

    left = [address]

    def open_device(program: Program) -> SimulatedDevice:
        device = subject.device(program)
        if left:
            device.transport.inner.lose_read(left.pop())
        return device

    return Fault(f"bus: the first read from {address:#x}, weights of "
                 f"'{subject.model.layers[number].name}'", subject,
                 [subject.differences(0, wrong), []], open_device, failure="WATCHDOG")


def first_burst(program: Program, layer: int) -> int:
    """Address of a burst of several beats of a layer's weights."""
    beat = program.preset.beat_bytes
    loads = descriptors(program, layer, Opcode.LOAD, Target.WEIGHT)
    return next(fields["address"] for fields in loads.values()
                if fields["length"] > 1 and fields["address"] % 4096 + beat < 4096)


def membrane_reset() -> Fault:
    """Membranes keep what the image before left in them.

    The start of a run resets all units, and every layer here is one job: the first group takes it,
    and finds the membranes of the image before.
    """
    subject = one_pixel()
    predicted = []
    for image in range(len(subject.images)):
        found = dict(subject.golden[image])
        for layer in subject.model.layers:
            if layer.neuron:
                made = _one_behind_the_other(subject, layer, image)
                found |= {name: value[-len(found[name]):] for name, value in made.items()}
        predicted.append(subject.differences(image, found))
    return Fault("hardware: the neurons ignore `first`", subject, predicted,
                 lambda program: subject.device(program, NO_RESET), teacher_forced=True)


def _one_behind_the_other(subject: Subject, layer: Layer, last: int) -> dict[str, torch.Tensor]:
    """A layer's outputs when images up to ``last`` are the time steps of a single image."""
    images = subject.golden[:last + 1]
    inputs = [torch.cat([tensors[name] for tensors in images]) for name in layer.inputs]
    residual = None
    if layer.residual:
        steps = len(images[0][layer.inputs[0]])
        residual = torch.cat([tensors[layer.residual].expand(steps, -1, -1, -1)
                              for tensors in images]).unsqueeze(0)
    made = evaluate_layer(subject.model, layer, [value.unsqueeze(0) for value in inputs], residual)
    return {name: value[0] for name, value in made.items()}


FAULTS: dict[str, Callable[[], Fault]] = {
    "flipped weight bit": weight_bit,
    "threshold off by one": threshold,
    "kernel tap shifted by one": tap,
    "dropped write beat": write_beat,
    "dropped read beat": read_beat,
    "membranes not reset between images": membrane_reset,
    "K and V swapped": keys_and_values,
    "chunk added twice": chunk_twice,
}
"""Each returns the fault with what must be said of it."""
