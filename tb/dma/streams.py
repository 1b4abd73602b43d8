# SPDX-License-Identifier: Apache-2.0
"""Puts and gets payloads of streams in the Amaranth simulator, with random pauses."""

import random

from amaranth.sim import Simulator

__all__ = ["transfer"]


def transfer(component, payloads, count, pause_in=0.0, pause_out=0.0, seed=0):
    """Feed ``component.i``, return ``count`` payloads of ``component.o`` and the cycle of each.

    Payloads are dicts of fields, in and out. A payload that changes or falls
    while it waits fails the test.
    """
    inputs, outputs = random.Random(seed), random.Random(seed + 1)
    taken, cycles = [], []

    async def feed(ctx):
        for payload in payloads:
            while inputs.random() < pause_in:
                await ctx.tick()
            ctx.set(component.i.payload, payload)
            ctx.set(component.i.valid, 1)
            await ctx.tick().until(component.i.ready)
            ctx.set(component.i.valid, 0)

    async def drain(ctx):
        cycle, waiting = 0, None
        while len(taken) < count:
            ready = outputs.random() >= pause_out
            ctx.set(component.o.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(component.o.valid, component.o.payload)
            fields = {name: payload[name] for name in component.o.payload.shape().members}
            assert waiting is None or (valid and fields == waiting)
            waiting = fields if valid and not ready else None
            if valid and ready:
                taken.append(fields)
                cycles.append(cycle)
            cycle += 1
            assert cycle < 100_000, f"only {len(taken)} of {count} came"

    simulator = Simulator(component)
    simulator.add_clock(1e-8)
    simulator.add_testbench(feed, background=True)
    simulator.add_testbench(drain)
    simulator.run()
    return taken, cycles
