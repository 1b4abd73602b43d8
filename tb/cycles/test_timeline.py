# SPDX-License-Identifier: Apache-2.0
"""The cycle model against the RTL, and what must hold of it by itself."""

import pytest
import torch

from hw.descriptor import FORMATS, Opcode
from hw.presets import get_preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.cycles.timeline import predict
from sw.golden.activity import set_bits, with_activity
from sw.golden.network import evaluate
from sw.model_file import IntegerModel
from tb.random_model import random_image, random_model
from tb.top.rtl import differing_tensors

WITHIN = 0.12
"""Share by which a small network may differ from its prediction."""
NETWORKS = {"binary": {"time_steps": 2}, "levels": {"levels": 4},
            "large": {"size": (24, 20), "time_steps": 1}}


def _network(name: str) -> tuple[IntegerModel, torch.Tensor]:
    model = random_model(7, **NETWORKS[name])
    return model, random_image(model, 3)


def _bits(model: IntegerModel, image: torch.Tensor) -> dict[str, int]:
    return set_bits(model, evaluate(model, image))


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("name", NETWORKS)
def test_cycles_of_a_network(name: str, preset: str) -> None:
    model, image = _network(name)
    size = get_preset(preset)
    wrong, (counters,) = differing_tensors(model, size, [image])
    found = predict(model, compile_model(model, size), _bits(model, image))
    assert not wrong
    assert abs(found.cycles / counters.cycles - 1) < WITHIN, (found.cycles, counters.cycles)


def test_keys_and_values_without_queries() -> None:
    """The layer of SDSA-1 that counts keys and values has no other inputs. Its networks are
    foretold too short (docs/performance.md)."""
    model = random_model(8, blocks=("masking",), channels=20, size=(7, 9), time_steps=3)
    image, size = random_image(model, 3), get_preset("tiny")
    (counters,) = differing_tensors(model, size, [image])[1]
    found = predict(model, compile_model(model, size), _bits(model, image))
    assert 0.7 < found.cycles / counters.cycles < 1 + WITHIN, (found.cycles, counters.cycles)


def test_a_memory_further_away() -> None:
    model, image = _network("binary")
    size = get_preset("tiny")
    program, bits = compile_model(model, size), _bits(model, image)
    found, predicted = [], []
    for latency in (20, 400):
        found.append(differing_tensors(model, size, [image], latency=latency)[1][0].cycles)
        predicted.append(predict(model, program, bits, latency=latency).cycles)
    assert 0.7 < (predicted[1] - predicted[0]) / (found[1] - found[0]) < 1.3


@pytest.mark.parametrize("bandwidth", [2, 1.6])
def test_a_narrow_memory(bandwidth: float) -> None:
    """Of a quarter of a beat a cycle, or less: the memory is what the network waits for."""
    model, image = _network("binary")
    size = get_preset("tiny")
    (counters,) = differing_tensors(model, size, [image], latency=40, bandwidth=bandwidth)[1]
    program, bits = compile_model(model, size), _bits(model, image)
    found = predict(model, program, bits, latency=40, bandwidth=bandwidth).cycles
    assert abs(found / counters.cycles - 1) < WITHIN, (found, counters.cycles)
    assert found > 1.2 * predict(model, program, bits, latency=40).cycles
    wide = predict(model, program, bits, latency=40, bandwidth=2 * size.beat_bytes).cycles
    assert wide == predict(model, program, bits, latency=40).cycles
    with pytest.raises(ValueError, match="bandwidth must be above 0, not 0"):
        predict(model, program, bits, bandwidth=0)


def _program() -> tuple[IntegerModel, Program]:
    model, image = _network("binary")
    model = with_activity(model, image.unsqueeze(0))
    return model, compile_model(model, get_preset("small"))


def test_every_descriptor_has_its_time() -> None:
    model, program = _program()
    found = predict(model, program)
    assert [step.index for step in found.steps] == list(range(program.count))
    assert sum(found.layers) == found.cycles and all(cycles > 0 for cycles in found.layers)
    last = {"load": 0.0, "store": 0.0, "compute": 0.0}
    posted: dict[int, list[float]] = {}
    for step in found.steps[:-1]:
        assert step.ready <= step.begin < step.end <= found.cycles
        assert step.begin >= last[step.unit], "units begin in order"
        last[step.unit] = step.begin
        fields = FORMATS[Opcode(program.descriptors[step.index][0])].unpack(
            program.descriptors[step.index])
        for semaphore in range(program.preset.semaphores):
            if fields["wait"] >> semaphore & 1:
                assert posted[semaphore].pop(0) <= step.begin, "nothing begins before its data"
            if fields["post"] >> semaphore & 1:
                posted.setdefault(semaphore, []).append(step.end)


def test_more_spikes_take_longer() -> None:
    model, program = _program()
    usual = {name: bits * model.tensors[name].elements for name, bits in model.activity.items()}
    cycles = [predict(model, program, {name: factor * bits for name, bits in usual.items()}).cycles
              for factor in (0, 1, 2, 3)]
    assert cycles == sorted(set(cycles))


def test_what_the_model_expects_is_the_default() -> None:
    model, program = _program()
    usual = {name: bits * model.tensors[name].elements for name, bits in model.activity.items()}
    assert predict(model, program).cycles == predict(model, program, usual).cycles
