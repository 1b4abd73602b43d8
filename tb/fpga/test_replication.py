# SPDX-License-Identifier: Apache-2.0
"""Flip-flops whose readers lie far apart get copies, each with its share of them."""

import json

from sw.fpga import replication
from sw.fpga.replication import MEMORY_READERS, READERS, replicate

SOURCE = 3


def design(places: list[tuple[int, int]], kind: str = "LUT4") -> tuple[dict, dict]:
    """A flip-flop with a reader of a kind at each place, as yosys has it and as it is placed."""
    flip_flop = {"type": "TRELLIS_FF", "attributes": {}, "parameters": {"GSR": "DISABLED"},
                 "port_directions": {"CLK": "input", "DI": "input", "CE": "input", "Q": "output"},
                 "connections": {"CLK": [1], "DI": [2], "CE": ["1"], "Q": [SOURCE]}}
    cells, placed = {"source": flip_flop}, {"source": at(0, 0)}
    for number, place in enumerate(places):
        name, own = f"reader_{number}", SOURCE + 1 + 2 * number
        lut = {"type": "LUT4", "attributes": {},
               "port_directions": {"A": "input", "B": "input", "Z": "output"},
               "connections": {"A": ["0"], "B": [SOURCE], "Z": [own]}}
        cells[name] = lut
        placed[name] = at(*place)
        if kind == "PFUMX":  # it lies beside its LUT
            lut["connections"]["B"] = ["0"]
            cells[f"mux_{number}"] = {
                "type": "PFUMX", "attributes": {},
                "port_directions": {"BLUT": "input", "C0": "input", "Z": "output"},
                "connections": {"BLUT": [own], "C0": [SOURCE], "Z": [own + 1]}}
        elif kind == "DP16KD":
            lut["type"] = kind
        elif kind == "CCU2C":  # it is packed into two
            lut["type"] = kind
            placed[f"{name}$CCU2_COMB0"] = placed[f"{name}$CCU2_COMB1"] = placed.pop(name)
    return ({"modules": {"top": {"cells": cells, "netnames": {}}}},
            {"modules": {"top": {"cells": placed}}})


def at(x: int, y: int) -> dict:
    return {"attributes": {"NEXTPNR_BEL": f"X{x}/Y{y}/SLICEA.LUT0"}}


def shares(netlist: dict) -> dict[str, set[str]]:
    """Who reads each flip-flop."""
    cells = netlist["modules"]["top"]["cells"]
    sources = {cell["connections"][port][0]: name for name, cell in cells.items()
               for port in "QZ" if name.startswith("source") and port in cell["connections"]}
    found = {name: set() for name in sources.values()}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                found |= {sources[bit]: found[sources[bit]] | {name}
                          for bit in bits if bit in sources}
    return found


def test_readers_at_both_sides() -> None:
    for kind, name in (("LUT4", "reader"), ("PFUMX", "mux"), ("CCU2C", "reader")):
        netlist, placed = design([(5, 9)] * 10 + [(105, 9)] * 20, kind)
        assert replicate(netlist, placed) == 1
        assert shares(netlist) == {
            "source": {f"{name}_{n}" for n in range(10)},
            "source$copy1": {f"{name}_{n}" for n in range(10, 30)}}
        cells = netlist["modules"]["top"]["cells"]
        for port, bits in cells["source"]["connections"].items():
            assert port == "Q" or cells["source$copy1"]["connections"][port] == bits
        assert cells["source$copy1"]["parameters"] == cells["source"]["parameters"]
        drivers = [bit for cell in cells.values() for port, bits in cell["connections"].items()
                   if cell["port_directions"][port] == "output" for bit in bits]
        assert len(drivers) == len(set(drivers))


def test_four_corners() -> None:
    corners = [(x, y) for x in (2, 120) for y in (2, 90) for _ in range(READERS)]
    netlist, placed = design(corners)
    assert replicate(netlist, placed) == 3
    assert sorted(len(readers) for readers in shares(netlist).values()) == [READERS] * 4


def test_luts_that_enable_block_rams() -> None:
    """They are copied; flip-flops with as few readers, and LUTs that others read, are not."""
    places = [(5, 9)] * (MEMORY_READERS // 2) + [(105, 9)] * (MEMORY_READERS // 2)
    for others, copies in (([], 1), ([(5, 9)], 0)):
        netlist, placed = design([*places, *others], "DP16KD")
        cells = netlist["modules"]["top"]["cells"]
        for number in range(len(others)):
            cells[f"reader_{len(places) + number}"]["type"] = "LUT4"
        assert replicate(netlist, placed) == 0
        source = cells["source"]
        source["type"], source["connections"] = "LUT4", {"A": [2], "Z": [SOURCE]}
        source["port_directions"] = {"A": "input", "Z": "output"}
        assert replicate(netlist, placed) == copies
        assert [shares(netlist)[name] for name in ("source", "source$copy1")[:1 + copies]] == [
            {f"reader_{n}" for n in group} for group in (
                (range(4), range(4, 8)) if copies else (range(9),))]


def test_what_stays() -> None:
    """Few readers, near readers, and readers of which nobody knows where they are."""
    near = [(x, x) for x in range(replication.SPAN // 2 + 1)]
    unknown = design([(5, 9)] * 10 + [(105, 9)] * 20)
    del unknown[1]["modules"]["top"]["cells"]["reader_3"]
    for netlist, placed in (design([(5, 9), (105, 9)] * (READERS // 2 - 1)), design(near), unknown):
        before = json.dumps(netlist)
        assert replicate(netlist, placed) == 0 and json.dumps(netlist) == before
