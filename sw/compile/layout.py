# SPDX-License-Identifier: Apache-2.0
"""How tensors lie in memory (docs/program.md), and numpy arrays to and from those bytes.

Every layout has an ``address``, ``size`` in bytes, ``encode(array) -> bytes`` and
``decode(bytes) -> array`` in the model's shape; encode then decode is the identity. Layouts are
whole beats. What `decode` reads never includes padding.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from hw.presets import WORD_BITS

__all__ = ["ImageLayout", "Layout", "LogitsLayout", "MapLayout", "ResidualLayout", "ceil_div",
           "digits"]


def ceil_div(value: int, by: int) -> int:
    """value / by, rounded up."""
    return -(-value // by)


def digits(value: np.ndarray, bits: int) -> np.ndarray:
    """Non-adjacent digits of signed integers as planes `[..., 2 bits]`: +1 and -1 digits of each
    position, most significant position first."""
    value = value.astype(np.int64)
    plus, minus = (3 * value & ~value) >> 1, (value & ~(3 * value)) >> 1
    place = np.arange(bits - 1, -1, -1)
    pair = np.stack([plus[..., None] >> place & 1, minus[..., None] >> place & 1], -1)
    return pair.reshape(*value.shape, 2 * bits).astype(np.uint8)


@dataclasses.dataclass(kw_only=True)
class Layout:
    """Where a tensor is."""

    name: str
    shape: tuple[int, ...]
    beat_bytes: int
    address: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class MapLayout(Layout):
    """Spikes, levels (``levels`` above 1), or signed-digit planes of ``bits``-bit integers.

    Planes of a level are its bits, the highest first, or with ``ones`` that many ones, first ones
    first.

    `[time step][plane][slice][y][x][slice_words]`, rows padded to beats.
    """

    slice_words: int
    bits: int = 0
    levels: int = 1
    ones: bool = False
    pairs: bool = False
    """The +1 and -1 digits of 32 channels are two words side by side, not two planes."""

    @property
    def steps(self) -> int:
        return self.shape[0]

    @property
    def planes(self) -> int:
        if self.levels > 1:
            return self.levels if self.ones else self.levels.bit_length()
        return (self.bits if self.pairs else 2 * self.bits) or 1

    @property
    def places(self) -> int:
        """Bits of a channel in all planes."""
        return self.planes * self.signs

    @property
    def signs(self) -> int:
        """Words of 32 channels in a plane."""
        return 2 if self.pairs else 1

    @property
    def height(self) -> int:
        return self.shape[2]

    @property
    def width(self) -> int:
        return self.shape[3]

    @property
    def words(self) -> int:
        """Words of a pixel."""
        return ceil_div(self.shape[1], WORD_BITS) * self.signs

    @property
    def slices(self) -> int:
        return self.words // self.slice_words

    @property
    def row_bytes(self) -> int:
        """Bytes from row to row."""
        return ceil_div(4 * self.width * self.slice_words, self.beat_bytes) * self.beat_bytes

    @property
    def slice_bytes(self) -> int:
        return self.height * self.row_bytes

    @property
    def plane_bytes(self) -> int:
        """Bytes from plane to plane; steps follow on."""
        return self.slices * self.slice_bytes

    @property
    def size(self) -> int:
        return self.steps * self.planes * self.plane_bytes

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Bytes of `[T, C, H, W]`; padding is 0."""
        steps, channels, height, width = self.shape
        array = np.asarray(array).reshape(self.shape)
        planes = self._planes_of(array)
        blocks = self.words // self.signs
        bits = np.zeros((steps, blocks * WORD_BITS, height, width, self.places), np.uint8)
        bits[:, :channels] = planes
        bits = bits.reshape(steps, blocks, WORD_BITS, height, width, self.planes, self.signs)
        bits = np.ascontiguousarray(bits.transpose(0, 5, 3, 4, 1, 6, 2))
        words = np.packbits(bits, axis=-1, bitorder="little").view("<u4")
        words = words.reshape(steps, self.planes, height, width, self.slices, self.slice_words)
        rows = words.transpose(0, 1, 4, 2, 3, 5).reshape(
            steps, self.planes, self.slices, height, width * self.slice_words)
        out = np.zeros((*rows.shape[:-1], self.row_bytes // 4), "<u4")
        out[..., :rows.shape[-1]] = rows
        return out.view(np.uint8).ravel()

    def _planes_of(self, array: np.ndarray) -> np.ndarray:
        """The bits `[T, C, H, W, places]` of a map's values."""
        if self.levels > 1:
            if self.ones:
                planes = array[..., None] > np.arange(self.levels)
            else:
                planes = array[..., None] >> np.arange(self.planes - 1, -1, -1) & 1
            return planes.astype(np.uint8)
        return digits(array, self.bits) if self.bits else array[..., None].astype(np.uint8)

    def decode(self, data: np.ndarray) -> np.ndarray:
        """`[T, C, H, W]`: uint8 spikes or levels, or int64 integers."""
        steps, channels, height, width = self.shape
        rows = np.ascontiguousarray(data).view("<u4").reshape(
            steps, self.planes, self.slices, height, -1)[..., :width * self.slice_words]
        words = rows.reshape(steps, self.planes, self.slices, height, width, self.slice_words)
        words = np.ascontiguousarray(words.transpose(0, 1, 3, 4, 2, 5)).reshape(
            steps, self.planes, height, width, self.words)
        bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
        bits = bits.reshape(steps, self.planes, height, width, -1, self.signs, WORD_BITS)
        planes = bits.transpose(0, 4, 6, 2, 3, 1, 5).reshape(
            steps, -1, height, width, self.places)[:, :channels]
        if self.levels > 1:
            if self.ones:
                return planes.sum(-1, dtype=np.uint8)
            return (planes << np.arange(self.planes - 1, -1, -1, dtype=np.uint8)).sum(
                -1, dtype=np.uint8)
        if not self.bits:
            return planes[..., 0].copy()
        pair = planes.astype(np.int64).reshape(*self.shape, self.bits, 2)
        return ((pair[..., 0] - pair[..., 1]) << np.arange(self.bits - 1, -1, -1)).sum(-1)


@dataclasses.dataclass(kw_only=True)
class ImageLayout(Layout):
    """The input: digit planes of the first layer's windows, `windows` as a 1x1 map.

    Channel `(c * kh + ky) * kw + kx` of an output pixel; taps outside the image are 0.
    """

    kernel: tuple[int, int]
    stride: int
    padding: int
    bits: int
    out_size: tuple[int, int]
    slice_words: int

    @property
    def windows(self) -> MapLayout:
        """The map that the first layer reads."""
        channels = self.shape[1] * self.kernel[0] * self.kernel[1]
        return MapLayout(name=self.name, shape=(self.shape[0], channels, *self.out_size),
                         beat_bytes=self.beat_bytes, address=self.address,
                         slice_words=self.slice_words, bits=self.bits)

    @property
    def size(self) -> int:
        return self.windows.size

    def _each_tap(self, padded: np.ndarray,
                  visit: Callable[[int, np.ndarray], None]) -> None:
        (kh, kw), (oh, ow), s = self.kernel, self.out_size, self.stride
        for c in range(self.shape[1]):
            for ky in range(kh):
                for kx in range(kw):
                    visit((c * kh + ky) * kw + kx,
                          padded[:, c, ky:ky + s * (oh - 1) + 1:s, kx:kx + s * (ow - 1) + 1:s])

    def _padded(self) -> tuple[np.ndarray, np.ndarray]:
        steps, channels, height, width = self.shape
        p = self.padding
        canvas = np.zeros((steps, channels, height + 2 * p, width + 2 * p), np.int64)
        return canvas, canvas[:, :, p:p + height, p:p + width]

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Bytes of the image `[Ti, C, H, W]`."""
        canvas, inner = self._padded()
        inner[:] = np.asarray(array).reshape(self.shape)
        limit = 1 << self.bits - 1
        if inner.size and (inner.min() < -limit or inner.max() >= limit):
            raise ValueError(f"{self.name} spans {inner.min()} to {inner.max()}, "
                             f"which does not fit {self.bits} bits")
        windows = np.zeros(self.windows.shape, np.int64)

        def take(channel: int, seen: np.ndarray) -> None:
            windows[:, channel] = seen

        self._each_tap(canvas, take)
        return self.windows.encode(windows)

    def decode(self, data: np.ndarray) -> np.ndarray:
        """The image; pixels that no window holds read 0."""
        windows = self.windows.decode(data)
        canvas, inner = self._padded()

        def give(channel: int, seen: np.ndarray) -> None:
            seen[:] = windows[:, channel]

        self._each_tap(canvas, give)
        return inner.copy()


@dataclasses.dataclass(kw_only=True)
class ResidualLayout(Layout):
    """`[tile][time step][y][x][lanes]` of int16."""

    lanes: int

    @property
    def tiles(self) -> int:
        return ceil_div(self.shape[1], self.lanes)

    @property
    def pixel_bytes(self) -> int:
        return 2 * self.lanes

    @property
    def step_bytes(self) -> int:
        return self.shape[2] * self.shape[3] * self.pixel_bytes

    @property
    def tile_bytes(self) -> int:
        return self.shape[0] * self.step_bytes

    @property
    def size(self) -> int:
        return self.tiles * self.tile_bytes

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Bytes of `[Tr, C, H, W]`."""
        steps, channels, height, width = self.shape
        full = np.zeros((steps, self.tiles * self.lanes, height, width), "<i2")
        full[:, :channels] = np.asarray(array).reshape(self.shape)
        tiles = full.reshape(steps, self.tiles, self.lanes, height, width)
        return np.ascontiguousarray(tiles.transpose(1, 0, 3, 4, 2)).view(np.uint8).ravel()

    def decode(self, data: np.ndarray) -> np.ndarray:
        """`[Tr, C, H, W]` int64."""
        steps, channels, height, width = self.shape
        tiles = np.ascontiguousarray(data).view("<i2").reshape(
            self.tiles, steps, height, width, self.lanes).transpose(1, 0, 4, 2, 3)
        return tiles.reshape(steps, -1, height, width)[:, :channels].astype(np.int64)


@dataclasses.dataclass(kw_only=True)
class LogitsLayout(Layout):
    """`[tile][part][half]` of 16 bits for each channel of the part, lower halves first."""

    lanes: int
    epilogue_lanes: int

    @property
    def tiles(self) -> int:
        return ceil_div(self.shape[0], self.lanes)

    @property
    def tile_bytes(self) -> int:
        return 4 * self.lanes

    @property
    def size(self) -> int:
        return self.tiles * self.tile_bytes

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Bytes of `[classes]`."""
        full = np.zeros(self.tiles * self.lanes, "<i4")
        full[:self.shape[0]] = array
        halves = full.view("<u2").reshape(-1, self.epilogue_lanes, 2).transpose(0, 2, 1)
        return np.ascontiguousarray(halves).view(np.uint8).ravel()

    def decode(self, data: np.ndarray) -> np.ndarray:
        """`[classes]` int64."""
        halves = np.ascontiguousarray(data).view("<u2").reshape(-1, 2, self.epilogue_lanes)
        full = np.ascontiguousarray(halves.transpose(0, 2, 1)).view("<i4").ravel()
        return full[:self.shape[0]].astype(np.int64)
