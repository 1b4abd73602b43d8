# SPDX-License-Identifier: Apache-2.0
"""One accumulator group: a queue of window entries, the scanner and the lanes."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from hw.conv.lanes import Lanes
from hw.conv.scanner import Scanner
from hw.payloads import EntryLayout, TagLayout
from hw.presets import Preset

__all__ = ["Group"]


class Group(wiring.Component):
    """Adds the weight rows of all set bits of its entries; one result for each unit.

    Entries and tags are pushed without back-pressure: who pushes counts what is popped.

    Members
    -------
    entry_valid, entry, nonzero : In
    entry_popped : Out
    tag_valid, tag : In
        One for each unit, before its result.
    tag_popped : Out
    row_valid, row, enable, hold, weights : see Lanes
    result_valid, result, take, free : see Lanes; ``result_tag`` is its tag
    idle : Out
        No entry, token or result is inside.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "entry_valid": In(1),
            "entry": In(EntryLayout(preset)),
            "nonzero": In(preset.map_banks),
            "entry_popped": Out(1),
            "tag_valid": In(1),
            "tag": In(TagLayout(preset)),
            "row_valid": Out(1),
            "row": Out(exact_log2(preset.weight_rows)),
            "enable": Out(1),
            "hold": In(1),
            "weights": In(preset.weight_row_bits),
            "result_valid": Out(1),
            "result": Out(preset.epilogue_lanes * preset.acc_width),
            "result_tag": Out(TagLayout(preset)),
            "take": In(1),
            "free": In(1),
            "adding": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        m.submodules.scanner = scanner = Scanner(preset)
        m.submodules.lanes = lanes = Lanes(preset)
        connect(m, scanner.o, lanes.i)
        for name in ("row_valid", "row", "enable", "result_valid", "result", "adding"):
            m.d.comb += getattr(self, name).eq(getattr(lanes, name))
        for name in ("hold", "weights", "take", "free"):
            m.d.comb += getattr(lanes, name).eq(getattr(self, name))

        head = Signal(len(self.entry.as_value()) + preset.map_banks)
        entry_ready = scanner.i.ready
        level = self._queue(m, "entries", preset.fifo_depth, self.entry_valid,
                            Cat(self.entry, self.nonzero), head, self.entry_popped)
        m.d.comb += [
            scanner.i.valid.eq(level != 0),
            scanner.i.payload.eq(head[:len(self.entry.as_value())]),
            scanner.nonzero.eq(head[len(self.entry.as_value()):]),
            self.entry_popped.eq((level != 0) & entry_ready),
        ]
        self._queue(m, "tags", 8, self.tag_valid, self.tag.as_value(),
                    self.result_tag.as_value(), self.free)
        return m

    @staticmethod
    def _queue(m, name, depth, push, item, head, pop):
        """Add a queue in distributed memory; return its level."""
        memory = Memory(shape=unsigned(len(item)), depth=depth, init=[])
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        level = Signal(range(depth + 1), name=f"{name}_level")
        m.d.comb += [write.en.eq(push), write.data.eq(item), head.eq(read.data)]
        m.d.sync += [write.addr.eq(write.addr + push), read.addr.eq(read.addr + pop),
                     level.eq(level + push - pop)]
        return level
