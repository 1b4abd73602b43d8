# SPDX-License-Identifier: Apache-2.0
"""Energies of a small account, worked out by hand."""

import dataclasses

import pytest

from hw.presets import get_preset
from sw.energy.account import Row
from sw.energy.buffers import BUFFERS
from sw.energy.estimate import PARTS, Estimate
from sw.energy.papers import PapersEnergy, papers_energy
from sw.energy.tables import TABLES, get_table
from tb.random_model import layer_model, random_model

# 125 accesses of 64 bits to the weight buffer, 100 to the map buffer, 800 bytes of memory
LAYER = Row("layer", "conv", 1000.0, 200.0, 640.0, 160.0, {"weight": 8000.0, "map": 6400.0})
REST = Row("not useful", "", 300.0, 0.0, 0.0, 0.0, {"weight": 2400.0})
FETCH = Row("descriptors", "", 0.0, 0.0, 256.0, 0.0, {})
PAPERS = PapersEnergy({"layer": 1200.0}, 0.0, {})


def _estimate(table: str, *rows: Row) -> Estimate:
    # on ecp5 a bank of weights has 32 KB, one of the map 8 KB
    return Estimate.of("net", get_preset("ecp5"), get_table(table), 1, rows, PAPERS)


@pytest.mark.parametrize(("table", "add", "weight", "map_", "dram"), [
    ("horowitz-45nm", 0.03 + (0.1 - 0.03) * 16 / 24, 20, 10, 1300),
    ("jouppi-7nm", 0.007 + (0.03 - 0.007) * 16 / 24, 8.5, 7.5, 1300)])
def test_energies_by_hand(table: str, add: float, weight: float, map_: float,
                          dram: float) -> None:
    layer, rest, fetch = (found.parts for found in _estimate(table, LAYER, REST, FETCH).rows)
    assert layer == pytest.approx({"additions": 1200 * add, "registers": 2000 * add,
                                   "sram": 125 * weight + 100 * map_, "dram": 100 * dram})
    assert rest == pytest.approx({"additions": 300 * add, "registers": 600 * add,
                                  "sram": 37.5 * weight, "dram": 0})
    assert fetch == pytest.approx({"additions": 0, "registers": 0, "sram": 0, "dram": 32 * dram})


def test_a_total_in_numbers() -> None:
    found = _estimate("horowitz-45nm", LAYER)
    assert found.total == pytest.approx(92 + 153.3333333 + 3500 + 130_000)
    assert found.total_dram_high == pytest.approx(92 + 153.3333333 + 3500 + 260_000)
    assert found.papers.total == pytest.approx(1080)
    other = _estimate("jouppi-7nm", LAYER)
    assert other.total == pytest.approx(26.8 + 44.6666667 + 1812.5 + 130_000)
    assert other.total_dram_high == other.total


@pytest.mark.parametrize("table", TABLES)
def test_parts_add_up(table: str) -> None:
    found = _estimate(table, LAYER, REST, FETCH)
    whole = found.whole
    assert list(whole.parts) == list(PARTS) and list(whole.sram) == list(BUFFERS)
    assert whole.total == pytest.approx(found.total)
    assert sum(whole.sram.values()) == pytest.approx(whole.parts["sram"])
    assert (whole.row.additions, whole.row.outside) == (1300, 200)
    assert (whole.row.bytes_read, whole.row.bytes_written) == (896, 160)
    assert whole.row.traffic == dict.fromkeys(BUFFERS, 0) | {"weight": 10_400, "map": 6400}
    written = found.as_json()
    assert written["all"]["microjoules"]["total"] == pytest.approx(found.total / 1e6)
    assert sum(row["microjoules"]["total"] for row in written["layers"]) == pytest.approx(
        written["all"]["microjoules"]["total"])
    assert written["all"]["bytes_on_chip"]["weight"] == 1300
    assert written["papers"]["microjoules"] == pytest.approx(0.00108)
    assert [row["microjoules_papers"] for row in written["layers"]] == pytest.approx(
        [0.00108, 0, 0])


@pytest.mark.parametrize(("changed", "more"), [
    ({"additions": 1001.0}, 3 * (0.03 + 0.07 * 2 / 3)), ({"outside": 201.0}, 0.03 + 0.07 * 2 / 3),
    ({"bytes_read": 648.0}, 1300), ({"bytes_written": 168.0}, 1300),
    ({"traffic": {"weight": 8064.0, "map": 6400.0}}, 20),
    ({"traffic": {"weight": 8000.0, "map": 6464.0}}, 10)], ids=str)
def test_nothing_is_lost(changed: dict[str, object], more: float) -> None:
    """Whatever grows, the total grows by what it costs."""
    before = _estimate("horowitz-45nm", LAYER).total
    after = _estimate("horowitz-45nm", dataclasses.replace(LAYER, **changed)).total
    assert after - before == pytest.approx(more, rel=1e-5)


def test_papers_by_hand() -> None:
    """A stem of 3 x 3 x 3 x 8 at 6 x 6, a layer on spikes, a pool that is free, and the head."""
    model = layer_model(8, 6)
    assert [layer.name for layer in model.layers] == ["stem", "layer", "pool", "head"]
    assert model.layer("stem").kernel == (1, 1)
    found = papers_energy(model, {"stem": 9e9, "layer": 1000.0, "pool": 50.0, "head": 10.0})
    assert found.operations == {"layer": 1000, "head": 10} and found.integer_operations == 0
    assert found.macs == {"stem": 3 * 8 * 36}
    assert found.total == pytest.approx(0.9 * 1010 + 4.6 * 864)
    assert found.layer("stem") == pytest.approx(4.6 * 864)
    assert found.layer("layer") == pytest.approx(900) and found.layer("pool") == 0
    assert "1,010 synaptic operations x 0.9 pJ, 864 MACs x 4.6 pJ" in str(found)


def test_papers_name_integer_maps_apart() -> None:
    """The layer behind a depthwise one with integer outputs reads no spikes."""
    model = random_model(7, blocks=("sep",), channels=4, time_steps=2)
    useful = {layer.name: 10.0 ** number for number, layer in enumerate(model.layers)}
    readers = [layer.name for layer in model.layers
               if model.tensors[layer.inputs[0]].kind == "integer"]
    found = papers_energy(model, useful)
    assert readers == ["block0.pw2"]
    assert found.integer_operations == useful["block0.pw2"] == found.operations["block0.pw2"]
    assert "pool" not in found.operations and "stem" not in found.operations
    stem = model.layer("stem")
    taps = 3 * stem.kernel[0] * stem.kernel[1] * 4
    assert found.macs == {"stem": taps * stem.out_size[0] * stem.out_size[1]}


def test_papers_count_each_event_frame() -> None:
    still, events = (random_model(7, blocks=("channel",), time_steps=3, event_frames=frames)
                     for frames in (False, True))
    macs = [papers_energy(model, dict.fromkeys((layer.name for layer in model.layers), 0.0)).macs
            for model in (still, events)]
    assert macs[1]["stem"] == 3 * macs[0]["stem"] > 0
