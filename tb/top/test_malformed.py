# SPDX-License-Identifier: Apache-2.0
"""Malformed CONVs on the whole accelerator: an error that names the field, and no harm done."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from hw.descriptor import CONV, Opcode
from hw.presets import get_preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.driver import DeviceError, Driver, Region
from sw.golden.network import evaluate
from tb.random_model import layer_model, random_image

MODEL = layer_model(8, 5)
IMAGE = random_image(MODEL, 0)
GOLDEN = evaluate(MODEL, IMAGE)
PROGRAM = compile_model(MODEL, get_preset("tiny"))


@contextmanager
def open_driver(**options: object) -> Iterator[Driver]:
    """A driver with memory for the program; ``options`` are those of VerilatedTransport."""
    size = -(-(PROGRAM.base + PROGRAM.size) // 4096) * 4096
    with VerilatedTransport(PROGRAM.preset, memory_bytes=size,
                            **{"effort": QUICK} | options) as transport:
        yield Driver(transport, PROGRAM.preset)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with open_driver() as opened:
        yield opened


def run(driver: Driver, program: Program, descriptors: list[bytes]) -> None:
    driver.transport.memory[:] = 0xA5
    driver.load(program.segments)
    driver.load([(program.address, b"".join(descriptors))])
    program.write_input(driver.transport.memory, IMAGE.numpy())
    driver.run(program.address, len(descriptors), Region(*program.read_region),
               Region(*program.write_region), timeout=2_000_000, watchdog=20_000)


@pytest.mark.parametrize(("fields", "message"), [
    ({"planes": 0}, "ZERO_COUNT.*CONV.planes must be at least 1, not 0"),
    ({"columns": 0}, "ZERO_COUNT.*CONV.columns must be at least 1, not 0"),
    ({"time_steps": 0}, "ZERO_COUNT.*CONV.time_steps must be at least 1, not 0"),
    ({"window_reads": 0}, "FIELD_RANGE.*CONV.window_reads must be 1 to 16, not 0"),
    ({"window_reads": 17}, "FIELD_RANGE.*CONV.window_reads must be 1 to 16, not 17"),
    ({"kernel_rows": 257}, "FIELD_RANGE.*CONV.kernel_rows must be 0 to 256, not 257"),
    ({"weight_base": 31}, "FIELD_RANGE.*CONV.weight_base must be a multiple of 32, not 31"),
    ({"weight_base": 512}, "FIELD_RANGE.*CONV.weight_base must be 0 to 511, not 512"),
    ({"map_base": 1 << 20}, "FIELD_RANGE.*CONV.map_base must be 0 to 2047, not 1048576"),
    ({"window_reads": 5}, "WINDOW_READS"),
])
def test_malformed_conv(driver: Driver, fields: dict[str, int], message: str) -> None:
    """The last CONV of the layer with the 3x3 kernel is changed; the program then runs well."""
    descriptors = list(PROGRAM.descriptors)
    layer = [layer.name for layer in MODEL.layers].index("layer")
    number = max(n for n, descriptor in enumerate(descriptors) if descriptor[0] == Opcode.CONV
                 and CONV.unpack(descriptor)["layer"] == layer)
    values = CONV.unpack(descriptors[number])
    assert values["window_reads"] == 6       # three rows of three words, two words a read
    descriptors[number] = CONV.pack(**values | fields)
    with pytest.raises(DeviceError, match=message) as caught:
        run(driver, PROGRAM, descriptors)
    assert (caught.value.index, caught.value.layer) == (number, layer)
    run(driver, PROGRAM, list(PROGRAM.descriptors))
    for name in PROGRAM.tensors:
        got = PROGRAM.read_tensor(driver.transport.memory, name)
        assert np.array_equal(got, GOLDEN[name].numpy()), name


def test_errors_name_the_layer(driver: Driver) -> None:
    """Of whichever CONV, whatever its layer."""
    random = np.random.default_rng(0)
    numbers = [n for n, descriptor in enumerate(PROGRAM.descriptors)
               if descriptor[0] == Opcode.CONV and CONV.unpack(descriptor)["window_reads"] == 6]
    for number in [*numbers] * 4:
        descriptors, there = list(PROGRAM.descriptors), int(random.integers(65536))
        values = CONV.unpack(descriptors[number])
        descriptors[number] = CONV.pack(**values | {"window_reads": 5, "layer": there})
        with pytest.raises(DeviceError, match="WINDOW_READS") as caught:
            run(driver, PROGRAM, descriptors)
        assert (caught.value.index, caught.value.layer) == (number, there)
