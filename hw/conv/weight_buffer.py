# SPDX-License-Identifier: Apache-2.0
"""On-chip weight rows, one copy for two groups."""

import itertools

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.memory import block_memory, block_read
from hw.presets import Preset

__all__ = ["WeightBuffer"]


class WeightBuffer(wiring.Component):
    """``weight_rows`` rows of ``lanes`` int8, read by every group in every cycle.

    The rows lie in two banks (upper and lower half of the row address). Groups 2c and 2c + 1 share
    copy c of each bank, a true dual-port block RAM. A write goes from copy to copy, and takes the
    cycle of group 2c where that reads the same bank (``hold``). Beats of one row that follow each
    other are written together, so that a row takes one such cycle. Writes never wait: where they
    come to the bank in use, the sooner they are through the better.

    **Latency** 3 cycles from ``row`` to ``read_data``; a group's pipeline stands in the cycle
    behind one without ``next_enable``, and its data with it. A write is seen by reads of copy c
    c + 4 cycles after it was taken, or one more where the next beat is of the same row.
    **Throughput** one row a group and cycle, one beat a cycle.

    Members
    -------
    write_valid, write_row, write_part, write_data : In
        One beat of a row: part ``write_part`` (one-hot, or all), data repeated over the row.
    write_same : In
        Where the write of the cycle before was a part: this one is of its row, and joins it.
    wants, row, next_enable : In, arrays of groups
        ``wants`` and ``row``: the bank that the group reads in the next cycle, one-hot, and the
        row; ``next_enable``: its pipeline moves then.
    hold : Out, array of groups
        The group must not move in the next cycle.
    read_data : Out, array of groups
        What both banks have at that row, the lower one first; one of them is the weights.
    upper : Out, array of groups
        They are the upper bank's. Who uses the weights chooses, where a LUT has room for it.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        rows = exact_log2(preset.weight_rows)
        super().__init__({
            "write_valid": In(1),
            "write_row": In(rows),
            "write_part": In(preset.weight_row_bits // preset.axi_bits),
            "write_same": In(1),
            "write_data": In(preset.weight_row_bits),
            "wants": In(2).array(preset.groups),
            "row": In(rows).array(preset.groups),
            "next_enable": In(1).array(preset.groups),
            "hold": Out(1).array(preset.groups),
            "read_data": Out(2 * preset.weight_row_bits).array(preset.groups),
            "upper": Out(1).array(preset.groups),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups = preset.groups

        # A row is gathered here. Copies take it in turn, a cycle apart: what is on its way to a
        # copy lies beside it, and whether it writes is known at the beginning of the cycle.
        waiting, joins, go = Signal(), Signal(), Signal()
        first = _Write(preset, "write_in")
        first.part = Signal(len(self.write_part), name="write_in_part", reset_less=True)
        m.d.comb += [joins.eq(waiting & self.write_valid & ~first.part.all() & self.write_same),
                     go.eq(waiting & ~joins)]
        m.d.sync += [waiting.eq(self.write_valid), first.row.eq(self.write_row),
                     first.part.eq(self.write_part | Mux(joins, first.part, 0))]
        size = preset.axi_bits
        for part in range(len(self.write_part)):
            with m.If(self.write_part[part]):
                m.d.sync += first.word.word_select(part, size).eq(
                    self.write_data.word_select(part, size))
        gathered = _Write(preset, "write_gathered")
        m.d.sync += gathered.take(first.row, [
            Mux(go & (first.row[-1] == bank), first.part, 0) for bank in range(2)], first.word)
        chain = [gathered]
        copies = (groups + 1) // 2
        for copy in range(copies):
            old, new = chain[-1], _Write(preset, f"write_{copy}")
            m.d.sync += new.take(old.row, old.enables, old.word)
            chain.append(new)
            m.d.comb += self.hold[2 * copy].eq(
                (old.banks & self.wants[2 * copy]).any())

        # addresses come from registers of their own
        rows, enables = [], []
        for group in range(groups):
            row = Signal.like(self.row[group], name=f"row_{group}", reset_less=True)
            enable = Signal(name=f"enable_{group}", init=1)
            m.d.sync += [row.eq(self.row[group]), enable.eq(self.next_enable[group])]
            rows.append(row)
            enables.append(enable)
        for copy, (old, write_now) in enumerate(itertools.pairwise(chain)):
            pair = [g for g in (2 * copy, 2 * copy + 1) if g < groups]
            found = []
            for index in range(2):
                memory = block_memory(m, f"copy_{copy}_bank_{index}", preset.weight_row_bits,
                                      preset.weight_rows // 2)
                write = memory.write_port(granularity=preset.axi_bits)
                # the first group's port reads or writes: synthesis must see that it does not both
                address = Signal(len(write.addr), name=f"address_{copy}_{index}", reset_less=True)
                m.d.sync += address.eq(Mux(old.banks[index], old.row, self.row[pair[0]]))
                m.d.comb += [write.addr.eq(address), write.data.eq(write_now.word),
                             write.en.eq(write_now.enables[index])]
                asked = [(address, enables[pair[0]] & ~write.en.any()),
                         *((rows[group], enables[group]) for group in pair[1:])]
                found.append([block_read(m, memory, f"read_{group}_{index}", *question)
                              for group, question in zip(pair, asked, strict=True)])
            for port, group in enumerate(pair):
                data = Signal(2 * preset.weight_row_bits, name=f"data_{group}", reset_less=True)
                upper_s1 = Signal(name=f"upper_s1_{group}", reset_less=True)
                upper = Signal(name=f"upper_{group}", reset_less=True)
                with m.If(enables[group]):
                    m.d.sync += [
                        upper_s1.eq(rows[group][-1]), upper.eq(upper_s1),
                        data.eq(Cat(bank[port] for bank in found)),
                    ]
                m.d.comb += [self.read_data[group].eq(data), self.upper[group].eq(upper)]
        return m


class _Write:
    """A beat on its way to the copies; ``banks``: one-hot, the bank that it is written to now, and
    ``enables`` its parts there."""

    def __init__(self, preset, name):
        self.row = Signal(exact_log2(preset.weight_rows), name=f"{name}_row", reset_less=True)
        self.banks = Signal(2, name=f"{name}_banks")
        self.enables = [Signal(preset.weight_row_bits // preset.axi_bits,
                               name=f"{name}_enables_{bank}") for bank in range(2)]
        self.word = Signal(preset.weight_row_bits, name=f"{name}_word", reset_less=True)

    def take(self, row, enables, word):
        """Return the assignments that fill it."""
        return [self.row.eq(row), self.word.eq(word),
                self.banks.eq(Cat(parts.any() for parts in enables)),
                *(mine.eq(theirs) for mine, theirs in zip(self.enables, enables, strict=True))]
