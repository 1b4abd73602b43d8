# SPDX-License-Identifier: Apache-2.0
"""Every stream of the simulated hardware is watched, and a stream that errs is named."""

from unittest import mock

import pytest
from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.dma.skid import Skid
from hw.generate import generate
from hw.presets import get_preset
from sim.build import QUICK
from sim.monitors import StreamMonitor, describe, watched
from sim.verilated import ProtocolError, VerilatedTransport
from sw.driver import Driver
from tb.driver.stub_compute import StubCompute
from tb.driver.test_system import end, load, run, store


class _Forgetful(Skid):
    """A skid whose payload is replaced while it waits."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        waits = Signal()
        m.d.sync += waits.eq(self.o.valid & ~self.o.ready)
        with m.If(waits):
            m.d.comb += Value.cast(self.o.payload).eq(~0)
        return m


def generate_forgetful(preset_name):
    """Return the Verilog of an accelerator whose transfers change while they wait."""
    with mock.patch("hw.dma.transfer_walker.Skid", _Forgetful), watched():
        return generate(preset_name, StubCompute)


def test_a_stream_that_errs_is_named():
    with VerilatedTransport(get_preset("tiny"), memory_bytes=1 << 20, effort=QUICK, stall=64,
                            generator="tb.driver.test_monitors:generate_forgetful") as transport:
        driver = Driver(transport, get_preset("tiny"))
        with pytest.raises(ProtocolError, match=r"stream addend\.\w+\.walker\.\w+(\.o)? changed"):
            run(driver, [load(length=100, post=1), store(length=100), end()])


@pytest.mark.parametrize("waiting", [(1, 5), (0, 5), (1, 4), None])
def test_monitor(waiting):
    """A transfer of payload 5 waits; what comes next is (valid, payload), or it is taken."""
    dut = StreamMonitor(4)

    async def bench(ctx):
        ctx.set(dut.payload, 5)
        ctx.set(dut.valid, 1)
        ctx.set(dut.ready, waiting is None)
        await ctx.tick()
        valid, payload = waiting or (0, 4)
        ctx.set(dut.valid, valid)
        ctx.set(dut.payload, payload)
        await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    if waiting in (None, (1, 5)):
        simulator.run()
    else:
        with pytest.raises(AssertionError):
            simulator.run()


class _Source(wiring.Component):
    """Two streams in an array and one in an interface."""

    def __init__(self):
        bus = wiring.Signature({"data": Out(stream.Signature(3))})
        super().__init__({"o": Out(stream.Signature(unsigned(8))).array(2), "port": Out(bus)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.o[0].valid.eq(1), self.o[1].valid.eq(1), self.port.data.valid.eq(1)]
        return m


def test_streams_in_arrays_and_interfaces_are_watched():
    from amaranth.back import verilog
    with watched():
        text = verilog.convert(_Source(), name="source", emit_src=False)
    for name in ("o_0", "o_1", "port_data"):
        assert f"module \\source.watch_{name} " in text
    lines = text.splitlines()
    line = next(number for number, line in enumerate(lines, 1) if "assert (" in line)
    assert describe(text, line).startswith("stream source.o_0 changed")
    assert describe(text, 1) == "assertion in line 1 of the Verilog"
    assert "watch_" not in verilog.convert(_Source(), name="source", emit_src=False)
