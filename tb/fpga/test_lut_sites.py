# SPDX-License-Identifier: Apache-2.0
"""Two LUTs share a site only where a device lets them, and nothing that could is left over."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw.fpga import lut_sites
from sw.fpga.census import census
from sw.fpga.lut_sites import SITE, pairs, share
from sw.fpga.targets import TARGETS
from tb.fpga.netlists import synthesised

TARGET = TARGETS["xcup-kv260"]


def lut(output: int, *inputs: int) -> dict[str, object]:
    ports = {f"I{n}": [bit] for n, bit in enumerate(inputs)}
    return {"type": f"LUT{len(inputs)}", "parameters": {"INIT": "0" * (1 << len(inputs))},
            "attributes": {}, "connections": {**ports, "O": [output]},
            "port_directions": {**dict.fromkeys(ports, "input"), "O": "output"}}


def netlist(*cells: dict[str, object]) -> dict[str, object]:
    return {"modules": {"top": {"cells": {f"c{n}": cell for n, cell in enumerate(cells)},
                                "netnames": {}}}}


def sites(given: dict) -> list[list[dict]]:
    """The cells of each site that holds several, as the attribute says."""
    found: dict[str, list[dict]] = {}
    for cell in given["modules"]["top"]["cells"].values():
        if SITE in cell.get("attributes", {}):
            found.setdefault(cell["attributes"][SITE], []).append(cell)
    return list(found.values())


def inputs(cell: dict) -> set[int]:
    return {bit for port, bits in cell["connections"].items() if port != "O"
            for bit in bits if isinstance(bit, int)}


def check(given: dict) -> None:
    """What a site can hold: AMD UG474 and UG574, on the LUT6 with its outputs O5 and O6."""
    everything = given["modules"]["top"]["cells"].values()
    bits = [pair for cell in everything if cell["type"] == "CARRY4"
            for pair in zip(cell["connections"]["S"], cell["connections"]["DI"], strict=True)]
    heads = {head for head, _ in bits}
    seen = []
    for cells in sites(given):
        assert len(cells) == 2
        one, other = cells
        seen += [id(one), id(other)]
        assert all(cell["type"] in {f"LUT{n}" for n in range(1, 6)} for cell in cells)
        assert len(inputs(one) | inputs(other)) <= 5
        outputs = [cell["connections"]["O"][0] for cell in cells]
        if heads & set(outputs):  # O6 and O5 of the slice's figure, on their way to the chain
            assert tuple(outputs) in bits or tuple(outputs[::-1]) in bits
            passed = next(output for output in outputs if output not in heads)
            assert sum(bits.count(passed) for cell in everything
                       for port, bits in cell["connections"].items() if port != "O") == 1
        else:
            assert inputs(one) & inputs(other)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(("cells", "count"), [
    ([lut(10, 1, 2, 3), lut(11, 4, 5, 3)], 1),
    ([lut(10, 1, 2, 3), lut(11, 4, 5, 6)], 0),  # nothing in common
    ([lut(10, 1, 2, 3, 4), lut(11, 5, 6, 3, 4)], 0),  # six inputs
    ([lut(10, 1, 2, 3, 4, 5), lut(11, 1, 2, 3, 4, 5)], 1),
    ([lut(10, 1, 2, 3, 4, 5, 6), lut(11, 1, 2)], 0),  # the larger one needs the site
    ([lut(10, 1, 2, 9), lut(11, 3, 4, 9), lut(12, 5, 6, 9)], 1),
    # the first two could share a site, but then the others were alone
    ([lut(10, 1, 2, 9), lut(11, 5, 6, 9), lut(12, 1, 2, 3, 4), lut(13, 5, 6, 7, 8)], 2),
    ([lut(10, 1, 2), lut(11, 1, 2, 3, 4, 5), lut(12, 1, 7, 8)], 1),
    ([lut(10, 1, "1", 3), lut(11, 4, 5, 3)], 1),  # a constant is no input
])
def test_by_hand(cells: list[dict], count: int) -> None:
    given = netlist(*cells)
    assert share(given) == count == pairs(given) == len(sites(given))
    check(given)
    found = census(given, TARGET)
    assert found["lut"] == len(cells) - count


def chain(chooses: list[int], passed: list[int]) -> dict[str, object]:
    return {"type": "CARRY4", "connections": {"S": chooses, "DI": passed, "O": [20, 21, 22, 23]},
            "port_directions": {"S": "input", "DI": "input", "O": "output"}}


@pytest.mark.parametrize(("cells", "outputs"), [
    # a bit's LUT, and what it passes on
    ([lut(10, 1, 2), lut(11, 3, 4), lut(12, 1, 2), lut(13, 5)], {(10, 12), (11, 13)}),
    # with six inputs, or where others read it, too, it stays alone, and may have another partner
    ([lut(10, 1, 2, 3, 4), lut(12, 5, 6)], set()),
    ([lut(10, 1, 2), lut(12, 1, 2), lut(30, 12, 7)], set()),
    ([lut(10, 1, 2), lut(12, 1, 2), lut(30, 12, 1)], {(12, 30)}),
    ([lut(10, 1, 2), lut(11, 1, 2)], set()),
])
def test_carry_chains(cells: list[dict], outputs: set[tuple[int, int]]) -> None:
    given = netlist(chain([10, 11, "0", "0"], [12, 13, "0", "0"]), *cells)
    share(given)
    check(given)
    assert {tuple(sorted(cell["connections"]["O"][0] for cell in pair))
            for pair in sites(given)} == outputs


def test_a_bit_twice_in_a_chain_has_one_site() -> None:
    given = netlist(chain([10, 10, "0", "0"], [12, 13, "0", "0"]),
                    lut(10, 1, 2), lut(12, 1, 3), lut(13, 1, 4))
    assert share(given) == 1
    assert [len(pair) for pair in sites(given)] == [2]


def test_an_inverter_is_a_lut() -> None:
    inverter = {"type": "INV", "parameters": {}, "attributes": {}, "connections": {
        "I": [1], "O": [10]}, "port_directions": {"I": "input", "O": "output"}}
    given = netlist(inverter, lut(11, 1, 2))
    assert share(given) == 1
    check(given)
    cell = given["modules"]["top"]["cells"]["c0"]
    assert cell["connections"] == {"I0": [1], "O": [10]}
    assert cell["port_directions"] == {"I0": "input", "O": "output"}
    assert cell["parameters"] == {"INIT": "01"}  # the output for 1, and for 0


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True), max_size=24))
def test_pairs_are_allowed_and_none_is_missing(tables: list[list[int]]) -> None:
    given = netlist(*(lut(100 + n, *table) for n, table in enumerate(tables)))
    share(given)
    check(given)
    alone = [cell for cell in given["modules"]["top"]["cells"].values()
             if SITE not in cell["attributes"] and len(inputs(cell)) < 6]
    for one, other in combinations(alone, 2):
        assert not inputs(one) & inputs(other) or len(inputs(one) | inputs(other)) > 5


DESIGN = """
module top(input clk, input [1:0] s, input [15:0] a, b, input [7:0] c, output reg [15:0] x, y);
    always @(posedge clk) begin
        x <= s[0] ? a : b;
        y <= y + (s[1] ? ~a : {c, c});
    end
endmodule
"""


@pytest.mark.usefixtures("short_paths")
def test_what_yosys_makes() -> None:
    """Choices between two are half a site each; sums, a site for each bit."""
    given = synthesised(DESIGN, TARGET.name)
    before = Counter(cell["type"].replace("INV", "LUT1")
                     for cell in given["modules"]["top"]["cells"].values())
    assert share(given) == 8 and len(sites(given)) == 8
    check(given)
    assert Counter(cell["type"] for cell in given["modules"]["top"]["cells"].values()) == before
    assert census(given, TARGET)["lut"] == 8 + 16


@pytest.mark.usefixtures("short_paths")
def test_a_wrong_limit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: six inputs together."""
    monkeypatch.setattr(lut_sites, "_INPUTS", 6)
    given = netlist(lut(10, 1, 2, 3, 4), lut(11, 5, 6, 3, 4))
    assert share(given) == 1
    with pytest.raises(AssertionError):
        check(given)
