# SPDX-License-Identifier: Apache-2.0
"""The list of lines that no test reaches holds, and the report sees what it should."""

from pathlib import Path

import pytest
from amaranth import Module, Signal
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.control.semaphores import Semaphores
from sim.coverage import points, with_points
from tb.coverage.__main__ import judge
from tb.coverage.points import Counts, Uncovered, read_counts, source_line, stale, uncovered

LINES = ["with m.If(a):", "    m.d.comb += b.eq(1)", "    m.d.comb += c.eq(1)"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "x.py").write_text("\n".join(LINES) + "\n")
    return tmp_path


@pytest.mark.parametrize("entry", uncovered(), ids=lambda entry: f"{entry.file} {entry.text}")
def test_entry_is_current(entry: Uncovered) -> None:
    assert stale(entry) == ""


def test_stale_entries_are_found(root: Path) -> None:
    assert stale(Uncovered("hw/x.py", LINES[1].strip(), "because"), root) == ""
    assert "has no line" in stale(Uncovered("hw/x.py", "b.eq(2)", "because"), root)
    assert "does not exist" in stale(Uncovered("hw/y.py", "b.eq(1)", "because"), root)
    assert "no reason" in stale(Uncovered("hw/x.py", LINES[1].strip(), ""), root)


def test_judge(root: Path) -> None:
    """A line must be reached or listed, and not both."""
    counts = Counts({("hw/x.py", 2): 0, ("hw/x.py", 3): 5}, {})
    text = {n: source_line("hw/x.py", n, root) for n in (2, 3)}
    assert judge(counts, [Uncovered("hw/x.py", text[2], "because")], root) == []
    assert judge(counts, [], root) == [f"not reached, and not listed: hw/x.py:2: {text[2]}"]
    both = [Uncovered("hw/x.py", text[n], "because") for n in (2, 3)]
    assert judge(counts, both, root) == [f"listed, but reached: hw/x.py: {text[3]}"]


def _point(count: int, **fields: str) -> str:
    return "C '" + "".join(f"\x01{k}\x02{v}" for k, v in fields.items()) + f"' {count}\n"


def test_counts_add_up(tmp_path: Path) -> None:
    line = {"f": "hw/x.py", "l": "2", "page": "v_branch/dut"}
    (tmp_path / "a.dat").write_text("# SystemC::Coverage-3\n" + _point(0, **line, o="if")
                                    + _point(9, **line, o="else")
                                    + _point(1, f="addend.v", l="7", page="v_branch/d", o="if")
                                    + _point(0, f="addend.v", l="1", page="v_toggle/a.b_1", o="x"))
    (tmp_path / "b.dat").write_text(_point(3, **line, o="if")
                                    + _point(2, f="d.v", l="1", page="v_toggle/a.b_2", o="x"))
    counts = read_counts(sorted(tmp_path.glob("*.dat")))
    assert counts.lines == {("hw/x.py", 2): 3}
    assert counts.toggles == {"b": {"x": True}}


class _Outside(wiring.Component):
    """A component that is not in hw/."""

    def __init__(self) -> None:
        super().__init__({"a": In(1), "b": Out(1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        with m.If(self.a):
            m.d.sync += self.b.eq(~self.b)
        m.d.comb += Signal().eq(1)
        return m


def test_points_are_the_conditional_lines_of_hw() -> None:
    with points():
        text = verilog.convert(Semaphores(16), name="dut", emit_src=False)
        outside = verilog.convert(_Outside(), name="dut", emit_src=False)
    made = with_points(text)
    assert with_points(outside) == outside
    found = [line for line in made.splitlines() if line.startswith("`line") and "hw/" in line]
    assert found and all('"hw/control/semaphores.py"' in line for line in found)
    assert "cover@" not in verilog.convert(Semaphores(16), name="dut", emit_src=False)
    ends = [(number, int(line.split()[1]))
            for number, line in enumerate(with_points(text + text).splitlines(), 1)
            if line.startswith("`line") and '"addend.v"' in line]
    assert len(ends) == 2 and all(said == number + 1 for number, said in ends), ends
