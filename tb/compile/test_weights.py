# SPDX-License-Identifier: Apache-2.0
"""Weights take turns between the banks of the weight buffer."""

import itertools

import numpy as np
import pytest

from hw.descriptor import CONV, LOAD, Opcode, Target
from hw.presets import get_preset
from sw.compile.compiler import compile_model
from sw.compile.context import Banks
from sw.compile.plan import GROUP_ROWS, bank_rows, pack
from sw.compile.weights import ACC_LIMIT, _most
from tb.random_model import random_model


def test_items_take_turns() -> None:
    ring = Banks(64, 4)
    filled = []
    places = [ring.get(n, size, filled.append) for n, size in enumerate((6, 6, 9, 20, 8, 8))]
    assert places == filled == [32, 0, 40, 8, 52, 0], "a bank that is full begins anew"
    assert [n for n in range(6) if n in ring.items] == [0, 2, 3, 4, 5], "what is overwritten goes"
    assert ring.get(4, 8, filled.append) == 52 and len(filled) == 6, "what is there stays"


def test_what_is_too_large_for_a_bank_starts_at_0() -> None:
    ring = Banks(64, 4)
    ring.get("small", 8, lambda _: None)
    assert ring.get("large", 40, lambda _: None) == 0
    assert "small" not in ring.items
    ring.get("next", 8, lambda _: None)
    ring.get("other", 8, lambda _: None)
    assert "large" not in ring.items


def test_room_for_all_that_stays() -> None:
    ring = Banks(64, 4)
    ring.get("a", 8, lambda _: None)
    ring.make_room(28)
    assert ring.get("b", 28, lambda _: None) == 0 and ring.get("c", 28, lambda _: None) == 32
    assert "a" not in ring.items


@pytest.mark.parametrize("sizes", [[32], [9] * 40, [576] * 5, [GROUP_ROWS - 1, 64, 200, 32]])
def test_groups(sizes: list[int]) -> None:
    groups = pack(sizes)
    assert list(itertools.chain(*groups)) == list(range(len(sizes)))
    assert all(sum(sizes[n] for n in group) >= GROUP_ROWS for group in groups[:-1])
    rows = [-(-sum(sizes[n] for n in group) // 32) * 32 for group in groups]
    assert bank_rows(groups, sizes) == max(sum(rows[::2]), sum(rows[1::2]))


def test_digits_of_one_channel_exclude_each_other() -> None:
    """The bound of an accumulator counts +1 and -1 digits of a channel once; a chunk may part
    them."""
    plus = np.arange(-4, 4, dtype=np.int8).reshape(2, 2, 2)
    rows = np.stack([plus, -plus], 1).reshape(4, 2, 2)
    sums = np.abs(plus.astype(int)).sum((0, 1)).max()
    assert _most(rows, 0, 2) == sums and _most(rows, 0, 1) == 2 * sums
    assert _most(rows[1:], 1, 2) == sums
    assert _most(rows[1:3], 1, 2) == sums and _most(rows[1:2], 1, 2) == 4 + 2


def test_wide_integer_maps_compile() -> None:
    """Sums of |weights| that need more than half an accumulator."""
    model = random_model(5, channels=72, blocks=("sep",), integer_bits=10, time_steps=1)
    layer = next(layer for layer in model.layers if "integer" in
                 model.tensors[layer.inputs[0]].kind)
    most = int(layer.weight.abs().flatten(1).sum(1).max()) * model.input_magnitude(layer)
    assert ACC_LIMIT / 2 < most < ACC_LIMIT
    compile_model(model, get_preset("ecp5"))


def test_a_program_loads_into_the_bank_that_is_not_in_use() -> None:
    """Chunks of streamed weights: each LOAD fills the other bank than the CONV in front of it."""
    preset = get_preset("tiny")
    program = compile_model(random_model(5, channels=64, blocks=("channel",)), preset)
    half = preset.weight_rows // 2
    bases = [CONV.unpack(packed)["weight_base"] for packed in program.descriptors
             if packed[0] == Opcode.CONV]
    banks = [base // half for base, _ in itertools.groupby(bases)]  # CONVs of one chunk are one
    turns = sum(a != b for a, b in itertools.pairwise(banks))
    assert turns > 0.8 * len(banks), "consecutive chunks use different banks"
    loads = [LOAD.unpack(packed) for packed in program.descriptors if packed[0] == Opcode.LOAD]
    beats = preset.weight_row_bits // preset.axi_bits
    found = [load["buffer"] // beats // half for load in loads if load["target"] == Target.WEIGHT]
    assert all(a != b for a, b in itertools.pairwise(found)), "groups of weights take turns"
