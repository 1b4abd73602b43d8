# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Control, DMA, registers and driver around a stub compute unit, in the Verilated model."""

import dataclasses

import numpy as np
import pytest

from hw.descriptor import CONV, END, KTV, LOAD, STORE, Opcode, Target
from hw.dma.load import Load
from hw.presets import get_preset
from hw.regmap import ADDRESS_BITS, REGISTERS, Access, ErrorCode, address
from sim.verilated import ProtocolError
from sw.driver import (
    Counters,
    DeviceError,
    DeviceMismatch,
    DeviceTimeout,
    Driver,
    Region,
    RegionError,
)
from tb.driver.reference import random_program, run_reference
from tb.driver.stub_compute import FAIL_LAYER, HANG_LAYER

PROGRAM = 0x1000
SOURCE = (0x2_0000, 0x4_0000)
RESULT = (0x8_0000, 0xA_0000)
READABLE = Region(PROGRAM, SOURCE[1])
WRITABLE = Region(*RESULT)
TIMINGS = [(1, None, 0), (100, None, 0), (37, None, 90), (5, 3, 200)]


def run(driver, program, **options):
    driver.load([(PROGRAM, b"".join(program))])
    options = {"timeout": 200_000, "watchdog": 5000} | options
    return driver.run(PROGRAM, len(program), READABLE, WRITABLE, **options)


def load(**fields):
    defaults = {"opcode": Opcode.LOAD, "address": SOURCE[0], "length": 8, "count_1": 1,
                "count_2": 1, "beat_step": 1, "layer": 7}
    return LOAD.pack(**defaults | fields)


def store(**fields):
    defaults = {"opcode": Opcode.STORE, "address": RESULT[0], "length": 8, "count_1": 1,
                "count_2": 1, "beat_step": 1, "layer": 8}
    return STORE.pack(**defaults | fields)


def conv(**fields):
    defaults = {"opcode": Opcode.CONV, "time_steps": 1, "repeat": 1, "columns": 10, "rows": 1,
                "images": 1, "planes": 1, "window_reads": 1, "layer": 9}
    return CONV.pack(**defaults | fields)


def ktv(**fields):
    defaults = {"opcode": Opcode.KTV, "time_steps": 1, "key_words": 1, "columns": 1, "rows": 1,
                "parts": 1, "value_planes": 1, "key_planes": 1, "layer": 6}
    return KTV.pack(**defaults | fields)


def end(**fields):
    return END.pack(opcode=Opcode.END, **fields)


def good(driver):
    """Move random data through the buffers and compare."""
    rng = np.random.default_rng(5)
    data = rng.integers(0, 256, 64 * driver.preset.beat_bytes, dtype=np.uint8)
    driver.load([(SOURCE[0], data)])
    counters = run(driver, [load(length=64, post=1), store(length=64, wait=1, post=2),
                            end(wait=2)])
    np.testing.assert_array_equal(driver.read(RESULT[0], data.size), data)
    return counters


@pytest.mark.parametrize("preset_name", [
    "tiny", pytest.param("small", marks=pytest.mark.slow)])
@pytest.mark.parametrize("timing", TIMINGS, ids=str)
def test_random_transfers(stub_driver, preset_name, timing):
    latency, bandwidth, stall = timing
    driver = stub_driver(preset_name)
    preset = driver.preset
    depths = Load(preset).target_beats()
    for seed in range(12):
        rng = np.random.default_rng([seed, latency])
        memory = driver.transport.memory
        memory[:] = rng.integers(0, 256, memory.size, dtype=np.uint8)
        program = random_program(rng, preset, 6, SOURCE, RESULT, depths)
        # the buffer starts as zero in the reference only: fill it in both
        depth = min(preset.out_beats, depths[Target.MAP])
        program = [load(length=depth, target=Target.MAP), *program]
        driver.load([(PROGRAM, b"".join(program))])
        expected = memory.copy()
        run_reference(program, expected, preset)
        driver.transport.set_timing(latency, bandwidth or preset.beat_bytes, stall, seed)
        run(driver, program, watchdog=20_000)
        np.testing.assert_array_equal(driver.transport.memory, expected)


