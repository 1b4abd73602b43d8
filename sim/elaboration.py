# SPDX-License-Identifier: Apache-2.0
"""Adds to components while they are elaborated, for the Verilated model alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from amaranth import Module
from amaranth.hdl import Fragment
from amaranth.lib import wiring

__all__ = ["elaborating"]


@contextlib.contextmanager
def elaborating(add: Callable[[wiring.Component, Module], None]) -> Iterator[None]:
    """Call ``add`` with every component that is elaborated inside the ``with`` block, once, and
    with the module that it made."""
    original = Fragment.get

    def get(thing, platform):
        if isinstance(thing, wiring.Component) and not hasattr(thing, "_added_to"):
            thing._added_to = True
            elaborate = thing.elaborate

            def with_more(platform):
                made = elaborate(platform)
                if isinstance(made, Module):
                    add(thing, made)
                return made

            thing.elaborate = with_more
        return original(thing, platform)

    Fragment.get = staticmethod(get)
    try:
        yield
    finally:
        Fragment.get = staticmethod(original)
