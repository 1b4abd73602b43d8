# SPDX-License-Identifier: Apache-2.0
"""Timing constraints of the accelerator alone, in the formats of three tools.

The only clock is ``clk``. Inputs and outputs are registers' or a level of logic away from one; a
third of the period is left to what is connected to them.
"""

__all__ = ["FORMATS", "lpf", "sdc", "xdc"]

_SHARE = 3
"""Part of the period that the surroundings may take, as its reciprocal."""


def sdc(megahertz: float) -> str:
    """Synopsys design constraints, as OpenSTA, Quartus and ASIC tools read them."""
    return _constraints(megahertz, "[remove_from_collection [all_inputs] [get_ports clk]]")


def xdc(megahertz: float) -> str:
    """Vivado's constraints, for synthesis out of context."""
    return _constraints(megahertz, "[filter [all_inputs] {NAME != clk}]")


def lpf(megahertz: float) -> str:
    """Lattice's preferences, as nextpnr and Diamond read them."""
    return f'FREQUENCY PORT "clk" {megahertz:g} MHZ;\n'


def _constraints(megahertz: float, inputs: str) -> str:
    """The clock, and its surroundings; ``inputs`` are all of them but the clock."""
    period = 1000 / megahertz
    around = f"{period / _SHARE:.3f} -clock clk"
    return (f"create_clock -name clk -period {period:.3f} [get_ports clk]\n"
            f"set_input_delay {around} {inputs}\n"
            f"set_output_delay {around} [all_outputs]\n")


FORMATS = {"sdc": sdc, "xdc": xdc, "lpf": lpf}
"""By the suffix of the file."""
