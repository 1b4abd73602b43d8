# SPDX-License-Identifier: Apache-2.0
"""Event frames: binning, refusals, and a network of two input channels on the RTL."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hw.presets import get_preset
from sw.events import bin_events, load_recordings
from sw.golden.network import quantise_images
from sw.images import ImageError
from sw.models.seeded import steer_rates
from sw.quantise.calibrate import calibrate
from sw.quantise.quantiser import quantise
from tb.quantise.networks import small_network
from tb.top.rtl import differing_tensors


def test_events_are_counted_in_their_span_and_place() -> None:
    time, x, y, p = (np.array(values) for values in (
        [10, 11, 19, 20, 29], [0, 0, 2, 1, 2], [1, 1, 0, 1, 0], [1, 1, 0, 0, 0]))
    frames = bin_events(time, x, y, p, steps=2, size=(2, 3))
    expected = torch.zeros(2, 2, 2, 3)
    expected[0, 1, 1, 0], expected[0, 0, 0, 2] = 2, 1
    expected[1, 0, 1, 1], expected[1, 0, 0, 2] = 1, 1
    assert torch.equal(frames, expected)
    assert not bin_events(*(array[:0] for array in (time, x, y, p)), steps=3, size=(2, 3)).any()


@pytest.mark.parametrize(("x", "p"), [(3, 0), (0, 2)])
def test_events_outside_are_refused(x: int, p: int) -> None:
    one = np.array([1])
    with pytest.raises(ImageError, match="an event lies outside 2x3"):
        bin_events(one, one * x, one, one * p, steps=1, size=(2, 3))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    with pytest.raises(ImageError, match="events.npz: not a readable recording file"):
        load_recordings(path, (2, 3))
    np.savez(path, x=np.zeros(1))
    with pytest.raises(ImageError, match=r"events\.npz: holds no t_us, y"):
        load_recordings(path, (2, 3))
    arrays = dict.fromkeys(("t_us", "x", "y", "p", "label"), np.zeros(2, int))
    np.savez(path, **arrays, offsets=np.array([0, 3]))
    with pytest.raises(ImageError, match="don't fit each other"):
        load_recordings(path, (2, 3))
    np.savez(path, **arrays, offsets=np.array([0, 2]))
    with pytest.raises(ImageError, match="recording 1 does not exist, there are 1"):
        load_recordings(path, (2, 3)).frames(1, 2)


def test_har_dvs_network_on_real_recordings(shared: Path) -> None:
    """Two channels, a frame for each step, four blocks in block3 as in the HAR-DVS networks."""
    recordings = load_recordings(shared / "data" / "nmnist_small_1100.npz", (34, 34))
    frames = torch.stack([recordings.frames(number, 4) for number in (0, 1000)])
    assert frames.sum() > 1000 and frames.max() > 1
    network = small_network(2, in_channels=2, depths=(1, 1, 1, 1, 4, 2), time_steps=4)
    steer_rates(network, frames.mean(1), 0.3)
    calibration = calibrate(network, frames.transpose(0, 1), time_steps=4)
    model = quantise(network, network.config, calibration, time_steps=4, name="har-dvs")
    assert model.input.time_steps == 4 and model.layers[0].repeat == 1
    images = list(quantise_images(model, frames))
    wrong, _ = differing_tensors(model, get_preset("tiny"), images, stall=40, seed=2)
    assert wrong == []
