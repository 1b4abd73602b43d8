# SPDX-License-Identifier: Apache-2.0
"""What is claimed of a block, beside the block: the netlist that is proved."""

import ast
import functools
import linecache
import re

from amaranth import *
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cover, Fragment
from amaranth.hdl._ast import AnyConst
from amaranth.lib import data
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

__all__ = ["Properties"]


class Properties:
    """Holds a block, ghost state in ``m``, and the properties.

    Reset may come in any cycle: it resets the ghost state too. Inputs of the block are free but
    for `assume`. Every property has a sentence that says it, its *text*.
    """

    def __init__(self, name: str, resets: bool = True, invariants: bool = True):
        self.name = name
        self._invariants = invariants
        self.m = Module()
        self.texts: list[tuple[str, str]] = []
        self._ports: list[Signal] = []
        self._fragments: dict[str, Fragment] = {}
        self._outer: set[int] = set()
        self._count = 0
        if not resets:
            self.assume("no reset", ~ResetSignal())

    # the block

    def add(self, block, name: str = "dut"):
        """Put a component into the netlist, and return it; its inputs are free."""
        fragment = Fragment.get(block, None)
        self._fragments[name] = fragment
        self.m.submodules[name] = fragment
        self._outer |= {id(Value.cast(value)) for _, _, value in block.signature.flatten(block)}
        self._ports += [Value.cast(value) for _, member, value
                        in block.signature.flatten(block) if member.flow is In]
        return block

    def inner(self, path: str, block: str = "dut") -> Fragment:
        """Return the part of a block at a path such as ``walker.queue``; "" is the block."""
        fragment = self._fragments[block]
        for part in filter(None, path.split(".")):
            fragment = fragment.find_subfragment(part)
        return fragment

    def signal(self, name: str, path: str = "", block: str = "dut") -> Signal:
        """Return a signal inside a block by its name, one that is driven there if there is."""
        driven, read = {}, {}
        for statements in self.inner(path, block).statements.values():
            for statement in statements:
                driven |= {id(s): s for s in statement._lhs_signals()}
                read |= {id(s): s for s in statement._rhs_signals()}
        for signals in (driven, driven | read):
            names = _names(signals.values())
            found = [s for s in signals.values() if names.get(id(s), s.name) == name]
            if len(found) > 1:              # a port may share its name
                found = [s for s in found if id(s) not in self._outer]
            if len(found) == 1:
                return found[0]
        raise LookupError(f"{len(found)} signals {path}.{name} in {self.name}")

    def view(self, layout: data.Layout, name: str, path: str = "") -> data.View:
        """Return a signal of a layout inside the block."""
        return data.View(_layout(layout), self.signal(name, path))

    def state(self, name: str, path: str = "") -> Value:
        """Return whether the block's state machine is in a state."""
        fsm = self.inner(path).generated["fsm"]
        return self.signal("fsm_state", path) == fsm.encoding[name]

    def addresses(self, memory: str) -> tuple[Value, Value]:
        """Return the address of a memory's first write port and of its first read port."""
        instance = self.inner(memory)
        return instance._write_ports[0]._addr, instance._read_ports[0]._addr

    def row(self, memory: str, address: Value) -> Signal:
        """Return the content of a memory of the block at an address, as a ghost reads it."""
        instance = self.inner(memory)
        width = Shape.cast(instance._data.shape).width
        content = self.register(width, "ghost_row")
        where = self.register(ceil_log2(instance._data.depth), "ghost_address")
        self.m.d.comb += where.eq(address)
        instance.read_port(domain="comb", addr=where, data=content, en=Const(1),
                           transparent_for=())
        return content

    # ghosts

    def register(self, shape, name: str = "ghost", init: int = 0) -> Signal:
        """Return a signal with a name of its own."""
        self._count += 1
        return Signal(shape, name=f"{name}_{self._count}", init=init)

    def any(self, shape) -> Signal:
        """Return a constant of which nothing is known."""
        symbol = self.register(shape, "any")
        self.m.d.comb += Value.cast(symbol).eq(AnyConst(Shape.cast(shape)))
        return symbol

    def free(self, shape) -> Signal:
        """Return a signal that is anything in every cycle."""
        symbol = self.register(shape, "free")
        self._ports.append(symbol)
        return symbol

    def past(self, value, init: int = 0) -> Signal:
        """Return the value of the cycle before."""
        value = Value.cast(value)
        old = self.register(value.shape(), "past", init)
        self.m.d.sync += old.eq(value)
        return old

    # properties

    def _add(self, make, kind: str, text: str, condition, when) -> None:
        condition = Value.cast(condition).bool()
        if when is not None:
            when = Value.cast(when).bool()
            condition = condition & when if kind == "cover" else condition | ~when
        statement = make(condition)
        # what the solver says of a failed property
        statement.src_loc = (kind, len(self.texts))
        self.texts.append((kind, text))
        self.m.d.comb += statement

    def steady(self, text: str, value) -> Signal:
        """Assume that an input never changes; return the constant that it is."""
        value = Value.cast(value)
        constant = self.any(value.shape())
        self.assume(f"{text} never changes", value == constant)
        return constant

    def count(self, event, width: int = 2) -> Signal:
        """Return how often something happened, up to the most that fits."""
        number = self.register(width, "times")
        with self.m.If(Value.cast(event).bool() & ~number.all()):
            self.m.d.sync += number.eq(number + 1)
        return number

    def claim(self, text: str, condition, when=None) -> None:
        """Claim that a condition holds in every cycle (in which ``when`` holds)."""
        self._add(Assert, "claim", text, condition, when)

    def invariant(self, condition, when=None, text: str = "invariant") -> None:
        """Help the induction: proved as claims are, but about the inside of the block.

        Left out where a planted bug is to break a claim.
        """
        if self._invariants:
            self._add(Assert, "invariant", text, condition, when)

    def assume(self, text: str, condition, when=None) -> None:
        """Take only inputs for which a condition holds."""
        self._add(Assume, "assume", text, condition, when)

    def cover(self, text: str, condition) -> None:
        """Demand that something can happen, or what is proved would say nothing."""
        self._add(Cover, "cover", text, condition, None)

    def holds(self, text: str, stream, claimed: bool = True) -> None:
        """Claim (or assume) of a stream that what is offered stays until it is taken."""
        payload = Value.cast(stream.payload)
        waiting = self.past(stream.valid & ~stream.ready)
        same = stream.valid & (payload == self.past(payload))
        if claimed:
            self.claim(f"{text}: valid and payload hold until taken", same, waiting)
        else:
            self.assume(f"{text}: valid and payload hold until taken", same, waiting)

    def said(self, kind: str) -> list[str]:
        """List the texts of the properties of a kind, each once."""
        return list(dict.fromkeys(text for which, text in self.texts if which == kind))

    def netlist(self) -> str:
        """Return the RTLIL; its only source positions are those of the properties."""
        text = rtlil.convert(self.m, name="top", ports=self._ports)
        return re.sub(r'^\s*attribute \\src "(?!(?:claim|invariant|assume|cover):).*\n', "", text,
                      flags=re.MULTILINE)


