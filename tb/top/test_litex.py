# SPDX-License-Identifier: Apache-2.0
"""The accelerator in a simulated SoC of LiteX: AXI4 to LiteDRAM, registers, interrupt, bridge."""

import importlib.util
from pathlib import Path

import pytest

from examples.litex.check import build, check
from hw.presets import get_preset
from hw.regmap import ErrorCode
from sw.driver import DeviceError
from sw.errors import AddendError
from sw.report import RunReport
from sw.soc_map import read_soc_map
from sw.uart_link import UartError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    importlib.util.find_spec("litex") is None, reason="LiteX is not installed (`make litex`)")]
TINY = get_preset("tiny")


def simulate(folder: Path, fault: str | None = None) -> tuple[RunReport, str]:
    return check(build(folder, TINY, fault), read_soc_map(folder / "soc.json"), TINY)


def test_a_network(tmp_path: Path) -> None:
    """Every tensor of two images is the golden model's; each run raises the interrupt once."""
    report, said = simulate(tmp_path)
    assert report.bit_exact is True and report.tensors_compared > 10
    assert said.endswith("interrupts 2"), said


def test_a_missing_strobe(tmp_path: Path) -> None:
    report, _ = simulate(tmp_path, "strobe")
    assert report.bit_exact is False and report.images[0].differences


@pytest.mark.parametrize(("fault", "code"), [
    ("halves", ErrorCode.BAD_OPCODE), ("response", ErrorCode.READ_RESPONSE)])
def test_faults_of_reads(tmp_path: Path, fault: str, code: ErrorCode) -> None:
    with pytest.raises(DeviceError) as caught:
        simulate(tmp_path, fault)
    assert caught.value.code == code


def test_an_interrupt_that_is_not_connected(tmp_path: Path) -> None:
    with pytest.raises(UartError, match="has raised its interrupt, but none came"):
        simulate(tmp_path, "interrupt")


def test_a_build_that_fails(tmp_path: Path) -> None:
    with pytest.raises(AddendError, match=r"build.log: the last lines.*\n(.*\n)*.*invalid choice"):
        build(tmp_path, TINY, "no such fault")
