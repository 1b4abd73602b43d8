# SPDX-License-Identifier: Apache-2.0
"""Accelerators with a fault, for the simulation's ``generator``."""

from unittest import mock

from amaranth import *

from hw.generate import generate
from hw.lif.neuron_array import NeuronArray

__all__ = ["NO_RESET", "generate_no_reset"]

NO_RESET = "tb.faults.hardware:generate_no_reset"


class _NeverFirst(NeuronArray):
    """Neurons that ignore ``first``: a membrane keeps what the pixel before left in it."""

    def elaborate(self, platform):
        given, self.first = self.first, Const(0)
        try:
            return super().elaborate(platform)
        finally:
            self.first = given


def generate_no_reset(preset_name: str) -> str:
    """Return the Verilog of an accelerator that never resets a membrane."""
    with mock.patch("hw.lif.epilogue.NeuronArray", _NeverFirst):
        return generate(preset_name)
