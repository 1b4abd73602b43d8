# SPDX-License-Identifier: Apache-2.0
"""Estimates against netlists: those that were fitted, and those that no fit saw.

The figures of the netlists are those that ``python -m sw.fpga.fit`` recorded, with the date, the
tool and the digest of what was synthesised.
"""

import dataclasses

import pytest
from typer.testing import CliRunner

from hw.presets import PRESETS, Preset, get_preset
from sw.cli import app
from sw.fpga import estimate as estimates
from sw.fpga.estimate import EstimateError, coefficients, estimate
from sw.fpga.fit import DEFAULT_TARGETS
from sw.fpga.targets import TARGETS, Target
from sw.fpga.terms import IGNORED, SECTIONS, TERMS
from sw.fpga.variants import HELD_OUT, VARIANTS

LIMIT = 0.15
"""Largest relative difference of LUTs and of flip-flops."""
BY_LOGIC = {TARGETS[name].logic: TARGETS[name] for name in DEFAULT_TARGETS}
HELD = [(logic, name) for logic, presets in HELD_OUT.items() for name in presets]
FITTED = [(logic, name) for logic, presets in VARIANTS.items() for name in presets]


def worst(preset: Preset, target: Target, measured: dict[str, float]) -> float:
    """The larger relative difference of LUTs and flip-flops."""
    found = estimate(preset, target)
    return max(abs(found.total(figure) / measured[figure] - 1) for figure in ("lut", "ff"))


@pytest.mark.parametrize(("logic", "name"), HELD)
def test_held_out(logic: str, name: str) -> None:
    measured = coefficients()["families"][logic]["held_out"][name]
    assert measured["target"] == BY_LOGIC[logic].name and len(measured["hardware"]) == 12
    found = estimate(HELD_OUT[logic][name], BY_LOGIC[logic])
    assert found.total("block_ram") == measured["block_ram"]
    assert worst(HELD_OUT[logic][name], BY_LOGIC[logic], measured) < LIMIT


@pytest.mark.parametrize(("logic", "name"), FITTED)
def test_fitted(logic: str, name: str) -> None:
    measured = coefficients()["families"][logic]["fitted"][name]
    found = estimate(VARIANTS[logic][name], BY_LOGIC[logic])
    assert found.total("block_ram") == measured["block_ram"]
    assert worst(VARIANTS[logic][name], BY_LOGIC[logic], measured) < LIMIT


@pytest.mark.parametrize("term", ["adder", "epilogue lane"])
@pytest.mark.parametrize(("logic", "name"), HELD)
def test_a_wrong_factor_is_noticed(monkeypatch: pytest.MonkeyPatch, logic: str, name: str,
                                   term: str) -> None:
    known = coefficients()
    family = known["families"][logic]
    trebled = {figure: 3 * factor for figure, factor in family["factors"][term].items()}
    changed = {**known, "families": {**known["families"], logic: {
        **family, "factors": {**family["factors"], term: trebled}}}}
    monkeypatch.setattr(estimates, "coefficients", lambda: changed)
    assert worst(HELD_OUT[logic][name], BY_LOGIC[logic], family["held_out"][name]) > LIMIT


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_more_adders_take_more(preset: Preset, target: Target) -> None:
    """By groups, and by lanes: more of everything but block RAM, which can only not shrink."""
    small = {"epilogue_lanes": 4, "axi_bits": 64}
    for changes in ([{"groups": groups} for groups in range(2, 33)],
                    [{"lanes": lanes, **small} for lanes in (8, 16, 32)]):
        found = [estimate(dataclasses.replace(preset, **change), target) for change in changes]
        for less, more in zip(found, found[1:], strict=False):
            assert less.total("lut") < more.total("lut")
            assert less.total("ff") < more.total("ff")
            assert less.total("block_ram") <= more.total("block_ram")


def test_parts() -> None:
    found = estimate(get_preset("ecp5"), TARGETS["ecp5-85k"])
    assert found.total("lut") == sum(part["lut"] for part in found.parts.values())
    assert found.dominant("lut") in ("adders", "groups") and found.scarcest == "block_ram"
    assert found.dominant("block_ram") == "weight buffer"
    assert found.parts["weight buffer"]["block_ram"] == 120
    assert found.share("block_ram") == 196 / 208
    assert {term.part for term in TERMS} < found.parts.keys()


def test_what_was_fitted() -> None:
    """Every term has its factors, none of them negative; every netlist its section and origin."""
    known = coefficients()
    assert known["fixed"].keys() == set(IGNORED)
    for logic, family in known["families"].items():
        assert family["factors"].keys() == {term.name for term in TERMS}
        assert all(factor >= 0 for pair in family["factors"].values() for factor in pair.values())
        for presets, samples in ((VARIANTS, family["fitted"]), (HELD_OUT, family["held_out"])):
            assert samples.keys() == presets[logic].keys()
            for preset, one in zip(presets[logic].values(), samples.values(), strict=True):
                assert {name: getattr(preset, name) for name in IGNORED} == known["fixed"]
                assert one["date"] and one["tool"].startswith("Yosys")
                assert one["sections"].keys() == set(SECTIONS)
                for figure in ("lut", "ff"):
                    assert one[figure] == sum(part[figure] for part in one["sections"].values())


def test_other_widths_are_refused() -> None:
    with pytest.raises(EstimateError, match="preset tiny: acc_width is 20, but estimates hold for "
                                            "24 only"):
        estimate(dataclasses.replace(get_preset("tiny"), acc_width=20), TARGETS["ecp5-85k"])


def test_logic_that_was_never_fitted() -> None:
    target = dataclasses.replace(TARGETS["ecp5-85k"], name="other", logic="none")
    with pytest.raises(EstimateError, match="nothing was fitted for other: see python -m"):
        estimate(get_preset("tiny"), target)


def test_info() -> None:
    """Totals on each target, or the parts on one; and a target that doesn't exist."""
    def info(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["info", "--preset", "ecp5", *arguments])
        return result.exit_code, result.output

    code, said = info()
    assert code == 0 and all(target in said for target in TARGETS)
    assert "208 (94%)" in said and "108 (181%)" in said and "block RAM: weight buffer" in said
    assert "ecp5 is made for LUTs of 4 inputs" in said
    code, said = info("--target", "ecp5-85k")
    assert code == 0 and "ecp5 on ecp5-85k, foretold" in said
    assert "scarcest: block RAM, 94%; most of it: weight buffer (61%)" in said
    assert f"{estimate(get_preset('ecp5'), TARGETS['ecp5-85k']).total('ff'):,}" in said
    assert "does not fit" not in said and "does not fit" in info("--target", "ecp5-45k")[1]
    assert "lut_inputs" not in said
    assert "foretold with lut_inputs 6; ecp5 has 4" in info("--target", "xcup-kv260")[1]
    code, said = info("--target", "ice40")
    assert code == 2 and "addend: no target 'ice40'; there are ecp5-85k, " in said
