# SPDX-License-Identifier: Apache-2.0
"""The table of ports and the template are those of the generated Verilog."""

import re

import pytest
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.generate import CORES, instance
from hw.ports import Port, PortError, markdown, members, ports, template
from hw.presets import get_preset
from tb.hw.conftest import Export


class Explained(wiring.Component):
    """A component.

    Members
    -------
    first : In
        The first one,
        of two.
    pair : Out, array
        Both.
    """

    first: In(data.StructLayout({"low": 3, "high": 5}))
    pair: Out(4).array(2)

    def elaborate(self, platform):
        return wiring.Module()


class Unexplained(Explained):
    """A component.

    Members
    -------
    first : the first one
    """


class Ghost(Explained):
    """A component.

    Members
    -------
    first, pair, third : three
    """


def test_by_hand() -> None:
    assert members(Explained.__doc__) == {"first": "The first one, of two.", "pair": "Both."}
    assert ports(Explained())[2:] == [
        Port("first", True, 8, "The first one, of two; fields low 2:0, high 7:3"),
        Port("pair__0", False, 4, "Both; element 0"), Port("pair__1", False, 4, "Both; element 1")]
    with pytest.raises(PortError, match="Unexplained: its docstring doesn't explain pair"):
        ports(Unexplained())
    with pytest.raises(PortError, match="Ghost: no port third"):
        ports(Ghost())


@pytest.mark.parametrize("core", [None, *CORES])
@pytest.mark.parametrize("preset", ["tiny", pytest.param("ecp5", marks=pytest.mark.slow)])
def test_the_verilog_has_these_ports(exported: Export, preset: str, core: str | None) -> None:
    name, component = instance(get_preset(preset), core)
    listed = ports(component)
    text = exported(preset, core)[0].read_text()
    text = text[text.index(f"module {name}("):]
    text = text[:text.index("endmodule")]
    found = {}
    for way, width, port in re.findall(
            r"^  (input|output) (?:\[(\d+):0\] )?(\S+) ?;", text, re.MULTILINE):
        found[port] = (way == "input", int(width or 0) + 1)
    assert found == {port.name: (port.is_input, port.width) for port in listed}
    table = markdown(name, listed)
    assert table.count("\n| `") == len(listed)
    assert all(port.meaning for port in listed)
    made = template(name, name, listed)
    assert made.count("    .") == len(listed)
