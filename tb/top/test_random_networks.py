# SPDX-License-Identifier: Apache-2.0
"""Random small networks, bit for bit on the RTL. Hypothesis draws them and shrinks a failure."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw.presets import get_preset
from tb.random_model import random_image, random_model
from tb.top.rtl import differing_tensors

BLOCKS = ("sep", "channel", "attention", "mlp", "down")
SETTINGS = {"deadline": None, "derandomize": True, "database": None, "print_blob": True,
            "suppress_health_check": list(HealthCheck)}


@st.composite
def networks(draw: st.DrawFn, widest: int) -> dict[str, object]:
    """Arguments of `random_model`: channel counts fit heads, not lanes; odd sizes; T 1 to 6."""
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    levels = draw(st.sampled_from([None, None, 2, 4, 8]))
    blocks = BLOCKS if levels else (*BLOCKS, "masking")
    extra = {} if levels is None else {
        "levels": levels, "ties": draw(st.sampled_from(["even", "up"])),
        "value_ratio": draw(st.integers(1, 4))}
    return {
        **extra, "seed": draw(st.integers(0, 999)), "heads": heads,
        "blocks": tuple(draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=3))),
        "channels": heads * draw(st.integers(1, widest // heads)),
        "time_steps": draw(st.integers(1, 6 if levels is None else 2)),
        "in_channels": draw(st.integers(1, 4)),
        "event_frames": draw(st.booleans()), "classes": draw(st.integers(2, 40)),
        "kernel": draw(st.sampled_from([3, 5, 7])), "expansion": draw(st.integers(1, 4)),
        "stem": draw(st.sampled_from([(1, 1, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)])),
        "size": (draw(st.integers(3, 13)), draw(st.integers(3, 13))),
        "integer_bits": draw(st.integers(4, 12)), "input_bits": draw(st.integers(2, 8))}


modes = st.sampled_from(["planes", "steps"])
memories = st.fixed_dictionaries({
    "latency": st.sampled_from([1, 20, 100, 300]), "stall": st.sampled_from([0, 40, 128]),
    "seed": st.integers(0, 999)})


def check(network: dict[str, object], preset: str, memory: dict[str, int], mode: str,
          batch: int = 1) -> None:
    model = random_model(**network)
    images = [random_image(model, n) for n in range(max(2, batch))]
    wrong, _ = differing_tensors(model, get_preset(preset), images, level_mode=mode, batch=batch,
                                 **memory)
    assert wrong == []


@settings(max_examples=10, **SETTINGS)
@given(networks(40), st.sampled_from(["tiny", "small"]), memories, modes)
def test_some_networks(network: dict[str, object], preset: str, memory: dict[str, int],
                       mode: str) -> None:
    check(network, preset, memory, mode)


@pytest.mark.slow
@settings(max_examples=200, **SETTINGS)
@given(networks(140), st.sampled_from(["tiny", "small", "ecp5", "large"]), memories, modes,
       st.integers(1, 4))
def test_many_networks(network: dict[str, object], preset: str, memory: dict[str, int],
                       mode: str, batch: int) -> None:
    check(network, preset, memory, mode, batch)
