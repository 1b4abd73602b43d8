# SPDX-License-Identifier: Apache-2.0
"""What synthesis makes of the accelerator computes the same: gates under Verilator."""

import re

import pytest

from hw.presets import get_preset
from sim import build
from tb.random_model import random_image, random_model
from tb.top.rtl import differing_tensors

NETLIST = "tb.top.variants:generate_netlist"
MODEL = random_model(7, blocks=("sep", "attention"), channels=12, heads=2, time_steps=2,
                     size=(7, 6))


@pytest.mark.slow
def test_netlist_equals_the_golden_model() -> None:
    """Two images, with stalls; the netlist takes as many cycles as the Verilog it comes from."""
    text = build.verilog("tiny", NETLIST)
    assert text.count("\nmodule ") == 1
    assert not re.search(r"always @\*|\bcase|[^$]\$(add|mul)|\d+'h\w+ \* ", text)
    images = [random_image(MODEL, number) for number in range(2)]
    wrong, counters = differing_tensors(MODEL, get_preset("tiny"), images, generator=NETLIST,
                                        stall=40, seed=5, effort="-O0")
    assert wrong == []
    _, expected = differing_tensors(MODEL, get_preset("tiny"), images, stall=40, seed=5)
    assert counters == expected
