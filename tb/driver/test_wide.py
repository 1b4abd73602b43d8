# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Values of all bits around the stub: addresses of 32 bits, layers, semaphores up to 255."""

import numpy as np
import pytest
from amaranth.utils import exact_log2

from hw.descriptor import LOAD, Opcode, Target
from hw.dma.load import Load
from hw.regmap import ErrorCode
from sw.driver import DeviceError, DeviceTimeout, Region
from tb.driver import test_system as system
from tb.driver.stub_compute import FAIL_LAYER

FAR = 0xFFFF_F000
"""Bytes of memory; only pages that are touched take room on the host."""


@pytest.mark.parametrize("seed", range(6))
def test_far_addresses(stub_driver, seed: int) -> None:
    """Rows of data, any number of bytes apart, are copied to rows elsewhere."""
    driver = stub_driver(memory_bytes=FAR, latency=20, stall=30, seed=seed)
    random, size = np.random.default_rng(seed), driver.preset.beat_bytes
    for _ in range(8):
        places = [int(place) << 12 for place in random.permutation(FAR >> 12)[:2]]
        program, length = int(random.integers(FAR >> 12)) << 12, int(random.integers(1, 30))
        length = min(length, 4096 // size // 3)
        sizes = [FAR - place - 4096 for place in places]
        if min(sizes) < 0 or any(abs(place - program) < 4096 for place in places):
            continue
        count = int(random.integers(2, 6))
        steps = [int(random.integers(length, max(length + 1, left // count // size))) * size
                 for left in sizes]
        data = random.integers(0, 256, (count, length * size), dtype=np.uint8)
        descriptors = [
            system.load(address=places[0], length=length, count_1=count, step_1=steps[0],
                        buffer_step_1=length, post=1, layer=int(random.integers(65536))),
            system.store(address=places[1], length=length, count_1=count, step_1=steps[1],
                         buffer_step_1=length, wait=1, post=2),
            system.end(wait=2)]
        driver.load([(program, b"".join(descriptors)),
                     *((places[0] + n * steps[0], data[n]) for n in range(count))])
        end = places[1] + (count - 1) * steps[1] + length * size
        driver.run(program, 3, Region(0, FAR), Region(places[1], end),
                   timeout=100_000, watchdog=20_000)
        for n in range(count):
            np.testing.assert_array_equal(
                driver.read(places[1] + n * steps[1], length * size), data[n])
        with pytest.raises(DeviceError) as caught:      # one byte less at the end, or the beginning
            region = Region(places[1] + 1, end) if random.random() < 0.5 else Region(
                places[1], end - 1)
            driver.run(program, 3, Region(0, FAR), region, timeout=100_000, watchdog=20_000)
        assert (caught.value.code, caught.value.index) == (ErrorCode.WRITE_REGION, 1)


@pytest.mark.parametrize("seed", range(4))
def test_cycles_do_not_depend_on_the_place(stub_driver, seed: int) -> None:
    """Runs that follow each other share bursts, and runs apart do not, wherever they are."""
    driver = stub_driver(memory_bytes=FAR)
    random, size = np.random.default_rng(seed), driver.preset.beat_bytes

    def cycles(source: int, result: int, gap: int) -> int:
        length, count = 3, 40
        step = (length + gap) * size
        transfer = dict(length=length, count_1=count, step_1=step, buffer_step_1=length)
        program = [system.load(address=source, **transfer, post=1),
                   system.store(address=result, **transfer, wait=1, post=2), system.end(wait=2)]
        driver.load([(0x1000, b"".join(program))])
        return driver.run(0x1000, 3, Region(0, FAR), Region(0x2000, FAR), timeout=100_000,
                          watchdog=20_000).cycles

    for gap in (0, 1):
        near = cycles(0x2_0000, 0x4_0000, gap)
        for _ in range(25):
            places = random.integers(4, (FAR >> 12) - 4, 2)
            if abs(int(places[0] - places[1])) < 4:
                continue
            assert cycles(*(int(place) << 12 for place in places), gap) == near


@pytest.mark.parametrize("number", range(len(system.OUTSIDE)))
def test_errors_name_any_layer(stub_driver, number: int) -> None:
    """The first descriptor of the errors, if it says so, has any layer."""
    code, index, layer, program = system.OUTSIDE[number]
    if index is None or index >= len(program) or layer in (None, 0, FAIL_LAYER):
        return
    driver, random = stub_driver(), np.random.default_rng(number)
    for _ in range(4):
        there, others = (int(value) for value in random.integers(0, 65536, 2))
        changed = [descriptor[:2] + (there if n == index else others).to_bytes(2, "little")
                   + descriptor[4:] for n, descriptor in enumerate(program)]
        with pytest.raises(DeviceError) as caught:
            system.run(driver, changed)
        assert (caught.value.code, caught.value.index, caught.value.layer) == (code, index, there)


@pytest.mark.parametrize("seed", range(4))
def test_memory_errors_name_any_descriptor(stub_driver, seed: int) -> None:
    """An error of the memory is blamed on the descriptor whose data it was, near or far."""
    random = np.random.default_rng(seed)
    driver = stub_driver(stall=30, seed=seed)
    for kind in ("load", "store"):
        for before in (int(random.integers(1, 60)), int(random.integers(1, 60)), 1500 + seed):
            layers = random.integers(0, 65536, before + 2).tolist()
            program = [getattr(system, kind)(length=1, layer=layer) for layer in layers]
            place = (system.SOURCE if kind == "load" else system.RESULT)[1] - 4096
            program[before] = getattr(system, kind)(length=9, layer=layers[before], address=place)
            driver.transport.set_fault(place + 16, place + 32)
            with pytest.raises(DeviceError) as caught:
                driver.load([(system.SOURCE[1] + 4096, b"".join([*program, system.end()]))])
                driver.run(system.SOURCE[1] + 4096, len(program) + 1,
                           Region(0, driver.transport.memory.size), system.WRITABLE,
                           timeout=400_000, watchdog=20_000)
            driver.transport.set_fault(0, 0)
            code = ErrorCode.READ_RESPONSE if kind == "load" else ErrorCode.WRITE_RESPONSE
            assert (caught.value.code, caught.value.index, caught.value.layer) == (
                code, before, layers[before])


@pytest.mark.parametrize("before", [3, 35, 70, 1100])
def test_errors_of_the_fetch_name_the_descriptor(stub_driver, before: int) -> None:
    driver, place = stub_driver(stall=20), system.SOURCE[1] + 4096
    driver.load([(place, b"".join([system.load(length=1)] * (before + 8) + [system.end()]))])
    driver.transport.set_fault(place + 128 * before, place + 128 * before + 8)
    with pytest.raises(DeviceError) as caught:
        driver.run(place, before + 9, Region(0, driver.transport.memory.size), system.WRITABLE,
                   timeout=400_000, watchdog=20_000)
    assert (caught.value.code, caught.value.index) == (ErrorCode.READ_RESPONSE, before)


@pytest.mark.parametrize("before", [0x2AAA, 0x1555])
@pytest.mark.parametrize("kind", ["load", "store", "conv", "read", "write", "opcode"])
def test_errors_thousands_of_descriptors_away(stub_driver, kind: str, before: int) -> None:
    """Whatever goes wrong is blamed on the right descriptor and layer."""
    driver, place = stub_driver(memory_bytes=1 << 22, latency=5), 0x10_0000
    layer = 0xFFFF ^ before
    filler, culprit, code = {
        "load": (system.load(length=1), system.load(buffer=1 << 23, layer=layer),
                 ErrorCode.BUFFER_RANGE),
        "store": (system.store(length=1), system.store(buffer=1 << 23, layer=layer),
                  ErrorCode.BUFFER_RANGE),
        "conv": (system.conv(columns=1), system.conv(columns=1, layer=FAIL_LAYER),
                 ErrorCode.RESIDUAL_OVERFLOW),
        "read": (system.load(length=1), system.load(address=0, layer=layer),
                 ErrorCode.READ_REGION),
        "write": (system.store(length=1), system.store(address=0, layer=layer),
                  ErrorCode.WRITE_REGION),
        "opcode": (system.store(length=1), system.store(opcode=99, layer=layer),
                   ErrorCode.BAD_OPCODE)}[kind]
    driver.load([(place, b"".join([*[filler] * before, culprit, system.end()]))])
    with pytest.raises(DeviceError) as caught:
        driver.run(place, before + 2, Region(0x1000, 1 << 22), system.WRITABLE,
                   timeout=2_000_000, watchdog=20_000)
    found = caught.value
    assert (found.code, found.index) == (code, before)
    assert found.layer == (FAIL_LAYER if kind == "conv" else layer)


@pytest.mark.parametrize("kind", ["load", "store"])
def test_regions_end_at_the_byte(stub_driver, kind: str) -> None:
    """Transfers at both ends of a region, which differ from it by one bit of the address."""
    driver, random = stub_driver(memory_bytes=FAR, latency=5), np.random.default_rng(0)
    whole, size = Region(0, FAR), driver.preset.beat_bytes
    code = ErrorCode.READ_REGION if kind == "load" else ErrorCode.WRITE_REGION
    for bit in range(3, 31):
        base = (int(random.integers(1 << 20, FAR >> 1)) & -4096 | 1 << bit) & ~(size - 1)
        program = 0xF000_0000
        for address, low, high, good in (
                (base, base, base + size, True), (base & ~(1 << bit), base, FAR, False),
                (base - size, base, FAR, False), (base, base - 4096, base + size - 1, False),
                (base, 0x1000, base, False), (base, base & ~(1 << bit), base + size, True)):
            driver.load([(program, b"".join([
                getattr(system, kind)(address=address, length=1), system.end()]))])
            region = Region(low, high)
            readable = Region(low, max(high, program + 256)) if kind == "load" else whole
            if kind == "load" and high != FAR:
                continue
            ends = (readable, whole) if kind == "load" else (whole, region)
            if good:
                driver.run(program, 2, *ends, timeout=20_000, watchdog=5000)
                continue
            with pytest.raises(DeviceError) as caught:
                driver.run(program, 2, *ends, timeout=20_000, watchdog=5000)
            assert (caught.value.code, caught.value.index) == (code, 0)


@pytest.mark.parametrize("kind", ["load", "store"])
@pytest.mark.parametrize("pause", [600, 900, 1300, 2000])
def test_a_reset_closes_the_gates(stub_driver, kind: str, pause: int) -> None:
    """A unit with more to do than it can take is reset; the next run waits for its semaphores."""
    driver = stub_driver(stall=20, seed=pause)
    after = [system.conv(columns=700, post=1), getattr(system, kind)(wait=1, length=3),
             system.end()]
    system.good(driver)
    start = system.run(driver, after).cycles
    system.good(driver)
    with pytest.raises(DeviceTimeout):
        system.run(driver, [*[getattr(system, kind)(length=400)] * 40, system.end()],
                   timeout=pause)
    assert system.run(driver, after).cycles > 700 < start
    system.good(driver)


@pytest.mark.parametrize("kind", ["load", "store"])
def test_every_bit_of_a_transfer_is_checked(stub_driver, kind: str) -> None:
    """One bit too many in an address, a step or the buffer: the descriptor is refused."""
    driver = stub_driver(latency=5)
    make = getattr(system, kind)
    address = LOAD.unpack(make())["address"]
    low = range(exact_log2(driver.preset.beat_bytes))
    wrong = [({"address_high": 1 << bit}, ErrorCode.ADDRESS_HIGH) for bit in range(32)]
    wrong += [({"address": address | 1 << bit}, ErrorCode.MISALIGNED) for bit in low]
    wrong += [({step: 1 << bit}, ErrorCode.MISALIGNED) for bit in low
              for step in ("step_1", "step_2")]
    wrong += [({"buffer": 1 << bit}, ErrorCode.BUFFER_RANGE) for bit in range(24, 32)]
    for fields, code in wrong:
        with pytest.raises(DeviceError) as caught:
            system.run(driver, [system.load(length=1), make(**fields), system.end()])
        assert (caught.value.code, caught.value.index) == (code, 1), fields


@pytest.mark.parametrize("before", [5, 33, 77, 1234])
def test_a_region_may_end_in_the_program(stub_driver, before: int) -> None:
    driver, place = stub_driver(stall=20), system.SOURCE[1] + 4096
    driver.load([(place, b"".join([system.store(length=1)] * (before + 8) + [system.end()]))])
    with pytest.raises(DeviceError) as caught:
        driver.run(place, before + 9, Region(0, place + 128 * before), system.WRITABLE,
                   timeout=400_000, watchdog=20_000)
    assert (caught.value.code, caught.value.index) == (ErrorCode.READ_REGION, before)


@pytest.mark.parametrize("target", [*Target, None])
def test_every_beat_outside_a_buffer_is_refused(stub_driver, target: Target | None) -> None:
    """Any bit too high; the last beat is inside. Without a target: the output buffer."""
    driver = stub_driver(latency=5)
    make, fields, depth = system.store, {}, driver.preset.out_beats
    if target is not None:
        make, fields = system.load, {"target": target}
        depth = Load(driver.preset).target_beats()[target]
    system.run(driver, [make(length=1, buffer=min(depth, driver.preset.out_beats) - 1, **fields),
                        system.end()])
    for buffer in (depth, *(1 << bit for bit in range(24) if 1 << bit > depth)):
        with pytest.raises(DeviceError) as caught:
            system.run(driver, [make(length=1, buffer=buffer, **fields), system.end()])
        assert caught.value.code is ErrorCode.BUFFER_RANGE


@pytest.mark.parametrize("fields", [
    {"length": 1, "count_1": 20_011}, {"length": 1, "count_2": 20_013},
    {"length": 1, "count_1": 33_000}, {"length": 1, "count_2": 33_000},
    {"length": 2, "count_2": 16_390}, {"length": 1, "count_1": 16_400, "count_2": 2},
    {"length": 127, "count_2": 300, "step_2": 1016}])
def test_long_loops(stub_driver, fields: dict[str, int]) -> None:
    """As many beats as the counts say, and no more."""
    driver = stub_driver(latency=5)
    fields = {"length": 1, "count_1": 1, "count_2": 1, "beat_step": 1, **fields}
    beats = fields["length"] * fields["count_1"] * fields["count_2"]
    for kind in ("load", "store"):
        program = [getattr(system, kind)(**fields | (
            {"step_2": 0} if kind == "store" else {}), post=1), system.end(wait=1)]
        driver.load([(system.PROGRAM, b"".join(program))])
        counters = driver.run(system.PROGRAM, 2, Region(0, driver.transport.memory.size),
                              system.WRITABLE, timeout=1_000_000, watchdog=20_000)
        size = driver.preset.beat_bytes
        assert (counters.bytes_read, counters.bytes_written) == (
            256 + (beats * size if kind == "load" else 0), beats * size if kind == "store" else 0)


def semaphores(random: np.random.Generator, rounds: int) -> tuple[list[int], list[int]]:
    """Masks of ``rounds`` posts and waits that leave every semaphore at 0."""
    bits = random.random((rounds, 16)) < 0.95
    waits = np.stack([random.permutation(bits[:, n]) for n in range(16)], axis=1)
    return tuple([int(row @ (1 << np.arange(16))) for row in table] for table in (bits, waits))


@pytest.mark.parametrize("seed", range(2))
def test_semaphores_count(stub_driver, seed: int) -> None:
    """All posts come first; then each wait takes one, and one more of any semaphore hangs."""
    driver = stub_driver(latency=5)
    posts, waits = semaphores(np.random.default_rng(seed), 250)
    posting = [system.load(length=1, post=mask) for mask in posts]
    # CONVs begin when the last LOAD is over, by the order of their unit
    waiting = [system.conv(columns=5000), *(system.conv(columns=1, wait=mask) for mask in waits)]
    system.run(driver, [*posting, *waiting, system.end()], timeout=100_000, watchdog=20_000)
    for number in range(16):
        with pytest.raises(DeviceError, match="WATCHDOG"):
            system.run(driver, [*posting, *waiting, system.conv(wait=1 << number), system.end()],
                       timeout=100_000, watchdog=2000)


@pytest.mark.parametrize("kind", ["load", "store", "conv", "end"])
def test_every_unit_waits_for_every_semaphore(stub_driver, kind: str) -> None:
    driver = stub_driver(latency=5)
    for number in range(16):
        others = 0xFFFF & ~(1 << number)
        waits = getattr(system, kind)(wait=1 << number)
        end = [] if kind == "end" else [system.end()]
        # the CONVs are granted while it waits
        convs = [system.conv(columns=9) for _ in range(3)]
        with pytest.raises(DeviceError, match="WATCHDOG"):
            system.run(driver, [system.load(length=1, post=others), *convs, waits, *convs, *end],
                       watchdog=1000)
        assert driver.register("bytes_written_low") == 0
        system.run(driver, [system.load(length=1, post=1 << number), waits, *end])


@pytest.mark.parametrize("kind", ["load", "store", "conv"])
def test_a_unit_that_waits_holds_up_no_other(stub_driver, kind: str) -> None:
    """What it waits for comes from a unit that is granted after it asked."""
    driver = stub_driver(latency=5)
    for number in range(16):
        for other in {"load", "store", "conv"} - {kind}:
            system.run(driver, [getattr(system, kind)(wait=1 << number),
                                getattr(system, other)(post=1 << number), system.end()],
                       watchdog=2000)


def test_every_semaphore_overflows_alone(stub_driver) -> None:
    driver = stub_driver(latency=5)
    for number in range(16):
        posts = [system.load(length=1, post=1 << number)] * 255
        system.run(driver, [*posts, system.end()], timeout=100_000)
        with pytest.raises(DeviceError) as caught:
            system.run(driver, [*posts, *posts[:20], system.end()], timeout=100_000)
        assert caught.value.code is ErrorCode.SEMAPHORE_OVERFLOW


def test_opcodes(stub_driver) -> None:
    """Every opcode that does not exist is refused."""
    driver = stub_driver()
    for opcode in set(range(256)) - {int(known) for known in Opcode}:
        with pytest.raises(DeviceError, match="BAD_OPCODE"):
            system.run(driver, [system.load(opcode=opcode), system.end()])
