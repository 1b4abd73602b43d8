# SPDX-License-Identifier: Apache-2.0
"""A SoC of LiteX without a processor: accelerator, SDRAM, and a host behind a bridge of bytes.

    host bridge --+-- CSRs, event manager (AXI4-Lite, 32 bits)
                  +-- the accelerator's registers
                  +-- window to memory --+
                       accelerator ------+-- shared AXI4 (beats of the preset) -- LiteDRAM
"""

import json
import re
from pathlib import Path

from litedram.core import LiteDRAMCore
from litedram.frontend.axi import LiteDRAMAXI2Native
from litedram.init import get_sdram_phy_init_sequence
from litex.gen import Signal
from litex.soc.cores.uart import UARTBone
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect import axi

from examples.litex.accelerator import Accelerator
from hw import regmap
from hw.presets import Preset

__all__ = ["MEMORY", "REGISTERS", "AddendSoC"]

MEMORY, REGISTERS = 0x4000_0000, 0x8000_0000
"""Where the host, and the accelerator, see memory; and the host the registers."""
_SOFTWARE, _HARDWARE = 0x0e, 0x01
"""Of LiteDRAM's register `dfii_control`: commands come from registers (with CKE, ODT and RESET_N
high), or from the controller."""
_COMMAND = ("CS", "WE", "CAS", "RAS")
"""Bits of its register `dfii_pi0_command`, from the lowest."""


class AddendSoC(SoCCore):
    """The SoC but for what a platform has: clock, PHY of the SDRAM and PHY of the host's bytes.

    Parameters: ``platform``, ``clock_hz``, ``preset``; ``verilog``, the file with the accelerator;
    ``fault`` of `Accelerator`. A subclass calls `add_host` and `add_memory`.

    Members: ``interrupt``, the event manager's, for a pin.
    """

    def __init__(self, platform, clock_hz: float, preset: Preset, verilog: Path,
                 fault: str | None = None) -> None:
        super().__init__(
            platform, clock_hz, cpu_type=None, bus_standard="axi-lite", bus_data_width=32,
            integrated_sram_size=0, with_uart=False, with_timer=False)
        self.preset = preset
        platform.add_source(str(verilog))
        self.addend = Accelerator(preset.axi_bits, fault)
        self.bus.add_slave("addend", self.addend.axi_lite, SoCRegion(
            origin=REGISTERS, size=1 << regmap.ADDRESS_BITS, cached=False))
        self.interrupt = Signal()
        self.comb += self.interrupt.eq(self.addend.ev.irq)

    def add_host(self, phy) -> None:
        """Let the host be master of the bus, by the bytes of ``phy``."""
        self.host_phy = phy
        self.host = UARTBone(phy, self.sys_clk_freq)
        self.bus.add_master("host", self.host.wishbone)

    def add_memory(self, phy, module) -> None:
        """Connect LiteDRAM to the accelerator, and to the host through a window."""
        bits = self.preset.axi_bits
        self.sdrphy, self.module = phy, module
        self.sdram = LiteDRAMCore(phy=phy, geom_settings=module.geom_settings,
                                  timing_settings=module.timing_settings,
                                  clk_freq=self.sys_clk_freq)
        geometry = module.geom_settings
        self.memory_bytes = (phy.settings.databits // 8) << (
            geometry.bankbits + geometry.rowbits + geometry.colbits)
        narrow, wide = (axi.AXILiteInterface(data_width=width, address_width=32)
                        for width in (32, bits))
        window, memory = (axi.AXIInterface(data_width=bits, address_width=32, id_width=1)
                          for _ in range(2))
        self.window_width = axi.AXILiteConverter(narrow, wide)
        self.window = axi.AXILite2AXI(wide, window)
        self.bus.add_slave("main_ram", narrow, SoCRegion(
            origin=MEMORY, size=self.memory_bytes, cached=False))
        decoder = self.bus.regions["main_ram"].decoder(memory)
        self.memory_bus = axi.AXIInterconnectShared([self.addend.axi, window], [(decoder, memory)])
        # beats are cut here: LiteDRAM's own converter would lose a cycle at each
        native = self.sdram.crossbar.get_port()
        cut = axi.AXIInterface(data_width=native.data_width, address_width=32, id_width=1)
        self.memory_width = axi.AXIConverter(memory, cut)
        self.memory_port = LiteDRAMAXI2Native(cut, native, w_buffer_depth=32, r_buffer_depth=32,
                                              base_address=MEMORY)

    def description(self, **more: object) -> str:
        """Return what `sw.soc_map.SocMap` reads, as JSON. The SoC must be finalised."""
        registers, width = {}, self.csr.data_width
        for name, region in self.csr.regions.items():
            place = region.origin
            for register in region.obj if isinstance(region.obj, list) else ():
                registers[f"{name}_{register.name}"] = place
                place += 4 * -(-register.size // width)
        control, command, issue, address, bank = (
            registers[f"sdram_dfii_{name}"] for name in (
                "control", "pi0_command", "pi0_command_issue", "pi0_address", "pi0_baddress"))
        writes = [[control, _SOFTWARE, 0]]
        for _, a, ba, text, delay in get_sdram_phy_init_sequence(
                self.sdrphy.settings, self.module.timing_settings)[0]:
            names = re.findall(r"DFII_(?:COMMAND|CONTROL)_(\w+)", text)
            writes += [[address, a, 0], [bank, ba, 0]]
            if "CKE" in names:
                writes.append([control, _SOFTWARE, delay])
            else:
                value = sum(1 << _COMMAND.index(name) for name in names)
                writes += [[command, value, 0], [issue, 1, delay]]
        writes += [[control, _HARDWARE, 0], [registers["addend_ev_enable"], 1, 0]]
        return json.dumps({
            "preset": self.preset.name, "identity": regmap.identity(self.preset),
            "clock_hz": self.sys_clk_freq, "registers": REGISTERS, "memory": MEMORY,
            "memory_bytes": self.memory_bytes, "interrupt": registers["addend_ev_pending"],
            "start_up": writes, **more}, indent=1) + "\n"
