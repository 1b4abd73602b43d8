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

    def derived(self, context, name, shape, function):
        """Return ``function(view)``, kept in a register of each context, a cycle behind it."""
        kept = []
        for index, view in enumerate(self._views):
            register = Signal(shape, name=f"{name}_{index}", reset_less=True)
            self._m.d.sync += register.eq(function(view))
            kept.append(register)
        return Mux(context, kept[1], kept[0])

    def wants(self, view, flag):
        """Return a flag of a view, for functions given to `derived`."""
        return view.flags[exact_log2(int(flag))]
