# SPDX-License-Identifier: Apache-2.0
"""Results on their way to memory: banks one beat wide."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.presets import Preset

__all__ = ["OutBuffer"]


class OutBuffer(wiring.Component):
    """``out_banks`` banks of beats; beat b lies in bank ``b % out_banks``, row ``b // out_banks``.

    **Latency** 2 cycles from ``read_enable`` to ``read_data``; **throughput** one
    write a bank and one read in each cycle.

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
        bank_s1 = Signal(range(preset.out_banks))
        m.d.sync += bank_s1.eq(self.read_beat[:bank_bits])
        with m.Switch(bank_s1):
            for bank in range(preset.out_banks):
                memory = Memory(shape=unsigned(preset.axi_bits), depth=preset.out_rows, init=[])
                m.submodules[f"bank_{bank}"] = memory
                write = memory.write_port(granularity=preset.epilogue_lanes)
                read = memory.read_port()
                m.d.comb += [
                    write.addr.eq(self.write_row[bank]), write.data.eq(self.write_data[bank]),
                    write.en.eq(self.write_enable[bank]),
                    read.addr.eq(self.read_beat[bank_bits:]), read.en.eq(self.read_enable),
                ]
                with m.Case(bank):
                    m.d.sync += self.read_data.eq(read.data)
        return m
