# SPDX-License-Identifier: Apache-2.0
"""A driver on the Verilated stub system."""

import pytest

from hw.presets import get_preset
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.driver import Driver

STUB = "tb.driver.stub_compute:generate_stub"


@pytest.fixture
def stub_driver():
    """Return a function that makes a driver on a stub system with 1 MB of memory."""
    transports = []

    def make(preset_name="tiny", **options):
        preset = get_preset(preset_name)
        transport = VerilatedTransport(preset, **{
            "memory_bytes": 1 << 20, "generator": STUB, "effort": QUICK} | options)
        transports.append(transport)
        return Driver(transport, preset)

    yield make
    for transport in transports:
        transport.close()
