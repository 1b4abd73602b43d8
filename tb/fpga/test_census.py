# SPDX-License-Identifier: Apache-2.0
"""Cells are counted by what they take, and go to the module that they belong to."""

import pytest

from sw.fpga.census import census, module_of
from sw.fpga.targets import TARGETS, TargetError, get_target
from sw.fpga.tools import SynthesisError


def cell(kind: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    return {"type": kind, "port_directions": {"I": "input", "O": "output"},
            "connections": {"I": ["0", *inputs], "O": outputs}}


def netlist(cells: dict[str, object], nets: dict[str, list[int]]) -> dict[str, object]:
    names = {name: {"bits": bits, "hide_name": 0} for name, bits in nets.items()}
    return {"modules": {"top": {"cells": cells, "netnames": names}}}


@pytest.mark.parametrize(("name", "module"), [
    ("dut.compute.engine.group_3.lanes.accumulator_7", "compute.engine.group"),
    ("\\dut.control.fetcher.head", "control.fetcher"),
    ("dut.m_axi_arvalid", ""), ("chain", ""), ("dut.compute.counts.x", "compute.counts")])
def test_module(name: str, module: str) -> None:
    assert module_of(name) == module


def test_cells_by_module() -> None:
    """By their own name, by a net's, or by whom they drive; what says nothing is the top's."""
    found = census(netlist({
        "dut.compute.psums.0": cell("DP16KD", [], [10]),
        "$ff": cell("TRELLIS_FF", [20], [21]),
        "$named": cell("LUT4", [21], [20]),
        "$second": cell("LUT4", [1], [2]),
        "$first": cell("CCU2C", [3], [1]),
        "$lonely": cell("LUT4", [4], [5]),
        "$unknown": cell("GSR", [], []),
        "dut.compute.last": cell("MULT18X18D", [2], [6]),
    }, {"dut.control.state": [21], "dut.control.fetcher.next": [20], "chain": [4]}),
        TARGETS["ecp5-85k"])
    assert found == {"lut": 5, "ff": 1, "block_ram": 1, "ultra_ram": 0, "dsp": 1, "per_module": {
        "": {"lut": 1, "ff": 0, "block_ram": 0, "ultra_ram": 0, "dsp": 0},
        "compute": {"lut": 3, "ff": 0, "block_ram": 0, "ultra_ram": 0, "dsp": 1},
        "compute.psums": {"lut": 0, "ff": 0, "block_ram": 1, "ultra_ram": 0, "dsp": 0},
        "control": {"lut": 0, "ff": 1, "block_ram": 0, "ultra_ram": 0, "dsp": 0},
        "control.fetcher": {"lut": 1, "ff": 0, "block_ram": 0, "ultra_ram": 0, "dsp": 0}}}


def test_fields_of_a_structure_are_no_module() -> None:
    found = census(netlist({
        "dut.compute": cell("$scopeinfo", [], []), "dut": cell("$scopeinfo", [], []),
        "$a": cell("LUT4", [], [1]), "$b": cell("LUT4", [], [2])},
        {"dut.compute.entry.row": [1], "dut.burst.length": [2]}), TARGETS["ecp5-85k"])
    assert {module: part["lut"] for module, part in found["per_module"].items()} == {
        "": 1, "compute": 1}


def test_what_was_not_flattened_is_refused() -> None:
    given = netlist({"dut": cell("top.dut", [], [])}, {})
    given["modules"]["LUT4"] = {"attributes": {"blackbox": "1"}, "cells": {}}
    given["modules"]["top"]["cells"]["$lut"] = cell("LUT4", [], [])
    assert census(given, TARGETS["ecp5-85k"])["lut"] == 1
    given["modules"]["top.dut"] = {"attributes": {}, "cells": {"a": cell("LUT4", [], [])}}
    with pytest.raises(SynthesisError, match=r"module top.dut was not flattened"):
        census(given, TARGETS["ecp5-85k"])


def test_half_a_block_ram() -> None:
    cells = {f"m{n}": cell("RAMB18E2", [], [n]) for n in range(3)}
    assert census(netlist(cells, {}), TARGETS["xcup-kv260"])["block_ram"] == 1.5


def test_unknown_target() -> None:
    with pytest.raises(TargetError, match="no target 'ice40'; there are ecp5-85k, "):
        get_target("ice40")
