# SPDX-License-Identifier: Apache-2.0
"""Proofs of what chooses: round robin, and the choices that it is made of."""

from amaranth import *

from hw.mux import at_most_one, select
from hw.round_robin import RoundRobin
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties

__all__ = ["PROOFS"]

_COUNT = 5


@proof(RoundRobin, bugs=[
    Bug("begins at the lowest again", "above.eq(behind)", "above.eq(~0)"),
    Bug("the search starts at the one chosen last", "above.eq(behind)",
        "above.eq(behind | self.grant)"),
    Bug("two grants", "later & ~first", "later"),
])
def _round_robin(p: Properties, block: type) -> None:
    """One grant, to a requester, and after at most ``count`` - 1 others."""
    dut = p.add(block(_COUNT))
    p.claim("at most one is granted", (dut.grant & (dut.grant - 1)[:_COUNT]) == 0)
    p.claim("only who requests is granted", (dut.grant & ~dut.request) == 0)
    p.claim("who requests alone is granted", dut.grant == dut.request,
            (dut.request & (dut.request - 1)[:_COUNT]) == 0)
    p.claim("one is granted whenever one requests", dut.grant.any() == dut.request.any())
    who = p.any(range(_COUNT))
    p.assume("the one that is followed is there", who < _COUNT)
    mine, chosen = dut.request.bit_select(who, 1), dut.grant.bit_select(who, 1)
    waited = p.register(4, "waited")
    with p.m.If(~mine | (dut.take & chosen)):
        p.m.d.sync += waited.eq(0)
    with p.m.Elif(dut.take):
        p.m.d.sync += waited.eq(waited + 1)
    p.claim("nobody waits for more than the others once each", waited < _COUNT)
    above = p.signal("above")
    p.invariant((above | (above << 1))[:_COUNT] == above)
    place = p.register(4, "place")          # where the search starts
    p.m.d.comb += place.eq(Mux(above == 0, 0, _COUNT - sum(above)))
    behind = Mux(who >= place, who - place, who + _COUNT - place)
    p.invariant(waited + behind[:4] < _COUNT)
    p.cover("one waits for all others", waited == _COUNT - 1)


@proof(at_most_one, bugs=[
    Bug("two in one half are not seen", "more | most | (a & b)", "more | (a & b)"),
    Bug("two in different halves are not seen", "more | most | (a & b)", "more | most"),
])
def _at_most_one(p: Properties, block) -> None:
    """The tree counts bits."""
    value = p.any(7)
    p.claim("true exactly for one bit or none", block(value) == (sum(value) <= 1))
    p.cover("two bits", ~block(value))


@proof(select, bugs=[
    Bug("halves swapped", "Mux(bit, b, a)", "Mux(bit, a, b)"),
    Bug("an odd one is lost", "values.append(values[-1])", "values.append(values[0])"),
])
def _select(p: Properties, block) -> None:
    """The tree picks the element; beyond the end the last one."""
    index = p.any(3)
    values = [p.any(2) for _ in range(5)]
    wanted = values[-1]
    for number, value in enumerate(values):
        wanted = Mux(index == number, value, wanted)
    p.claim("the element asked for", block(index, values) == wanted)
    p.cover("beyond the end", index > 4)


PROOFS = (_round_robin, _at_most_one, _select)
