# SPDX-License-Identifier: Apache-2.0
"""Verilator's lint is silent on all exported Verilog, and every waiver is needed."""

import fnmatch
import itertools
import re
from pathlib import Path

import pytest

from hw.generate import CORES
from hw.presets import PRESETS
from sim.lint import WAIVERS, lint
from sw import export
from tb.hw.conftest import Export

ALL = (None, *CORES)
PLANTED = """module broken(input a, input [3:0] b, output reg [2:0] o, output p);
always @* if (a) o = b[2:0];
assign p = b;
endmodule
"""


def test_cores_agree() -> None:
    assert tuple(CORES) == export.CORES


@pytest.mark.parametrize("core", ALL)
@pytest.mark.parametrize("preset", [
    pytest.param(name, marks=() if name == "tiny" else pytest.mark.slow) for name in PRESETS])
def test_clean(exported: Export, preset: str, core: str | None) -> None:
    """The template is the top, so a missing or unknown port would be a warning."""
    verilog, template = exported(preset, core)
    assert lint([template, verilog], top=template.stem) == ""


def test_a_port_is_missed(exported: Export, tmp_path: Path) -> None:
    verilog, template = exported("tiny", "conv")
    broken = tmp_path / "addend_conv_template.v"
    broken.write_text(template.read_text().replace("        .hold(hold),\n", ""))
    assert "PINMISSING" in lint([broken, verilog], top=broken.stem)
    broken.write_text(template.read_text().replace(".hold(hold)", ".held(hold)"))
    assert "Pin not found: 'held'" in lint([broken, verilog], top=broken.stem)


def test_faults_are_not_waived(tmp_path: Path) -> None:
    (tmp_path / "broken.v").write_text(PLANTED)
    said = lint([tmp_path / "broken.v"])
    assert "Warning-LATCH" in said and "Warning-WIDTHTRUNC" in said


def waivers(text: str) -> list[tuple[str, str, str]]:
    """The line above, rule and pattern of each waiver."""
    lines = text.splitlines()
    found = []
    for above, line in itertools.pairwise(lines):
        if line.startswith("lint_off"):
            rule, pattern = re.fullmatch(r'lint_off -rule (\w+) -file "\*" -match "(.*)"',
                                         line).groups()
            found.append((above, rule, pattern))
    return found


def stale(text: str, said: str) -> list[str]:
    """Patterns of waivers that match none of the warnings that Verilator gave without them."""
    warnings = re.findall(r"%Warning-(\w+): [^ ]+: (.*)", said)
    return [pattern for _, rule, pattern in waivers(text)
            if not any(rule == name and fnmatch.fnmatchcase(message, pattern)
                       for name, message in warnings)]


def test_every_waiver_has_a_reason_and_is_needed(exported: Export) -> None:
    text = WAIVERS.read_text()
    assert text.count("lint_off") == len(waivers(text)) >= 5
    assert all(above.startswith("// ") for above, _, _ in waivers(text))
    said = "".join(lint([exported("tiny", core)[0]], None) for core in ALL)
    assert stale(text, said) == []
    text += '// as a test\nlint_off -rule WIDTHEXPAND -file "*" -match "Operator XOR *"\n'
    assert stale(text, said) == ["Operator XOR *"]
