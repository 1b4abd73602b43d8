# SPDX-License-Identifier: Apache-2.0
"""The prover itself, a few quick proofs, and that no component is forgotten."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import pytest
from amaranth import *
from amaranth.lib import wiring

import hw
from hw.dma.skid import Skid
from tb.prove.__main__ import main
from tb.prove.check import check
from tb.prove.engine import EngineError
from tb.prove.proof import Bug, Proof, StaleBugError, proof
from tb.prove.proofs import PROOFS, UNPROVED
from tb.prove.properties import Properties

QUICK = ("skid", "gate", "round_robin")
KNOWN = {one.name: one for one in PROOFS}


@pytest.mark.parametrize("name", QUICK)
def test_quick(name: str) -> None:
    result = check(KNOWN[name], count=1)
    assert result.holds, result.said
    assert len(result.bugs) == 1 and result.bugs[0].caught, result.bugs


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_every_proof(name: str) -> None:
    result = check(KNOWN[name])
    assert result.holds, result.said
    assert all(bug.caught for bug in result.bugs), result.bugs


def test_every_proof_has_claims_covers_and_bugs() -> None:
    assert len(KNOWN) == len(PROOFS)
    for one in PROOFS:
        properties = one.properties()
        assert properties.said("claim") and properties.said("cover"), one.name
        assert len(one.bugs) >= 2, one.name


def components() -> dict[str, type]:
    """All public components of hw, by dotted name."""
    found = {}
    for module in pkgutil.walk_packages(hw.__path__, "hw."):
        for name, value in inspect.getmembers(importlib.import_module(module.name)):
            if (inspect.isclass(value) and issubclass(value, wiring.Component)
                    and value.__module__ == module.name and not name.startswith("_")):
                found[f"{module.name}.{name}"] = value
    return found


def forgotten(found: dict[str, type]) -> list[str]:
    """Components that have neither a proof nor a reason for having none."""
    proved = {f"{one.block.__module__}.{one.block.__name__}" for one in PROOFS}
    assert not proved & UNPROVED.keys(), "proved, and yet said not to be"
    return sorted(found.keys() - proved - UNPROVED.keys())


def test_no_component_is_forgotten() -> None:
    found = components()
    assert len(found) > 30
    assert forgotten(found) == []
    assert set(UNPROVED) <= found.keys(), "a reason for something that is not there"


def test_a_forgotten_component_is_found() -> None:
    assert forgotten(components() | {"hw.lonely.Lonely": Skid}) == ["hw.lonely.Lonely"]


def test_a_wrong_claim_fails() -> None:
    @proof(Skid, bugs=[])
    def _wrong(p: Properties, block: type) -> None:
        """Claims too much."""
        dut = p.add(block(2))
        p.claim("never two inside", ~p.signal("spare_valid"))
        p.cover("something", dut.o.valid)

    result = check(dataclasses.replace(_wrong, k=4))
    assert not result.holds
    assert "broken from reset: never two inside" in result.said


def test_what_never_happens_fails() -> None:
    @proof(Skid, bugs=[], reach=5)
    def _vacuous(p: Properties, block: type) -> None:
        """Assumes that nothing comes."""
        dut = p.add(block(2))
        p.assume("nothing comes", ~dut.i.valid)
        p.claim("nothing goes", ~dut.o.valid)
        p.invariant(~p.signal("spare_valid"))
        p.cover("something goes", dut.o.valid)

    result = check(_vacuous)
    assert result.said == "not reached: something goes"


def test_a_harmless_change_is_not_caught() -> None:
    harmless = Bug("nothing", "spare_valid = Signal()", "spare_valid = Signal(1)")
    result = check(dataclasses.replace(KNOWN["skid"], bugs=(harmless,), reach=4))
    assert result.holds and not result.good
    assert result.bugs[0].said == "nothing in 4 cycles"


@pytest.mark.parametrize(("text", "times"), [("no such text", 0), ("spare_valid", "more")])
def test_a_stale_bug_is_an_error(text: str, times: object) -> None:
    stale = dataclasses.replace(KNOWN["skid"], bugs=(Bug("old", text, "x"),))
    with pytest.raises(StaleBugError, match=r"hw\.dma\.skid: the bug 'old' is stale: its text"):
        check(stale)


def test_no_bug_is_stale() -> None:
    for one in PROOFS:
        for bug in one.bugs:
            assert inspect.getsource(inspect.getmodule(one.block)).count(bug.old) == 1, bug


def test_a_solver_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="took more than 0 s"):
        check(KNOWN["skid"], limit=0, folder=tmp_path)


def test_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = check(KNOWN["skid"], bugs=False)
    monkeypatch.setattr("subprocess.Popen", None)
    assert check(KNOWN["skid"], bugs=False) == first


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "proofs.json"
    assert main(["skid"], output=output) == 0
    record = json.loads(output.read_text())["proofs"][0]
    assert record["proof"] == "skid" and all(bug["caught"] for bug in record["bugs"])
    assert "1 proofs" in capsys.readouterr().out
    assert main(["skit"]) == 2
    assert "no proof 'skit'; there are queue, skid" in capsys.readouterr().err
    harmless = Bug("nothing", "spare_valid = Signal()", "spare_valid = Signal(1)")
    weak: Proof = dataclasses.replace(KNOWN["skid"], bugs=(harmless,), reach=4)
    assert main([], proofs=(weak,), output=output) == 1
    assert "skid: not caught: nothing" in capsys.readouterr().out
