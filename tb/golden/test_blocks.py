# SPDX-License-Identifier: Apache-2.0
"""Each block's golden function against hand-worked numbers and, for neurons, exact fractions."""

from fractions import Fraction

import pytest
import torch

from sw.errors import OverflowBoundError
from sw.golden import fast
from sw.golden.conv import conv, depthwise, head
from sw.golden.epilogue import epilogue
from sw.golden.lif import lif, lif_step
from sw.golden.pool import pool
from sw.golden.sdsa import sdsa3
from sw.golden.sfa import sfa


def test_lif_by_hand() -> None:
    """Threshold 10: 6 is kept as 3, 3 + 6 = 9 as 4.5, 4.5 + 6 fires and clears, 6 is kept."""
    currents = torch.tensor([6, 6, 6, 6, 8, -9]).reshape(6, 1, 1, 1)
    assert lif(currents, torch.tensor([10])).flatten().tolist() == [0, 0, 1, 0, 1, 0]


def test_lif_fires_on_equality_and_floors_negative_membranes() -> None:
    one = torch.tensor([[[4]]])
    spikes, membrane = lif_step(one, torch.tensor([[[-1]]]), torch.tensor([4]))
    assert (int(spikes), int(membrane)) == (0, (4 * 256 - 1) // 2)
    spikes, membrane = lif_step(one, torch.tensor([[[0]]]), torch.tensor([4]))
    assert (int(spikes), int(membrane)) == (1, 0)
    spikes, membrane = lif_step(-one, torch.tensor([[[-1]]]), torch.tensor([4]))
    assert int(membrane) == -513        # floor(-1025 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_lif_is_exact_up_to_nine_steps(seed: int) -> None:
    """u = v + x; fires iff u >= threshold; v = u / 2, in exact fractions."""
    torch.manual_seed(seed)
    currents = torch.randint(-20, 40, (9, 1, 1, 50))
    threshold = 31
    spikes = lif(currents, torch.tensor([threshold]))
    assert torch.equal(spikes, fast.lif(currents[None], torch.tensor([threshold]))[0])
    for place in range(50):
        v = Fraction(0)
        for step in range(9):
            u = v + int(currents[step, 0, 0, place])
            assert bool(spikes[step, 0, 0, place]) == (u >= threshold)
            v = Fraction(0) if u >= threshold else u / 2


def test_conv_by_hand() -> None:
    x = torch.tensor([[1, 0, 1], [0, 1, 0]]).reshape(1, 1, 2, 3)
    weight = torch.arange(1, 10).reshape(1, 1, 3, 3)
    # row 0: taps 5 + 9, 4 + 6 + 8, 5 + 7; row 1: taps 2 + 6, 1 + 3 + 5, 2 + 4
    assert conv(x, weight, 1, 1).tolist() == [[[[14, 18, 12], [8, 9, 6]]]]
    dense = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
    assert torch.equal(conv(x, weight, 1, 1).double(), dense)
    assert conv(x, weight, 2, 1).tolist() == dense[:, :, ::2, ::2].tolist()
    assert conv(torch.tensor([[[[3]], [[-2]]]]), torch.tensor([[[[10]], [[7]]], [[[1]], [[-1]]]])
                ).flatten().tolist() == [16, 5]


def test_depthwise_by_hand() -> None:
    x = torch.tensor([[[[1, 1]], [[0, 1]]]])
    weight = torch.tensor([[[[1, 2, 3]]], [[[4, 5, 6]]]])
    padded = torch.nn.functional.pad(x, (1, 1))
    assert depthwise(padded, weight).tolist() == [[[[5, 3]], [[6, 5]]]]


def test_head_sums_over_time_and_channels() -> None:
    spikes = torch.tensor([[1, 0, 1], [1, 1, 0]]).reshape(2, 3, 1, 1)
    weight = torch.tensor([[1, 10, 100], [-1, 5, 0]]).reshape(2, 3, 1, 1)
    assert head(spikes, weight).tolist() == [112, 3]


def test_sdsa3_by_hand() -> None:
    """One head of two channels, three tokens: counts = [[2, 1], [0, 1]]."""
    q = torch.tensor([[1, 0, 1], [0, 1, 1]]).reshape(1, 2, 1, 3)
    k = torch.tensor([[1, 1, 0], [0, 0, 1]]).reshape(1, 2, 1, 3)
    v = torch.tensor([[1, 1, 0], [0, 1, 1]]).reshape(1, 2, 1, 3)
    assert sdsa3(q, k, v, 1).reshape(2, 3).tolist() == [[2, 0, 2], [1, 1, 2]]
    # two heads of one channel each never mix: counts 2 and 1
    assert sdsa3(q, k, v, 2).reshape(2, 3).tolist() == [[2, 0, 2], [0, 1, 1]]


def test_pool_sums_the_map() -> None:
    assert pool(torch.tensor([[[[1, -5], [7, 100]]]])).tolist() == [[[[103]]]]


def test_epilogue_by_hand() -> None:
    acc = torch.tensor([10, -10]).reshape(1, 2, 1, 1)
    bias, shift = torch.tensor([2, 2]), torch.tensor([2, -1], dtype=torch.int8)
    plain = epilogue(acc, bias, shift, writes_residual=False)
    assert plain.shifted.flatten().tolist() == [3, -16]
    assert plain.current.flatten().tolist() == [12, -8] and plain.residual is None
    added = epilogue(acc, bias, shift, writes_residual=True,
                     residual=torch.tensor([100, 6]).reshape(1, 2, 1, 1))
    assert added.residual.flatten().tolist() == added.current.flatten().tolist() == [103, -10]


def test_epilogue_checks_its_widths() -> None:
    one = torch.ones(1, 1, 1, 1, dtype=torch.int64)
    zero = torch.zeros(1, dtype=torch.int64)
    edge = torch.full_like(one, 32766)
    assert epilogue(one, zero, zero, writes_residual=True, residual=edge).residual.max() == 32767
    with pytest.raises(OverflowBoundError, match="layer 'a': the residual stream spans 32768"):
        epilogue(2 * one, zero, zero, writes_residual=True, residual=edge, name="a")
    with pytest.raises(OverflowBoundError, match=r"layer 'a': acc \+ bias"):
        epilogue(one << 27, zero, zero, writes_residual=False, name="a")


@pytest.mark.parametrize("ties", ["even", "up"])
def test_sfa_rounds_as_published(ties: str) -> None:
    """One unit of x is 8 units of the current: halves are met exactly."""
    current = torch.arange(-20, 60).reshape(1, 1, 1, -1)
    levels = sfa(current, torch.tensor([-1024]), torch.tensor([2048]), 4, ties == "even")
    clamped = (current.double() / 8).clamp(0, 4)
    expected = torch.round(clamped) if ties == "even" else torch.floor(clamped + 0.5)
    assert torch.equal(levels.double(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_sfa_is_an_integrate_and_fire_neuron(seed: int) -> None:
    """D steps with a soft reset fire as often as the level says, first steps first."""
    torch.manual_seed(seed)
    current = torch.randint(-300, 900, (1, 1, 1, 200))
    threshold, step = torch.tensor([-777]), torch.tensor([30011])
    levels = sfa(current, threshold, step, 8, False)
    for place in range(200):
        membrane, fired = Fraction(int(current[0, 0, 0, place])) * 256 + 777, []
        for _ in range(8):
            fired.append(membrane >= 30011)
            membrane -= 30011 * fired[-1]
        assert sum(fired) == int(levels[0, 0, 0, place])
        assert fired == sorted(fired, reverse=True)


def test_attention_of_levels_with_wide_values() -> None:
    """One head of 2 channels whose values have 4; two tokens."""
    q = torch.tensor([[1, 0], [2, 3]]).reshape(1, 2, 1, 2)      # [channel][token]
    k = torch.tensor([[4, 1], [0, 2]]).reshape(1, 2, 1, 2)
    v = torch.tensor([[1, 0], [0, 1], [2, 2], [4, 3]]).reshape(1, 4, 1, 2)
    counts = [[4, 1, 10, 19], [0, 2, 4, 6]]                     # k^T v
    expected = [[q0 * counts[0][j] + q1 * counts[1][j] for q0, q1 in ((1, 2), (0, 3))]
                for j in range(4)]
    assert sdsa3(q, k, v, 1)[0, :, 0].tolist() == expected
    fast_sums = fast.sdsa3(q[None], k[None], v[None], 1, torch.float32)
    assert torch.equal(fast_sums[0], sdsa3(q, k, v, 1))
