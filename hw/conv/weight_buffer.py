# SPDX-License-Identifier: Apache-2.0
"""On-chip weight rows, one copy for two groups."""

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
    copy c of each bank, a true dual-port block RAM; a write goes to all copies and takes the
    cycle of group 2c where that reads the same bank (``hold``). Behind a write that held a group,
    no write follows for a cycle.

    **Latency** 2 cycles from ``row`` to ``read_data``; a group's pipeline stands while its
    ``enable`` is 0, and its data with it. A write takes effect 2 cycles after it was taken.
    **Throughput** one row a group and cycle.

    Members
    -------
    write_valid, write_row, write_part, write_data, write_ready : In, Out
        One beat of a row: part ``write_part`` (one-hot), data repeated over the row.
    wants, row, enable : In, arrays of groups
        ``wants``: the bank that the group reads now, one-hot; ``enable``: its pipeline moves.
    hold : Out, array of groups
        The group must not move in this cycle.
    read_data : Out, array of groups
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        rows = exact_log2(preset.weight_rows)
        super().__init__({
            "write_valid": In(1),
            "write_row": In(rows),
            "write_part": In(preset.weight_row_bits // preset.axi_bits),
            "write_data": In(preset.weight_row_bits),
            "write_ready": Out(1),
            "wants": In(2).array(preset.groups),
            "row": In(rows).array(preset.groups),
            "enable": In(1).array(preset.groups),
            "hold": Out(1).array(preset.groups),
            "read_data": Out(preset.weight_row_bits).array(preset.groups),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups = preset.groups

        # one write waits here; whether it is done in a cycle is known at the beginning of that
        waiting, bank = Signal(), Signal(reset_less=True)
        row = Signal(len(self.write_row) - 1, reset_less=True)
        part = Signal.like(self.write_part, reset_less=True)
        word = Signal.like(self.write_data, reset_less=True)
        writing = Signal(2)  # one-hot: its bank
        held, next_waiting, next_bank = Signal(), Signal(), Signal()
        m.d.comb += [
            self.write_ready.eq(~waiting | writing.any()),
            next_waiting.eq(Mux(self.write_ready, self.write_valid, waiting)),
            next_bank.eq(Mux(self.write_ready, self.write_row[-1], bank)),
        ]
        with m.If(self.write_ready):
            m.d.sync += [row.eq(self.write_row), part.eq(self.write_part),
                         word.eq(self.write_data)]
        for group in range(0, groups, 2):
            m.d.comb += self.hold[group].eq((writing & self.wants[group]).any())
        m.d.comb += held.eq(Cat(self.hold[group] for group in range(0, groups, 2)).any())
        m.d.sync += [
            waiting.eq(next_waiting), bank.eq(next_bank),
            writing.eq(Mux(next_waiting & ~held, Cat(~next_bank, next_bank), 0)),
        ]

        bank_s1 = Signal(groups)
        for copy in range((groups + 1) // 2):
            pair = [g for g in (2 * copy, 2 * copy + 1) if g < groups]
            found = []
            for index in range(2):
                memory = block_memory(m, f"copy_{copy}_bank_{index}", preset.weight_row_bits,
                                      preset.weight_rows // 2)
                write = memory.write_port(granularity=preset.axi_bits)
                first = Signal.like(row, name=f"address_{copy}_{index}")
                m.d.comb += [
                    first.eq(Mux(writing[index], row, self.row[pair[0]])),
                    write.addr.eq(first), write.data.eq(word),
                    write.en.eq(Mux(writing[index], part, 0)),
                ]
                found.append([
                    block_read(m, memory, f"read_{group}_{index}",
                               first if port == 0 else self.row[group],
                               self.enable[group] & ~writing[index] if port == 0
                               else self.enable[group])
                    for port, group in enumerate(pair)])
            for port, group in enumerate(pair):
                data = Signal(preset.weight_row_bits, name=f"data_{group}", reset_less=True)
                with m.If(self.enable[group]):
                    m.d.sync += [
                        bank_s1[group].eq(self.row[group][-1]),
                        data.eq(Mux(bank_s1[group], found[1][port], found[0][port])),
                    ]
                m.d.comb += self.read_data[group].eq(data)
        return m
