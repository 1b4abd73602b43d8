# SPDX-License-Identifier: Apache-2.0
"""Semaphores against counters in Python."""

import random

from amaranth.sim import Simulator

from hw.control.semaphores import Semaphores

UNITS = range(4)


def simulate(bench):
    dut = Semaphores()
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)

    async def run(ctx):
        await bench(ctx, dut)

    simulator.add_testbench(run)
    simulator.run()


def test_random():
    """A grant lowers each semaphore of its mask, which was above 0; what can be granted is."""
    rng = random.Random(1)

    async def bench(ctx, dut):
        value = [0] * 16
        masks = [None] * 4
        grants = idle = 0
        for _ in range(3000):
            for unit in UNITS:
                if masks[unit] is None and rng.random() < 0.3:
                    chosen = rng.sample(range(16), rng.choice([0, 1, 2]))
                    masks[unit] = sum(1 << bit for bit in chosen)
                ctx.set(dut.wait[unit], masks[unit] or 0)
            ctx.set(dut.request, sum(1 << unit for unit in UNITS if masks[unit] is not None))
            posts = [sum(1 << bit for bit in range(16) if rng.random() < 0.01) for _ in range(3)]
            for poster, post in enumerate(posts):
                ctx.set(dut.post[poster], post)
            grant = ctx.get(dut.grant)
            for unit in UNITS:
                if grant >> unit & 1:
                    assert grant == 1 << unit
                    for bit in range(16):
                        value[bit] -= masks[unit] >> bit & 1
                    assert min(value) >= 0
                    masks[unit] = None
                    grants += 1
            await ctx.tick()
            satisfied = any(
                mask is not None and all(value[bit] for bit in range(16) if mask >> bit & 1)
                for mask in masks)
            idle = idle + 1 if satisfied and not grant else 0
            assert idle < 4
            for post in posts:
                for bit in range(16):
                    value[bit] += post >> bit & 1
        assert grants > 400
        assert not ctx.get(dut.overflow)

    simulate(bench)


def test_overflow_and_order():
    async def bench(ctx, dut):
        ctx.set(dut.post[0], 1)
        ctx.set(dut.post[2], 1)
        await ctx.tick().repeat(127)
        ctx.set(dut.post[2], 0)
        await ctx.tick()
        ctx.set(dut.post[0], 0)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.overflow)  # 255
        ctx.set(dut.wait[1], 1)
        ctx.set(dut.wait[3], 1)
        ctx.set(dut.request, 0b1010)
        ctx.set(dut.stop, 1)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.grant) == 0
        ctx.set(dut.stop, 0)
        await ctx.tick()
        assert ctx.get(dut.grant) == 0b0010  # the lowest first
        ctx.set(dut.request, 0)
        ctx.set(dut.post[1], 1)
        await ctx.tick()
        await ctx.tick().repeat(3)
        assert ctx.get(dut.overflow)

    simulate(bench)
