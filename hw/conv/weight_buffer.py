# SPDX-License-Identifier: Apache-2.0
"""On-chip weight rows, one copy for two groups."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.presets import Preset

__all__ = ["WeightBuffer"]


class _Bank(wiring.Component):
    """Half of a copy: a true dual-port memory; a write takes the place of a read on port 0."""

    def __init__(self, preset: Preset):
        self._preset = preset
        rows = exact_log2(preset.weight_rows) - 1
        parts = preset.weight_row_bits // preset.axi_bits
        super().__init__({
            "write": In(parts),
            "write_data": In(preset.weight_row_bits),
            "address": In(rows).array(2),
            "enable": In(1).array(2),
            "data": Out(preset.weight_row_bits).array(2),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        m.submodules.memory = memory = Memory(
            shape=unsigned(preset.weight_row_bits), depth=preset.weight_rows // 2, init=[],
            attrs={"no_rw_check": 1})
        write = memory.write_port(granularity=preset.axi_bits)
        m.d.comb += [write.addr.eq(self.address[0]), write.data.eq(self.write_data),
                     write.en.eq(self.write)]
        for port in range(2):
            read = memory.read_port()
            m.d.comb += [
                read.addr.eq(self.address[port]),
                read.en.eq(self.enable[port] if port else self.enable[0] & ~self.write.any()),
                self.data[port].eq(read.data),
            ]
        return m


class WeightBuffer(wiring.Component):
    """``weight_rows`` rows of ``lanes`` int8, read by every group in every cycle.

    The rows lie in two banks (upper and lower half of the row address). Groups 2c and 2c + 1 share
    copy c of each bank, a true dual-port block RAM; a write goes to all copies and takes the
    cycle of group 2c where that reads the same bank (``hold``). A write yields to
    such reads once, then wins.

    **Latency** 2 cycles from ``read_row`` to ``read_data``; a group's pipeline stands while its
    ``read_enable`` is 0, and its data with it. **Throughput** one row a group and cycle.

    Members
    -------
    write_valid, write_row, write_part, write_data, write_ready : In, Out
        One beat of a row: part ``write_part`` (one-hot), data repeated over the row.
    read_valid, read_enable, read_row : In, array of groups
        ``read_valid``: this group wants a row now. ``read_enable``: its pipeline moves.
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
            "read_valid": In(1).array(preset.groups),
            "read_enable": In(1).array(preset.groups),
            "read_row": In(rows).array(preset.groups),
            "hold": Out(1).array(preset.groups),
            "read_data": Out(preset.weight_row_bits).array(preset.groups),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups = preset.groups
        bank_bit = exact_log2(preset.weight_rows) - 1
        conflict = Signal(groups)
        waited = Signal()
        for group in range(0, groups, 2):
            m.d.comb += conflict[group].eq(
                self.read_valid[group]
                & (self.read_row[group][bank_bit] == self.write_row[bank_bit]))
        m.d.comb += self.write_ready.eq(~conflict.any() | waited)
        m.d.sync += waited.eq(self.write_valid & ~self.write_ready)
        go = Signal()
        m.d.comb += go.eq(self.write_valid & self.write_ready)
        for group in range(groups):
            m.d.comb += self.hold[group].eq(go & conflict[group])

        bank_s1 = Signal(groups)
        for copy in range((groups + 1) // 2):
            pair = [g for g in (2 * copy, 2 * copy + 1) if g < groups]
            bank_data = []
            for index in range(2):
                bank = _Bank(preset)
                m.submodules[f"copy_{copy}_bank_{index}"] = bank
                here = Signal(name=f"write_{copy}_{index}")
                m.d.comb += [
                    here.eq(go & (self.write_row[bank_bit] == index)),
                    bank.write.eq(Mux(here, self.write_part, 0)),
                    bank.write_data.eq(self.write_data),
                    bank.address[0].eq(Mux(here, self.write_row, self.read_row[pair[0]])),
                ]
                for port, group in enumerate(pair):
                    m.d.comb += bank.enable[port].eq(self.read_enable[group])
                if len(pair) > 1:
                    m.d.comb += bank.address[1].eq(self.read_row[pair[1]])
                bank_data.append(bank.data)
            for port, group in enumerate(pair):
                with m.If(self.read_enable[group]):
                    m.d.sync += [
                        bank_s1[group].eq(self.read_row[group][bank_bit]),
                        self.read_data[group].eq(
                            Mux(bank_s1[group], bank_data[1][port], bank_data[0][port])),
                    ]
        return m
