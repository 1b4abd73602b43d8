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
        first, again = Signal(count), Signal(count)
        m.d.comb += [
            first.eq(later & -later), again.eq(self.request & -self.request),
            self.grant.eq(Mux(later.any(), first, again)),
        ]
        with m.If(self.take & self.request.any()):
            for index in range(count):  # ones above the granted one
                m.d.sync += above[index].eq(self.grant[:index].any() if index else 0)
        return m
