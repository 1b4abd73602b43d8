# SPDX-License-Identifier: Apache-2.0
"""Round-robin choice."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin"]


class RoundRobin(wiring.Component):
    """Chooses one of ``count`` requests: the first behind the one that was chosen last.

    ``grant`` is one-hot and combinational, 0 without a request. With ``take`` the choice is made,
    and the next search starts behind it.

    Members: ``request``, ``take`` : In; ``grant`` : Out.
    """

    def __init__(self, count):
        self.count = count
        super().__init__({"request": In(count), "take": In(1), "grant": Out(count)})

    def elaborate(self, platform):
        m = Module()
        count = self.count
        # `above`: ones from the place where the search starts
        above = Signal(count, init=(1 << count) - 1)
        later = Signal(count)
        m.d.comb += later.eq(self.request & above)
        # ones above the lowest that requests, among the later and among all
        first, again = Signal(count), Signal(count)
        behind = Mux(later.any(), first, again)
        m.d.comb += [
            *(first[index].eq(later[:index].any()) for index in range(1, count)),
            *(again[index].eq(self.request[:index].any()) for index in range(1, count)),
            self.grant.eq(Mux(later.any(), later & ~first, self.request & ~again)),
        ]
        with m.If(self.take & self.request.any()):
            m.d.sync += above.eq(behind)
        return m
