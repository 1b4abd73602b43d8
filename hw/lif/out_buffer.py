# SPDX-License-Identifier: Apache-2.0
"""Results on their way to memory: banks one beat wide."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.memory import block_memory, block_read
from hw.mux import select
from hw.presets import Preset

__all__ = ["OutBuffer"]


class OutBuffer(wiring.Component):
    """``out_banks`` banks of beats; beat b lies in bank ``b % out_banks``, row ``b // out_banks``.

    **Latency** 3 cycles from ``read_enable`` to ``read_data``; **throughput** one
    write a bank and one read in each cycle. A beat must not be read in the two cycles in which it
    is written.

    Members
    -------
    write_enable, write_row, write_data : In, arrays of banks
        ``write_enable`` has one bit for each ``epilogue_lanes`` bits of the beat.
    read_enable, read_beat, read_data : store side
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "write_enable": In(preset.axi_bits // preset.epilogue_lanes).array(preset.out_banks),
            "write_row": In(range(preset.out_rows)).array(preset.out_banks),
            "write_data": In(preset.axi_bits).array(preset.out_banks),
            "read_enable": In(1),
            "read_beat": In(range(preset.out_beats)),
            "read_data": Out(preset.axi_bits),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        bank_bits = exact_log2(preset.out_banks)
        bank_s1 = Signal(bank_bits, reset_less=True)
        bank_s2 = Signal.like(bank_s1)
        m.d.sync += [bank_s1.eq(self.read_beat), bank_s2.eq(bank_s1)]
        rows = []
        for bank in range(preset.out_banks):
            memory = block_memory(m, f"bank_{bank}", preset.axi_bits, preset.out_rows)
            write = memory.write_port(granularity=preset.epilogue_lanes)
            for port, value in (("en", self.write_enable), ("addr", self.write_row),
                                ("data", self.write_data)):
                register = Signal.like(value[bank], name=f"{port}_{bank}",
                                       reset_less=port != "en")
                m.d.sync += register.eq(value[bank])
                m.d.comb += getattr(write, port).eq(register)
            row = block_read(m, memory, f"read_{bank}", self.read_beat[bank_bits:],
                             self.read_enable)
            rows.append(Signal.like(row, name=f"row_{bank}"))  # the block RAM's own register
            m.d.sync += rows[-1].eq(row)
        found = Signal(preset.axi_bits, reset_less=True)
        m.d.sync += found.eq(select(bank_s2, rows))
        m.d.comb += self.read_data.eq(found)
        return m
