# SPDX-License-Identifier: Apache-2.0
"""Compiled random models on the functional machine: every tensor equals the golden model's."""

import dataclasses

import numpy as np
import pytest
import torch
from rich.console import Console

from hw.descriptor import FORMATS, Flag, Opcode, Target
from hw.presets import PRESETS, get_preset
from sw.compile.compiler import LEVEL_MODES, CompileError, compile_model
from sw.compile.estimate import chunk_entries
from sw.compile.plan import split_window
from sw.compile.schedule import Schedule
from sw.cycles.timeline import predict
from sw.golden.network import evaluate
from sw.golden.numbers import naf_count
from sw.isa.machine import MachineError
from sw.model_file import IntegerModel
from tb.compile.reference import compare, run
from tb.random_model import random_image, random_model

torch.set_num_threads(1)
SMALL_PRESETS = ("tiny", "small", "ecp5")

MODELS = {
    "whole": {},
    "one-step": {"time_steps": 1, "channels": 33, "heads": 3, "size": (7, 10)},
    "events": {"event_frames": True, "in_channels": 2, "time_steps": 3, "size": (8, 9),
               "blocks": ("sep", "attention")},
    "conv-only": {"blocks": ("channel",), "pool": False, "size": (6, 6), "channels": 40},
    "wide": {"blocks": ("channel", "mlp"), "channels": 70, "size": (9, 13), "time_steps": 2},
    "strided": {"blocks": ("down", "sep", "down", "channel"), "stem": (7, 2, 3),
                "size": (31, 26), "in_channels": 1, "time_steps": 6},
    "many-tokens": {"blocks": ("attention",), "size": (17, 19), "time_steps": 3,
                    "channels": 36, "heads": 2},
    "large-heads": {"blocks": ("attention", "mlp"), "channels": 160, "heads": 2, "expansion": 2,
                    "size": (5, 6)},
    "odd-heads": {"blocks": ("attention",), "channels": 90, "heads": 2, "size": (6, 5),
                  "time_steps": 5, "in_channels": 4},
    "pixel": {"blocks": ("sep", "attention", "mlp"), "size": (1, 1), "stem": (1, 1, 0)},
    "masking": {"blocks": ("masking", "masking"), "channels": 44, "size": (7, 13),
                "time_steps": 3},
    "masking-large": {"blocks": ("masking",), "channels": 20, "size": (40, 27), "time_steps": 2},
    "levels": {"levels": 4, "time_steps": 1, "blocks": ("sep", "channel", "attention", "mlp"),
               "value_ratio": 4, "heads": 2, "channels": 12},
    "levels-8": {"levels": 8, "ties": "up", "time_steps": 1, "blocks": ("attention", "mlp"),
                 "heads": 2, "channels": 40, "size": (7, 5), "integer_pool": True},
    "levels-steps": {"levels": 2, "time_steps": 3, "event_frames": True, "channels": 33,
                     "blocks": ("down", "attention"), "heads": 3, "size": (8, 9)},
    "12-bit": {"blocks": ("sep",), "integer_bits": 12, "kernel": 3, "channels": 50,
               "size": (10, 3)},
}


