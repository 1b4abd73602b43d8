# SPDX-License-Identifier: Apache-2.0
"""Flip-flops and LUTs whose readers lie far apart get copies, each with its share of them."""

import json

from sw.fpga import replication
from sw.fpga.replication import KINDS, READERS, replicate

SOURCE = 3
FAR = 100
"""Tiles between two sides."""
MANY = max(READERS, -(-KINDS["TRELLIS_FF"][1] // FAR))
"""Readers at two sides that are enough for copies of a flip-flop."""


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
    sources = {cell["connections"]["Q"][0]: name for name, cell in cells.items()
               if cell["type"] == "TRELLIS_FF"}
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


def test_a_lut() -> None:
    """Its copies have its inputs, and so the flip-flop behind it has more readers."""
    least = max(READERS, -(-KINDS["LUT4"][1] // FAR))
    netlist, placed = design([(2, 7)] * (MANY - 1))
    cells = netlist["modules"]["top"]["cells"]
    (net,) = cells["reader_3"]["connections"]["Z"]
    for number in range(least):
        cells[f"enabled_{number}"] = {
            "type": "TRELLIS_FF", "attributes": {},
            "port_directions": {"CE": "input", "Q": "output"},
            "connections": {"CE": [net], "Q": [1000 + number]}}
        placed["modules"]["top"]["cells"][f"enabled_{number}"] = at(2 + FAR * (number % 2), 7)
    assert replicate(netlist, placed) == 2  # of the LUT and of its flip-flop
    (copy,) = (name for name in cells if name.startswith("reader_3$copy"))
    for name, mine in (("reader_3", 0), (copy, 1)):
        (net,) = cells[name]["connections"]["Z"]
        enabled = [n for n in range(least)
                   if cells[f"enabled_{n}"]["connections"]["CE"] == [net]]
        assert enabled == [*range(mine, least, 2)]
    (source,) = (name for name in cells if name.startswith("source$copy"))
    assert cells[copy]["connections"]["B"] == cells[source]["connections"]["Q"]
    assert cells["reader_3"]["connections"]["B"] == [SOURCE]


def test_a_lut_beside_its_reader() -> None:
    netlist, placed = design([(5, 9)])
    cells = netlist["modules"]["top"]["cells"]
    for number in range(MANY):
        cells[f"mux_{number}"] = {
            "type": "PFUMX", "attributes": {}, "port_directions": {"C0": "input", "BLUT": "input"},
            "connections": {"C0": cells["reader_0"]["connections"]["Z"],
                            "BLUT": cells["reader_0"]["connections"]["Z"] if number == 5 else []}}
        placed["modules"]["top"]["cells"][f"mux_{number}"] = at(2 + FAR * (number % 2), 7)
    assert replicate(netlist, placed) == 0
    cells["mux_5"]["connections"]["BLUT"] = []
    assert replicate(netlist, placed) == 1


def test_four_corners() -> None:
    corners = [(x, y) for x in (2, 120) for y in (2, 90) for _ in range(MANY)]
    netlist, placed = design(corners)
    assert replicate(netlist, placed) == 3
    assert sorted(len(readers) for readers in shares(netlist).values()) == [MANY] * 4


def test_what_stays() -> None:
    """Few readers, near readers, and readers of which nobody knows where they are."""
    near = [(x, x) for x in range(replication.SPAN // 2 + 1)]
    few = [(5, 9)] * (READERS - 2) + [(5 + FAR, 9)]
    short = [(5, 9)] * (READERS - 1) + [(5 + replication.SPAN + 1, 9)]
    unknown = design([(5, 9)] * 10 + [(105, 9)] * 20)
    del unknown[1]["modules"]["top"]["cells"]["reader_3"]
    for netlist, placed in (design(few), design(near), design(short), unknown):
        before = json.dumps(netlist)
        assert replicate(netlist, placed) == 0 and json.dumps(netlist) == before
