# SPDX-License-Identifier: Apache-2.0
"""Memory that begins at another address than 0: driver, device and whole runs."""

import numpy as np
import pytest
import torch

from hw.presets import get_preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.compile.compiler import compile_model
from sw.device import Device
from sw.driver import Driver, Region, RegionError
from sw.golden.network import evaluate
from sw.images import Images
from sw.layer_clock import LayerClock
from sw.run import run
from tb.driver import test_system as system
from tb.random_model import random_image, random_model

BASE = system.PROGRAM


class Upper(LayerClock):
    """Memory of a model from ``first`` on, said to be at ``said`` (None: where it is)."""

    def __init__(self, inner: VerilatedTransport, first: int, said: int | None = None) -> None:
        super().__init__(inner, 1)
        self._first, self._said = first, first if said is None else said

    @property
    def memory(self) -> np.ndarray:
        return self.inner.memory[self._first:]

    @property
    def base(self) -> int:
        return self._said


def test_a_model_begins_at_0(stub_driver) -> None:
    transport = stub_driver().transport
    assert transport.base == LayerClock(transport, 1).base == 0
    assert LayerClock(Upper(transport, BASE), 1).base == BASE


def test_driver(stub_driver) -> None:
    inner = stub_driver().transport
    inner.memory[:BASE] = 0x5A
    driver = Driver(Upper(inner, BASE), get_preset("tiny"))
    system.good(driver)
    assert (inner.memory[:BASE] == 0x5A).all()
    assert driver.read(BASE, 4).tobytes() == inner.memory[BASE:BASE + 4].tobytes()
    end = inner.memory.size
    driver.read(end - 4, 4)
    for address in (BASE - 1, 0, end - 3):
        with pytest.raises(RegionError, match=f"isn't in the {end - BASE:#x} bytes of memory at "
                                              f"{BASE:#x}"):
            driver.read(address, 4)
    with pytest.raises(RegionError, match="segment 0xfff to"):
        driver.load([(BASE - 1, b"12")])
    with pytest.raises(RegionError, match="readable region 0x0 to"):
        driver.run(BASE, 1, Region(0, end), system.WRITABLE)


def test_a_wrong_base_is_seen(stub_driver) -> None:
    """The driver writes where the accelerator does not read."""
    driver = Driver(Upper(stub_driver().transport, 0x2000, said=BASE), get_preset("tiny"))
    with pytest.raises(Exception, match="BAD_OPCODE"):
        system.good(driver)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_device_equals_the_golden_model(wrong: bool) -> None:
    """Two images, every tensor; and a lost write is seen."""
    model = random_model(0, time_steps=1, blocks=("mlp",), channels=8)
    pixels = torch.stack([random_image(model, seed) for seed in range(2)]).double()
    images = Images(["a", "b"], pixels.squeeze(1) * model.input.scale)

    def open_device(program):
        assert program.base == 0x3000
        transport = VerilatedTransport(program.preset, effort=QUICK, memory_bytes=-(
            -(program.base + program.size) // 4096) * 4096)
        device = Device(program, Upper(transport, program.base))
        if wrong:
            transport.lose_write(program.tensors[model.logits.tensor].address)
        return device

    report = run(model, images, get_preset("tiny"), backend="board", open_device=open_device,
                 memory_base=0x3000, jobs=7)
    assert report.bit_exact is not wrong
    assert report.cycles > 1000 and report.as_json()["backend"] == "board"
    assert report.layers()[0]["cycles"] is None
    if not wrong:
        golden = evaluate(model, random_image(model, 1))
        assert report.images[1].logits == golden[model.logits.tensor].tolist()


def test_a_program_of_another_base_is_refused(stub_driver) -> None:
    program = compile_model(random_model(0, time_steps=1, blocks=("mlp",), channels=8),
                            get_preset("tiny"))
    with pytest.raises(RegionError, match="segment 0x"):
        Device(program, Upper(stub_driver().transport, 0x8_0000))


def test_a_board_has_to_be_opened() -> None:
    with pytest.raises(Exception, match="backend 'board' needs open_device"):
        run(None, [], get_preset("tiny"), backend="board")
