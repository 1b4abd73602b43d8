# SPDX-License-Identifier: Apache-2.0
"""A bitstream for the ULX3S-85F: accelerator, SDRAM and a UART for the host, no processor.

    python -m examples.litex.ulx3s [--preset tiny] [--mhz 50] [--seed 1] [--no-place]

Writes ulx3s.bit, soc.json (for `addend run --uart`) and figures.json to build/litex/ulx3s. Not yet
tried on a board.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from litedram.modules import MT48LC16M16
from litedram.phy import GENSDRPHY
from litex.soc.cores.uart import RS232PHY
from litex_boards.platforms import radiona_ulx3s
from litex_boards.targets.radiona_ulx3s import _CRG as Clocks

from examples.litex.soc import AddendSoC
from hw.presets import Preset, PresetError, get_preset
from sw.export import export_verilog, write_bytes, write_json
from sw.fpga import tools
from sw.fpga.targets import get_target
from sw.soc_map import DEFAULT_SOC

__all__ = ["BoardSoC", "main"]

FOLDER = DEFAULT_SOC.parent
"""Relative, since YoWASP's tools don't see every folder."""
NAME = "ulx3s"
LIMIT = 2 * 3600
"""Seconds that a tool may take."""


class BoardSoC(AddendSoC):
    """`AddendSoC` on a ULX3S: 32 MiB of SDRAM in step with the clock; LED 0 is the interrupt.

    Parameters as of `AddendSoC`; ``baud`` of the UART, which is the board's USB port US1.
    """

    def __init__(self, preset: Preset, verilog: Path, clock_hz: float, baud: int) -> None:
        platform = radiona_ulx3s.Platform(device="LFE5U-85F", toolchain="trellis")
        super().__init__(platform, clock_hz, preset, verilog)
        self.crg = Clocks(platform, clock_hz)
        self.add_host(RS232PHY(platform.request("serial"), clock_hz, baud))
        self.add_memory(GENSDRPHY(platform.request("sdram"), clock_hz),
                        MT48LC16M16(clock_hz, "1:1"))
        self.comb += platform.request("user_led", 0).eq(self.interrupt)


def _say(what: str, done: int = 0, total: int = 0) -> None:
    print(f"[ulx3s] {what}", flush=True)


def _implement(folder: Path, mhz: float, seed: int) -> dict[str, object]:
    """Synthesise, place, route and pack what lies in ``folder``; return figures."""
    begin = time.monotonic()
    path = folder / NAME
    sources = " ".join(str(folder / name) for name in ("addend.v", f"{NAME}.v"))
    # LiteX writes keep = "true" on what it wants to keep
    script = (f'read_verilog {sources}; attrmap -tocase keep -imap keep="true" keep=1; '
              f"synth_ecp5 -top {NAME} -json {path}.json")
    tools.run("yosys", ["-p", script], folder / "yosys.log", _say, seconds=LIMIT)
    tools.run("nextpnr-ecp5", [
        "--85k", "--package", "CABGA381", "--speed", "6", "--json", f"{path}.json", "--lpf",
        f"{path}.lpf", "--textcfg", f"{path}.config", "--report", str(folder / "report.json"),
        "--freq", str(mhz), "--seed", str(seed), "--placer", "heap", "--timing-allow-fail"],
        folder / "nextpnr.log", _say, seconds=LIMIT)
    tools.run("ecppack", ["--compress", "--input", f"{path}.config", "--bit", f"{path}.bit"],
              folder / "ecppack.log", _say, seconds=LIMIT)
    report = json.loads((folder / "report.json").read_text())
    used = {cell: entry["used"] for cell, entry in report["utilization"].items()}
    return {
        "lut": used["TRELLIS_COMB"], "ff": used["TRELLIS_FF"], "block_ram": used["DP16KD"],
        "available": get_target("ecp5-85k").available,
        "fmax_mhz": {name: round(clock["achieved"], 1) for name, clock in report["fmax"].items()},
        "met": all(clock["achieved"] >= clock["constraint"] for clock in report["fmax"].values()),
        "bitstream_bytes": Path(f"{path}.bit").stat().st_size,
        "seconds": round(time.monotonic() - begin),
        "tool_versions": {tool: tools.version(tool) for tool in ("yosys", "nextpnr-ecp5")}}


def main(arguments: list[str] | None = None) -> int:
    """Build; exit code 1 where a clock is slower than asked for, 2 where a tool failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--mhz", type=float, default=50)
    parser.add_argument("--baud", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1, help="of the placer")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder, below this one")
    parser.add_argument("--no-place", action="store_true", help="write the sources only")
    given = parser.parse_args(arguments)
    try:
        preset = get_preset(given.preset)
        _say(f"generating the Verilog of preset {preset.name}")
        verilog = export_verilog(preset, given.output)[0]
        soc = BoardSoC(preset, verilog, 1e6 * given.mhz, given.baud)
        soc.platform.build(soc, build_dir=str(given.output), build_name=NAME, run=False)
        write_bytes(given.output / "soc.json", soc.description(baud=given.baud).encode())
        if given.no_place:
            return 0
        figures = _implement(given.output, given.mhz, given.seed)
    except (PresetError, tools.SynthesisError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_json(given.output / "figures.json", figures)
    _say(json.dumps(figures, indent=1))
    return 0 if figures["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
