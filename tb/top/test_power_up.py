# SPDX-License-Identifier: Apache-2.0
"""What registers and memories hold at power-up changes nothing, once the accelerator was reset."""

import pytest

from hw.presets import get_preset
from sw.driver import DeviceError, DeviceTimeout
from tb.random_model import random_image, random_model
from tb.top.rtl import differing_tensors

BARE, PLANTED = (f"tb.top.variants:generate_{name}" for name in ("bare", "planted"))
MODEL = random_model(3, blocks=("sep", "attention", "mlp"), channels=12, heads=2, time_steps=2)
IMAGE = random_image(MODEL, 1)


def run(generator: str, seed: int) -> list[str]:
    return differing_tensors(MODEL, get_preset("tiny"), [IMAGE], generator=generator,
                             power_up=seed, effort="-O0")[0]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_power_up(seed: int) -> None:
    assert run(BARE, seed) == []


@pytest.mark.slow
def test_a_register_without_reset_is_seen() -> None:
    failed = []
    for seed in range(1, 5):
        try:
            failed += run(PLANTED, seed)
        except (DeviceError, DeviceTimeout) as error:
            failed.append(str(error))
    assert failed
