# SPDX-License-Identifier: Apache-2.0
"""Assertions on every stream of the hardware, for the Verilated model alone.

While ``watched()`` is active, each component that is elaborated gets a submodule ``watch_PORT``
for each of its outgoing streams. It asserts the rules of a stream: once valid, it stays valid and
its payload stays the same until it is ready. What is exported for synthesis has none of this.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from amaranth import Module, Signal, Value
from amaranth.hdl import Assert
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw import generate as hardware
from hw.control.control import Control
from sim.elaboration import elaborating

__all__ = ["StreamMonitor", "describe", "generate", "watched"]

_PREFIX = "watch_"
_OTHER_RESET = frozenset({Control})
"""Components whose streams fall at a reset of another domain than their own; those inside are
watched."""


class StreamMonitor(wiring.Component):
    """Asserts that a transfer that waits stays as it is.

    Parameters: ``width`` of the payload in bits.

    Members: ``valid``, ``ready``, ``payload`` of the stream.
    """

    def __init__(self, width):
        self.width = width
        super().__init__({"valid": In(1), "ready": In(1), "payload": In(width)})

    def elaborate(self, platform):
        m = Module()
        waited = Signal()
        before = Signal(self.width, reset_less=True)
        m.d.sync += [waited.eq(self.valid & ~self.ready), before.eq(self.payload)]
        with m.If(waited):
            m.d.comb += [Assert(self.valid), Assert(self.payload == before)]
        return m


def _streams(component: wiring.Component) -> Iterator[tuple[str, object]]:
    """Names and interfaces of the streams that leave a component."""
    for path, member, _value in component.signature.flatten(component):
        if path[-1] == "valid" and member.flow is Out:
            owner = component
            for key in path[:-1]:
                owner = owner[key] if isinstance(key, int) else getattr(owner, key)
            if isinstance(getattr(owner, "signature", None), stream.Signature):
                yield "_".join(map(str, path[:-1])), owner


def watched() -> contextlib.AbstractContextManager[None]:
    """Let every component that is elaborated inside the ``with`` block carry monitors."""
    return elaborating(_watch)


def _watch(component: wiring.Component, m: Module) -> None:
    if type(component) in _OTHER_RESET:
        return
    for name, bus in _streams(component):
        monitor = StreamMonitor(len(Value.cast(bus.payload)))
        m.submodules[_PREFIX + name] = monitor
        m.d.comb += [monitor.valid.eq(bus.valid), monitor.ready.eq(bus.ready),
                     monitor.payload.eq(bus.payload)]


def generate(preset_name: str) -> str:
    """Return the Verilog of the accelerator with monitors."""
    with watched():
        return hardware.generate(preset_name)


def describe(verilog: str, line: int) -> str:
    """Say which stream the failed assertion in ``line`` (from 1) of the Verilog watches."""
    for text in reversed(verilog.splitlines()[:line]):
        found = re.match(r"module \\?(\S+?) ?\(", text)
        if found:
            component, _, port = found[1].rpartition(f".{_PREFIX}")
            if component:
                return (f"stream {component}.{port} changed while it waited "
                        f"(valid fell, or its payload is another)")
            break
    return f"assertion in line {line} of the Verilog"
