# SPDX-License-Identifier: Apache-2.0
"""On-chip spike maps with one wide, unaligned read port."""

import itertools

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.memory import block_memory, block_read
from hw.presets import WORD_BITS, Preset

__all__ = ["MapBuffer"]


class MapBuffer(wiring.Component):
    """Words of spikes, ``map_banks`` of them from any word address in each cycle.

    Word ``a`` lies in bank ``a % map_banks``, row ``a // map_banks``. A read returns words
    ``address .. address + map_banks - 1`` (modulo the buffer), lowest first.

    **Latency** 4 cycles from ``read_enable`` to ``read_data``, 2 from a write; **throughput** one
    read and one beat written a cycle. A row must not be read in the cycle in which it is written.

    Members
    -------
    write_enable, write_beat, write_data : In
        Writes beat ``write_beat`` (``axi_bits`` bits, words ``beat_words * beat ...``).
    read_enable, read_address : In
        Word address of the first word.
    read_data, read_nonzero : Out
        ``map_banks`` words, and for each whether it has a set bit.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        words = exact_log2(preset.map_words)
        super().__init__({
            "write_enable": In(1),
            "write_beat": In(words - exact_log2(preset.beat_words)),
            "write_data": In(preset.axi_bits),
            "read_enable": In(1),
            "read_address": In(words),
            "read_data": Out(data.ArrayLayout(WORD_BITS, preset.map_banks)),
            "read_nonzero": Out(preset.map_banks),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        banks, beat_words = preset.map_banks, preset.beat_words
        bank_bits = exact_log2(banks)
        beats_per_row = banks // beat_words
        part_bits = exact_log2(beats_per_row)
        row = self.read_address[bank_bits:]
        # beside each word lies whether it has a set bit: memories have a ninth bit for each byte
        raw = [Signal(WORD_BITS + 1, name=f"raw_{bank}", reset_less=True) for bank in range(banks)]
        offset = Signal(bank_bits)
        offsets = [Signal(bank_bits, name=f"offset_s{n}", reset_less=True) for n in range(3)]
        enable = Signal()
        m.d.comb += offset.eq(self.read_address[:bank_bits])
        m.d.sync += [offsets[0].eq(offset), enable.eq(self.read_enable)]
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise(offsets)]

        # each part of a row has its own copy of what is to be written, or the wires would be long
        writes = []
        for part in range(beats_per_row):
            here = self.write_enable & (self.write_beat[:part_bits] == part)
            strobe = Signal(name=f"write_{part}")
            address = Signal(range(preset.map_rows), name=f"write_row_{part}", reset_less=True)
            word = Signal(preset.axi_bits, name=f"write_word_{part}", reset_less=True)
            m.d.sync += strobe.eq(here)
            with m.If(here):
                m.d.sync += [address.eq(self.write_beat[part_bits:]), word.eq(self.write_data)]
            writes.append((strobe, address, word))
        for bank in range(banks):
            memory = block_memory(m, f"bank_{bank}", WORD_BITS + 1, preset.map_rows)
            write = memory.write_port()
            strobe, address, word = writes[bank // beat_words]
            content = word.word_select(bank % beat_words, WORD_BITS)
            m.d.comb += [write.addr.eq(address), write.en.eq(strobe),
                         write.data.eq(Cat(content, content.any()))]
            place = Signal(range(preset.map_rows), name=f"row_{bank}", reset_less=True)
            m.d.sync += [place.eq(row + ((offset > bank) if bank < banks - 1 else 0)),
                         raw[bank].eq(block_read(m, memory, f"read_{bank}", place, enable))]
        words, flags = ([word[part] for word in raw] for part in (slice(0, WORD_BITS), WORD_BITS))
        for bit in range(bank_bits):
            words, flags = (
                [Mux(offsets[2][bit], old[(bank + (1 << bit)) % banks], old[bank])
                 for bank in range(banks)] for old in (words, flags))
        found = Signal(self.read_data.shape(), reset_less=True)
        m.d.sync += [found[bank].eq(words[bank]) for bank in range(banks)]
        m.d.comb += self.read_data.eq(found)
        m.d.sync += self.read_nonzero.eq(Cat(flags))
        return m
