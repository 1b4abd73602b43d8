# SPDX-License-Identifier: Apache-2.0
"""A soft reset in any cycle of a stop."""

import pytest
from amaranth.sim import Simulator

from hw.control.run_control import RunControl


@pytest.mark.parametrize("late", range(8))
def test_soft_reset_around_a_stop(late: int) -> None:
    """A soft reset is done whenever it comes, also in the cycle in which memory falls quiet, and
    is not done again: the error of the next run is kept."""
    dut = RunControl(1)
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)

    async def strobe(ctx, signal):
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)

    async def fail(ctx, code):
        await strobe(ctx, dut.control_start)
        await ctx.tick().until(dut.begin)
        ctx.set(dut.report[0].code, code)
        await ctx.tick()
        ctx.set(dut.report[0].code, 0)

    async def bench(ctx):
        ctx.set(dut.drained, 0)
        await ctx.tick().repeat(4)
        await fail(ctx, 5)
        resets = 0
        for cycle in range(20):
            ctx.set(dut.drained, cycle >= 5)
            ctx.set(dut.control_soft_reset, cycle == late)
            await ctx.tick()
            resets += ctx.get(dut.reset_units)
        assert resets == 1
        assert not ctx.get(dut.status_error) and not ctx.get(dut.status_busy)
        await fail(ctx, 6)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.error_code) == 6 and ctx.get(dut.status_irq)

    simulator.add_testbench(bench)
    simulator.run()
