# SPDX-License-Identifier: Apache-2.0
"""The ports of a component in Verilog: a table, and a module that instantiates it.

What a port means is read from the section ``Members`` of the component's docstring: entries
``name, name : text``, indented text below; ``*`` stands for any characters.
"""

import dataclasses
import fnmatch
import inspect
import re

from amaranth.hdl import Shape, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.dma.axi import MEANING

__all__ = ["Port", "PortError", "markdown", "members", "ports", "template"]


class PortError(ValueError):
    """A port that the docstring doesn't explain, or an entry without a port."""


@dataclasses.dataclass(frozen=True)
class Port:
    """A port as it is in the generated Verilog."""

    name: str
    is_input: bool
    width: int
    meaning: str

    @property
    def range(self) -> str:
        """Its range in a declaration."""
        return f"[{self.width - 1}:0] " if self.width > 1 else ""


def members(docstring: str) -> dict[str, str]:
    """Return the text of each name in the section ``Members``."""
    _, found, section = inspect.cleandoc(docstring).partition("\nMembers\n-------\n")
    if not found:
        raise PortError("the docstring has no section Members")
    result = {}
    for entry in re.split(r"\n(?=\S)", section):
        head, _, below = entry.partition("\n")
        names, _, text = head.partition(" : ")
        below = " ".join(below.split())
        result |= {name.strip(): below or text for name in names.split(",")}
    return result


def ports(component: wiring.Component) -> list[Port]:
    """List clock, reset and the ports in the order of the signature, or raise PortError."""
    entries = members(type(component).__doc__)
    unused, result = set(entries), [
        Port("clk", True, 1, "clock; everything happens at its rising edge"),
        Port("rst", True, 1, "synchronous reset, active high, at least one cycle")]
    for path, member, value in component.signature.flatten(component):
        name = "__".join(map(str, path))
        matches = [entry for entry in entries if fnmatch.fnmatchcase(path[0], entry)]
        if not matches:
            raise PortError(f"{type(component).__name__}: its docstring doesn't explain {path[0]}")
        best = max(matches, key=lambda entry: (entry == path[0], len(entry)))
        unused -= {best}
        meaning = [entries[best], MEANING.get(path[0].rpartition("_")[2]) if "*" in best else None,
                   _element(path), _fields(member.shape)]
        result.append(Port(name, member.flow is In, len(Value.cast(value)),
                           "; ".join(part.rstrip(".") for part in meaning if part)))
    if unused:
        raise PortError(f"{type(component).__name__}: no port {', '.join(sorted(unused))}")
    return result


def _element(path: tuple[str | int, ...]) -> str | None:
    numbers = [str(part) for part in path if isinstance(part, int)]
    return f"element {', '.join(numbers)}" if numbers else None


def _fields(shape: object) -> str | None:
    """Say which bits the fields of a structure have, and what is signed."""
    if not isinstance(shape, data.Layout):
        return "signed" if Shape.cast(shape).signed else None
    if isinstance(shape, data.ArrayLayout):
        return f"{shape.length} elements of {Shape.cast(shape.elem_shape).width} bits"
    return "fields " + ", ".join(
        f"{name} {field.offset + field.width - 1}:{field.offset}" for name, field in shape)


def markdown(title: str, listed: list[Port]) -> str:
    """Return the table of the ports."""
    lines = [f"# Ports of {title}", "",
             "| name | direction | width | meaning |", "|---|---|---|---|"]
    lines += [f"| `{port.name}` | {'input' if port.is_input else 'output'} | {port.width} | "
              f"{port.meaning} |" for port in listed]
    return "\n".join(lines).replace("``", "`") + "\n"


def template(name: str, title: str, listed: list[Port]) -> str:
    """Return a module with the same ports that instantiates module ``name``, to be copied.

    Vivado finds the AXI interfaces by the names of their ports; what it can't know of the others
    is said in attributes.
    """
    ways = {True: "input  wire", False: "output wire"}
    attributes = _attributes(listed)
    declared = ",\n".join(
        f"{attributes.get(port.name, '')}    {ways[port.is_input]} {port.range}{port.name}"
        for port in listed)
    connected = ",\n".join(f"        .{port.name}({port.name})" for port in listed)
    return (f"// Instantiates {title}; {name}_ports.md explains the ports.\n"
            f"module {name}_template (\n{declared}\n);\n"
            f"    {name} {name}_0 (\n{connected}\n    );\nendmodule\n")


def _attributes(listed: list[Port]) -> dict[str, str]:
    """Return lines with the attributes of clock, reset and interrupt, if there are AXI buses."""
    buses = sorted({port.name.rpartition("_")[0] for port in listed if "_axi" in port.name})
    if not buses:
        return {}
    kind = "xilinx.com:signal:{}:1.0 {} {}".format
    said = {"clk": (kind("clock", "clk", "CLK"),
                    f"ASSOCIATED_BUSIF {':'.join(buses)}, ASSOCIATED_RESET rst"),
            "rst": (kind("reset", "rst", "RST"), "POLARITY ACTIVE_HIGH"),
            "irq": (kind("interrupt", "irq", "INTERRUPT"), "SENSITIVITY LEVEL_HIGH")}
    return {name: (f'    (* X_INTERFACE_INFO = "{info}" *)\n'
                   f'    (* X_INTERFACE_PARAMETER = "{parameter}" *)\n')
            for name, (info, parameter) in said.items()}
