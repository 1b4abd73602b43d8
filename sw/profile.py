# SPDX-License-Identifier: Apache-2.0
"""Where the adder slots of a run went: an account by descriptor and layer, and a trace over time.

A model with probes (`sim.probes`) says what every group does in every cycle. An *adder slot* is one
adder for one cycle; each has one cause of `CAUSES`, so that their shares add up to 1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from hw.descriptor import FORMATS, Flag, Opcode, Target
from hw.presets import Preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.golden.network import evaluate
from sw.golden.useful import useful_additions, useful_outside_lanes
from sw.model_file import IntegerModel, Layer
from sw.simulated_device import SimulatedDevice

__all__ = ["CAUSES", "Profile", "ProfileError", "profile"]

CAUSES = {
    "useful": "additions that spikes ask for (sw.golden.useful), in the lanes",
    "redundant": "additions beyond those: digits that are not minimal, folded RepConvs",
    "empty": "lanes beyond the channels of a tile",
    "masked": "lanes of a depthwise layer without a spike",
    "change": "change of pixel or plane: the group holds a unit, but no addition",
    "reads": "the group waits for its unit's window reads",
    "result": "the group's result is not taken by the epilogue yet",
    "weights": "no CONV can start: weights are still on their way",
    "memory": "no CONV can start: maps, parameters or residuals are still on their way",
    "store": "no CONV can start: STOREs still occupy the output buffer",
    "fetch": "no descriptor at the compute unit: begin, end, or a queue in front is full",
    "counts": "K^T V is counted",
    "drain": "the last pixels and the epilogue of a CONV, while the next one must wait",
}
"""Causes of adder slots, and what they mean."""

_FROM_STATES = {"change": "change", "reads": "reads", "result": "result", "hold": "weights",
                "weights": "weights", "memory": "memory", "store": "store", "fetch": "fetch",
                "counts": "counts", "drain": "drain"}


class ProfileError(RuntimeError):
    """The probes' account contradicts the counters: a defect of the probes, not of the input."""


@dataclass(frozen=True)
class Part:
    """The slots of one compute descriptor, or (`descriptor` -1) of what came before the first."""

    descriptor: int
    """Its place in the program."""
    opcode: str
    layer: int
    slots: dict[str, float]
    """Adder slots by cause."""


@dataclass(frozen=True)
class Slice:
    """Something that a unit did for a time, in cycles of the run."""

    unit: str
    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class Profile:
    """The account of one run. Numbers of slots are exact but for `useful`, `redundant` and `empty`
    of single descriptors, which share their layer's evenly."""

    model: str
    preset: str
    adders: int
    cycles: int
    layers: tuple[str, ...]
    parts: tuple[Part, ...]
    slices: tuple[Slice, ...]
    elsewhere: dict[str, int] = field(default_factory=dict)
    """By layer: useful additions outside the lanes, in the count matrix and the epilogue."""

    def by_layer(self) -> dict[str, dict[str, float]]:
        """Slots of each layer by cause."""
        found = {name: dict.fromkeys(CAUSES, 0.0) for name in self.layers}
        for part in self.parts:
            for cause, slots in part.slots.items():
                found[self.layers[part.layer]][cause] += slots
        return found

    def shares(self) -> dict[str, float]:
        """Shares of all slots, by cause; they add up to 1."""
        total = self.adders * self.cycles
        return {cause: sum(part.slots[cause] for part in self.parts) / total for cause in CAUSES}

    @property
    def utilisation(self) -> float:
        """Useful additions, wherever they were made, by slots."""
        return (self.shares()["useful"]
                + sum(self.elsewhere.values()) / (self.adders * self.cycles))

    def as_json(self) -> dict[str, object]:
        """Everything but the slices."""
        return {"model": self.model, "preset": self.preset, "adders": self.adders,
                "cycles": self.cycles, "utilisation": self.utilisation,
                "shares": self.shares(), "elsewhere": self.elsewhere,
                "layers": self.by_layer(),
                "descriptors": [{"descriptor": part.descriptor, "opcode": part.opcode,
                                 "layer": self.layers[part.layer], "slots": part.slots}
                                for part in self.parts]}

    def as_trace(self) -> dict[str, object]:
        """Trace for Perfetto or chrome://tracing; a microsecond stands for a cycle."""
        units = list(dict.fromkeys(piece.unit for piece in self.slices))
        events: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": number, "args": {"name": unit}}
            for number, unit in enumerate(units)]
        events += [{"name": piece.name, "ph": "X", "pid": 0, "tid": units.index(piece.unit),
                    "ts": piece.begin, "dur": piece.end - piece.begin} for piece in self.slices]
        return {"traceEvents": events}


