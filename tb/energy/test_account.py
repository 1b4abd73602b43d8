# SPDX-License-Identifier: Apache-2.0
"""The account of an image: every addition and byte that was counted is in one row."""

import dataclasses

import pytest

from hw.descriptor import DESCRIPTOR_BYTES
from hw.presets import get_preset
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.energy.account import DESCRIPTORS, NOT_USEFUL, Counted, Row, account
from sw.model_file import IntegerModel
from sw.profile import CAUSES, Part, Profile
from tb.random_model import random_model

TINY = get_preset("tiny")


def _made(batch: int = 1) -> tuple[IntegerModel, Program, Counted]:
    """A small network and counts that were never measured: layer n has 100 + n, 10 outside."""
    model = random_model(3, blocks=("mlp",), channels=8, size=(5, 4), time_steps=1)
    program = compile_model(model, TINY, batch=batch)
    loads = sum(read for read, _ in program.transfers()) / batch
    names = [layer.name for layer in model.layers]
    return model, program, Counted(
        additions=5000.0, bytes_read=loads + 320.0,
        useful={name: 100.0 + number for number, name in enumerate(names)},
        outside=dict.fromkeys(names, 10.0), bits={})


def _by_name(rows: tuple[Row, ...]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_what_is_not_useful_is_a_row() -> None:
    model, program, counted = _made()
    rows = account(model, program, counted)
    assert [row.name for row in rows] == [*(layer.name for layer in model.layers), NOT_USEFUL,
                                          DESCRIPTORS]
    found = _by_name(rows)
    first, third = model.layers[0].name, model.layers[2].name
    assert (found[first].additions, found[third].additions) == (100, 102)
    layers = len(model.layers)
    assert found[NOT_USEFUL].additions == 5000 - (100 * layers + layers * (layers - 1) / 2)
    assert found[NOT_USEFUL].traffic == {"weight": 8 * found[NOT_USEFUL].additions}
    assert sum(row.additions for row in rows) == 5000
    assert sum(row.outside for row in rows) == 10 * layers


def test_bytes_of_memory() -> None:
    model, program, counted = _made()
    rows = account(model, program, counted)
    moved = program.transfers()
    assert [(row.bytes_read, row.bytes_written) for row in rows[:len(moved)]] == moved
    found = _by_name(rows)
    assert (found[DESCRIPTORS].bytes_read, found[DESCRIPTORS].bytes_written) == (320, 0)
    assert sum(row.bytes_read for row in rows) == counted.bytes_read
    exact = dataclasses.replace(counted, bytes_read=sum(read for read, _ in moved)
                                + program.count * DESCRIPTOR_BYTES)
    assert account(model, program, exact)[-1].bytes_read == program.program_bytes


def test_lanes_read_a_byte_for_each_addition() -> None:
    model, program, counted = _made()
    more = dataclasses.replace(counted, useful=dict(counted.useful) | {"stem": 1100.0})
    before, after = (_by_name(account(model, program, this))["stem"].traffic
                     for this in (counted, more))
    assert after["weight"] - before["weight"] == 8 * 1000
    assert {name for name in after if after[name] != before[name]} == {"weight"}


def test_a_batch_is_shared() -> None:
    """Weights are loaded once for two images; maps are written for each."""
    model, single, counted = _made()
    _, double, other = _made(batch=2)
    one, two = _by_name(account(model, single, counted)), _by_name(account(model, double, other))
    head = model.layers[-1].name
    assert two["stem"].bytes_written == one["stem"].bytes_written
    assert two[head].traffic["output"] == one[head].traffic["output"]
    assert [row.bytes_read for row in two.values()][:len(model.layers)] == [
        read / 2 for read, _ in double.transfers()]
    assert (sum(row.bytes_read for row in two.values())
            < sum(row.bytes_read for row in one.values()))


def test_a_profile_puts_every_addition_into_its_layer() -> None:
    model, program, counted = _made()
    slots = dict.fromkeys(CAUSES, 0.0)
    parts = [Part(-1, "", 0, slots | {"memory": 77.0}),
             Part(3, "CONV", 0, slots | {"useful": 100.0, "redundant": 20.0, "change": 5.0}),
             Part(4, "CONV", 0, slots | {"useful": 30.0, "empty": 7.0}),
             Part(9, "CONV", 1, slots | {"useful": 40.0, "masked": 60.0, "drain": 9.0})]
    found = Profile(model=model.name, preset="tiny", adders=16, cycles=1000,
                    layers=tuple(layer.name for layer in model.layers), parts=tuple(parts),
                    slices=())
    rows = _by_name(account(model, program, counted, found))
    assert NOT_USEFUL not in rows
    first, second, third = (rows[layer.name] for layer in model.layers[:3])
    assert (first.additions, second.additions, third.additions) == (157, 100, 0)
    without = _by_name(account(model, program, counted))
    assert (first.traffic["weight"] - without[first.name].traffic["weight"]
            == pytest.approx(8 * (157 - 100)))
