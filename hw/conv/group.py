# SPDX-License-Identifier: Apache-2.0
"""One accumulator group: a queue of window entries, the scanner and the lanes."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.conv.lanes import Lanes
from hw.conv.scanner import Scanner
from hw.dma.skid import Skid
from hw.payloads import EntryLayout, TokenLayout
from hw.presets import Preset

__all__ = ["Group"]


class Group(wiring.Component):
    """Adds the weight rows of all set bits of its entries; one result for each unit.

    Entries are pushed without back-pressure: who pushes counts what is popped.

    Members
    -------
    entry_valid : In
        Strobe: an entry arrives. The queue holds ``fifo_depth`` of them.
    entry : In
        Up to ``map_banks`` words of a window, and what they mean.
    nonzero : In, one bit a word
        The word has a set bit, and counts.
    entry_popped : Out
        Strobe: an entry left the queue in the cycle before.
    enable : Out
        The group moves in this cycle; 0 while its result is not taken, or ``hold``.
    next_enable, wants, row : Out
        See Lanes.
    hold : In
        The group must stand, for the bank is being written.
    weights : In
        Both banks' weight rows of 3 enabled cycles ago: ``lanes`` bytes each, lane 0 lowest.
    upper : In
        The row is the upper bank's.
    result_valid : Out
        A result is there, until it is freed.
    result : Out
        ``lanes`` sums of ``acc_width`` bits, lane 0 lowest, two's complement.
    result_context : Out
        The context that the result belongs to.
    free : In
        Strobe: the result is taken.
    adding : Out
        A weight row is added in this cycle.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "entry_valid": In(1),
            "entry": In(EntryLayout(preset)),
            "nonzero": In(preset.map_banks),
            "entry_popped": Out(1),
            "enable": Out(1),
            "next_enable": Out(1),
            "wants": Out(2),
            "row": Out(exact_log2(preset.weight_rows)),
            "hold": In(1),
            "weights": In(2 * preset.weight_row_bits),
            "upper": In(1),
            "result_valid": Out(1),
            "result": Out(preset.lanes * preset.acc_width),
            "result_context": Out(1),
            "free": In(1),
            "adding": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        m.submodules.scanner = scanner = Scanner(preset)
        m.submodules.lanes = lanes = Lanes(preset)
        for name in ("enable", "next_enable", "wants", "row", "result_valid", "result",
                     "result_context", "adding"):
            m.d.comb += getattr(self, name).eq(getattr(lanes, name))
        for name in ("hold", "weights", "upper", "free"):
            m.d.comb += getattr(lanes, name).eq(getattr(self, name))
        # tokens cross a skid: whether the lanes move need not be known at the queue
        m.submodules.skid = skid = Skid(
            data.StructLayout({"token": TokenLayout(preset), "wants": 2}))
        token, upper = scanner.o, scanner.o.row[-1]
        m.d.comb += [
            skid.i.valid.eq(scanner.o_valid), skid.i.payload.token.eq(token),
            skid.i.payload.wants.eq(Cat(token.add & ~upper, token.add & upper)),
            scanner.enable.eq(skid.i.ready), lanes.i_valid.eq(skid.o.valid),
            lanes.i.eq(skid.o.payload.token), lanes.i_wants.eq(skid.o.payload.wants),
            skid.o.ready.eq(lanes.enable),
        ]

        # the queue of entries
        width, depth = len(self.entry.as_value()), preset.fifo_depth
        m.submodules.entries = memory = Memory(
            shape=unsigned(width + preset.map_banks), depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        level, filled = Signal(range(depth + 1)), Signal()
        pop = scanner.i_take  # late: what it decides is at hand for both cases
        m.d.comb += [
            write.en.eq(self.entry_valid), write.data.eq(Cat(self.entry, self.nonzero)),
            scanner.i_valid.eq(filled), scanner.i.eq(read.data[:width]),
            scanner.nonzero.eq(read.data[width:]),
        ]
        m.d.sync += [
            self.entry_popped.eq(pop), write.addr.eq(write.addr + self.entry_valid),
            read.addr.eq(read.addr + pop), level.eq(level + self.entry_valid - pop),
            filled.eq(Mux(pop, (level > 1) | ((level == 1) & self.entry_valid),
                          filled | self.entry_valid)),
        ]
        return m
