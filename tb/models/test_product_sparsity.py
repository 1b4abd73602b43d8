# SPDX-License-Identifier: Apache-2.0
"""Counts of the study of product sparsity: by hand, by plain loops, and against golden sums."""

import itertools

import pytest
import torch

from hw.presets import get_preset
from sw.golden.activity import set_bits
from sw.golden.conv import conv
from sw.golden.network import evaluate
from sw.golden.useful import is_repconv, useful_of_layer
from sw.studies.product_sparsity import (
    SHOWN,
    cycles,
    measure,
    neighbours,
    planes,
    reuse,
    rows,
    tiled,
)
from tb.random_model import random_image, random_model

torch.set_num_threads(1)


def bits(*texts: str) -> torch.Tensor:
    """Rows `[R, K]` from texts of 0 and 1."""
    return torch.tensor([[float(bit) for bit in text] for text in texts])


def by_loops(tile: list[set[int]]) -> dict[str, int]:
    """The counts of `reuse`, row by row."""
    found = dict.fromkeys(("now", "repeats", "repeats taken", "repeats merged", "prefix",
                           "prefix turns", "prefix taken", "prefix merged", "prefix joined"), 0)
    lenders, lacking = set(), set()
    for i, row in enumerate(tile):
        fit = [j for j, other in enumerate(tile)
               if other and (other < row or (other == row and j < i))]
        prefix = max(fit, key=lambda j: (len(tile[j]), -j), default=None)
        own, rest = len(row), len(row) - (0 if prefix is None else len(tile[prefix]))
        same = prefix is not None and rest == 0
        found["now"] += own
        found["repeats"] += 0 if same else own
        found["repeats taken"] += 1 if same else own
        found["repeats merged"] += (1 if same else own) + bool(row)
        found["prefix"] += rest
        found["prefix turns"] += max(rest, bool(row))
        found["prefix taken"] += rest + (prefix is not None)
        found["prefix merged"] += rest + (prefix is not None) + bool(row)
        if own - rest > 1:
            lenders.add(prefix)
            found["prefix joined"] += rest + 1
        else:
            lacking.add(i)
            found["prefix joined"] += own
    found["prefix joined"] += len(lenders & lacking)
    return found


def test_planes_are_binary_or_signed_digits():
    levels = planes(torch.tensor([[0, 3, 4]], dtype=torch.uint8), "levels", 3)
    assert levels.tolist() == [[[0, 1, 0], [0, 1, 0], [0, 0, 1]]]
    signed = planes(torch.tensor([[3, -2]]), "integer", 3)      # 3 = 4 - 1
    assert signed.tolist() == [[[0, 0], [0, 0], [1, 0], [1, 0], [0, 1], [0, 0]]]


def test_prefixes_by_hand():
    # the second contains the first, the third repeats it, the last contains the fourth
    found = reuse(bits("1100", "1110", "1100", "0001", "0000", "0011").unsqueeze(0))
    assert found == {"now": 10, "repeats": 8, "repeats taken": 9, "repeats merged": 9 + 5,
                     "prefix": 2 + 1 + 0 + 1 + 1, "prefix turns": 5 + 1,
                     "prefix taken": 5 + 3,
                     "prefix merged": 5 + 3 + 5,
                     # the first lends (3), the last adds its two bits itself
                     "prefix joined": 3 + 2 + 1 + 1 + 2}


def test_prefixes_by_loops():
    torch.manual_seed(3)
    tiles = (torch.rand(40, 9, 6) < torch.rand(40, 1, 1)).float()
    for tile in tiles:
        sets = [set(row.nonzero().flatten().tolist()) for row in tile]
        assert reuse(tile.unsqueeze(0)) == by_loops(sets)
    assert reuse(tiles)["prefix joined"] == sum(
        reuse(tile.unsqueeze(0))["prefix joined"] for tile in tiles)


