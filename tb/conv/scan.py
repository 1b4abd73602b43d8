# SPDX-License-Identifier: Apache-2.0
"""Maps to tokens: what lies before the lanes of the convolution engine, for its testbench."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from hw.conv.map_buffer import MapBuffer
from hw.conv.scanner import Scanner
from hw.conv.walker import PixelWalker
from hw.conv.window import WindowReader
from hw.descriptor import DESCRIPTOR_WORDS
from hw.dma.queue import Queue
from hw.payloads import TagLayout, TokenLayout
from hw.presets import Preset

__all__ = ["Scan"]


class Scan(wiring.Component):
    """Map buffer, pixel walker and window reader, and for each group a queue and a scanner.

    Members: those of ConvEngine (``slot`` is its ``context``); for each group ``enable`` and its
    tokens; ``overflow``: an entry came to a full queue, which must never be.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        groups = preset.groups
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "start": In(1), "slot": In(1), "walking": Out(1), "active": Out(2),
            "map_write_valid": In(1),
            "map_write_beat": In(exact_log2(preset.map_words) - exact_log2(preset.beat_words)),
            "map_write_data": In(preset.axi_bits),
            "tag_valid": Out(1), "tag_group": Out(range(groups)), "tag": Out(TagLayout(preset)),
            "tag_popped": In(groups),
            "enable": In(groups), "token_valid": Out(groups),
            "tokens": Out(TokenLayout(preset)).array(groups),
            "overflow": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        m.submodules.maps = maps = MapBuffer(preset)
        m.submodules.walker = walker = PixelWalker(preset)
        m.submodules.reader = reader = WindowReader(preset)
        connect(m, walker.o, reader.i)
        for index in range(2):
            m.d.comb += reader.descriptors[index].eq(self.descriptors[index])
        m.d.comb += [
            walker.start.eq(self.start), walker.context.eq(self.slot),
            walker.descriptor.eq(Mux(self.slot, self.descriptors[1], self.descriptors[0])),
            self.walking.eq(self.start | walker.busy), self.active.eq(reader.active),
            self.tag_valid.eq(reader.tag_valid), self.tag_group.eq(reader.tag_group),
            self.tag.eq(reader.tag), reader.tag_popped.eq(self.tag_popped),
            maps.write_enable.eq(self.map_write_valid), maps.write_beat.eq(self.map_write_beat),
            maps.write_data.eq(self.map_write_data),
            maps.read_enable.eq(reader.read_enable), maps.read_address.eq(reader.read_address),
            reader.read_data.eq(maps.read_data), reader.read_nonzero.eq(maps.read_nonzero),
        ]
        width = len(reader.entry.as_value())
        for index in range(preset.groups):
            m.submodules[f"scanner_{index}"] = scanner = Scanner(preset)
            m.submodules[f"queue_{index}"] = queue = Queue(width + preset.map_banks,
                                                           preset.fifo_depth)
            m.d.comb += [
                queue.i.valid.eq(reader.entry_valid[index]),
                queue.i.payload.eq(Cat(reader.entry, reader.nonzero)),
                scanner.i_valid.eq(queue.o.valid), scanner.i.eq(queue.o.payload[:width]),
                scanner.nonzero.eq(queue.o.payload[width:]), queue.o.ready.eq(scanner.i_take),
                reader.entry_popped[index].eq(scanner.i_take),
                scanner.enable.eq(self.enable[index]),
                self.token_valid[index].eq(scanner.o_valid), self.tokens[index].eq(scanner.o),
            ]
            with m.If(queue.i.valid & ~queue.i.ready):
                m.d.sync += self.overflow.eq(1)
        return m
