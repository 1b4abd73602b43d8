# SPDX-License-Identifier: Apache-2.0
"""Counters of a run."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.control.register_bank import COUNTER_WIDTH
from hw.regmap import COUNTERS, STALLS

__all__ = ["Counters"]


class Counters(wiring.Component):
    """Sums up what happens while ``busy``, modulo 2^48; ``clear`` sets all to 0.

    Two cycles behind the events.

    Parameters: ``beat_bytes`` of a memory beat.

    Members: ``count_additions``, ``count_skipped`` in this cycle; ``stall_cause`` bits;
    ``read_beat``, ``write_beat`` strobes; one output for each of regmap.COUNTERS.
    """

    def __init__(self, beat_bytes):
        self.beat_bytes = beat_bytes
        super().__init__({
            "clear": In(1), "busy": In(1), "count_additions": In(16), "count_skipped": In(8),
            "stall_cause": In(len(STALLS)), "read_beat": In(1), "write_beat": In(1),
        } | {name: Out(COUNTER_WIDTH) for name in COUNTERS})

    def elaborate(self, platform):
        m = Module()
        steps = {
            "cycles": self.busy, "additions": self.count_additions, "skipped": self.count_skipped,
            "bytes_read": Mux(self.read_beat, self.beat_bytes, 0),
            "bytes_written": Mux(self.write_beat, self.beat_bytes, 0),
            **{name: self.stall_cause[cause] & self.busy for cause, name in enumerate(STALLS)}}
        for name, step in steps.items():
            counter = getattr(self, name)
            registered = Signal(16, name=f"{name}_step")
            m.d.sync += [registered.eq(step), counter.eq(counter + registered)]
            with m.If(self.clear):
                m.d.sync += counter.eq(0)
        return m