def test_counters(stub_driver):
    driver = stub_driver()
    counters = run(driver, [load(length=64, post=1), conv(columns=50, wait=1, post=2),
                            store(length=32, wait=2, post=4), end(wait=4)])
    size = driver.preset.beat_bytes
    assert counters.bytes_read == 64 * size + 4 * 128
    assert counters.bytes_written == 32 * size
    assert counters.additions == 50
    assert counters.skipped == 0
    assert 64 + 50 + 32 < counters.cycles < 1000
    assert driver.register("layer") == 9
    assert isinstance(counters, Counters)
    assert run(driver, [end()]).bytes_written == 0  # cleared by the start


def cycles(driver, transfer, rounds):
    """Return the cycles that ``rounds`` of a LOAD take, start and end of a program left out."""
    few = run(driver, [transfer] * 2 + [end()]).cycles
    return run(driver, [transfer] * (rounds + 2) + [end()]).cycles - few


@pytest.mark.parametrize(("length", "count", "bound"), [(256, 1, 1.03), (16, 16, 1.03),
                                                        (8, 32, 1.03), (4, 64, 1.3)])
def test_load_hides_latency(stub_driver, length, count, bound):
    """Eight of nine beats or so are taken by the stub; latency is 100 cycles."""
    driver = stub_driver(latency=100)
    step = 2 * length * driver.preset.beat_bytes
    transfer = load(length=length, count_1=count, step_1=step, buffer_step_1=length)
    taken = cycles(driver, transfer, 8)
    assert taken / (8 * (length * count + 16)) < 8 / 7 * bound  # 16 beats of descriptor


def test_store_throughput(stub_driver):
    driver = stub_driver(latency=100)
    transfer = store(length=1000)
    assert cycles(driver, transfer, 8) / (8 * (1000 + 16)) < 1.02


def test_contiguous_runs_share_bursts(stub_driver):
    """Runs of one beat that follow each other in memory cost no more than one long run."""
    driver = stub_driver(latency=100)
    single = load(length=1, count_1=256, step_1=driver.preset.beat_bytes, buffer_step_1=3)
    assert cycles(driver, single, 4) / (4 * (256 + 16)) < 8 / 7 * 1.03


OUTSIDE = [
    (ErrorCode.BAD_OPCODE, 1, 7, [load(), load(opcode=9), end()]),
    (ErrorCode.BAD_OPCODE, 0, 7, [load(opcode=0), end()]),
    (ErrorCode.ADDRESS_HIGH, 1, 7, [load(), load(address_high=1), end()]),
    (ErrorCode.ZERO_COUNT, 0, 7, [load(length=0), end()]),
    (ErrorCode.ZERO_COUNT, 0, 8, [store(count_2=0), end()]),
    (ErrorCode.ZERO_COUNT, 1, 9, [load(), conv(rows=0), end()]),
    (ErrorCode.ZERO_COUNT, 0, 0, [KTV.pack(opcode=Opcode.KTV, rows=1, columns=1), end()]),
    (ErrorCode.ZERO_COUNT, 0, 9, [conv(planes=0), end()]),
    (ErrorCode.ZERO_COUNT, 1, 6, [conv(), ktv(parts=0), end()]),
    (ErrorCode.FIELD_RANGE, 1, 9, [conv(), conv(window_reads=0), end()]),
    (ErrorCode.FIELD_RANGE, 1, 6, [conv(), ktv(value_bit=25), end()]),
    (ErrorCode.BAD_TARGET, 0, 7, [load(target=4), end()]),
    (ErrorCode.MISALIGNED, 0, 7, [load(address=SOURCE[0] + 4), end()]),
    (ErrorCode.MISALIGNED, 0, 8, [store(step_2=1), end()]),
    (ErrorCode.BUFFER_RANGE, 1, 7, [load(), load(buffer=1 << 24), end()]),
    (ErrorCode.BUFFER_RANGE, 1, 7, [load(), load(buffer=4090, length=16), end()]),
    (ErrorCode.BUFFER_RANGE, 0, 8, [store(buffer=1020, length=16), end()]),
    (ErrorCode.BUFFER_RANGE, 2, 5, [store(length=99), store(), store(buffer=1024, layer=5), end()]),
    (ErrorCode.READ_REGION, 1, 7, [load(), load(address=SOURCE[1] - 32), end()]),
    (ErrorCode.READ_REGION, 0, 7, [load(address=0), end()]),
    (ErrorCode.READ_REGION, 0, 7, [load(address=0xFFFF_FFF8), end()]),
    (ErrorCode.WRITE_REGION, 1, 8, [load(), store(address=RESULT[1]), end()]),
    (ErrorCode.WRITE_REGION, 0, 8, [store(address=RESULT[0] - 8), end()]),
    (ErrorCode.NO_END, 2, 0, [load(), load()]),
    (ErrorCode.SEMAPHORE_OVERFLOW, None, None, [load(length=1, post=16)] * 300 + [end()]),
    (ErrorCode.WATCHDOG, 1, 0, [load(), end(wait=2)]),
    (ErrorCode.WATCHDOG, None, HANG_LAYER, [conv(layer=HANG_LAYER, post=1), end(wait=1)]),
    (ErrorCode.RESIDUAL_OVERFLOW, 1, FAIL_LAYER, [load(), conv(layer=FAIL_LAYER, post=1),
                                                  end(wait=1)]),
]


