# SPDX-License-Identifier: Apache-2.0
"""The compute unit equals the functional simulator, mode by mode.

By itself in Amaranth's simulator, and in the whole Verilated accelerator.
"""

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from hw.descriptor import Flag, Opcode
from hw.presets import get_preset
from tb.compute_bench import Bench
from tb.top.compute_bench import AcceleratorBench

SEEDS = range(3)


@pytest.fixture(params=[Bench, AcceleratorBench])
def make_bench(request: pytest.FixtureRequest) -> Callable[..., Bench]:
    """The maker of a bench, of a preset and a seed."""
    return request.param


def random_conv(bench: Bench, random: np.random.Generator, *, depthwise=False, planes=1,
                integer_bits=0, flags=Flag(0), repeat=1, density=0.2, chunks=1, columns=5, rows=4,
                steps=2, words=2, kernel=3, stride=1, shift=(-2, 4), plane_shift=1):
    """Add a random CONV (``chunks`` of them) over random buffer contents."""
    preset = bench.preset
    buffers = bench.buffers
    width, height = columns * stride, rows * stride
    pitch = -(-width * words // preset.beat_words) * preset.beat_words
    size = pitch * height
    total = size * planes * steps
    assert total <= preset.map_words
    bits = random.random((total, 32)) < density
    buffers.map[:total] = (bits * (1 << np.arange(32, dtype=np.uint64))).sum(1)
    bench.used["map"] = -(-total // preset.beat_words)
    taps = kernel * kernel * words
    per_word = 1 if depthwise else 32
    per_chunk = -(-taps // chunks)
    assert per_chunk * per_word <= preset.weight_rows
    bench.used["weight"] = preset.weight_rows * preset.weight_row_bits // preset.axi_bits
    lanes, parts = preset.lanes, preset.beats_per_tile
    bias = random.integers(-1500, 1500, lanes).astype(np.int64)
    threshold = random.integers(50, 2000, lanes).astype(np.int64)
    shifts = random.integers(*shift, lanes).astype(np.int64)
    param = ((bias & ((1 << 28) - 1)) | ((threshold & ((1 << 28) - 1)) << 28)
             | ((shifts & 63) << 56)).astype(np.uint64)
    steps_of = random.integers(1, 1 << 24, lanes).astype(np.uint64)
    buffers.param[:parts] = np.stack([param, steps_of], -1).reshape(parts, -1, 2)
    bench.used["param"] = parts * preset.param_row_bits // preset.axi_bits
    pixels = columns * rows
    if flags & (Flag.RESIDUAL_IN | Flag.RESIDUAL_SUM):
        count = pixels * steps * parts
        assert count <= preset.residual_rows
        buffers.residual[:count] = random.integers(-3000, 3000, (count, preset.epilogue_lanes))
        bench.used["residual"] = count * preset.residual_row_bits // preset.axi_bits
    value_beats = parts * preset.residual_row_bits // preset.axi_bits
    if flags & Flag.OUT_RAW:
        value_beats *= 2
    half = preset.out_beats // 2
    signs = 2 if flags & Flag.OUT_INTEGER else 1
    plane_rows = -(-signs * (4 + pixels * steps * repeat) // preset.beat_words)
    pad = kernel // 2
    common = dict(
        time_steps=steps, repeat=repeat, columns=columns, rows=rows, images=1, planes=planes,
        plane_shift=plane_shift if planes > 1 else 0, map_plane_step=size, map_time_step=size,
        row_pitch=pitch, row_words=width * words, rows_words=size, x_start=-pad * words,
        x_step=words * stride, y_start=-pad * pitch, y_step=pitch * stride,
        string_words=kernel * words, kernel_rows=kernel,
        window_reads=kernel * -(-kernel * words // preset.map_banks), psum_pixel_step=steps * parts,
        psum_time_step=parts, residual_pixel_step=parts, residual_time_step=pixels * parts,
        integer_bits=integer_bits, word_base=signs * int(random.integers(4)),
        word_column_step=signs, word_row_step=signs * columns, word_time_step=signs * pixels,
        plane_rows=plane_rows, value_base=half,
        value_pixel_step=value_beats, value_time_step=pixels * value_beats,
        mask_bit=int(random.integers(32 // lanes)) * lanes,
        out_bit=int(random.integers(32 // lanes)) * lanes)
    flags |= Flag.DEPTHWISE if depthwise else Flag(0)
    for chunk in range(chunks):
        now = flags
        if chunk:
            now |= Flag.PSUM_IN | Flag.FENCE
        if chunk < chunks - 1:
            now &= Flag.DEPTHWISE | Flag.PAIRED | Flag.SIGNED_DIGITS | Flag.PSUM_IN | Flag.FENCE
            now |= Flag.PSUM_OUT
        bench.add(Opcode.CONV, layer=1, flags=int(now), chunk_first=-chunk * per_chunk,
                  chunk_words=per_chunk, **common)


def check(bench: Bench) -> int:
    got, want, cycles = bench.run()
    assert want.any(), "the test writes nothing"
    different = np.flatnonzero((got != want).any(1))
    assert not different.size, f"beats {different[:5]} of {len(different)} differ"
    return cycles


MODES = {
    "spikes": dict(flags=Flag.OUT_SPIKES),
    "stream": dict(flags=Flag.OUT_SPIKES | Flag.STREAM | Flag.OUT_RESIDUAL | Flag.RESIDUAL_IN),
    "chunks": dict(flags=Flag.OUT_SPIKES | Flag.STREAM | Flag.OUT_RESIDUAL, chunks=3),
    "chunked steps": dict(flags=Flag.OUT_SPIKES, chunks=2, steps=3, columns=4, rows=3),
    "strided": dict(flags=Flag.OUT_SPIKES, stride=2, columns=4, rows=2),
    "injected": dict(flags=Flag.OUT_SPIKES | Flag.STREAM | Flag.OUT_RESIDUAL, steps=1, repeat=4),
    "digits": dict(flags=Flag.OUT_SPIKES | Flag.SIGNED_DIGITS, planes=8, kernel=1, density=0.1,
                   steps=2),
    "levels": dict(flags=Flag.OUT_SPIKES, planes=3, kernel=1),
    "bytes": dict(flags=Flag.OUT_SPIKES | Flag.UNSIGNED_WEIGHTS, planes=2, kernel=1,
                  plane_shift=8),
    "depthwise": dict(flags=Flag.OUT_INTEGER, depthwise=True, integer_bits=10, words=1, kernel=3,
                      shift=(4, 7), columns=4, rows=3),
    "paired": dict(flags=Flag.OUT_INTEGER | Flag.PAIRED, depthwise=True, integer_bits=10, words=1,
                   kernel=3, shift=(4, 7), columns=5, rows=3),
    "raw": dict(flags=Flag.OUT_RAW, planes=4, plane_shift=0, kernel=1, steps=1, columns=2,
                shift=(0, 1)),
    "empty": dict(flags=Flag.OUT_SPIKES, density=0.0),
    "full": dict(flags=Flag.OUT_SPIKES, density=1.0),
}


@pytest.mark.parametrize("name", ["tiny", "small"])
@pytest.mark.parametrize("mode", MODES)
def test_conv(make_bench, name, mode):
    bench = make_bench(get_preset(name), 1)
    options = dict(MODES[mode])
    if "words" not in options:
        options["words"] = 1 if options.get("chunks", 1) == 1 and name == "tiny" else 2
    random_conv(bench, np.random.default_rng(zlib.crc32(mode.encode())), **options)
    check(bench)


@pytest.mark.parametrize("seed", SEEDS)
def test_pooling(make_bench, seed):
    preset = get_preset("tiny")
    bench, random = make_bench(preset, seed), np.random.default_rng(seed)
    random_conv(bench, random, flags=Flag.RESIDUAL_SUM | Flag.PSUM_OUT, kernel=1, words=1)
    first = bench.descriptors.pop()
    common = {**{k: v for k, v in first.items() if k not in ("opcode", "post")},
              "kernel_rows": 0, "window_reads": 1, "psum_pixel_step": 0}
    pixels = common["columns"] * common["rows"]
    step = common["residual_pixel_step"]
    end = Flag.RESIDUAL_SUM | Flag.PSUM_IN | Flag.OUT_SPIKES
    for flags, columns, rows, base in (
            (Flag.RESIDUAL_SUM | Flag.PSUM_OUT, 1, 1, 0),
            (Flag.RESIDUAL_SUM | Flag.PSUM_IN | Flag.PSUM_OUT | Flag.FENCE, pixels - 2, 1, step),
            (end | Flag.FENCE, 1, 1, (pixels - 1) * step)):
        bench.add(Opcode.CONV, **{**common, "flags": int(flags), "columns": columns, "rows": rows,
                                  "residual_base": base})
    check(bench)


@pytest.mark.parametrize("tiles", [
    ((0, Flag(0)), (16, Flag.FILL)),  # two tiles of the same words, no fence between them
    ((16, Flag(0)), (0, Flag.FILL | Flag.FENCE)),  # the second clears what the first wrote
])
def test_tiles_share_words(make_bench, tiles):
    """The first pixel is full and the others nearly empty, so that later pixels overtake it."""
    bench, random = make_bench(get_preset("small"), 3), np.random.default_rng(3)
    random_conv(bench, random, flags=Flag.OUT_SPIKES, kernel=1, words=2, columns=8, rows=1,
                steps=2, density=0.02)
    conv = bench.descriptors.pop()
    for base in (0, conv["map_plane_step"]):
        bench.buffers.map[base:base + 2] = 0xFFFFFFFF
    for out_bit, flags in tiles:
        fields = {k: v for k, v in conv.items() if k not in ("opcode", "post")}
        bench.add(Opcode.CONV, **{**fields, "out_bit": out_bit,
                                  "flags": int(Flag(conv["flags"]) | flags)})
    check(bench)


@pytest.mark.parametrize(("parts", "density", "mask"), [
    (1, 0.1, ~0), (1, 0.9, ~0), (2, 0.5, ~0), (2, 0.98, ~0),
    (1, 0.9, 0x8000), (1, 0.9, 0x5000), (1, 0.9, 0x7000), (2, 0.9, 0x8000)])
def test_attention(make_bench, parts, density, mask):
    """Counts of K and V become the weights of Q; with few bits of K, rows come back at once."""
    preset = get_preset("tiny")
    seed = int(10 * density) + parts
    bench, random = make_bench(preset, seed), np.random.default_rng(seed)
    columns, rows, words, steps = (9, 5, 2, 2) if parts == 1 else (9, 33, 2, 1)
    size = columns * rows * words * steps
    random_conv(bench, random, flags=Flag.OUT_SPIKES, kernel=1, words=2, columns=4, rows=1,
                steps=steps, density=density)
    conv = bench.descriptors.pop()
    maps = (random.random((2 * size, 32)) < density) * (1 << np.arange(32, dtype=np.uint64))
    key = 64
    bench.buffers.map[key:key + 2 * size] = maps.sum(1)
    bench.used["map"] = (key + 2 * size + 1) // preset.beat_words
    head = dict(layer=2, time_steps=steps, columns=columns, rows=rows, key_base=key,
                value_base=key + size, column_step=words, row_step=columns * words,
                time_step=columns * rows * words, value_column_step=words,
                value_row_step=columns * words, value_time_step=columns * rows * words,
                value_planes=1, key_planes=1, value_bit=8, parts=parts, weight_base=32,
                part_step=64, weight_time_step=64 * parts)
    bench.add(Opcode.KTV, key_words=2, first_mask=(0xFFFFF000 if parts == 1 else 0xF0000000) & mask,
              last_mask=(0x0FFF if parts == 1 else 0xF) & mask, lane_mask=0x1F,
              clear_rows=64 * parts, clear_base=32, clear_time_step=64 * parts, **head)
    bench.add(Opcode.KTV, key_words=1, first_mask=0x0FF0, last_mask=0x00FF, lane_mask=0xE0, **head)
    fields = {k: v for k, v in conv.items() if k not in ("opcode", "post")}
    fields.update(flags=int(Flag.OUT_SPIKES | Flag.UNSIGNED_WEIGHTS), weight_base=32)
    if parts == 2:  # most significant byte first
        fields.update(planes=2, plane_shift=8, map_plane_step=0, weight_base=96,
                      weight_plane_step=-64, weight_time_step=192)
    else:
        fields.update(weight_time_step=64)
    bench.add(Opcode.CONV, **fields)
    check(bench)
