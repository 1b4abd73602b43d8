# SPDX-License-Identifier: Apache-2.0
"""What the flow asks of yosys beyond its defaults has its effect."""

from collections import Counter

import pytest

from tb.fpga.netlists import synthesised

pytestmark = pytest.mark.usefixtures("short_paths")
DESIGN = """
module top(input clk, input reset, input enable, input [{high}:0] d,
           output reg [{high}:0] q, output reg [{high}:0] r);
    reg [{high}:0] a, b;
    always @(posedge clk) begin
        a <= d; b <= a;
        if (enable) q <= b;
        if (reset) r <= 0; else r <= q;
    end
endmodule
"""


def cells(name: str, width: int) -> list[tuple[str, dict[str, list]]]:
    """Type and connections of what the target makes of a delay of two, a register with an enable
    and one with a reset."""
    found = synthesised(DESIGN.format(high=width - 1), name)["modules"]["top"]["cells"].values()
    return [(cell["type"], cell["connections"]) for cell in found]


@pytest.mark.parametrize(("width", "own"), [
    (15, set()), (16, {"CE"}), (127, {"CE"}), (128, {"CE", "LSR"})])
def test_small_control_sets_become_logic(width: int, own: set[str]) -> None:
    """On the ECP5, flip-flops with a reset or an enable of their own only where they are many."""
    flip_flops = [nets for kind, nets in cells("ecp5-85k", width) if kind == "TRELLIS_FF"]
    assert len(flip_flops) == 4 * width
    for port in ("LSR", "CE"):
        used = Counter(isinstance(net, int) for nets in flip_flops for net in nets.get(port, []))
        assert used[True] == (width if port in own else 0), port


@pytest.mark.parametrize("name", ["xc7-z020", "xcup-kv260"])
def test_delays_are_flip_flops(name: str) -> None:
    kinds = Counter(kind for kind, _ in cells(name, 4))
    assert kinds["FDRE"] == 16 and not {kind for kind in kinds if kind.startswith("SRL")}
