# SPDX-License-Identifier: Apache-2.0
"""Block RAMs get the sites that suit their nets."""

import pytest

from sw.fpga.floorplan import assign, constrain


def placed(memories: list[tuple[int, int]], readers: list[list[tuple[int, int]]]) -> dict:
    """A netlist of block RAMs at these places, each with a net to flip-flops at those; all of them
    have a clock."""
    cells = {}

    def add(name: str, kind: str, place: tuple[int, int], **connections: list[int]) -> None:
        bel = f"X{place[0]}/Y{place[1]}/{'EBR0' if kind == 'DP16KD' else 'SLICEA.FF0'}"
        cells[name] = {"type": kind, "attributes": {"NEXTPNR_BEL": bel},
                       "connections": {"CLK": [1], **connections}}

    for number, (memory, places) in enumerate(zip(memories, readers, strict=True)):
        add(f"memory_{number}", "DP16KD", memory, DO0=[2 + number])
        for index, place in enumerate(places):
            add(f"reader_{number}_{index}", "TRELLIS_FF", place, DI=[2 + number])
    return {"modules": {"top": {"cells": cells}}}


def test_memories_that_lie_crosswise_change_places() -> None:
    design = placed([(0, 22), (100, 22), (50, 46)], [[(99, 23)], [(2, 21), (0, 20)], [(50, 40)]])
    sites, before, after = assign(design)
    assert sites == {"memory_0": "X100/Y22/EBR0", "memory_1": "X0/Y22/EBR0",
                     "memory_2": "X50/Y46/EBR0"}
    # the first one's net shrinks from 99 + 1 tiles to 1 + 1, the second's from 100 + 2 to 2 + 2
    assert before - after == (100 - 2) + (102 - 4)
    netlist = {"modules": {"top": {"cells": {name: {"attributes": {}} for name in sites}}}}
    constrain(netlist, sites)
    assert {name: cell["attributes"]["BEL"] for name, cell in
            netlist["modules"]["top"]["cells"].items()} == sites


def test_memories_in_their_best_places_stay() -> None:
    design = placed([(0, 22), (100, 82)], [[(1, 22)], [(99, 82)]])
    sites, before, after = assign(design)
    assert sites == {"memory_0": "X0/Y22/EBR0", "memory_1": "X100/Y82/EBR0"}
    assert before == after


@pytest.mark.parametrize("count", [0, 1])
def test_few(count: int) -> None:
    design = placed([(0, 22)] * count, [[(5, 5)]] * count)
    sites, before, after = assign(design)
    assert len(sites) == count and before == after
