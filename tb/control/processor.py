# SPDX-License-Identifier: Apache-2.0
"""The control unit with the clock domain of the units, as in the accelerator."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from hw.control.control import Control
from hw.presets import Preset

__all__ = ["Processor"]


class Processor(wiring.Component):
    """Ports: those of Control."""

    def __init__(self, preset: Preset):
        self._control = Control(preset)
        super().__init__(self._control.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = self._control
        m.domains.units = ClockDomain(local=True)
        m.d.comb += [ClockSignal("units").eq(ClockSignal()),
                     ResetSignal("units").eq(self._control.reset_units)]
        connect(m, flipped(self), self._control)
        return m
