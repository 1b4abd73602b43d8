# SPDX-License-Identifier: Apache-2.0
"""Random descriptors on the Verilated accelerator equal the functional simulator."""

import copy

import numpy as np
import pytest

from tb.top.cases import recorded_cycles
from tb.top.random_descriptors import SEEDS, draw
from tb.top.variants import wide


def check_seed(seed: int, wide_luts: bool = False, **options: object) -> None:
    """Run the program of a seed; ``options`` are those of VerilatedTransport."""
    bench = draw(seed)
    if wide_luts:
        bench = copy.copy(bench)
        bench.preset = wide(bench.preset.name)
        options["generator"] = "tb.top.variants:generate_wide"
    bench.options = bench.options | options
    got, want, cycles = bench.run()
    different = np.flatnonzero((got != want).any(1))
    assert not different.size, f"beats {different[:5]} of {len(different)} differ"
    if seed < SEEDS and not wide_luts:
        assert cycles == recorded_cycles()["descriptors"][seed], (
            "cycles changed: if that is meant, run python -m tb.top.cases")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_descriptors(seed: int) -> None:
    check_seed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_many_random_descriptors(seed: int) -> None:
    check_seed(seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_wide_luts(seed: int) -> None:
    check_seed(seed, wide_luts=True)


def test_a_difference_is_seen() -> None:
    bench = draw(0)
    bench.expected()[3, 0] ^= 1
    try:
        with pytest.raises(AssertionError, match=r"beats \[3\] of 1 differ"):
            check_seed(0)
    finally:
        bench.expected()[3, 0] ^= 1
