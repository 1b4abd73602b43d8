# SPDX-License-Identifier: Apache-2.0
"""Traffic on chip of single descriptors, worked out by hand, and of whole programs."""

import pytest

from hw.descriptor import CONV, FORMATS, KTV, LOAD, STORE, Flag, Opcode, Target
from hw.presets import PRESETS, get_preset
from sw.compile.compiler import compile_model
from sw.cycles.activity import expected_bits, fills
from sw.energy.buffers import BUFFERS, Traffic, bank_bytes, buffer_traffic, weight_copies
from tb.random_model import random_model

TINY, SMALL = get_preset("tiny"), get_preset("small")
# tiny: 2 groups of 8 lanes, 4 epilogue lanes, beats of 64 bits, reads of 2 words


def _traffic(descriptor: bytes, preset: str = "tiny",
             filled: tuple[float, ...] = (32.0, 32.0)) -> Traffic:
    """What moves, where it is not 0."""
    (found,) = buffer_traffic(get_preset(preset), [descriptor], 1, {0: filled})
    assert found.keys() == set(BUFFERS)
    return {buffer: bits for buffer, bits in found.items() if bits}


def _conv(**changed: int) -> bytes:
    """3 x 4 pixels of a 1x1 layer on one word, two steps: 24 reads, 48 beats."""
    return CONV.pack(**dict(
        opcode=Opcode.CONV, time_steps=2, repeat=1, columns=4, rows=3, images=1, planes=1,
        row_pitch=4, row_words=4, rows_words=12, x_step=1, y_step=4, string_words=1, kernel_rows=1,
        chunk_words=1, window_reads=1) | changed)


def test_transfers() -> None:
    size = dict(length=5, count_1=2, count_2=3)     # 30 beats
    load = LOAD.pack(opcode=Opcode.LOAD, target=Target.WEIGHT, **size)
    assert (weight_copies(TINY), weight_copies(SMALL)) == (1, 2)
    assert _traffic(load) == {"weight": 30 * 64}
    assert _traffic(load, "small") == {"weight": 2 * 30 * 128}
    for target, buffer in ((Target.MAP, "map"), (Target.PARAM, "param"),
                           (Target.RESIDUAL, "residual")):
        load = LOAD.pack(opcode=Opcode.LOAD, target=target, **size)
        assert _traffic(load, "small") == {buffer: 30 * 128}
    assert _traffic(STORE.pack(opcode=Opcode.STORE, **size)) == {"output": 30 * 64}


def test_a_conv_with_spikes_and_a_stream() -> None:
    flags = (Flag.PSUM_IN | Flag.RESIDUAL_IN | Flag.STREAM | Flag.OUT_SPIKES | Flag.OUT_RESIDUAL)
    assert _traffic(_conv(flags=flags)) == {
        "map": 24 * 64,             # 12 pixels, 2 steps, a read of 2 words each
        "psum": 48 * 4 * 28,
        "residual": 48 * 4 * 16,
        "param": 48 * 4 * (6 + 28),         # shift and threshold; the bias was in the first chunk
        "membrane": (24 + 48) * 4 * 29,     # read in the second step, written in both
        "output": 48 * 4 * (1 + 16)}


def test_a_first_chunk() -> None:
    assert _traffic(_conv(flags=Flag.PSUM_OUT | Flag.OUT_SPIKES)) == {
        "map": 24 * 64, "psum": 48 * 4 * 28, "param": 48 * 4 * 28}


def test_a_chunk_between() -> None:
    assert _traffic(_conv(flags=Flag.PSUM_IN | Flag.PSUM_OUT)) == {
        "map": 24 * 64, "psum": 2 * 48 * 4 * 28}


def test_a_repeated_result() -> None:
    """One result of a static image is fed to the neuron 5 times; its residual is written once."""
    found = _traffic(_conv(time_steps=1, repeat=5, flags=Flag.OUT_SPIKES | Flag.OUT_RESIDUAL))
    assert found == {
        "map": 12 * 64, "param": 5 * 24 * 4 * (28 + 6 + 28),
        "membrane": (4 + 5) * 24 * 4 * 29, "output": 24 * 4 * (5 + 16)}


