# SPDX-License-Identifier: Apache-2.0
"""What CONV and KTV compute, literally as docs/program.md says, vectorised with numpy.

No compiler and no golden code is used here. Reads and writes outside a buffer, sums that leave
their width and residuals that leave 16 bits raise `MachineError`.
"""

import numpy as np

from hw.descriptor import Flag
from hw.presets import (
    INTEGER_BITS,
    LEVEL_BITS,
    PARAM_BITS,
    SHIFTED_BITS,
    STEP_BITS,
    WORD_BITS,
    Preset,
)
from sw.errors import AddendError

__all__ = ["Buffers", "MachineError", "conv", "key_value"]


class MachineError(AddendError):
    """A program did something that the accelerator must not do."""


class Buffers:
    """The on-chip buffers at their real sizes, filled with seeded garbage.

    ``beats`` are views of whole beats (what LOAD and STORE address); the others are the views that
    the compute unit uses.
    """

    def __init__(self, preset: Preset, seed: int = 0) -> None:
        random = np.random.default_rng(seed)

        def poison(total: int) -> np.ndarray:
            return random.integers(0, 256, total, dtype=np.uint8)

        beat = preset.beat_bytes
        raw = {"map": poison(4 * preset.map_words),
               "weight": poison(preset.weight_rows * preset.lanes),
               "param": poison(PARAM_BITS // 8 * preset.param_rows * preset.epilogue_lanes),
               "residual": poison(2 * preset.residual_rows * preset.epilogue_lanes),
               "out": poison(preset.out_beats * beat)}
        self.beats = {name: data.reshape(-1, beat) for name, data in raw.items()}
        self.map = raw["map"].view("<u4")
        self.weight = raw["weight"].reshape(preset.weight_rows, preset.lanes)
        self.param = raw["param"].view("<u8").reshape(
            preset.param_rows, preset.epilogue_lanes, PARAM_BITS // 64)
        self.residual = raw["residual"].view("<i2").reshape(
            preset.residual_rows, preset.epilogue_lanes)
        self.out = raw["out"].view("<u4")
        self.psum = random.integers(-(1 << 27), 1 << 27,
                                    (preset.psum_rows, preset.epilogue_lanes))
        self.psum_known = np.zeros(preset.psum_rows, bool)


def _inside(index: np.ndarray, size: int, what: str) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise MachineError(f"{what} {int(index.min())} to {int(index.max())} is outside "
                           f"0 to {size - 1}")
    return index


def _fits(value: np.ndarray, bits: int, what: str) -> np.ndarray:
    if value.size and (value.min() < -(1 << bits - 1) or value.max() >= 1 << bits - 1):
        raise MachineError(f"{what} spans {int(value.min())} to {int(value.max())}, "
                           f"which does not fit {bits} bits")
    return value


def _bits(words: np.ndarray) -> np.ndarray:
    """`[..., n]` uint32 -> `[..., 32 n]` of 0 and 1."""
    data = np.ascontiguousarray(words).view(np.uint8)
    return np.unpackbits(data, axis=-1, bitorder="little")


def _signed(value: np.ndarray, bits: int) -> np.ndarray:
    value = value.astype(np.int64) & ((1 << bits) - 1)
    return value - ((value >> bits - 1) << bits)


class _Pixels:
    """Linear pixel numbers of a CONV (all, or those of ``some``) and their parts."""

    def __init__(self, d: dict[str, int], some: np.ndarray | None = None) -> None:
        self.number = np.arange(d["images"] * d["rows"] * d["columns"]) if some is None else some
        self.x = self.number % d["columns"]
        row = self.number // d["columns"]
        self.y, self.image = row % d["rows"], row // d["rows"]


def _sums(preset: Preset, buffers: Buffers, d: dict[str, int], pixel: _Pixels,
          counts: dict[str, int]) -> np.ndarray:
    """Accumulators int64 `[time_steps, pixels, lanes]`."""
    steps, planes, flags = d["time_steps"], d["planes"], Flag(d["flags"])
    acc = np.zeros((steps, pixel.number.size, preset.lanes), np.int64)
    if not 1 <= d["window_reads"] <= preset.fifo_depth:
        raise MachineError(f"window_reads must be 1 to {preset.fifo_depth}, "
                           f"not {d['window_reads']}")
    if d["kernel_rows"] > 256:
        raise MachineError(f"kernel_rows must be at most 256, not {d['kernel_rows']}")
    if not flags & Flag.DEPTHWISE:
        for name in ("weight_base", "weight_plane_step", "weight_group_step", "weight_time_step"):
            if d[name] % WORD_BITS:
                raise MachineError(f"{name} must be a multiple of {WORD_BITS}, not {d[name]}")
    ky, p = np.divmod(np.arange(d["kernel_rows"] * d["string_words"]), max(d["string_words"], 1))
    q = d["chunk_first"] + ky * d["string_words"] + p
    keep = (q >= 0) & (q < d["chunk_words"])
    ky, p, q = ky[keep], p[keep], q[keep]
    if not q.size:
        return acc
    entries = int((-(-np.bincount(ky) // preset.map_banks)).sum())
    if entries > d["window_reads"]:
        raise MachineError(f"a window takes {entries} reads, more than window_reads "
                           f"{d['window_reads']}")
    column = (d["x_start"] + pixel.x * d["x_step"])[:, None] + p
    row = (d["y_start"] + pixel.y * d["y_step"])[:, None] + ky * d["row_pitch"]
    valid = (column >= 0) & (column < d["row_words"]) & (row >= 0) & (row < d["rows_words"])
    word = (d["map_base"] + pixel.image * d["map_image_step"])[:, None] + row + column
    offset, weight_row, group = 0, d["weight_base"], d["group_planes"] or planes
    for t in range(steps):
        for plane in range(planes):
            address = np.where(valid, word + offset, 0)
            _inside(address[valid], preset.map_words, "map buffer word")
            words = np.where(valid, buffers.map[address], np.uint32(0))
            counts["words"] += int(valid.sum())
            counts["zero_words"] += int((words[valid] == 0).sum())
            part = (_depthwise if flags & Flag.DEPTHWISE else _dense)(
                preset, buffers, d, words, weight_row, q, counts)
            if flags & Flag.SIGNED_DIGITS:
                if plane and plane % 2 == 0:
                    acc[t] <<= d["plane_shift"]
                acc[t] += -part if plane % 2 else part
            else:
                acc[t] = (acc[t] << d["plane_shift" if plane % group else "group_shift"]) + part
            _fits(acc[t], preset.acc_width, "accumulator")
            level = ("time" if plane == planes - 1 else
                     "group" if plane % group == group - 1 else "plane")
            offset += d[f"map_{level}_step"]
            weight_row += d[f"weight_{level}_step"]
    return acc


def _dense(preset: Preset, buffers: Buffers, d: dict[str, int], words: np.ndarray,
           weight_row: int, q: np.ndarray, counts: dict[str, int]) -> np.ndarray:
    bits = _bits(words)
    rows = (weight_row + 32 * q[:, None] + np.arange(WORD_BITS)).ravel()
    used = bits.any(0)
    counts["rows_added"] += int(np.count_nonzero(bits))
    _inside(rows[used], preset.weight_rows, "weight row")
    weights = buffers.weight[rows[used]]
    if not d["flags"] & Flag.UNSIGNED_WEIGHTS:
        weights = weights.view(np.int8)
    # float32 is exact: sums stay below 2^24
    return (bits[:, used].astype(np.float32) @ weights.astype(np.float32)).astype(np.int64)


def _depthwise(preset: Preset, buffers: Buffers, d: dict[str, int], words: np.ndarray,
               weight_row: int, q: np.ndarray, counts: dict[str, int]) -> np.ndarray:
    lane = d["mask_bit"] + np.arange(preset.lanes)
    _inside(lane, WORD_BITS, "depthwise input bit")
    mask = (words[:, :, None] >> lane.astype(np.uint32)) & 1
    rows = weight_row + q
    used = mask.any((0, 2))
    counts["rows_added"] += int(mask.any(2).sum())
    _inside(rows[used], preset.weight_rows, "weight row")
    weights = buffers.weight[rows[used]]
    if not d["flags"] & Flag.UNSIGNED_WEIGHTS:
        weights = weights.view(np.int8)
    return (mask[:, used].astype(np.int64) * weights.astype(np.int64)).sum(1)


def _rows(preset: Preset, size: int, base: int, pixel: np.ndarray, pixel_step: int, steps: int,
          time_step: int, what: str) -> np.ndarray:
    """Rows `[steps, pixels, parts]` of results in a buffer of ``size`` rows."""
    rows = (base + np.arange(steps)[:, None, None] * time_step + pixel[:, None] * pixel_step
            + np.arange(preset.beats_per_tile))
    return _inside(rows, size, what)


def _partial_sums(preset: Preset, buffers: Buffers, d: dict[str, int], number: np.ndarray,
                  acc: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Add the bias or partial sums, and keep them, pixel by pixel where pixels share a row
    (pooling)."""
    flags = Flag(d["flags"])
    if not flags & Flag.PSUM_IN:
        acc = acc + bias
    if not flags & (Flag.PSUM_IN | Flag.PSUM_OUT):
        return _fits(acc, preset.sum_width, "sum with bias")
    rows = _rows(preset, preset.psum_rows, d["psum_base"], number, d["psum_pixel_step"],
                 d["time_steps"], d["psum_time_step"], "partial sum row")
    split = acc.reshape(*acc.shape[:2], preset.beats_per_tile, preset.epilogue_lanes)
    unique = np.unique(rows).size == rows.size
    adds = flags & Flag.PSUM_IN and flags & Flag.RESIDUAL_SUM
    if flags & Flag.PSUM_OUT and not unique and not adds:
        raise MachineError("pixels share a partial sum row, but don't pool")
    if flags & Flag.PSUM_IN and not buffers.psum_known[rows].all():
        raise MachineError("a partial sum row is read before any CONV wrote it")
    if flags & Flag.PSUM_OUT:
        buffers.psum_known[rows] = True
    pieces = [slice(None)] if unique else [slice(n, n + 1) for n in number]
    result = np.empty_like(split)
    for piece in pieces:
        for t in range(d["time_steps"]):
            value = split[t, piece]
            if flags & Flag.PSUM_IN:
                value = value + buffers.psum[rows[t, piece]]
            result[t, piece] = _fits(value, preset.sum_width, "partial sum")
            if flags & Flag.PSUM_OUT:
                buffers.psum[rows[t, piece]] = result[t, piece]
    return result.reshape(acc.shape)


def _residual(preset: Preset, buffers: Buffers, d: dict[str, int],
              number: np.ndarray) -> np.ndarray:
    rows = _rows(preset, preset.residual_rows, d["residual_base"], number,
                 d["residual_pixel_step"], d["time_steps"], d["residual_time_step"],
                 "residual row")
    return buffers.residual[rows].astype(np.int64).reshape(*rows.shape[:2], preset.lanes)


def conv(preset: Preset, buffers: Buffers, d: dict[str, int], counts: dict[str, int],
         some: np.ndarray | None = None) -> None:
    """Run one CONV, or ``some`` of its pixels."""
    flags, pixel = Flag(d["flags"]), _Pixels(d, some)
    acc = _sums(preset, buffers, d, pixel, counts)
    if flags & Flag.RESIDUAL_SUM:
        acc = _residual(preset, buffers, d, pixel.number)
    parts = d["param_base"] + np.arange(preset.beats_per_tile)
    words = buffers.param[_inside(parts, preset.param_rows, "parameter row")]
    param, step = words.reshape(-1, 2).T
    bias, threshold = _signed(param, 28), _signed(param >> np.uint64(28), 28)
    shift = _signed(param >> np.uint64(56), 6)
    z = _partial_sums(preset, buffers, d, pixel.number, acc, bias)
    if flags & Flag.PSUM_OUT:
        return
    s = (z << np.maximum(-shift, 0)) >> np.maximum(shift, 0)
    y = s + _residual(preset, buffers, d, pixel.number) if flags & Flag.RESIDUAL_IN else s
    if flags & (Flag.OUT_RESIDUAL | Flag.STREAM):
        _fits(s, SHIFTED_BITS, "shifted sum")
        _fits(y, 16, "residual")
    if flags & Flag.OUT_RESIDUAL:
        _values(preset, buffers, d, pixel.number, y.astype("<i2"))
    if flags & Flag.OUT_RAW:
        _values(preset, buffers, d, pixel.number, _halves(preset, z))
    if flags & Flag.OUT_SPIKES:
        n = y if flags & Flag.STREAM else z
        _spikes(preset, buffers, d, pixel, n, threshold)
    if flags & Flag.OUT_INTEGER:
        _integer(preset, buffers, d, pixel, s)
    if flags & Flag.OUT_LEVELS:
        _levels(preset, buffers, d, pixel, y if flags & Flag.STREAM else z, threshold,
                (step & np.uint64((1 << STEP_BITS) - 1)).astype(np.int64))


def _halves(preset: Preset, value: np.ndarray) -> np.ndarray:
    """Lower, then upper halves of the 32-bit words of each part."""
    words = np.ascontiguousarray(value.astype("<i4")).view("<i2")
    words = words.reshape(*value.shape[:2], preset.beats_per_tile, preset.epilogue_lanes, 2)
    return words.transpose(0, 1, 2, 4, 3)


def _values(preset: Preset, buffers: Buffers, d: dict[str, int], number: np.ndarray,
            value: np.ndarray) -> None:
    """OUT_RESIDUAL and OUT_RAW: whole beats."""
    aligned = preset.residual_row_bits // preset.axi_bits
    for name in ("value_base", "value_pixel_step", "value_time_step"):
        if d[name] % aligned:
            raise MachineError(f"{name} must be a multiple of {aligned}, not {d[name]}")
    data = np.ascontiguousarray(value).view(np.uint8)
    data = data.reshape(*value.shape[:2], -1, preset.beat_bytes)
    beats = (d["value_base"] + np.arange(d["time_steps"])[:, None, None] * d["value_time_step"]
             + number[:, None] * d["value_pixel_step"] + np.arange(data.shape[2]))
    buffers.beats["out"][_inside(beats, preset.out_beats, "output beat")] = data


def _words(d: dict[str, int], pixel: _Pixels, step: int) -> np.ndarray:
    return (d["word_base"] + pixel.image * d["word_image_step"] + pixel.y * d["word_row_step"]
            + pixel.x * d["word_column_step"] + step * d["word_time_step"])


def _put(preset: Preset, buffers: Buffers, d: dict[str, int], words: np.ndarray,
         bits: np.ndarray) -> None:
    """Write `[pixels, lanes]` bits into output words."""
    size = preset.out_beats * preset.beat_words
    _inside(words, size, "output word")
    lane = np.arange(preset.lanes) + d["out_bit"]
    _inside(lane, WORD_BITS, "output bit")
    value = (bits.astype(np.uint64) << lane.astype(np.uint64)).sum(1).astype(np.uint32)
    mask = np.uint32(((1 << preset.lanes) - 1) << d["out_bit"])
    if d["flags"] & Flag.FILL:
        mask = np.uint32(0xFFFFFFFF << d["out_bit"] & 0xFFFFFFFF)
    buffers.out[words] = buffers.out[words] & ~mask | value


def _spikes(preset: Preset, buffers: Buffers, d: dict[str, int], pixel: _Pixels,
            n: np.ndarray, threshold: np.ndarray) -> None:
    """The LIF neuron and its spikes; time step by time step."""
    if d["repeat"] > 1 and d["time_steps"] > 1:
        raise MachineError("repeat needs time_steps 1")
    guard = preset.guard_bits
    v = np.zeros(n.shape[1:], np.int64)
    for i in range(d["time_steps"] * d["repeat"]):
        u = v + (n[i if d["repeat"] == 1 else 0] << guard)
        spike = u >= threshold << guard
        v = np.where(spike, 0, u >> 1)
        _put(preset, buffers, d, _words(d, pixel, i), spike)


def _integer(preset: Preset, buffers: Buffers, d: dict[str, int], pixel: _Pixels,
             s: np.ndarray) -> None:
    """Signed digits of the upper bits, most significant first: +1 in one word, -1 in the next."""
    bits = d["integer_bits"]
    rest = INTEGER_BITS - bits
    _fits(s, INTEGER_BITS, "integer output")
    s = s >> rest << rest
    plus, minus = (3 * s & ~s) >> 1, (s & ~(3 * s)) >> 1
    for step in range(d["time_steps"] * d["repeat"]):
        if (_words(d, pixel, step) % 2).any():
            raise MachineError("words of digits must be even, for two lie side by side")
    for sign, digits in enumerate((plus, minus)):
        _planes(preset, buffers, {**d, "word_base": d["word_base"] + sign}, pixel,
                [digits >> INTEGER_BITS - 1 - plane & 1 for plane in range(bits)])


def _levels(preset: Preset, buffers: Buffers, d: dict[str, int], pixel: _Pixels, n: np.ndarray,
            threshold: np.ndarray, step: np.ndarray) -> None:
    """The SFA neuron and the planes of its level."""
    bits = d["level_bits"]
    if not 1 <= bits <= LEVEL_BITS:
        raise MachineError(f"level_bits must be 1 to {LEVEL_BITS}, not {bits}")
    above = (n << preset.guard_bits) - threshold
    odd = 1 if d["ties_even"] else 0
    level = sum((above >= j * step + odd * (j % 2)).astype(np.int64)
                for j in range(1, (1 << bits - 1) + 1))
    ones = d["flags"] & Flag.ONES
    _planes(preset, buffers, d, pixel, [
        (level > plane).astype(np.int64) if ones else (level >> bits - 1 - plane) & 1
        for plane in range(1 << bits - 1 if ones else bits)])


def _planes(preset: Preset, buffers: Buffers, d: dict[str, int], pixel: _Pixels,
            planes: list[np.ndarray]) -> None:
    """Plane p of beat c of the planes' words is in bank p % out_banks, row
    c + p // out_banks * plane_rows."""
    banks, words = preset.out_banks, preset.beat_words
    for t in range(d["time_steps"] * d["repeat"]):
        for plane, bits in enumerate(planes):
            word = _words(d, pixel, t)
            row = word // words + plane // banks * d["plane_rows"]
            word = (row * banks + plane % banks) * words + word % words
            _put(preset, buffers, d, word, bits[t if d["repeat"] == 1 else 0])


def key_value(preset: Preset, buffers: Buffers, d: dict[str, int],
              counts: dict[str, int]) -> None:
    """Run one KTV: add V of each token to the rows of its K spikes."""
    rows, lanes = preset.weight_rows, np.arange(preset.lanes)
    if d["diagonal"] and (d["key_words"], d["key_planes"], d["value_planes"]) != (1, 1, 1):
        raise MachineError("diagonal needs one word and one plane of K, and one plane of V")
    if d["key_double"] and d["key_planes"] > LEVEL_BITS:
        raise MachineError(f"{d['key_planes']} planes of K can't double")
    for t in range(d["time_steps"] if d["clear_rows"] else 0):
        cleared = d["clear_base"] + t * d["clear_time_step"] + np.arange(d["clear_rows"])
        buffers.weight[_inside(cleared, rows, "cleared weight row")] = 0
    token, value_token = ((np.arange(d["rows"])[:, None] * d[f"{of}row_step"]
                           + np.arange(d["columns"]) * d[f"{of}column_step"]).reshape(-1, 1)
                          for of in ("", "value_"))
    mask = np.full(d["key_words"], 0xFFFFFFFF, np.uint32)
    mask[0] &= np.uint32(d["first_mask"])
    mask[-1] &= np.uint32(d["last_mask"])
    _inside(d["value_bit"] + lanes, WORD_BITS, "V bit")
    for t in range(d["time_steps"]):
        v = np.zeros((token.size, preset.lanes), np.uint32)
        for plane in range(d["value_planes"]):
            value = (d["value_base"] + value_token + t * d["value_time_step"]
                     + plane * d["value_plane_step"])
            bits = buffers.map[_inside(value, preset.map_words, "V word")]
            v = v << 1 | (bits >> (d["value_bit"] + lanes).astype(np.uint32)) & 1
        v *= ((d["lane_mask"] >> lanes) & 1).astype(np.uint32)
        added = 0
        for plane in range(d["key_planes"]):
            key = (d["key_base"] + token + t * d["time_step"] + plane * d["key_plane_step"]
                   + np.arange(d["key_words"]))
            k = _bits(buffers.map[_inside(key, preset.map_words, "K word")] & mask)
            if d["diagonal"]:
                v = v * k[:, d["value_bit"] + lanes]
                k = np.eye(WORD_BITS, dtype=np.uint8)[np.arange(len(k)) % WORD_BITS]
                k = k * v.any(1, keepdims=True)
            sums = (k.astype(np.float32).T @ v.astype(np.float32)).astype(np.int64)
            added = (added << (1 if d["key_double"] else 0)) + sums
            counts["rows_added"] += int(np.count_nonzero(k))
        used = np.flatnonzero(added.any(1))
        first = d["weight_base"] + t * d["weight_time_step"] + used
        index = [_inside(first + part * d["part_step"], rows, "count row")
                 for part in range(d["parts"])]
        total = added[used] + sum(buffers.weight[row].astype(np.int64) << 8 * part
                                  for part, row in enumerate(index))
        if total.size and total.max() >= 1 << 8 * d["parts"]:
            raise MachineError(f"a count of {int(total.max())} does not fit {d['parts']} bytes")
        for part, row in enumerate(index):
            buffers.weight[row] = (total >> 8 * part) & 255
