# SPDX-License-Identifier: Apache-2.0
"""Queue, Skid and HalfSkid keep order and throughput."""

import pytest
from amaranth.lib import data

from hw.dma.half_skid import HalfSkid
from hw.dma.queue import Queue
from hw.dma.skid import Skid
from tb.dma.streams import transfer

SHAPE = data.StructLayout({"value": 16})


@pytest.mark.parametrize("pauses", [(0, 0), (0.5, 0), (0, 0.5), (0.3, 0.6)])
@pytest.mark.parametrize("make", [lambda: Queue(SHAPE, 2), lambda: Queue(SHAPE, 8),
                                  lambda: Skid(SHAPE), lambda: HalfSkid(SHAPE)],
                         ids=["queue2", "queue8", "skid", "half_skid"])
def test_order(make, pauses):
    payloads = [{"value": value * 77 % 65536} for value in range(200)]
    queue = make()
    found, cycles = transfer(queue, payloads, 200, *pauses)
    assert found == payloads
    if pauses == (0, 0):
        assert cycles == list(range(1, 401, 2) if isinstance(queue, HalfSkid) else range(1, 201))


def test_depth():
    with pytest.raises(ValueError, match="power of two of at least 2, not 3"):
        Queue(8, 3)
