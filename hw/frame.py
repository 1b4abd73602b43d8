# SPDX-License-Identifier: Apache-2.0
"""A frame of registers, to place and route a component on its own."""

import importlib

from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fastmem import fast_memories
from hw.presets import Preset

__all__ = ["COMPONENTS", "Registered", "framed"]

COMPONENTS = {
    "compute": "hw.compute:Compute", "engine": "hw.conv.engine:ConvEngine",
    "group": "hw.conv.group:Group", "weights": "hw.conv.weight_buffer:WeightBuffer",
    "window": "hw.conv.window:WindowReader", "walker": "hw.conv.walker:PixelWalker",
    "epilogue": "hw.lif.epilogue:Epilogue", "counts": "hw.sdsa.count_matrix:CountMatrix",
    "maps": "hw.conv.map_buffer:MapBuffer", "output": "hw.lif.out_buffer:OutBuffer",
    "control": "hw.control.control:Control", "accelerator": "hw.top:Accelerator",
}
"""Components by short name; each is built from a preset."""

_PINS = 192
"""Inputs of the frame, each the head of a chain of registers."""


class Registered(wiring.Component):
    """Puts a register at every input and output bit of ``dut``, so that only paths inside count.

    The registers are filled from a few pins, and end in one pin by a tree of registered XORs: a
    device has far fewer pins than a component has bits, and nothing may be optimised away.

    Members: ``i``, ``o``.
    """

    def __init__(self, dut: wiring.Component):
        self._dut = dut
        super().__init__({"i": In(_PINS), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self._dut
        inputs, outputs = [], []
        _ports(dut.signature, dut, inputs, outputs)
        count = sum(len(port) for port in inputs)
        chain, held = Signal(count, reset_less=True), Signal(count, reset_less=True)
        m.d.sync += [chain.eq(Cat(self.i, chain)), held.eq(chain)]
        m.d.comb += Cat(*inputs).eq(held)
        level = Cat(*outputs)
        while len(level) > 1:
            register = Signal(len(level), reset_less=True, name=f"level_{len(level)}")
            m.d.sync += register.eq(level)
            level = Cat(register[n:n + 4].xor() for n in range(0, len(level), 4))
        m.d.comb += self.o.eq(level)
        return m


def _ports(signature, interface, inputs, outputs):
    """Collect the port members of an interface, as values."""
    for name, member in signature.members.items():
        _leaves(getattr(interface, name), member, inputs, outputs)


def _leaves(value, member, inputs, outputs):
    if isinstance(value, list | tuple):
        for element in value:
            _leaves(element, member, inputs, outputs)
    elif member.is_port:
        (inputs if member.flow is In else outputs).append(Value.cast(value))
    else:
        _ports(value.signature, value, inputs, outputs)


def framed(name: str, preset: Preset) -> str:
    """Return the RTLIL of a component of COMPONENTS in its frame; the module is ``top``."""
    module, _, attribute = COMPONENTS[name].partition(":")
    dut = getattr(importlib.import_module(module), attribute)(preset)
    with fast_memories():
        return rtlil.convert(Registered(dut), name="top", emit_src=False)
