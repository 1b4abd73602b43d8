# SPDX-License-Identifier: Apache-2.0
"""The accelerator's Verilog as a module of LiteX."""

from litex.gen import ClockSignal, LiteXModule, ResetSignal, Signal
from litex.soc.interconnect.axi import AXIInterface, AXILiteInterface
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import Instance

__all__ = ["FAULTS", "Accelerator"]

FAULTS = ("strobe", "halves", "response", "interrupt")
"""What can be planted, to see that a comparison fails: a write strobe is missing; the halves of
what is read are swapped; each read is answered with an error; the interrupt isn't connected."""

_ADDRESS = ("addr", "len", "size", "burst", "lock", "cache", "prot", "id")
_CHANNELS = {   # what the master drives besides valid (or, in b and r, what it gets)
    "aw": _ADDRESS, "w": ("data", "strb", "last"), "b": ("resp", "id"),
    "ar": _ADDRESS, "r": ("data", "resp", "last", "id")}
_LITE = {"aw": ("addr", "prot"), "w": ("data", "strb"), "b": ("resp",),
         "ar": ("addr", "prot"), "r": ("data", "resp")}


class Accelerator(LiteXModule):
    """Instantiates module ``addend``, as `addend verilog` writes it.

    Parameters: ``axi_bits`` of the preset; ``fault``, one of FAULTS, or None.

    Members: ``axi``, AXI4 master to memory; ``axi_lite``, AXI4-Lite slave, the registers; ``ev``,
    an event manager whose event ``run`` is the interrupt.
    """

    def __init__(self, axi_bits, fault=None):
        self.axi = axi = AXIInterface(data_width=axi_bits, address_width=32, id_width=1)
        self.axi_lite = lite = AXILiteInterface(data_width=32, address_width=32)
        self.ev = EventManager()
        self.ev.run = EventSourceLevel()
        self.ev.finalize()
        interrupt, strobes, answer = Signal(), Signal(axi_bits // 8), Signal(2)
        data = axi.r.data
        if fault == "halves":
            data = Signal(axi_bits)
            self.comb += [data[:axi_bits // 2].eq(axi.r.data[axi_bits // 2:]),
                          data[axi_bits // 2:].eq(axi.r.data[:axi_bits // 2])]
        self.comb += [
            axi.w.strb.eq(strobes & ~1 if fault == "strobe" else strobes),
            answer.eq(2 if fault == "response" else axi.r.resp),
            self.ev.run.trigger.eq(0 if fault == "interrupt" else interrupt)]
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal(), "o_irq": interrupt}
        for prefix, bus, channels, ours in (("m_axi", axi, _CHANNELS, "o"),
                                            ("s_axil", lite, _LITE, "i")):
            theirs = "i" if ours == "o" else "o"
            for channel, names in channels.items():
                back = channel in ("b", "r")
                stream = getattr(bus, channel)
                forth, ready = (theirs, ours) if back else (ours, theirs)
                ports[f"{ready}_{prefix}_{channel}ready"] = stream.ready
                for name in ("valid", *names):
                    ports[f"{forth}_{prefix}_{channel}{name}"] = getattr(stream, name)
        ports |= {"o_m_axi_wstrb": strobes, "i_m_axi_rresp": answer, "i_m_axi_rdata": data,
                  "i_s_axil_awaddr": lite.aw.addr[:12], "i_s_axil_araddr": lite.ar.addr[:12],
                  "i_s_axil_awprot": 0, "i_s_axil_arprot": 0}
        self.specials += Instance("addend", **ports)