@pytest.mark.parametrize(("code", "index", "layer", "program"), OUTSIDE,
                         ids=lambda value: value.name if isinstance(value, ErrorCode) else "")
def test_errors_stop_and_recover(stub_driver, code, index, layer, program):
    driver = stub_driver(latency=40, stall=30)
    guard = driver.transport.memory.copy()
    driver.load([(PROGRAM, b"".join(program))])
    guard[:] = driver.transport.memory
    with pytest.raises(DeviceError, match=code.name) as caught:
        run(driver, program)
    assert caught.value.code is code
    assert index is None or caught.value.index == index
    assert layer is None or caught.value.layer == layer
    outside = np.r_[0:RESULT[0], RESULT[1]:guard.size]
    np.testing.assert_array_equal(driver.transport.memory[outside], guard[outside])
    good(driver)


@pytest.mark.parametrize(("fault", "code", "index"), [
    (SOURCE[0], ErrorCode.READ_RESPONSE, 1), (RESULT[0], ErrorCode.WRITE_RESPONSE, 2),
    (PROGRAM, ErrorCode.READ_RESPONSE, 0)])
def test_memory_errors(stub_driver, fault, code, index):
    driver = stub_driver(stall=50)
    program = [conv(), load(post=1), store(wait=1, post=2), end(wait=2)]
    driver.transport.set_fault(fault, fault + 64)
    with pytest.raises(DeviceError) as caught:
        run(driver, program)
    assert (caught.value.code, caught.value.index) == (code, index)
    driver.transport.set_fault(0, 0)
    good(driver)


def test_program_address_and_region(stub_driver):
    driver = stub_driver()
    with pytest.raises(DeviceError, match="MISALIGNED"):
        driver.run(PROGRAM + 64, 1, READABLE, WRITABLE, timeout=10_000)
    with pytest.raises(DeviceError, match="READ_REGION"):
        driver.run(0, 1, READABLE, WRITABLE, timeout=10_000)
    with pytest.raises(DeviceError, match="NO_END"):
        driver.run(PROGRAM, 0, READABLE, WRITABLE, timeout=10_000)
    good(driver)


@pytest.mark.parametrize("pause", [40, 110, 150, 200, 300, 700])
def test_soft_reset_while_running(stub_driver, pause):
    driver = stub_driver(stall=60)
    program = [load(length=500), store(length=500)] * 4 + [end()]
    driver.load([(PROGRAM, b"".join(program))])
    with pytest.raises(DeviceTimeout, match="no END"):
        run(driver, program, timeout=pause)
    assert driver.register("status") == 0
    good(driver)


def test_timeout_without_watchdog(stub_driver):
    driver = stub_driver()
    with pytest.raises(DeviceTimeout, match="no END after 20000 cycles"):
        run(driver, [load(), end(wait=4)], watchdog=0, timeout=20_000)
    good(driver)


