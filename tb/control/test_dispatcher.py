# SPDX-License-Identifier: Apache-2.0
"""The dispatcher refuses what breaks a limit, and nothing else, at every bus width."""

import dataclasses

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.control.dispatcher import Dispatcher
from hw.descriptor import CONV, FORMATS, KTV, Flag, Opcode
from hw.limits import COUNTS, Limit, broken_limit, limits
from hw.presets import Preset, get_preset
from hw.regmap import ErrorCode

ALL = sum(Flag) & ~Flag.DEPTHWISE
VALID = {
    Opcode.CONV: dict.fromkeys((*COUNTS[Opcode.CONV][1], "window_reads", "level_bits"), 1)
                 | {"flags": ALL},
    Opcode.KTV: dict.fromkeys((*COUNTS[Opcode.KTV][1], "value_planes", "key_planes"), 1)}


def preset_of(axi_bits: int) -> Preset:
    """A preset whose buffers are smaller than any field of a base."""
    rows = {"map_banks": axi_bits // 32, "out_banks": 2, "map_rows": 64, "weight_rows": 64}
    lanes = max(8, min(32, axi_bits // 8))
    return dataclasses.replace(get_preset("tiny"), axi_bits=axi_bits, lanes=lanes,
                               epilogue_lanes=max(4, axi_bits // 16), **rows)


def dispatch(preset: Preset, *programs: list[bytes]) -> list[tuple[int, int, list[bytes]]]:
    """Return error code, index of the descriptor, and the compute unit's descriptors of each."""
    dut, reset = Dispatcher(preset), Signal()
    size, found = preset.beat_bytes, []

    async def run(ctx, program):
        beats = [(number, descriptor[n:n + size], n + size == 128)
                 for number, descriptor in enumerate(program) for n in range(0, 128, size)]
        data = b""
        for _ in range(len(beats) + 6 * len(program)):
            ctx.set(dut.i.valid, bool(beats))
            if beats:
                number, beat, last = beats[0]
                ctx.set(dut.i.payload, {"data": int.from_bytes(beat, "little"), "last": last,
                                        "index": number})
            _, _, taken, valid, beat = await ctx.tick().sample(
                dut.i.ready, dut.o_compute.valid, dut.o_compute.payload)
            if taken and beats:
                beats.pop(0)
            if valid:
                data += beat.to_bytes(size, "little")
        whole = len(data) // 128 * 128
        found.append((ctx.get(dut.error.code), ctx.get(dut.error.index),
                      [data[n:n + 128] for n in range(0, whole, 128)]))

    async def bench(ctx):
        for output in (dut.o_compute, dut.o_index, dut.o_load, dut.o_store, dut.o_end):
            ctx.set(output.ready, 1)
        for program in programs:
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            await run(ctx, program)

    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def edges(opcode: Opcode, limit: Limit) -> tuple[list[int], list[int]]:
    """Values of a field that just hold, and that just do not."""
    low, high = FORMATS[opcode].fields[limit.field].bounds
    top = high if limit.high is None else limit.high
    bad = {limit.low - 1, top + 1, high, limit.step // 2}
    return ([limit.low, top - top % limit.step],
            [value for value in sorted(bad) if low <= value <= high and not limit.holds(value)])


@pytest.mark.parametrize("axi_bits", [64, 128, 256])
@pytest.mark.parametrize("opcode", VALID)
def test_limits(opcode: Opcode, axi_bits: int) -> None:
    preset, form = preset_of(axi_bits), FORMATS[opcode]
    valid = {"opcode": opcode, "layer": 3, **VALID[opcode]}
    good, bad = [], []
    for limit in limits(opcode, preset):
        same = [other for other in limits(opcode, preset) if other.field == limit.field]

        def made(value: int, flags: int, name: str = limit.field) -> bytes:
            more = {"flags": flags} if opcode is Opcode.CONV else {}
            return form.pack(**valid | more | {name: value})

        holds, fails = edges(opcode, limit)
        flags = ALL | limit.only & Flag.DEPTHWISE
        good += [made(value, flags) for value in holds if all(x.holds(value) for x in same)]
        bad += [(limit, made(value, flags)) for value in fails]
        for spared in {0, int(Flag.DEPTHWISE)}:
            good += [made(value, spared) for value in fails
                     if not any(x.matters(spared) and not x.holds(value) for x in same)]
    assert all(broken_limit(descriptor, preset) is None for descriptor in good)
    found = dispatch(preset, good, *([good[0], descriptor, good[0]] for _, descriptor in bad))
    assert found[0] == (0, 0, good)
    for (limit, descriptor), result in zip(bad, found[1:], strict=True):
        assert result == (ErrorCode.FIELD_RANGE, 1, good[:1]), limit
        assert f"{opcode.name}.{limit.field} must be " in broken_limit(descriptor, preset)


@pytest.mark.parametrize("opcode", VALID)
def test_counts(opcode: Opcode) -> None:
    preset, form = get_preset("tiny"), FORMATS[opcode]
    names = COUNTS[opcode][1]
    wrong = [form.pack(**{"opcode": opcode, **VALID[opcode], name: 0}) for name in names]
    found = dispatch(preset, *([descriptor] for descriptor in wrong))
    for name, descriptor, result in zip(names, wrong, found, strict=True):
        assert result == (ErrorCode.ZERO_COUNT, 0, []), name
        assert broken_limit(descriptor, preset) == f"{opcode.name}.{name} must be at least 1, not 0"


def test_a_limit_is_of_one_kind_of_descriptor() -> None:
    """What would break a limit of CONV may be another field of a KTV."""
    preset = get_preset("tiny")
    descriptor = KTV.pack(opcode=Opcode.KTV, **VALID[Opcode.KTV], clear_rows=400)
    assert CONV.unpack(descriptor)["window_reads"] == 0
    assert dispatch(preset, [descriptor]) == [(0, 0, [descriptor])]
