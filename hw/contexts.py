# SPDX-License-Identifier: Apache-2.0
"""Fields of the two CONV descriptors that may be under way at once."""

from amaranth import *
from amaranth.utils import exact_log2

from hw.descriptor import CONV
from hw.payloads import descriptor_layout

__all__ = ["Contexts"]


class Contexts:
    """Views of two descriptors; every answer is that of the context asked for."""

    def __init__(self, m, descriptors):
        self._m = m
        self._views = []
        for index, descriptor in enumerate(descriptors):
            view = Signal(descriptor_layout(CONV), name=f"conv_{index}")
            m.d.comb += view.as_value().eq(descriptor)
            self._views.append(view)

    def field(self, context, name):
        """Return a field."""
        return Mux(context, self._views[1][name], self._views[0][name])

    def flag(self, context, flag):
        """Return a flag."""
        return self.field(context, "flags")[exact_log2(int(flag))]

    @staticmethod
    def wants(view, flag):
        """Return a flag of a view, for the functions given to `kept` and `derived`."""
        return view.flags[exact_log2(int(flag))]

    def kept(self, name, shape, function):
        """Return a register for each context that follows ``function(index, view)``, a cycle
        behind; functions may use other such registers, and settle that much later."""
        registers = [Signal(shape, name=f"{name}_{index}", reset_less=True) for index in range(2)]
        self._m.d.sync += [register.eq(function(index, view)) for index, (register, view)
                           in enumerate(zip(registers, self._views, strict=True))]
        return registers

    def derived(self, context, name, shape, function):
        """Return ``function(view)`` of a context, from a register, a cycle behind."""
        kept = self.kept(name, shape, lambda _, view: function(view))
        return Mux(context, kept[1], kept[0])
