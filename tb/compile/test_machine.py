# SPDX-License-Identifier: Apache-2.0
"""The functional machine on programs written by hand."""

import numpy as np
import pytest

from hw.descriptor import CONV, END, KTV, LOAD, STORE, Flag, Opcode, Target
from hw.presets import get_preset
from sw.isa.compute import Buffers, conv, key_value
from sw.isa.machine import Machine, MachineError

TINY = get_preset("tiny")


def program(memory: np.ndarray, *descriptors: bytes) -> None:
    data = np.frombuffer(b"".join(descriptors), np.uint8)
    memory[:data.size] = data


def machine(*descriptors: bytes, size: int = 4096, **options: object) -> Machine:
    memory = np.arange(size, dtype=np.uint64).astype(np.uint8)
    program(memory, *descriptors)
    return Machine(TINY, memory, **options)


def load(**fields: int) -> bytes:
    return LOAD.pack(**{"opcode": Opcode.LOAD, "target": Target.MAP, "address": 2048, "length": 1,
                        "count_1": 1, "count_2": 1, "beat_step": 1, **fields})


def end(**fields: int) -> bytes:
    return END.pack(opcode=Opcode.END, **fields)


def test_deadlock_names_every_waiting_unit() -> None:
    store = STORE.pack(opcode=Opcode.STORE, address=2048, length=1, count_1=1, count_2=1,
                       beat_step=1, wait=4)
    with pytest.raises(MachineError, match=r"load: descriptor 0 .* semaphore 1; store: "
                                           r"descriptor 1 .* semaphore 2; end: .* semaphore 5"):
        machine(load(wait=2), store, end(wait=32)).run(0)


@pytest.mark.parametrize(("fields", "message"), [
    ({"address_high": 1}, "address_high must be 0"),
    ({"address": 2049}, "address 0x801 is not a multiple of 8"),
    ({"length": 0}, "length must be at least 1"),
    ({"target": 4}, "target 4 is unknown"),
    ({"buffer": 1024}, "beat 1024 is outside the map buffer of 1024 beats"),
    ({"address": 4096}, "leave the region"),
    ({"length": 2, "address": 4088}, "leave the region"),
])
def test_bad_loads(fields: dict[str, int], message: str) -> None:
    with pytest.raises(MachineError, match=message):
        machine(load(post=32, **fields), end(wait=32)).run(0)


def test_bad_programs() -> None:
    with pytest.raises(MachineError, match="opcode 9 is unknown"):
        machine(END.pack(opcode=9)).run(0)
    with pytest.raises(MachineError, match="END may start while load still has work"):
        machine(load(), end()).run(0)
    with pytest.raises(MachineError, match="no END within 1"):
        machine(load(), load()).run(0, limit=1)


def test_load_runs() -> None:
    m = machine(load(length=2, count_1=3, step_1=64, buffer_step_1=4, count_2=2, step_2=512,
                     buffer_step_2=100, buffer=7, post=32), end(wait=32))
    report = m.run(0)
    memory = m.memory.reshape(-1, 8)
    for j2 in range(2):
        for j1 in range(3):
            for beat in range(2):
                assert np.array_equal(m.buffers.beats["map"][7 + 100 * j2 + 4 * j1 + beat],
                                      memory[256 + 64 * j2 + 8 * j1 + beat])
    assert report.bytes_read == 96


def _counts() -> dict[str, int]:
    return {"rows_added": 0, "words": 0, "zero_words": 0}


