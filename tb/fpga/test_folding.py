# SPDX-License-Identifier: Apache-2.0
"""Folding LUTs into adders changes no function, and takes what it can."""

import copy
from collections import Counter
from collections.abc import Callable

import pytest

from sw.fpga import folding
from sw.fpga.folding import fold
from tb.fpga.netlists import equal, synthesised

pytestmark = pytest.mark.usefixtures("short_paths")
WIDTH = 8
DESIGN = f"""
module top(input [{WIDTH - 1}:0] a, b, c, input p, q, r, output [{WIDTH - 1}:0] y);
    assign y = EXPRESSION;
endmodule
"""
FOLDED = {  # the expression, and LUTs that a bit loses
    "choice of the second": ("a + (p ? b : c)", 1),
    "choice of the first": ("(p ? b : c) + a", 1),
    "choice of what is subtracted": ("a - (p ? b : c)", 0),  # 1 where both are 0
    "choice of what is subtracted from": ("(p ? b : c) - a", 1),
    "mask": ("a + (p ? b : 8'd0)", 1),
    "two masks": ("a + (p & q ? b : 8'd0)", 1),
    "inverted": ("a + (b ^ {8{p}}) + p", 1),
    "or": ("a - (b | {8{p}})", 1),
    "or of three": ("a + (b | c | {8{p}})", 0),
    "and of three, inverted": ("a - ~(b & c & {8{p}})", 1),
    "four inputs": ("a + (p ? q ? b : c : 8'd0)", 0),
}


def design(expression: str) -> dict:
    return synthesised(DESIGN.replace("EXPRESSION", expression))


@pytest.mark.parametrize("name", FOLDED)
def test_nothing_changes(name: str) -> None:
    expression, gain = FOLDED[name]
    before = design(expression)
    after = copy.deepcopy(before)
    gone = fold(after)
    kinds = [Counter(cell["type"] for cell in netlist["modules"]["top"]["cells"].values())
             for netlist in (before, after)]
    assert kinds[0]["CCU2C"] == kinds[1]["CCU2C"] > 0
    assert kinds[0]["LUT4"] - kinds[1]["LUT4"] == gone
    assert gone == gain * WIDTH
    assert equal(before, after)


def test_a_lut_with_other_sinks_stays() -> None:
    netlist = design(FOLDED["mask"][0])
    top = netlist["modules"]["top"]
    net = next(cell["connections"]["Z"][0] for cell in top["cells"].values()
               if cell["type"] == "LUT4")
    top["ports"]["z"] = {"direction": "output", "bits": [net]}
    assert fold(netlist) == WIDTH - 1


@pytest.mark.parametrize("fault", ["makes", "condition"])
def test_a_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the carry is made of the wrong side; an operand that is not 0 where it must be."""
    original: Callable = folding._plan
    if fault == "makes":
        def planted(*arguments: object) -> object:
            plan = original(*arguments)
            return plan and plan._replace(table=plan.table ^ 0xF)
        netlist = design(FOLDED["mask"][0])
    else:
        def planted(cells: dict, lut: str, adder: str, port: str) -> object:
            cells = copy.deepcopy(cells)
            half = cells[adder]["connections"]
            half[f"C{port[1]}"] = [str(1 - int(half[f"C{port[1]}"][0]))]
            plan = original(cells, lut, adder, port)
            return plan and plan._replace(table=plan.table ^ 0xFFFF)
        netlist = design(FOLDED["choice of what is subtracted"][0])
    monkeypatch.setattr(folding, "_plan", planted)
    after = copy.deepcopy(netlist)
    assert fold(after) > 0
    assert not equal(netlist, after)