def _names(signals) -> dict[int, str]:
    """Name the signals that Amaranth can't: those of ``a, b = Signal(), Signal()``."""
    lines, named = {}, {(signal.src_loc, signal.name) for signal in signals}
    for signal in signals:
        if signal.name.startswith("$"):
            lines.setdefault(signal.src_loc, []).append(signal)
    names = {}
    for (file, line), unnamed in lines.items():
        calls = [name for name, value in _pairs(file) if value.lineno == line
                 and ast.unparse(value).startswith("Signal")
                 and ((file, line), name) not in named]
        if len(calls) == len(unnamed):
            # Amaranth numbers signals in the order in which they are made
            ordered = sorted(unnamed, key=lambda signal: signal.duid)
            names |= {id(signal): name for signal, name in zip(ordered, calls, strict=True)}
    return names


@functools.cache
def _pairs(file: str) -> list[tuple[str, ast.expr]]:
    """List the names and values of the assignments to several names."""
    result = []
    for node in ast.walk(ast.parse("".join(linecache.getlines(file)))):
        if (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)
                and isinstance(node.value, ast.Tuple)):
            result += [(ast.unparse(target), value) for target, value
                       in zip(node.targets[0].elts, node.value.elts, strict=True)]
    return result


def _layout(layout) -> data.Layout:
    return data.StructLayout(layout) if isinstance(layout, dict) else data.Layout.cast(layout)