def test_neighbours_by_hand():
    line = bits("1100", "1110", "0110")
    along_x = neighbours(line.reshape(1, 1, 3, 1, 1, 4))
    assert along_x == {"pair x": 7 - 2, "pair x taken": 7 - 1, "delta x": 2 + 1 + 1,
                       "pair t": 7, "pair t taken": 7, "delta t": 7}
    along_t = neighbours(line.reshape(1, 1, 1, 3, 1, 4))
    assert {name[:-1] + "t": along_x[name] for name in ("pair x", "delta x")} == {
        name: along_t[name] for name in ("pair t", "delta t")}


def test_a_row_that_differs_more_than_it_has_begins_anew():
    assert neighbours(bits("1100", "0011").reshape(1, 1, 2, 1, 1, 4))["delta x"] == 4


def test_neighbours_by_loops():
    torch.manual_seed(4)
    given = (torch.rand(2, 3, 5, 4, 2, 7) < 0.4).float()
    pair, delta = dict.fromkeys("xt", 0), dict.fromkeys("xt", 0)
    for g, y, x, t, p in itertools.product(*map(range, given.shape[:5])):
        row = given[g, y, x, t, p].bool()
        for name, place, before in (
                ("x", x, given[g, y, x - 1, t, p].bool()),
                ("t", t, given[g, y, x, t - 1, p].bool())):
            pair[name] += int(row.sum()) - (int((row & before).sum()) if place % 2 else 0)
            delta[name] += min(int(row.sum()), int((row ^ before).sum()) if place else 99)
    found = neighbours(given)
    assert {name: found[f"pair {name}"] for name in "xt"} == pair
    assert {name: found[f"delta {name}"] for name in "xt"} == delta


def test_tiles_keep_every_bit_and_the_order():
    torch.manual_seed(5)
    given = (torch.rand(2, 3, 2, 1, 1, 10) < 0.5).float()       # 6 rows of 10 bits, twice
    found = tiled(given, 4, 4)
    assert found.shape == (2 * 2 * 3, 4, 4) and found.sum() == given.sum()
    assert torch.equal(found[1], given[0].flatten(0, 3)[:4, 4:8])
    assert torch.equal(tiled(given, 256, 0), given.flatten(1, 4))


@pytest.mark.parametrize("sizes", [{"time_steps": 2}, {"levels": 4}])
def test_rows_of_a_network(sizes: dict):
    model = random_model(7, **sizes)
    tensors = evaluate(model, random_image(model, 3))
    counts = {}
    for (name, kind), count in measure(model, tensors).items():
        counts.setdefault(name, {})[kind] = count["now"]
    compared = set()
    for layer in model.layers:
        signed = model.tensors[layer.inputs[0]].kind in ("image", "integer")
        if layer.kind in ("conv", "depthwise") and not is_repconv(layer):
            inputs = [tensors[name] for name in layer.inputs]
            (count,) = counts[layer.name].values()
            assert count == useful_of_layer(
                layer, inputs, signed_digits=model.tensors[layer.inputs[0]].kind != "spikes")
        if layer.kind == "conv" and not signed:
            ((_, _, given),) = rows(model, layer, tensors)
            weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2).float()
            places = 2.0 ** torch.arange(given.shape[4])
            sums = torch.einsum("yxtpk,ko,p->toyx", given[0], weight, places)
            assert torch.equal(sums.long(), conv(tensors[layer.inputs[0]], layer.weight,
                                                 layer.stride, layer.padding))
            compared |= set(counts[layer.name])
        if layer.kind == "attention":
            wide = layer.out_channels // layer.heads
            found = set_bits(model, {name: tensors[name] for name in layer.inputs})
            assert counts[layer.name] == {"attention Q": found[layer.inputs[0]] * wide,
                                          "attention K": found[layer.inputs[1]] * wide}
    assert {"3x3 conv", "1x1 conv"} <= compared


def test_cycles_fall_with_the_additions():
    model = random_model(7, time_steps=2)
    tensors = evaluate(model, random_image(model, 3))
    found = cycles(model, get_preset("tiny"), set_bits(model, tensors), measure(model, tensors))
    assert set(found) == {"now", *SHOWN, "none"}
    assert found["none"] < found["256x16 prefix"] < found["now"]
