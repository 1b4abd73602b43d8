# SPDX-License-Identifier: Apache-2.0
"""A memory master that breaks the rule it is told to, to prove that the harness sees it."""

from amaranth import *
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.dma.axi import axi4_lite, axi4_read, axi4_write
from hw.presets import get_preset
from hw.regmap import ADDRESS_BITS

__all__ = ["RULES", "Rogue", "generate_rogue"]

RULES = {
    0: None, 1: "crosses 4 KB", 2: "not INCR", 3: "not aligned", 4: "AR changed",
    5: "ARVALID fell", 6: "AW changed", 7: "AWVALID fell", 8: "WLAST", 9: "W changed",
    10: "WVALID fell", 11: "write outside memory", 12: "read outside memory",
    13: "an answer of the registers changed", 14: "a register write failed",
}
"""What the harness must say when the rule of that number is broken."""


class Rogue(wiring.Component):
    """Reads and writes one burst of two beats, breaking the rule whose number is written to it.

    Whatever address is written to, the word written is the number. The interrupt rises when a
    burst was read and one was written.
    """

    def __init__(self, preset):
        self.preset = preset
        read, write = axi4_read(preset.axi_bits), axi4_write(preset.axi_bits)
        super().__init__({
            **{f"m_axi_{name}": member for part in (write, read)
               for name, member in part.members.items()},
            **{f"s_axil_{name}": member.flip()
               for name, member in axi4_lite(ADDRESS_BITS).members.items()},
            "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        rule = Signal(4)
        count = Signal(8)
        size = self.preset.beat_bytes
        m.d.sync += count.eq(count + 1)

        # host
        m.d.comb += [self.s_axil_awready.eq(1), self.s_axil_wready.eq(1)]
        start = self.s_axil_wvalid
        m.d.comb += self.s_axil_bresp.eq(Mux(rule == 14, 2, 0))
        with m.If(self.s_axil_bready | (rule == 13)):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.If(start):
            m.d.sync += [rule.eq(self.s_axil_wdata), self.s_axil_bvalid.eq(1)]

        for channel, fault in (("ar", 4), ("aw", 6)):
            valid, ready = (getattr(self, f"m_axi_{channel}{name}") for name in ("valid", "ready"))
            address = getattr(self, f"m_axi_{channel}addr")
            m.d.comb += [
                getattr(self, f"m_axi_{channel}len").eq(1),
                getattr(self, f"m_axi_{channel}size").eq((size - 1).bit_count()),
                getattr(self, f"m_axi_{channel}burst").eq(Mux(rule == 2, 0, 1)),
                address.eq(Mux(rule == 1, 4096 - size, Mux(rule == 3, 1, Mux(
                    rule == (11 if channel == "aw" else 12), 0x8000_0000,
                    Mux(rule == fault, count << 4, 64))))),
            ]
            with m.If(start):
                m.d.sync += valid.eq(1)
            with m.Elif(ready | (rule == fault + 1)):
                m.d.sync += valid.eq(0)

        beats = Signal(2)
        m.d.comb += [
            self.m_axi_wlast.eq((beats == 1) ^ (rule == 8)), self.m_axi_wstrb.eq(~0),
            self.m_axi_wdata.eq(Mux(rule == 9, count, 0x55)), self.m_axi_bready.eq(1),
            self.m_axi_rready.eq(1),
        ]
        with m.If(start):
            m.d.sync += self.m_axi_wvalid.eq(1)
        with m.Elif(self.m_axi_wready & self.m_axi_wvalid):
            m.d.sync += beats.eq(beats + 1)
            with m.If(beats == 1):
                m.d.sync += self.m_axi_wvalid.eq(0)
        with m.Elif(rule == 10):
            m.d.sync += self.m_axi_wvalid.eq(0)

        ended = Signal(2)
        with m.If(self.m_axi_rvalid & self.m_axi_rlast):
            m.d.sync += ended[0].eq(1)
        with m.If(self.m_axi_bvalid):
            m.d.sync += ended[1].eq(1)
        m.d.comb += self.irq.eq(ended.all())
        return m


def generate_rogue(preset_name):
    """Return the Verilog of the rogue under the accelerator's name."""
    return verilog.convert(Rogue(get_preset(preset_name)), name="addend", emit_src=False)
