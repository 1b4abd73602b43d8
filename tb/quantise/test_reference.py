# SPDX-License-Identifier: Apache-2.0
"""Quantised official networks against the spikes that the authors' code made, teacher-forced."""

import os
from pathlib import Path

import pytest
import torch

from sw.models.meta_spikeformer import load_checkpoint
from sw.models.trace import read_trace
from sw.quantise.calibrate import calibrate
from sw.quantise.compare import differences
from sw.quantise.quantiser import quantise

SHARED = Path(os.environ.get("ADDEND_SHARED", Path(__file__).parents[3] / "shared"))
TINY = SHARED / "reference" / "v2_tiny_64"


@pytest.mark.skipif(not TINY.is_dir(), reason="reference v2_tiny_64 is absent (ADDEND_SHARED)")
@pytest.mark.parametrize(("steps", "share", "few"), [(1, 0.005, 3), (4, 0.02, 12)])
def test_integer_spikes_are_the_reference_spikes(steps: int, share: float, few: int) -> None:
    config, network = load_checkpoint(TINY / "state_dict.pt")
    images = torch.load(TINY / "io.pt", weights_only=True)["input"]
    calibration = calibrate(network, images, time_steps=steps)
    model = quantise(network, config, calibration, time_steps=steps, name="tiny")
    trace = read_trace(TINY / f"trace_T{steps}.npz")
    found = differences(model, images[0], trace)
    assert {d.neuron for d in found} == set(trace)
    worst = sorted(found, key=lambda d: -d.share)
    for d in worst[:8]:
        print(f"T={steps} {d.neuron}: {d.differing} of {d.neurons} ({100 * d.share:.2f} %)")
    beyond = [d for d in found if d.differing > max(few, share * d.neurons)]
    assert not beyond, beyond
    assert sum(d.differing for d in found) > 0      # an equality would mean nothing was compared
