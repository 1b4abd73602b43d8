# SPDX-License-Identifier: Apache-2.0
"""The semaphores that order the units."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Semaphores"]

_WIDTH = 8


class Semaphores(wiring.Component):
    """Counters that descriptors wait for and raise.

    A request is granted when each semaphore of its mask is above 0; each is then lowered by 1.
    A request is looked at in the cycle after it came, and granted in the next; one grant in two
    cycles, the lowest numbered client first. A post raises each semaphore of
    its mask by 1 in the next cycle; posts of several clients add up. Raising one beyond 255 is
    an overflow. Reset sets all to 0.

    Parameters: ``count`` of semaphores, ``waiters``, ``posters``.

    Members: ``request``, ``wait`` mask of each waiter, held until the ``grant``, a strobe;
    ``post`` mask of each poster (0: none); ``stop`` no grants; ``overflow`` sticky.
    """

    def __init__(self, count=16, waiters=4, posters=3):
        self.count = count
        self.waiters = waiters
        self.posters = posters
        super().__init__({
            "request": In(waiters), "wait": In(count).array(waiters), "grant": Out(waiters),
            "post": In(count).array(posters), "stop": In(1), "overflow": Out(1)})

    def elaborate(self, platform):
        m = Module()
        value = [Signal(_WIDTH, name=f"value_{index}") for index in range(self.count)]
        above = Signal(self.count)  # value != 0, from a register
        asked = Signal(self.waiters)  # masks come out of queues: registers behind these
        masks = [Signal(self.count, name=f"mask_{index}", reset_less=True)
                 for index in range(self.waiters)]
        m.d.sync += [asked.eq(self.request & ~self.grant),
                     *(mask.eq(wait) for mask, wait in zip(masks, self.wait, strict=True))]
        satisfied = Cat(asked[waiter] & ~(masks[waiter] & ~above).any()
                        for waiter in range(self.waiters))
        chosen = Signal(self.waiters)
        lowered = Signal(self.count)  # by the grant of this cycle
        with m.If(~self.stop & (self.grant == 0)):
            m.d.comb += chosen.eq(satisfied & (-satisfied)[:self.waiters])
        m.d.sync += [self.grant.eq(chosen), lowered.eq(0)]
        for waiter in range(self.waiters):
            with m.If(chosen[waiter]):
                m.d.sync += lowered.eq(masks[waiter])
        post = [Signal(self.count, name=f"post_{index}") for index in range(self.posters)]
        m.d.sync += [post[poster].eq(self.post[poster]) for poster in range(self.posters)]
        for index, number in enumerate(value):
            total = Signal(_WIDTH + 2, name=f"total_{index}")
            raised = sum(mask[index] for mask in post)
            m.d.comb += total.eq(number + raised - lowered[index])
            m.d.sync += [number.eq(total), above[index].eq(total[:_WIDTH].any())]
            with m.If(total[_WIDTH:].any()):
                m.d.sync += self.overflow.eq(1)
        return m