@pytest.mark.parametrize(("flags", "more", "bits"), [
    (Flag.OUT_INTEGER, {"integer_bits": 10}, 20),
    (Flag.OUT_LEVELS, {"level_bits": 3}, 3), (Flag.OUT_LEVELS | Flag.ONES, {"level_bits": 3}, 4),
    (Flag.OUT_RAW, {}, 32)])
def test_other_outputs(flags: Flag, more: dict[str, int], bits: int) -> None:
    found = _traffic(_conv(flags=flags, **more))
    assert found["output"] == 48 * 4 * bits and "membrane" not in found
    levels = 28 + 24 if flags & Flag.OUT_LEVELS else 0
    assert found["param"] == 48 * 4 * (28 + 6 + levels)


def test_wider_windows_take_more_reads() -> None:
    """3 words of a row are 2 reads of 2 words, from 3 kernel rows of which all are inside."""
    found = _traffic(_conv(rows=1, columns=2, time_steps=1, string_words=3, kernel_rows=3,
                           chunk_words=9, window_reads=6))
    assert found["map"] == 2 * 3 * 2 * 64


def test_counts_of_keys_and_values() -> None:
    """4 channels of K and 2 lanes of V that always fire: 4 rows a token."""
    ktv = KTV.pack(opcode=Opcode.KTV, time_steps=2, columns=4, rows=3, key_words=1, first_mask=15,
                   last_mask=15, lane_mask=3, value_planes=1, key_planes=1, clear_rows=8)
    assert _traffic(ktv) == {"map": 2 * 12 * 2 * 64,
                             "weight": (2 * 12 * 4 * 2 + 2 * 8) * 64}
    # half of K's bits, and V never: rows are only cleared
    assert _traffic(ktv, filled=(16.0, 32.0))["weight"] == (2 * 12 * 2 * 2 + 2 * 8) * 64
    assert _traffic(ktv, filled=(32.0, 0.0))["weight"] == 2 * 8 * 64


def test_sizes_of_memories() -> None:
    found = bank_bytes(get_preset("ecp5"))
    assert found["map"] == 1024 * 4 and found["weight"] == 1024 * 32
    assert found["psum"] == 512 * 16 * 28 / 8 and found["residual"] == 1024 * 32
    assert found["param"] == 16 * 8 * 16 and found["output"] == 1024 * 16
    assert found["membrane"] == 8 * 2 * 16 * 29 / 8
    assert all(bank_bytes(preset).keys() == set(BUFFERS) for preset in PRESETS.values())


@pytest.mark.parametrize("arguments", [
    {"time_steps": 2}, {"levels": 4}, {"blocks": ("masking",), "time_steps": 3}], ids=str)
def test_a_program(arguments: dict[str, object]) -> None:
    """What goes to memory was written to the output buffer; each layer reads and writes."""
    model = random_model(8, channels=12, heads=2, size=(6, 7), **arguments)
    program = compile_model(model, TINY)
    found = buffer_traffic(TINY, program.descriptors, len(model.layers), fills(
        model, program, expected_bits(model, program)))
    moved = [FORMATS[Opcode(code[0])].unpack(code) | {"kind": Opcode(code[0])}
             for code in program.descriptors if code[0] in (Opcode.LOAD, Opcode.STORE)]
    for number, (layer, traffic) in enumerate(zip(model.layers, found, strict=True)):
        beats = {kind: sum(d["length"] * d["count_1"] * d["count_2"] for d in moved
                           if d["layer"] == number and d["kind"] == kind)
                 for kind in (Opcode.LOAD, Opcode.STORE)}
        assert 64 * beats[Opcode.STORE] < traffic["output"] < 3 * 64 * beats[Opcode.STORE], \
            layer.name
        loaded = sum(traffic[buffer] for buffer in ("map", "weight", "param", "residual"))
        assert loaded > 64 * beats[Opcode.LOAD]
        assert (traffic["membrane"] > 0) == ("spikes" in layer.outputs), layer.name
