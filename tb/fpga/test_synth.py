# SPDX-License-Identifier: Apache-2.0
"""The flow: its figures, its cache, its history, and tools that fail."""

import csv
import json
from pathlib import Path

import pytest

from hw import frame
from hw.presets import get_preset
from sw.fpga import place, synth, tools
from sw.fpga.targets import TARGETS

YOSYS = """#!/usr/bin/env python3
import json, re, sys
if "--version" in sys.argv:
    print("Yosys 1.2, of a test")
    raise SystemExit
print("3.1. Executing PROC pass (convert processes to netlists).")
script = sys.argv[2]
open("{calls}", "a").write("yosys\\n")
cells = {{f"dut.a.x{{n}}": {{"type": kind, "parameters": {{"DATA_WIDTH_A": "10010", "INIT": "0"}},
                            "attributes": {{}},
                            "port_directions": {{"O": "output", "Q": "output", "Z": "output",
                                                **dict.fromkeys(["DI", *"ABCD"], "input")}},
                            "connections": {{"DI": [], "O": [n + 90],
                                            "Z" if kind == "LUT4" else "Q": [n + 2],
                                            **{{pin: ["0"] for pin in "ABCD"}}}}}}
         for n, kind in enumerate(["LUT4", "TRELLIS_FF", "DP16KD"] + ["LUT4"] * {luts})}}
open(re.search("write_json (.*)", script)[1], "w").write(
    json.dumps({{"modules": {{"top": {{"cells": cells, "netnames": {{}}, "ports": {{}}}}}}}}))
"""
NEXTPNR = """#!/usr/bin/env python3
import json, sys
if "--version" in sys.argv:
    print("nextpnr 0.1")
    raise SystemExit
cells = json.load(open(sys.argv[sys.argv.index("--json") + 1]))["modules"]["top"]["cells"]
sites = [cell["attributes"]["BEL"] for cell in cells.values() if "BEL" in cell["attributes"]]
open("{calls}", "a").write("-".join(["nextpnr", *sites]) + "\\n")
if "--no-route" in sys.argv:
    seed = sys.argv[sys.argv.index("--seed") + 1]
    for name, cell in cells.items():
        cell["attributes"] = {{"NEXTPNR_BEL": "X4/Y22/EBR0" if cell["type"] == "DP16KD" else
                              f"X{{7 + (int(seed) - 3) ** 2}}/Y22/SLICEA.LUT0"}}
        cell["connections"]["WEA"] = [1]
    json.dump({{"modules": {{"top": {{"cells": cells}}}}}},
              open(sys.argv[sys.argv.index("--write") + 1], "w"))
    open("{calls}.first", "w").write(" ".join(sys.argv[1:]))
    raise SystemExit
open("{calls}.arguments", "w").write(" ".join(sys.argv[1:]))
path = [{{"delay": 1.25, "type": "logic", "to": {{"cell": "dut.compute.engine.group_1.row"}}}}]
json.dump({{"utilization": {{"TRELLIS_COMB": {{"used": 7}}, "DP16KD": {{"used": 1}}}},
           "fmax": {{"clk": {{"achieved": 123.456 + ("--seed 4" in " ".join(sys.argv))}}}},
           "critical_paths": [{{"from": "posedge clk", "to": "posedge clk", "path": path}},
                              {{"from": "<async>", "to": "posedge clk", "path": []}}]}},
          open(sys.argv[sys.argv.index("--report") + 1], "w"))
"""


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flow of two programs that only pretend; the file that says which ones ran."""
    calls = tmp_path / "calls"
    plant(tmp_path, monkeypatch, YOSYS.format(calls=calls, luts=1), NEXTPNR.format(calls=calls))
    monkeypatch.setattr(synth, "OUTPUT", tmp_path / "synth")
    monkeypatch.setattr(synth, "HISTORY", tmp_path / "history.csv")
    return calls


def plant(folder: Path, monkeypatch: pytest.MonkeyPatch, yosys: str, nextpnr: str) -> None:
    for name, text in (("yosys", yosys), ("nextpnr-ecp5", nextpnr)):
        program = folder / name
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setattr(tools, "find", lambda tool: str(folder / tool))
    tools.version.cache_clear()


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


@pytest.fixture(autouse=True)
def _forget():
    yield
    tools.version.cache_clear()


ARGUMENTS = ["--component", "walker", "--preset", "tiny"]
PLACED = ["nextpnr", "nextpnr-X4/Y22/EBR0"]


def test_figures(flow: Path, tmp_path: Path, capsys) -> None:
    assert synth.main([*ARGUMENTS, "--mhz", "120"]) == 0
    result = json.loads((tmp_path / "synth" / "walker-tiny-ecp5-85k.json").read_text())
    assert {key: result[key] for key in (
        "adders", "lut", "ff", "block_ram", "dsp", "fmax_mhz", "speed_grade")} == {
        "adders": 16, "lut": 7, "ff": 0, "block_ram": 1, "dsp": 0, "fmax_mhz": 123.5,
        "speed_grade": "6"}
    assert result["per_module"]["a"]["lut"] == 2
    assert result["tool_versions"] == {"yosys": "Yosys 1.2", "nextpnr-ecp5": "nextpnr 0.1"}
    assert result["critical_path"] == [{
        "ns": 1.25, "kind": "logic", "module": "compute.engine.group",
        "to": "dut.compute.engine.group_1.row"}]
    assert "Fmax: 123.5 MHz, speed grade 6" in capsys.readouterr().out
    assert not (tmp_path / "history.csv").exists()  # only the whole accelerator's figures


def test_too_slow(flow: Path) -> None:
    assert synth.main([*ARGUMENTS, "--mhz", "124"]) == 1


def test_what_was_done_is_not_done_again(flow: Path) -> None:
    for arguments in ([*ARGUMENTS, "--no-place"], ARGUMENTS, ARGUMENTS,
                      [*ARGUMENTS, "--seed", "2"]):
        assert synth.main(arguments) == 0
    assert flow.read_text().split() == ["yosys", *PLACED, *PLACED]


def test_the_first_placement_with_the_shortest_nets_counts(flow: Path, tmp_path: Path,
                                                           capsys) -> None:
    """Four are tried; the one of seed 3 has all cells beside each other."""
    assert synth.main([*ARGUMENTS, "--seed", "1", "--tries", "4"]) == 0
    assert flow.read_text().split() == ["yosys", *["nextpnr"] * 4, PLACED[1]]
    assert "placer-0-2: nets of 3 tiles, the others 4, 4, 7" in capsys.readouterr().err
    logs = sorted(path.name for path in (tmp_path / "synth").rglob("placer-*"))
    assert logs == [f"placer-0-{number}.log" for number in range(4)]
    assert synth.main([*ARGUMENTS, "--seed", "1", "--tries", "4"]) == 0
    assert flow.read_text().count("nextpnr") == 5


def test_the_fastest_of_several_routes_counts(flow: Path, tmp_path: Path, capsys) -> None:
    """The first placement has one seed; seed 4 is the fastest of three."""
    assert synth.main([*ARGUMENTS, "--seed", "3", "--routes", "3", "--mhz", "124"]) == 0
    assert flow.read_text().split() == ["yosys", PLACED[0], *[PLACED[1]] * 3]
    result = json.loads((tmp_path / "synth" / "walker-tiny-ecp5-85k.json").read_text())
    assert result["fmax_mhz"] == 124.5
    told = capsys.readouterr().err
    assert "routed: seed 3 123.5 MHz, seed 4 124.5 MHz, seed 5 123.5 MHz" in told


@pytest.mark.parametrize("option", ["--tries", "--routes"])
def test_nothing_to_choose_from(flow: Path, capsys, option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        synth.main([*ARGUMENTS, option, "0"])
    assert f"{option} must be at least 1, not 0" in capsys.readouterr().err and not flow.exists()


def test_choices_of_the_flow_give_way(flow: Path) -> None:
    told, first = flow.with_suffix(".arguments"), flow.with_suffix(".first")
    assert synth.main(ARGUMENTS) == 0
    assert "--router router2 --placer static" in told.read_text()
    assert synth.main([*ARGUMENTS, "--", "--placer", "heap"]) == 0
    assert "--placer heap" in told.read_text() and "static" not in told.read_text()
    assert synth.main([*ARGUMENTS, "--", "--placer=sa", "--threads", "1"]) == 0
    assert "--placer=sa --threads 1" in told.read_text()
    assert "--placer heap --threads 1" in first.read_text()
    assert synth.main([*ARGUMENTS, "--", "--router=router1"]) == 0
    assert "router2" not in told.read_text() and "--placer static" in told.read_text()


def test_block_rams_get_sites(
        flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A design is placed twice, or three times where they are many; each time but the first, they
    are where the best assignment has them. HeAP begins where they are few."""
    first = flow.with_suffix(".first")
    assert synth.main(ARGUMENTS) == 0
    assert flow.read_text().split() == ["yosys", *PLACED]
    assert "--placer heap" in first.read_text()
    monkeypatch.setattr(place, "_CROWDED", 0)
    assert synth.main(ARGUMENTS) == 0
    assert flow.read_text().split() == ["yosys", *PLACED, *PLACED, PLACED[-1]]
    assert "--placer static" in first.read_text()
    assert not [*tmp_path.rglob("placed.json"), *tmp_path.rglob("floorplan.json")]