@pytest.mark.parametrize("transfer", [load, store])
def test_posts_wait_for_memory(stub_driver, transfer):
    """A transfer posts when its data, or the answer to its writes, has come."""
    driver = stub_driver(latency=1000)
    taken = run(driver, [transfer(post=1), conv(columns=500, wait=1), end()]).cycles
    assert 2500 < taken < 2600  # program, transfer, CONV one after the other


def test_watchdog_does_not_wait_for_memory(stub_driver):
    """The interrupt comes although transactions are under way; the reset waits for their end."""
    driver = stub_driver()
    good(driver)
    driver.transport.set_timing(30_000, 8)
    before = driver.transport.cycle
    with pytest.raises(DeviceError, match="WATCHDOG at descriptor 0"):
        run(driver, [load(), end()], watchdog=1000)
    assert 30_000 < driver.transport.cycle - before < 31_000
    driver.transport.set_timing(100, 8)
    good(driver)


def test_mismatch(stub_driver):
    driver = stub_driver()
    other = dataclasses.replace(driver.preset, fifo_depth=32)
    with pytest.raises(DeviceMismatch, match="tiny"):
        Driver(driver.transport, other)
    with pytest.raises(DeviceMismatch, match="ecp5"):
        Driver(driver.transport, get_preset("ecp5"))


def test_regions_are_checked_on_the_host(stub_driver):
    driver = stub_driver()
    size = driver.transport.memory.size
    with pytest.raises(RegionError, match="segment"):
        driver.load([(size - 4, b"12345")])
    with pytest.raises(RegionError, match="program"):
        driver.run(size, 1, READABLE, WRITABLE)
    with pytest.raises(RegionError, match="writable"):
        driver.run(PROGRAM, 1, READABLE, Region(0, size + 1))


def test_registers(stub_driver):
    driver = stub_driver()
    driver.set_register("write_limit", 0xDEADBEEF)
    assert driver.register("write_limit") == 0xDEADBEEF
    assert driver.register("program_count") == 0
    driver.set_register("program_count", 0xFFFF_FFFF)
    assert driver.register("program_count") == 0xFF_FFFF
    driver.set_register("identity", 0)
    Driver(driver.transport, driver.preset)
    assert driver.transport.read32(0xFFC) == 0
    assert driver.register("irq_enable") == 3


def test_other_addresses_read_zero(stub_driver):
    driver = stub_driver()
    for place in range(4 * len(REGISTERS), 1 << ADDRESS_BITS, 4):
        assert driver.transport.read32(place) == 0, hex(place)


def test_writes_elsewhere_change_nothing(stub_driver):
    """A write to any word that can't be written leaves the ones that can as they are."""
    driver = stub_driver()
    writable = {register.name for register in REGISTERS if register.access is Access.WRITE}
    known = writable | {register.name for register in REGISTERS
                        if register.access is Access.STROBE}
    for name in writable:
        driver.set_register(name, 0x2A5A_5A5A)
    before = {name: driver.register(name) for name in writable}
    for place in set(range(0, 1 << ADDRESS_BITS, 4)) - {address(name) for name in known}:
        driver.transport.write32(place, 0xFFFF_FFFF)
        assert {name: driver.register(name) for name in writable} == before, hex(place)
    assert driver.register("status") == 0


def test_access_outside_memory_is_a_protocol_error(stub_driver):
    driver = stub_driver()
    size = driver.transport.memory.size
    driver.load([(PROGRAM, load(address=size) + end())])
    for name, value in (("program_address", PROGRAM), ("program_count", 2), ("read_base", 0),
                        ("read_limit", 0xFFFF_FFFF), ("control", 1)):
        driver.set_register(name, value)
    with pytest.raises(ProtocolError, match="read outside memory"):
        driver.transport.wait(10_000)


def test_good_program_is_repeatable(stub_driver):
    driver = stub_driver()
    assert good(driver).bytes_read == good(driver).bytes_read


@pytest.mark.slow
def test_trace(stub_driver, tmp_path):
    driver = stub_driver(trace=tmp_path / "wave.vcd")
    good(driver)
    driver.transport.close()
    assert "m_axi_arvalid" in (tmp_path / "wave.vcd").read_text()
