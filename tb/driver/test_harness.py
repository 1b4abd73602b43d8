# SPDX-License-Identifier: Apache-2.0
"""The simulated memory sees each broken rule of the bus, and shares its bandwidth."""

import numpy as np
import pytest

from hw.presets import get_preset
from hw.regmap import address
from sim.build import QUICK
from sim.verilated import ProtocolError, VerilatedTransport
from tb.driver.rogue import RULES


def rogue(rule, lost_read=None, lost_write=None, register=0, **options):
    transport = VerilatedTransport(get_preset("tiny"), memory_bytes=1 << 16, effort=QUICK,
                                   generator="tb.driver.rogue:generate_rogue", **options)
    if lost_read is not None:
        transport.lose_read(lost_read)
    if lost_write is not None:
        transport.lose_write(lost_write)
    transport.write32(register, rule)
    return transport


@pytest.mark.parametrize("rule", RULES)
def test_each_broken_rule_is_seen(rule):
    if RULES[rule] is None:
        with rogue(rule, stall=200, seed=3) as transport:
            assert transport.wait(1000)
            assert transport.memory.sum() == 2 * 0x55
            assert transport.pending == 0
    else:
        with pytest.raises(ProtocolError, match=RULES[rule]):
            rogue(rule, stall=200, seed=3).wait(1000)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_regions_are_kept_to(kind):
    """The rogue's bursts end at 80: its last beat is outside if the region ends there earlier."""
    for limit, inside in ((80, True), (72, False)):
        rule = limit  # no rule has this number: none is broken but that of the region
        transport = rogue(rule, register=address(f"{kind}_limit"))
        if inside:
            assert transport.wait(1000)
        else:
            with pytest.raises(ProtocolError, match=f"{kind} outside its region .0x40"):
                transport.wait(1000)


def test_lost_beats():
    """The rogue reads and writes two beats at 64."""
    with rogue(0, lost_write=64) as transport:
        assert transport.wait(1000)
        assert transport.memory[64] == 0 and transport.memory[72] == 0x55
    with rogue(0, lost_read=64) as transport:
        assert transport.wait(1000)
    with (rogue(0, lost_read=72) as transport,
          pytest.raises(ProtocolError, match="last beat can't get lost")):
        transport.wait(1000)


def test_latency():
    cycles = []
    for latency in (10, 110):
        with rogue(0, latency=latency) as transport:
            assert transport.wait(1000)
            cycles.append(transport.cycle)
    assert cycles[1] - cycles[0] == 100


def test_bad_timing():
    for options in ({"stall": 256}, {"latency": 0}, {"bandwidth": 0}):
        with pytest.raises(ValueError, match="stall must be 0 to 255"):
            rogue(0, **options)
    with pytest.raises(ValueError, match="memory_bytes must be a multiple of 4096"):
        VerilatedTransport(get_preset("tiny"), memory_bytes=100)


def test_bandwidth_is_shared(stub_driver):
    """At half a beat a cycle a copy takes four cycles a beat: it is read and written."""
    from tb.driver.test_system import end, load, run, store
    driver = stub_driver(bandwidth=4)
    program = [load(length=500, post=1), store(length=500), end()]
    few = run(driver, [end()]).cycles
    taken = run(driver, program).cycles - few
    assert np.isclose(taken, 4 * 500, rtol=0.15)