@pytest.mark.parametrize("preset", SMALL_PRESETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor(name: str, preset: str) -> None:
    model = random_model(len(name), **MODELS[name])
    for mode in LEVEL_MODES[:2 if "levels" in MODELS[name] else 1]:
        compare(model, get_preset(preset), seed=len(preset), memory_base=64 * len(name),
                level_mode=mode)


@pytest.mark.parametrize(("name", "preset", "batch"), [
    ("whole", "tiny", 3), ("large-heads", "small", 4), ("levels-8", "tiny", 2),
    ("masking", "tiny", 2), ("events", "ecp5", 3), ("12-bit", "large", 2)])
def test_every_tensor_of_a_batch(name: str, preset: str, batch: int) -> None:
    model = random_model(len(name), **MODELS[name])
    program, _ = compare(model, get_preset(preset), seed=3, batch=batch)
    single = compile_model(model, get_preset(preset))
    assert program.batch == batch and single.batch == 1
    assert (sum(read for read, _ in program.transfers())
            < batch * sum(read for read, _ in single.transfers()))
    assert program.predicted_cycles < batch * single.predicted_cycles


def test_a_batch_shares_each_chunk_of_weights() -> None:
    """Weights that don't fit on chip are loaded once for all images of a group."""
    model = random_model(1, blocks=("mlp",), channels=160, size=(5, 6), time_steps=1)
    preset = get_preset("small")
    weights = {}
    for batch in (1, 4):
        program, _ = compare(model, preset, batch=batch)
        layers = [layer for layer in model.layers if layer.kind == "conv"]
        weights[batch] = sum(
            fields["length"] * fields["count_1"] * fields["count_2"]
            for fields in (FORMATS[Opcode.LOAD].unpack(descriptor)
                           for descriptor in program.descriptors if descriptor[0] == Opcode.LOAD)
            if fields["target"] == Target.WEIGHT)
        assert weights[batch] * preset.beat_bytes >= sum(layer.weight.numel() for layer in layers)
    assert weights[4] == weights[1]
    with pytest.raises(CompileError, match="batch is 0"):
        compile_model(model, preset, batch=0)


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_units(seed: int) -> None:
    compare(random_model(3, size=(8, 7)), get_preset("tiny"), seed=seed)


@pytest.mark.parametrize("case", range(6))
def test_random_models(case: int) -> None:
    random = np.random.default_rng(1000 + case)
    heads = int(random.integers(1, 5))
    model = random_model(
        case, size=tuple(int(n) for n in random.integers(3, 12, 2)), heads=heads,
        in_channels=int(random.integers(1, 5)), time_steps=int(random.integers(1, 7)),
        channels=heads * int(random.integers(1, 25)), classes=int(random.integers(2, 40)),
        blocks=list(random.choice(["sep", "channel", "down", "attention", "mlp"], 2)),
        kernel=int(random.choice([3, 5, 7])), integer_bits=int(random.integers(3, 13)),
        input_bits=int(random.integers(2, 9)))
    for preset in SMALL_PRESETS:
        compare(model, get_preset(preset), seed=case)


def test_large_preset() -> None:
    compare(random_model(9), get_preset("large"))


def _without(program: object, semaphore: int | None = None, flag: Flag = Flag(0)) -> object:
    """The program with one semaphore's waits and posts, or a flag of its CONVs, taken out."""
    packed = []
    for data in program.descriptors:
        kind = FORMATS[Opcode(data[0])]
        fields = kind.unpack(data)
        if semaphore is not None:
            fields["wait"] &= ~(1 << semaphore)
            fields["post"] &= ~(1 << semaphore)
        if data[0] == Opcode.CONV:
            fields["flags"] &= ~flag
        packed.append(kind.pack(**fields))
    code = np.frombuffer(b"".join(packed), np.uint8)
    return dataclasses.replace(program, descriptors=tuple(packed), segments=(
        *program.segments[:-1], (program.address, code)))


def _shows(model: IntegerModel, broken: object) -> bool:
    """Whether some order of units makes a broken program fail."""
    image = random_image(model, 5)
    golden = evaluate(model, image)
    for seed in range(12):
        try:
            memory, _ = run(broken, image, seed)
        except MachineError:
            return True
        if any(not np.array_equal(broken.read_tensor(memory, name), golden[name].numpy())
               for name in model.tensors):
            return True
    return False


@pytest.mark.parametrize("semaphore", range(6))
def test_every_semaphore_is_needed(semaphore: int) -> None:
    model = random_model(4, size=(8, 8), blocks=("channel", "attention"))
    assert _shows(model, _without(compile_model(model, get_preset("tiny")), semaphore))


@pytest.mark.parametrize("flag", [Flag.FENCE, Flag.FILL])
def test_fences_and_fills_are_needed(flag: Flag) -> None:
    model = random_model(4, size=(8, 8), channels=24, blocks=("channel", "attention"))
    assert _shows(model, _without(compile_model(model, get_preset("tiny")), flag=flag))


def test_waits_and_posts_match() -> None:
    program = compile_model(random_model(2), get_preset("small"))
    count = np.zeros(16, int)
    for data in program.descriptors:
        fields = FORMATS[Opcode(data[0])].unpack(data)
        for n in range(16):
            count[n] -= fields["wait"] >> n & 1
            assert count[n] >= 0, "program order itself must satisfy every wait"
            count[n] += fields["post"] >> n & 1
    assert not count.any()


@pytest.mark.parametrize(("string", "banks", "entries", "limit"), [
    (7, 2, 8, 256), (48, 8, 8, 32), (3, 2, 8, 1), (5, 4, 2, 100), (64, 8, 8, 16)])
def test_chunks(string: int, banks: int, entries: int, limit: int) -> None:
    for rows in (1, 3, 7):
        for chunks in split_window(rows * string, string, banks, entries, limit):
            assert [a for a, _ in chunks] == [0, *(b for _, b in chunks[:-1])]
            assert chunks[-1][1] == rows * string
            assert all(0 < b - a <= limit and chunk_entries(a, b, string, banks) <= entries
                       for a, b in chunks)


def test_features_are_exercised() -> None:
    """The models above reach chunks, splits in x, slices, and blocks of tokens on tiny."""
    seen = set()
    for name in ("wide", "strided", "many-tokens", "12-bit"):
        model = random_model(len(name), **MODELS[name])
        program = compile_model(model, get_preset("tiny"))
        for row in program.layers:
            seen |= {"chunks"} if row.chunks > 1 else set()
            seen |= {"blocks"} if row.blocks > 1 else set()
            seen |= {"token-blocks"} if row.kind == "attention" and row.blocks > 1 else set()
        for data in program.descriptors:
            fields = FORMATS[Opcode(data[0])].unpack(data)
            if data[0] == Opcode.CONV:
                layer = model.layers[fields["layer"]]
                seen |= {"x-split"} if fields["columns"] < layer.out_size[1] and layer.kind in (
                    "conv", "depthwise") else set()
            if data[0] == Opcode.KTV:
                seen |= {"two-bytes"} if fields["parts"] == 2 else set()
                seen |= {"token-passes"} if not fields["clear_rows"] and fields["rows"] < \
                    model.layers[fields["layer"]].in_size[0] else set()
    assert seen >= {"chunks", "blocks", "x-split", "two-bytes", "token-passes"}, seen


def test_estimate_follows_the_spikes() -> None:
    model = random_model(6, size=(16, 16), channels=32, heads=2)
    image = random_image(model, 5)
    golden = evaluate(model, image)
    densities = {}
    for name, tensor in model.tensors.items():
        if tensor.kind == "spikes":
            densities[name] = float(golden[name].double().mean())
        elif tensor.kind == "integer":
            densities[name] = float(naf_count(golden[name]).double().mean()) / (2 * tensor.bits)
    program = compile_model(model, get_preset("ecp5"), densities=densities)
    _, report = run(program, image)
    for number, row in enumerate(program.layers):
        if row.kind == "conv" and row.name != "stem":
            added = report.layer(number)["rows_added"]
            assert 0.6 * added < row.additions < 1.6 * added, row.name
        assert report.layer(number)["bytes_read"] < 1.5 * row.bytes_read + 2048, row.name


def test_table_and_dicts() -> None:
    model = random_model(1)
    program = compile_model(model, get_preset("tiny"))
    console = Console(width=160, record=True)
    with console.capture() as capture:
        console.print(program.table(predict(model, program).layers))
    assert "block0.dw" in capture.get()
    rows = program.rows()
    assert len(rows) == len(program.layers) and rows[0]["name"] == "stem"
    assert all(row["cycles"] > 0 for row in rows)
    low, high = program.write_region
    for name, layout in program.tensors.items():
        assert (name == "image") != (low <= layout.address and layout.address + layout.size <= high)


def test_tensors_do_not_share_memory() -> None:
    program = compile_model(random_model(1), get_preset("small"), memory_base=4096)
    extents = [(t.address, t.address + t.size) for t in program.tensors.values()]
    extents += [(address, address + data.size) for address, data in program.segments]
    extents.sort()
    assert extents[0][0] == 4096 and extents[-1][1] <= program.base + program.size
    assert all(a[1] <= b[0] for a, b in zip(extents, extents[1:], strict=False))


def test_errors_name_layer_and_bound() -> None:
    model = random_model(1, blocks=("attention",), size=(17, 17), time_steps=16, channels=8)
    with pytest.raises(CompileError, match=r"layer 'block0.attn' on preset 'tiny': the counts of "
                                           r"one word take 1024 weight rows, there are 512"):
        compile_model(model, get_preset("tiny"))
    model = random_model(1, blocks=("sep",), channels=8)
    small = dataclasses.replace(PRESETS["tiny"], name="mini", out_rows=4)
    with pytest.raises(CompileError, match=r"layer '.*' does not fit preset 'mini': a block of "
                                           r".* output beats"):
        compile_model(model, small)
    with pytest.raises(CompileError, match="memory_base must be a multiple of 64, not 8"):
        compile_model(model, get_preset("tiny"), memory_base=8)


def test_chunks_keep_accumulators_in_range() -> None:
    model = random_model(1, blocks=("sep",), channels=100, integer_bits=12, size=(4, 4))
    number = next(n for n, layer in enumerate(model.layers) if layer.name == "block0.pw2")
    layer = dataclasses.replace(model.layers[number], weight=torch.full_like(
        model.layers[number].weight, -127), bias=torch.zeros(100, dtype=torch.int32))
    layers = (*model.layers[:number], layer, *model.layers[number + 1:])
    program = compile_model(dataclasses.replace(model, layers=layers), get_preset("ecp5"))
    fields = [FORMATS[Opcode(data[0])].unpack(data) for data in program.descriptors
              if data[0] == Opcode.CONV]
    words = {f["chunk_words"] for f in fields if f["layer"] == number}
    assert words and max(words) * 32 * 127 << 11 < 1 << 23
    assert {f["flags"] & Flag.PSUM_OUT for f in fields if f["layer"] == number} == {
        0, Flag.PSUM_OUT}


def test_schedule_moves_loads_only_where_they_may() -> None:
    """A LOAD into a region that is being read stays behind its reader."""
    preset = get_preset("tiny")
    schedule = Schedule(preset, ["layer"])
    schedule.declare("t", 1, 1)
    for _ in range(4):
        schedule.load(0, Target.MAP, {"length": 1}, (0, 8))
        schedule.compute(0, Opcode.CONV, {"flags": 0}, [("map", (0, 8))], [(0, 4)])
        schedule.store(0, {"length": 1}, (0, 4), "t", (0, 1), (0, 1))
    kinds = [data[0] for data in schedule.finish()]
    assert kinds == [Opcode.LOAD, Opcode.CONV, Opcode.STORE] * 4 + [Opcode.END]
