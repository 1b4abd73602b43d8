# SPDX-License-Identifier: Apache-2.0
"""Writes the SoC as Verilog for simulation: LiteDRAM on a model of its SDRAM, and bytes as ports.

    python -m examples.litex.simulated FOLDER [--preset tiny] [--fault NAME]

FOLDER gets addend_soc.v, addend.v and soc.json. `examples.litex.check` runs it.
"""

import argparse
import sys
from pathlib import Path

from litedram.modules import MT48LC16M16
from litedram.phy.model import SDRAMPHYModel
from litex.build.generic_platform import Pins, Subsignal
from litex.build.io import CRG
from litex.build.sim import SimPlatform
from litex.soc.cores.uart import RS232PHYModel

from examples.litex.accelerator import FAULTS
from examples.litex.soc import AddendSoC
from hw.presets import Preset, get_preset
from sw.export import export_verilog, write_bytes

__all__ = ["SimulatedSoC", "main"]

_CLOCK_HZ = 50e6
_PINS = [
    ("sys_clk", 0, Pins(1)), ("irq", 0, Pins(1)),
    ("host", 0, *(Subsignal(f"{side}_{name}", Pins(width)) for side in ("source", "sink")
                  for name, width in (("valid", 1), ("ready", 1), ("data", 8))))]


class SimulatedSoC(AddendSoC):
    """`AddendSoC` with the SDRAM of a ULX3S (32 MiB, 16 bits, as fast as the clock) as a model.

    The parameters are those of `AddendSoC`, without platform and clock.
    """

    def __init__(self, preset: Preset, verilog: Path, fault: str | None = None) -> None:
        platform = SimPlatform("simulation", list(_PINS), name="addend_soc")
        super().__init__(platform, _CLOCK_HZ, preset, verilog, fault)
        self.crg = CRG(platform.request("sys_clk"))
        self.add_host(RS232PHYModel(platform.request("host")))
        module = MT48LC16M16(_CLOCK_HZ, "1:1")
        self.add_memory(SDRAMPHYModel(module, data_width=16, clk_freq=_CLOCK_HZ), module)
        self.comb += platform.request("irq").eq(self.interrupt)


def main(arguments: list[str] | None = None) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--fault", choices=FAULTS)
    given = parser.parse_args(arguments)
    preset = get_preset(given.preset)
    verilog = export_verilog(preset, given.folder)[0]
    soc = SimulatedSoC(preset, verilog, given.fault)
    soc.finalize()
    made = soc.platform.get_verilog(soc, name="addend_soc")
    write_bytes(given.folder / "addend_soc.v", made.main_source.encode())
    for name, content in made.data_files.items():
        write_bytes(given.folder / name, content.encode())
    write_bytes(given.folder / "soc.json", soc.description().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
