# SPDX-License-Identifier: Apache-2.0
"""Memory behind a link, in slices like an array of bytes."""

import numpy as np

from sw.uart_link import UartLink

__all__ = ["RemoteMemory"]


class RemoteMemory:
    """``size`` bytes from byte ``base`` of the bus on. Each slice is read or written at once.

    Slices are as those of a one-dimensional numpy array of uint8 without steps; what is read is a
    copy. The bus has words of 4 bytes, the lowest byte first: where a slice that is written ends
    within one, that is read before.
    """

    def __init__(self, link: UartLink, base: int, size: int) -> None:
        self._link, self.base, self.size = link, base, size

    def __getitem__(self, place: slice) -> np.ndarray:
        start, stop = self._range(place)
        first, words = start // 4, -(-stop // 4) - start // 4
        data = self._link.read(self.base + 4 * first, words).astype("<u4").view(np.uint8)
        return data[start - 4 * first:stop - 4 * first]

    def __setitem__(self, place: slice, value: np.ndarray | int) -> None:
        start, stop = self._range(place)
        first, last = start // 4, -(-stop // 4)
        if first == last:
            return
        data = np.empty(4 * (last - first), np.uint8)
        if start % 4:
            data[:4] = self[4 * first:4 * first + 4]
        if stop % 4:
            data[-4:] = self[4 * last - 4:4 * last]
        data[start - 4 * first:stop - 4 * first] = value
        self._link.write(self.base + 4 * first, data.view("<u4"))

    def _range(self, place: slice) -> tuple[int, int]:
        if not isinstance(place, slice):
            raise TypeError(f"memory behind a link is read in slices, not by {place!r}")
        start, stop, step = place.indices(self.size)
        if step != 1:
            raise ValueError(f"a slice's step must be 1, not {step}")
        return start, max(start, stop)
