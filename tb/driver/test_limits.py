# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Every limit of every field, on the Verilated accelerator: what just holds, and what does not."""

import pytest

from hw.descriptor import END, FORMATS, LOAD, Opcode
from hw.limits import COUNTS, limits
from hw.regmap import ErrorCode
from sw.driver import DeviceError, Driver
from tb.control.test_dispatcher import ALL, VALID, edges
from tb.driver import test_system as system

CASES = [(opcode, number) for opcode in VALID
         for number in range(len(limits(opcode, system.get_preset("tiny"))))]


def run(driver: Driver, *descriptors: bytes) -> None:
    system.run(driver, [*descriptors, END.pack(opcode=Opcode.END)], timeout=20_000)


def refused(driver: Driver, descriptor: bytes, code: ErrorCode) -> None:
    """The descriptor behind a good one is refused, with its place in the program."""
    good = system.load(length=1)
    with pytest.raises(DeviceError) as caught:
        run(driver, good, descriptor)
    layer = LOAD.unpack(descriptor)["layer"]
    assert (caught.value.code, caught.value.index, caught.value.layer) == (code, 1, layer)


@pytest.mark.parametrize(("opcode", "number"), CASES)
def test_limit(stub_driver, opcode: Opcode, number: int) -> None:
    driver = stub_driver()
    limit = limits(opcode, driver.preset)[number]
    same = [other for other in limits(opcode, driver.preset) if other.field == limit.field]
    valid = {"opcode": opcode, "layer": 0x5A3C, **VALID[opcode]}
    if opcode is Opcode.CONV:
        valid["flags"] = ALL | int(limit.only)
    holds, fails = edges(opcode, limit)
    for value in holds:
        if all(other.holds(value) for other in same):
            run(driver, FORMATS[opcode].pack(**valid | {limit.field: value}))
    for value in fails:
        refused(driver, FORMATS[opcode].pack(**valid | {limit.field: value}),
                ErrorCode.FIELD_RANGE)


@pytest.mark.parametrize("opcode", VALID)
def test_counts(stub_driver, opcode: Opcode) -> None:
    driver = stub_driver()
    for name in COUNTS[opcode][1]:
        refused(driver, FORMATS[opcode].pack(
            **{"opcode": opcode, "layer": 0xA5C3, **VALID[opcode], name: 0}),
            ErrorCode.ZERO_COUNT)


@pytest.mark.parametrize("opcode", COUNTS)
def test_counts_of_one_bit_are_counts(stub_driver, opcode: Opcode) -> None:
    """No bit of a count is overlooked: it is not 0, whatever else may be wrong with it."""
    driver = stub_driver(latency=5)
    form, names = COUNTS[opcode]
    valid = {"opcode": opcode, "layer": 9, **VALID.get(opcode, dict.fromkeys(names, 1))}
    if opcode in (Opcode.LOAD, Opcode.STORE):
        valid["address"] = 0                # refused at once
    for name in names:
        for bit in range(form.fields[name].width):
            program = [form.pack(**valid | {name: 1 << bit}), END.pack(opcode=Opcode.END)]
            driver.load([(system.PROGRAM, b"".join(program))])
            try:
                driver.run(system.PROGRAM, 2, system.READABLE, system.WRITABLE, timeout=200_000,
                           watchdog=100_000)  # the stub counts up to 2^16 columns
            except DeviceError as error:
                assert error.code in (ErrorCode.READ_REGION, ErrorCode.WRITE_REGION), error
