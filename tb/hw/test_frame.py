# SPDX-License-Identifier: Apache-2.0
"""The frame around a component that is placed on its own."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw import frame


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
