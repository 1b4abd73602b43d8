# SPDX-License-Identifier: Apache-2.0
"""The list of surviving mutants holds, and the campaign kills what it should."""

import dataclasses
from pathlib import Path

import pytest

from tb.mutation.survivors import Survivor, stale, survivors

ENTRY = Survivor("addend.x $1.A[0] inv", "hw/x.py:2", "m.d.comb += a.eq(b)", "no effect")


@pytest.mark.parametrize("entry", survivors().values(), ids=lambda entry: entry.key)
def test_entry_is_current(entry: Survivor) -> None:
    assert stale(entry) == ""


def test_stale_entries_are_found(tmp_path: Path) -> None:
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "x.py").write_text("a = 1\n    m.d.comb += a.eq(b)\n")
    assert stale(ENTRY, tmp_path) == ""
    for change, said in (({"text": "other"}, "line 2 of hw/x.py is not 'other'"),
                         ({"source": "hw/x.py:9"}, "line 9 of hw/x.py"),
                         ({"source": "hw/y.py:2"}, "hw/y.py does not exist"),
                         ({"reason": " "}, "no reason")):
        assert said in stale(dataclasses.replace(ENTRY, **change), tmp_path)


def test_an_entry_is_listed_once(tmp_path: Path) -> None:
    entry = '[[survivor]]\nkey = "k"\nsource = "hw/x.py:1"\ntext = "t"\nreason = "r"\n'
    (tmp_path / "list.toml").write_text(2 * entry)
    with pytest.raises(ValueError, match="listed twice"):
        survivors(tmp_path / "list.toml")


@pytest.mark.slow
def test_campaign() -> None:
    """All checks pass without a mutant; a stuck interrupt is killed, a repeated one kept apart."""
    from tb.mutation.campaign import _run, baseline, try_mutant
    from tb.mutation.checks import Check, checks
    from tb.mutation.netlist import draw

    drawn = draw(20, 3)
    assert len({mutant.key for mutant in drawn.mutants}) == 20
    ordered = baseline(checks(drawn))
    outcomes = [try_mutant(mutant, ordered) for mutant in drawn.mutants[:5]]
    assert sum(bool(outcome.killer) for outcome in outcomes) >= 3

    def dies(_mutant: int) -> None:
        raise SystemExit(3)

    assert _run([Check("a", dies, False)], 0).killer == "a"
