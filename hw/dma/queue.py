# SPDX-License-Identifier: Apache-2.0
"""A small first-in first-out queue."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Queue of up to ``depth`` payloads in distributed memory.

    An element is visible at the output in the cycle after it was taken; one transfer per cycle
    on both sides. Reset empties the queue.

    Parameters: ``shape`` of the payload, ``depth`` (a power of two).

    Members: ``i``, ``o`` streams; ``level`` elements held.
    """

    def __init__(self, shape, depth):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two of at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)),
                          "level": Out(range(depth + 1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=Shape.cast(self.shape), depth=self.depth, init=[])
        write = memory.write_port()
        read = memory.read_port(domain="comb")
        head = Signal(range(self.depth))
        tail = Signal(range(self.depth))
        put = self.i.valid & self.i.ready
        get = self.o.valid & self.o.ready
        not_full = Signal(init=1)
        not_empty = Signal()
        m.d.comb += [
            self.i.ready.eq(not_full), self.o.valid.eq(not_empty),
            write.addr.eq(tail), write.data.eq(self.i.payload), write.en.eq(put),
            read.addr.eq(head), Value.cast(self.o.payload).eq(read.data),
        ]
        with m.If(put):
            m.d.sync += tail.eq(tail + 1)
        with m.If(get):
            m.d.sync += head.eq(head + 1)
        with m.If(put & ~get):
            m.d.sync += [self.level.eq(self.level + 1), not_empty.eq(1),
                         not_full.eq(self.level != self.depth - 1)]
        with m.Elif(get & ~put):
            m.d.sync += [self.level.eq(self.level - 1), not_full.eq(1),
                         not_empty.eq(self.level != 1)]
        return m
