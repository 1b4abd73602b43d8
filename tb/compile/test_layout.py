# SPDX-License-Identifier: Apache-2.0
"""Encode then decode is the identity, and the bytes are where docs/program.md puts them."""

import numpy as np
import pytest
import torch

from sw.compile.layout import ImageLayout, LogitsLayout, MapLayout, ResidualLayout, digits
from sw.golden.numbers import naf


@pytest.mark.parametrize("beat", [8, 16, 64])
@pytest.mark.parametrize(("channels", "slice_words"), [(5, 1), (64, 1), (64, 2), (97, 4), (97, 2)])
def test_spikes(beat: int, channels: int, slice_words: int) -> None:
    layout = MapLayout(name="s", shape=(3, channels, 4, 5), beat_bytes=beat,
                       slice_words=slice_words)
    spikes = np.random.default_rng(channels).integers(0, 2, layout.shape)
    data = layout.encode(spikes)
    assert data.size == layout.size and layout.row_bytes % beat == 0
    assert np.array_equal(layout.decode(data), spikes)
    t, c, y, x = 2, channels - 1, 3, 4
    word = c // 32
    at = ((t * layout.slices + word // slice_words) * 4 + y) * layout.row_bytes
    at += 4 * (x * slice_words + word % slice_words)
    assert data[at:at + 4].view("<u4")[0] >> c % 32 & 1 == spikes[t, c, y, x]


@pytest.mark.parametrize("bits", [2, 5, 8, 12])
def test_integers(bits: int) -> None:
    layout = MapLayout(name="i", shape=(2, 40, 3, 3), beat_bytes=16, slice_words=1, bits=bits)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    values = np.random.default_rng(bits).integers(low, high + 1, layout.shape)
    values.ravel()[:2] = low, high
    assert np.array_equal(layout.decode(layout.encode(values)), values)


def test_digits_are_the_golden_ones() -> None:
    values = np.arange(-128, 128)
    planes = digits(values, 8).astype(int)
    signed = planes[:, 0::2] - planes[:, 1::2]
    golden = naf(torch.from_numpy(values), 8).numpy()
    assert np.array_equal(signed[:, ::-1], golden[:, :8])


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (7, 2, 3), (1, 1, 0)])
def test_image(kernel: int, stride: int, padding: int) -> None:
    size = tuple((n + 2 * padding - kernel) // stride + 1 for n in (9, 12))
    layout = ImageLayout(name="image", shape=(2, 3, 9, 12), beat_bytes=8,
                         kernel=(kernel, kernel), stride=stride, padding=padding, bits=8,
                         out_size=size, slice_words=1)
    image = np.random.default_rng(1).integers(-127, 128, layout.shape)
    assert np.array_equal(layout.decode(layout.encode(image)), image)
    with pytest.raises(ValueError, match="does not fit 8 bits"):
        layout.encode(image * 2)


def test_residual_and_logits() -> None:
    random = np.random.default_rng(2)
    residual = ResidualLayout(name="r", shape=(2, 21, 3, 4), beat_bytes=16, lanes=16)
    values = random.integers(-(1 << 15), 1 << 15, residual.shape)
    data = residual.encode(values)
    assert data.size == residual.size == 2 * 2 * 12 * 16 * 2
    assert np.array_equal(residual.decode(data), values)
    logits = LogitsLayout(name="l", shape=(10,), beat_bytes=16, lanes=8, epilogue_lanes=4)
    values = random.integers(-(1 << 31), 1 << 31, 10)
    assert np.array_equal(logits.decode(logits.encode(values)), values)
