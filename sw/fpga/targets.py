# SPDX-License-Identifier: Apache-2.0
"""Devices that the flow synthesises for, and what their cells count."""

import dataclasses

from sw.errors import AddendError

__all__ = ["SPEED_GRADES", "TARGETS", "Target", "TargetError", "get_target"]

SPEED_GRADES = ("6", "7", "8")
"""Of an ECP5, the slowest first."""


class TargetError(AddendError, ValueError):
    """A target that is not known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A device, or a family where only resources are asked for."""

    name: str
    device: str
    speed_grade: str
    """As the tools call it; none where nothing is placed."""
    synthesis: str
    """The yosys command, but for the output."""
    memories: str = ""
    """Yosys' commands before its step ``map_memory``, for buffers that lie in memories of their
    own."""
    registers: str = ""
    """Yosys' commands before its step ``map_ffs``."""
    place: tuple[str, ...] = ()
    """nextpnr and its arguments; without them the design is synthesised only."""
    available: dict[str, int]
    """What the device has of each resource."""
    cells: dict[str, tuple[str, float]]
    """Cell type: the resource that it takes, and how much."""
    family: str
    """Whose memories it has: a name of `sw.fpga.block_ram.FAMILIES`."""
    logic: str
    """Whose LUTs it has: ``ecp5``, of four inputs, or ``xilinx``, of six."""

    @property
    def lut_inputs(self) -> int:
        """Inputs of a LUT."""
        return {"ecp5": 4, "xilinx": 6}[self.logic]

    def graded(self, grade: str) -> "Target":
        """Return the same device in another speed grade. Raises TargetError where none is placed
        or the device has no such grade."""
        if not self.place or grade not in SPEED_GRADES:
            raise TargetError(f"{self.name} has no speed grade {grade!r}; an ECP5 has "
                              + ", ".join(SPEED_GRADES))
        place = tuple(grade if before == "--speed" else part
                      for before, part in zip(("", *self.place), self.place, strict=False))
        return dataclasses.replace(self, speed_grade=grade, place=place)

    def script(self, memories_only: bool = False) -> str:
        """Return yosys' commands: all of them, or those until memories are mapped."""
        between = [("map_memory", self.memories)]
        if not memories_only:
            between.append(("map_ffs", self.registers))
        script, start = "", "begin"
        for step, commands in between:
            if commands:
                script += f"{self.synthesis} -run {start}:{step}; {commands}; "
                start = step
        end = "map_ffram" if memories_only else ""
        return f"{script}{self.synthesis} -run {start}:{end}"


_ECP5_CELLS = {
    # TRELLIS_COMB, TRELLIS_FF and so on are nextpnr's names; the others yosys'
    "LUT4": ("lut", 1), "CCU2C": ("lut", 2), "TRELLIS_DPR16X4": ("lut", 6),
    "TRELLIS_COMB": ("lut", 1), "TRELLIS_FF": ("ff", 1), "DP16KD": ("block_ram", 1),
    "MULT18X18D": ("dsp", 1)}

_XILINX_CELLS = {
    **{f"LUT{n}": ("lut", 1) for n in range(1, 7)}, "LUT6_2": ("lut", 1),
    "INV": ("lut", 1), "SRL16E": ("lut", 1), "SRLC16E": ("lut", 1), "SRLC32E": ("lut", 1),
    # LUTs that serve as memory, of 64 bits each (two ports: twice)
    "RAM32X1D": ("lut", 2), "RAM64X1D": ("lut", 2), "RAM128X1D": ("lut", 4),
    "RAM256X1D": ("lut", 8), "RAM32M": ("lut", 4), "RAM64M": ("lut", 4),
    "RAM32M16": ("lut", 8), "RAM64M8": ("lut", 8), "RAM32X16DR8": ("lut", 8),
    "RAM64X8SW": ("lut", 8),
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE"), ("ff", 1)),
    "RAMB36E1": ("block_ram", 1), "RAMB36E2": ("block_ram", 1),
    "RAMB18E1": ("block_ram", 0.5), "RAMB18E2": ("block_ram", 0.5),
    "URAM288": ("ultra_ram", 1), "DSP48E1": ("dsp", 1), "DSP48E2": ("dsp", 1)}

_WEIGHTS_IN_ULTRA_RAM = ("memory_libmap -lib +/xilinx/urams.txt t:$mem_v2 */*.copy_*_bank_* %i; "
                         "techmap -map +/xilinx/urams_map.v")
"""By the names of hw.conv.weight_buffer. By cost alone, yosys' ``-uram`` leaves them in block RAM,
but puts the map buffer into UltraRAM."""

_FEW_CONTROL_SETS = (
    "dfflegalize -cell $_DFF_?_ 01 -cell $_DFF_?P?_ r -cell $_SDFF_?P?_ r -cell $_DFFE_??_ 01 "
    "-cell $_DFFE_?P??_ r -cell $_SDFFE_?P??_ r -minsrst 128 -mince 16")
"""Resets of fewer than 128 flip-flops and enables of fewer than 16 become LUTs. nextpnr has one
reset, or none, for the eight flip-flops of a tile, and an enable for two of them; with a reset for
every few flip-flops a full device can't be placed."""


def _ecp5(size: str, lut: int, block_ram: int, dsp: int) -> Target:
    """An ECP5, figures of Lattice's data sheet FPGA-DS-02012; block RAM of 16 kbit (DP16KD)."""
    return Target(
        name=f"ecp5-{size}", family="ecp5", logic="ecp5",
        device=f"LFE5U-{size.removesuffix('k')}F", speed_grade="6",
        synthesis="synth_ecp5 -top top", registers=_FEW_CONTROL_SETS, cells=_ECP5_CELLS,
        place=("nextpnr-ecp5", f"--{size}", "--package",
               "CABGA756" if size == "85k" else "CABGA381", "--speed", "6"),
        available={"lut": lut, "ff": lut, "block_ram": block_ram, "ultra_ram": 0, "dsp": dsp})


TARGETS = {target.name: target for target in (
    _ecp5("85k", 83640, 208, 156), _ecp5("45k", 43848, 108, 72), _ecp5("25k", 24288, 56, 28),
    # AMD's DS190 (Zynq-7000) and DS987 (Kria K26); block RAM of 36 kbit, UltraRAM of 288
    Target(name="xc7-z020", family="xc7", logic="xilinx", device="XC7Z020", speed_grade="",
           synthesis="synth_xilinx -family xc7 -top top -flatten -noiopad -noclkbuf -nosrl",
           cells=_XILINX_CELLS,
           available={"lut": 53200, "ff": 106400, "block_ram": 140, "ultra_ram": 0, "dsp": 220}),
    Target(name="xcup-kv260", family="xcup", logic="xilinx", device="XCK26", speed_grade="",
           synthesis="synth_xilinx -family xcup -top top -flatten -noiopad -noclkbuf -nosrl",
           memories=_WEIGHTS_IN_ULTRA_RAM,
           cells=_XILINX_CELLS,
           available={"lut": 117120, "ff": 234240, "block_ram": 144, "ultra_ram": 64,
                      "dsp": 1248}),
)}


def get_target(name: str) -> Target:
    """Return the target called ``name``, or raise TargetError with the names that exist."""
    try:
        return TARGETS[name]
    except KeyError:
        raise TargetError(f"no target {name!r}; there are {', '.join(TARGETS)}") from None
