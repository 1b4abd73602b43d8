# SPDX-License-Identifier: Apache-2.0
"""Constraints: the clock's period, and what is left to the surroundings."""

import re

import pytest

from sw.fpga.constraints import FORMATS


@pytest.mark.parametrize("suffix", ["sdc", "xdc"])
def test_period(suffix: str) -> None:
    text = FORMATS[suffix](125)
    assert "create_clock -name clk -period 8.000 [get_ports clk]\n" in text
    assert re.findall(r"set_(\w+)put_delay 2.667 -clock clk", text) == ["in", "out"]


def test_preference() -> None:
    assert FORMATS["lpf"](62.5) == 'FREQUENCY PORT "clk" 62.5 MHZ;\n'
