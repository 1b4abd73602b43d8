# SPDX-License-Identifier: Apache-2.0
"""The frame around a component that is placed on its own."""

import json

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw import frame
from sw.fpga import ecp5


class Mirror(wiring.Component):
    """Outputs that are its inputs, the last one only if ``pair`` agrees."""

    a: In(3).array(2)
    b: In(1)
    x: Out(3).array(2)
    y: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.x[0].eq(self.a[0]), self.x[1].eq(self.a[1]), self.y.eq(self.b)]
        return m


def test_every_port_counts() -> None:
    """Each input bit, and so each output bit, changes the parity that leaves the frame."""
    dut = frame.Registered(Mirror())
    seen = []

    async def bench(ctx):
        for pin in [None, *range(7)]:
            ctx.set(dut.i, 0 if pin is None else 1 << pin)
            await ctx.tick().repeat(8)
            seen.append(ctx.get(dut.o))

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert seen == [0] + [1] * 7


def test_names_agree() -> None:
    assert tuple(sorted(frame.COMPONENTS)) == ecp5.COMPONENTS


@pytest.mark.slow
def test_place(monkeypatch, capsys) -> None:
    output = ecp5.OUTPUT / "test"  # YoWASP's tools don't see /tmp
    monkeypatch.setattr(ecp5, "OUTPUT", output)
    assert ecp5.main(["walker", "--preset", "tiny", "--mhz", "1"]) == 0
    result = json.loads((output / "walker-tiny.json").read_text())
    assert result["lut"] > 200 and result["ff"] > 200 and result["dsp"] == 0
    assert result["fmax_mhz"] > 50 and result["critical_path"]
    assert ecp5.main(["walker", "--preset", "tiny", "--mhz", "1000"]) == 1