def profile(model: IntegerModel, images: torch.Tensor, preset: Preset, *,
            level_mode: str = "planes", effort: str | None = None) -> Profile:
    """Run integer images `[N, Ti, C, H, W]` as one batch on the RTL with probes.

    `effort` is the C++ compiler's. Raises `ProfileError` if the account contradicts the hardware's
    counters, and what the compiler and the device raise.
    """
    from sim.build import FAST, PROBED  # not at the top: the simulator needs Amaranth

    program = compile_model(model, preset, level_mode=level_mode, batch=len(images))
    device = SimulatedDevice(program, len(model.layers), effort=effort or FAST,
                             generator=PROBED)
    try:
        counters, _ = device.run([{model.input.tensor: image} for image in images], 0)
        states, events = device.transport.inner.profile()
    finally:
        device.close()
    if states.sum() != preset.groups * counters.cycles:
        raise ProfileError(f"{states.sum()} cycles of groups were probed, not {preset.groups} x "
                           f"{counters.cycles}")
    if states[:, :2].sum() * preset.lanes != counters.additions:
        raise ProfileError(f"{states[:, :2].sum() * preset.lanes} additions were probed, but "
                           f"{counters.additions} counted")
    useful, elsewhere = _useful(model, images)
    return Profile(
        model=model.name, preset=preset.name, adders=preset.adders, cycles=counters.cycles,
        layers=tuple(layer.name for layer in model.layers),
        parts=tuple(_parts(model, program, states, useful)),
        slices=tuple(_slices(model, program, events, counters.cycles)), elsewhere=elsewhere)


def _useful(model: IntegerModel,
            images: torch.Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """Useful additions of the images by layer: those of the lanes, and those elsewhere."""
    by_name = {layer.name: layer for layer in model.layers}
    lanes: dict[str, int] = {}
    elsewhere: dict[str, int] = {}
    for image in images:
        tensors = evaluate(model, image)
        for name, count in useful_additions(model, tensors).items():
            layer = by_name[name]
            other = useful_outside_lanes(layer, [tensors[key] for key in layer.inputs])
            lanes[name] = lanes.get(name, 0) + count - other
            elsewhere[name] = elsewhere.get(name, 0) + other
    return lanes, {name: count for name, count in elsewhere.items() if count}


def _filled(layer: Layer, lanes: int) -> float:
    """Share of a layer's lanes that have a channel."""
    heads = layer.heads if layer.kind == "attention" else 1
    channels = layer.out_channels // heads
    return channels / (-(-channels // lanes) * lanes)


def _parts(model: IntegerModel, program: Program, states: np.ndarray,
           useful: Mapping[str, int]) -> Iterator[Part]:
    """The account of each compute descriptor."""
    from sim.probes import STATES

    compute = [(place, FORMATS[Opcode(code[0])].unpack(code))
               for place, code in enumerate(program.descriptors)
               if code[0] in (Opcode.CONV, Opcode.KTV)]
    if len(states) != 1 + len(compute):
        raise ProfileError(f"{len(states) - 1} compute descriptors began, not {len(compute)}")
    owners = [compute[0][1]["layer"], *(fields["layer"] for _, fields in compute)]
    added = np.zeros(len(model.layers), np.int64)
    np.add.at(added, owners, states[:, :2].sum(1))
    lanes = program.preset.lanes
    for number, (owner, row) in enumerate(zip(owners, states.tolist(), strict=True)):
        layer = model.layers[owner]
        slots = dict.fromkeys(CAUSES, 0.0)
        for state, count in zip(STATES[2:], row[2:], strict=True):
            slots[_FROM_STATES[state]] += count * lanes
        mine = (row[0] + row[1]) * lanes
        if mine:
            slots["useful"] = useful[layer.name] * mine / int(added[owner] * lanes)
            rest = mine - slots["useful"]
            if rest < -1e-6 * mine:
                raise ProfileError(f"layer '{layer.name}': more useful additions than additions")
            if layer.kind == "depthwise":
                slots["masked"] = rest
            else:
                slots["empty"] = min(rest, mine * (1 - _filled(layer, lanes)))
                slots["redundant"] = rest - slots["empty"]
        place, fields = compute[number - 1] if number else (-1, None)
        yield Part(descriptor=place, layer=owner, slots=slots,
                   opcode="" if fields is None else Opcode(fields["opcode"]).name)


def _slices(model: IntegerModel, program: Program, events: np.ndarray,
            cycles: int) -> Iterator[Slice]:
    """What each unit was busy with, from the probes' events."""
    from sim.probes import EVENTS

    at = {name: [int(cycle) for cycle, bits in events if int(bits) >> number & 1]
          for number, name in enumerate(EVENTS[:7])}
    walks = iter(at["walk ends"])  # one for each CONV
    kinds = {"load": (Opcode.LOAD,), "store": (Opcode.STORE,),
             "compute": (Opcode.CONV, Opcode.KTV)}
    for unit, opcodes in kinds.items():
        begins, ends, before = at[f"{unit} begins"], at[f"{unit} ends"], 0
        mine = [FORMATS[Opcode(code[0])].unpack(code) for code in program.descriptors
                if code[0] in opcodes]
        for fields, begin, end in zip(mine, begins, ends, strict=False):
            name = model.layers[fields["layer"]].name
            if unit == "load":
                name += f" {Target(fields['target']).name.lower()}"
            elif fields["opcode"] == Opcode.CONV:
                walked = min(next(walks, end), end)
                yield Slice("epilogue", name, walked, end)
                end = walked
                if fields["flags"] & Flag.DEPTHWISE:
                    name += " (depthwise)"
            yield Slice(unit, name, max(begin, before), min(end, cycles))
            before = max(before, end)