def test_known_sites(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The first of two placements has the block RAMs where a file says; they exchange sites then,
    and the last ones are kept."""
    monkeypatch.setattr(synth, "SITES", tmp_path / "known")
    monkeypatch.setattr(place, "_CROWDED", 0)
    known = tmp_path / "known" / "tiny-ecp5-85k.json"
    known.parent.mkdir()
    known.write_text(json.dumps({"dut.a.x2": "X9/Y46/EBR0"}))
    assert synth.main(ARGUMENTS) == 0
    assert flow.read_text().split() == ["yosys", "nextpnr-X9/Y46/EBR0", PLACED[1]]
    assert "block RAMs begin at 1 sites that are known" in capsys.readouterr().err
    last = tmp_path / "synth" / "walker-tiny-ecp5-85k.sites.json"
    assert json.loads(last.read_text()) == {"dut.a.x2": "X4/Y22/EBR0"}
    assert synth.main([*ARGUMENTS, "--free-sites"]) == 0
    assert flow.read_text().split()[3:] == [PLACED[0], PLACED[1], PLACED[1]]
    last.write_text(json.dumps({"dut.a.x3": "X9/Y46/EBR0"}))
    assert synth.main([*ARGUMENTS, "--sites", str(last), "--seed", "2"]) == 0
    assert flow.read_text().split()[6:] == [PLACED[0], PLACED[1], PLACED[1]]
    assert "belong to other block RAMs, and are not used" in capsys.readouterr().err


def test_sites_and_none(flow: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        synth.main([*ARGUMENTS, "--sites", "s.json", "--free-sites"])
    assert "not allowed with argument" in capsys.readouterr().err and not flow.exists()


@pytest.mark.parametrize(("text", "told"), [
    (None, "not readable as sites of block RAMs"), ("{", "not readable as sites of block RAMs"),
    ("[]", "not a site for each name of a block RAM"),
    ('{"a": 1}', "not a site for each name of a block RAM")])
def test_bad_sites(flow: Path, tmp_path: Path, capsys, text: str | None, told: str) -> None:
    file = tmp_path / "sites.json"
    if text is not None:
        file.write_text(text)
    assert synth.main([*ARGUMENTS, "--sites", str(file)]) == 2
    assert f"{file}: {told}" in capsys.readouterr().err and not flow.exists()


def test_only_resources(flow: Path, tmp_path: Path) -> None:
    assert synth.main([*ARGUMENTS, "--target", "xcup-kv260"]) == 0
    result = json.loads((tmp_path / "synth" / "walker-tiny-xcup-kv260.json").read_text())
    assert result["fmax_mhz"] is None and result["speed_grade"] is None and result["lut"] == 2
    assert flow.read_text().split() == ["yosys"]


def test_history(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each change, none for the same figures again."""
    monkeypatch.setattr(frame, "framed", lambda component, preset: f"{component} {preset.name}")
    for arguments in ([], [], ["--target", "ecp5-25k"]):
        assert synth.main(arguments) == 0
    assert [row["target"] for row in history(tmp_path)] == [
        "ecp5-85k", "ecp5-25k"]
    plant(tmp_path, monkeypatch, YOSYS.format(calls=flow, luts=2),
          NEXTPNR.format(calls=flow).replace("123.456", "98.96"))
    monkeypatch.setattr(frame, "framed", lambda component, preset: "another one")
    assert synth.main([]) == 1
    rows = history(tmp_path)
    assert [(row["target"], row["fmax_mhz"]) for row in rows] == [
        ("ecp5-85k", "123.5"), ("ecp5-25k", "123.5"), ("ecp5-85k", "99.0")]


def test_speed_grades(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another grade is placed anew, under a name and with a line of the history of its own."""
    monkeypatch.setattr(frame, "framed", lambda component, preset: preset.name)
    for arguments in ([], ["--speed-grade", "8"], ["--speed-grade", "8"], []):
        assert synth.main(arguments) == 0
    assert flow.read_text().split() == ["yosys", *PLACED, *PLACED]
    assert [row["speed_grade"] for row in history(tmp_path)] == ["6", "8"]
    result = json.loads((tmp_path / "synth" / "tiny-ecp5-85k-grade-8.json").read_text())
    assert result["speed_grade"] == "8"
    assert TARGETS["ecp5-85k"].graded("8").place[-2:] == ("--speed", "8")


def test_too_large(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    plant(tmp_path, monkeypatch, YOSYS.format(calls=flow, luts=24288), NEXTPNR)
    assert synth.main([*ARGUMENTS, "--target", "ecp5-25k"]) == 2
    assert ("error: walker-tiny-ecp5-25k does not fit LFE5U-25F: 24289 of 24288 lut"
            in capsys.readouterr().err)


@pytest.mark.parametrize(("does", "limit", "said"), [
    ("exit 3", 60, "exit code 3: see "), ("exec sleep 60", 0, "yosys took more than 0 s: see ")])
def test_a_tool_that_fails(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys,
                           does: str, limit: int, said: str) -> None:
    text = f"#!/bin/sh\ncase $* in *version*) echo 1;; *) {does};; esac\n"
    plant(tmp_path, monkeypatch, text, NEXTPNR)
    monkeypatch.setattr(tools, "LIMIT", limit)
    assert synth.main(ARGUMENTS) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "synth").glob("*.json"))


@pytest.mark.parametrize(("arguments", "said"), [
    (["--preset", "huge"], "error: no preset 'huge'; there are "),
    (["--target", "ice40"], "error: no target 'ice40'; there are "),
    (["--speed-grade", "9"], "error: ecp5-85k has no speed grade '9'; an ECP5 has 6, 7, 8"),
    (["--target", "xcup-kv260", "--speed-grade", "8"], "error: xcup-kv260 has no speed grade '8'"),
    (["--groups", "0"], "error: preset tiny: groups must be positive, not 0")])
def test_bad_input(flow: Path, capsys, arguments: list[str], said: str) -> None:
    assert synth.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not flow.exists()


def test_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None)
    with pytest.raises(tools.SynthesisError, match="no nextpnr-ice40: install"):
        tools.find("nextpnr-ice40")


def test_native_tools_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: f"/opt/{tool}")
    tools.find.cache_clear()
    try:
        assert tools.find("yosys") == "/opt/yosys"
    finally:
        tools.find.cache_clear()


def test_names_agree() -> None:
    assert tuple(sorted(frame.COMPONENTS)) == synth.COMPONENTS


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ecp5-25k", "xc7-z020", "xcup-kv260"])
def test_a_component(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """A real one, small: every count is there."""
    monkeypatch.setattr(synth, "OUTPUT", synth.OUTPUT / "test")  # YoWASP's tools don't see /tmp
    with synth.progress() as step:
        result = synth.synthesise(
            "walker", get_preset("tiny"), TARGETS[target], f"walker-tiny-{target}", step)
    assert result["lut"] > 200 and result["ff"] > 200 and result["dsp"] == 0
    if TARGETS[target].place:
        assert result["fmax_mhz"] > 50 and result["critical_path"]
    else:
        assert result["lut"] == sum(part["lut"] for part in result["per_module"].values())