def test_conv_by_hand() -> None:
    """Two pixels of a 1 x 3 window over a row of two words; the window is clipped on both sides."""
    buffers = Buffers(TINY)
    buffers.map[10:12] = 0b101, 1 << 31
    buffers.weight[:96] = 1
    buffers.weight[32], buffers.weight[34] = 3, 0xFE                # tap 1: +3 and -2
    buffers.weight[64 + 31], buffers.weight[32 + 31] = 10, 20
    buffers.weight[0], buffers.weight[2] = 5, 6                     # tap 0
    buffers.param[:2] = np.uint64(7 | (8 << 28) | (1 << 56))        # bias 7, threshold 8, shift 1
    fields = CONV.unpack(CONV.pack(
        opcode=Opcode.CONV,
        flags=Flag.OUT_RESIDUAL | Flag.OUT_SPIKES | Flag.STREAM | Flag.FILL,
        time_steps=1, repeat=2, columns=2, rows=1, images=1, planes=1, map_base=10, row_pitch=2,
        row_words=2, rows_words=2, x_start=-1, x_step=1, y_step=2, string_words=3, kernel_rows=1,
        chunk_words=3, window_reads=2, value_pixel_step=2, word_base=100,
        word_column_step=1, word_time_step=8, value_time_step=4))
    counts = _counts()
    conv(TINY, buffers, fields, counts)
    y = buffers.out[:8].view("<i2").reshape(2, 8)
    # pixel 0: taps 1, 2 see words 0, 1: 3 - 2 + 10; pixel 1: taps 0, 1: 5 + 6 + 20
    assert (y[0] == (11 + 7) // 2).all() and (y[1] == (31 + 7) // 2).all()
    assert list(buffers.out[[100, 101, 108, 109]]) == [255, 255, 255, 255]
    assert counts == {"rows_added": 6, "words": 4, "zero_words": 0}


def test_signed_digits_and_limits() -> None:
    buffers = Buffers(TINY)
    buffers.map[:4] = 1, 0, 0, 1                                    # 2 - 1 = +1
    buffers.weight[0] = 100
    buffers.param[:2] = np.uint64(0)
    base = dict(opcode=Opcode.CONV, flags=Flag.OUT_RAW | Flag.SIGNED_DIGITS, time_steps=1,
                repeat=1, columns=1, rows=1, images=1, planes=4, plane_shift=1, map_plane_step=1,
                row_pitch=1, row_words=1, rows_words=1, string_words=1, kernel_rows=1,
                chunk_words=1, window_reads=1)
    conv(TINY, buffers, CONV.unpack(CONV.pack(**base)), _counts())
    assert list(buffers.out[:8].view("<i2")) == [*[100] * 4, *[0] * 4] * 2     # lower, upper
    with pytest.raises(MachineError, match="map buffer word .* is outside 0 to 2047"):
        conv(TINY, buffers, CONV.unpack(CONV.pack(**base | {"map_base": 2046})), _counts())
    with pytest.raises(MachineError, match="weight row .* is outside 0 to 511"):
        conv(TINY, buffers, CONV.unpack(CONV.pack(**base | {"weight_base": 512})), _counts())
    with pytest.raises(MachineError, match="a window takes 9 reads"):
        conv(TINY, buffers, CONV.unpack(CONV.pack(**base | {
            "string_words": 17, "chunk_words": 17, "window_reads": 8})), _counts())
    with pytest.raises(MachineError, match="window_reads must be 1 to 16"):
        conv(TINY, buffers, CONV.unpack(CONV.pack(**base | {"window_reads": 17})), _counts())


def test_counts_carry_into_the_next_byte() -> None:
    buffers = Buffers(TINY)
    buffers.map[:] = 0
    buffers.map[:300] = 0b10
    buffers.map[1000:1300] = 0b1100
    fields = dict(opcode=Opcode.KTV, time_steps=1, key_words=1, columns=300, rows=1, key_base=0,
                  value_base=1000, column_step=1, first_mask=0xFFFFFFFF, last_mask=0xFFFFFFFF,
                  value_planes=1, key_planes=1, value_column_step=1, lane_mask=0b0111, parts=2,
                  weight_base=32, part_step=-32, clear_rows=64)
    key_value(TINY, buffers, KTV.unpack(KTV.pack(**fields)), _counts())
    assert list(buffers.weight[33]) == [0, 0, 300 - 256, 0, 0, 0, 0, 0]
    assert list(buffers.weight[1]) == [0, 0, 1, 0, 0, 0, 0, 0]
    with pytest.raises(MachineError, match="a count of 300 does not fit 1 bytes"):
        key_value(TINY, buffers, KTV.unpack(KTV.pack(**fields | {"parts": 1})), _counts())


def test_partial_sums_without_a_value_are_refused() -> None:
    """Rows that no CONV wrote, and rows that several pixels would write in any order."""
    pixels = dict(opcode=Opcode.CONV, time_steps=1, repeat=1, columns=2, rows=1, images=1, planes=1,
                  window_reads=1, psum_pixel_step=2)
    reads = CONV.unpack(CONV.pack(**pixels, flags=Flag.PSUM_IN | Flag.OUT_SPIKES))
    writes = CONV.unpack(CONV.pack(**pixels, flags=Flag.PSUM_OUT))
    buffers = Buffers(TINY)
    buffers.param[:] = 0
    with pytest.raises(MachineError, match="a partial sum row is read before any CONV wrote it"):
        conv(TINY, buffers, reads, _counts())
    with pytest.raises(MachineError, match="pixels share a partial sum row, but don't pool"):
        conv(TINY, buffers, writes | {"psum_pixel_step": 0}, _counts())
    conv(TINY, buffers, writes, _counts())
    conv(TINY, buffers, reads, _counts())
    pools = Flag.RESIDUAL_SUM | Flag.PSUM_IN | Flag.PSUM_OUT
    conv(TINY, buffers, writes | {"psum_pixel_step": 0, "flags": int(pools)}, _counts())
