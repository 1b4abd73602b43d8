# SPDX-License-Identifier: Apache-2.0
"""The tables: alike in form, as published at the given points, and between them as they say."""

import dataclasses

import pytest

from sw.energy.tables import DEFAULT_TABLE, TABLES, EnergyTable, EnergyTableError, get_table

KIB = 1024
HOROWITZ, JOUPPI = get_table("horowitz-45nm"), get_table("jouppi-7nm")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_table_is_whole(table: EnergyTable) -> None:
    fields = dataclasses.asdict(table)
    assert fields.keys() == dataclasses.asdict(HOROWITZ).keys()
    assert fields.pop("name") in TABLES and len(fields.pop("source")) > 20
    points = fields.pop("sram")
    assert all(value > 0 for value in fields.values())
    assert [size for size, _ in points] == [8 * KIB, 32 * KIB, 1024 * KIB]
    energies = [energy for _, energy in points]
    assert energies == sorted(energies) and energies[0] > 0
    assert table.add_8 < table.add_32 < energies[0] and energies[-1] < table.dram
    assert table.dram <= table.dram_high


def test_operations_cost_what_is_published() -> None:
    assert (HOROWITZ.add_8, HOROWITZ.add_32) == (0.03, 0.1)
    assert (JOUPPI.add_8, JOUPPI.add_32) == (0.007, 0.03)
    assert (HOROWITZ.dram, HOROWITZ.dram_high, JOUPPI.dram, JOUPPI.dram_high) == (
        1300, 2600, 1300, 1300)


def test_the_default_exists() -> None:
    assert get_table(DEFAULT_TABLE).name == DEFAULT_TABLE


@pytest.mark.parametrize(("table", "published"), [
    (HOROWITZ, {8: 10, 32: 20, 1024: 100}), (JOUPPI, {8: 7.5, 32: 8.5, 1024: 14})])
def test_given_sizes_cost_what_is_published(table: EnergyTable,
                                            published: dict[int, float]) -> None:
    assert {size: table.sram_access(size * KIB) for size in published} == published


@pytest.mark.parametrize(("size", "expected"), [
    (0.5, 10),      # as the smallest
    (16, 15),       # half way from 8 to 32 in log2
    (64, 36),       # a fifth of the way from 32 to 1024: 20 + 80 / 5
    (256, 68),      # three fifths
    (2048, 116),    # a fifth beyond
])
def test_other_sizes_lie_between(size: float, expected: float) -> None:
    assert HOROWITZ.sram_access(size * KIB) == pytest.approx(expected)


def test_widths_of_an_addition() -> None:
    for table in TABLES.values():
        assert table.add(8) == table.add_8 and table.add(32) == pytest.approx(table.add_32)
    assert HOROWITZ.add(24) == pytest.approx(0.03 + 0.07 * 2 / 3)
    assert JOUPPI.add(24) == pytest.approx(0.007 + 0.023 * 2 / 3)
    assert HOROWITZ.register(24) == HOROWITZ.add(24)


def test_an_unknown_table_names_the_known_ones() -> None:
    with pytest.raises(EnergyTableError) as caught:
        get_table("4nm")
    assert "'4nm'" in str(caught.value)
    assert all(name in str(caught.value) for name in TABLES)
