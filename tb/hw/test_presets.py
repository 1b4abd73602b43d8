# SPDX-License-Identifier: Apache-2.0
"""Presets: what can't be built is refused, and hardware keeps its name as fields are added."""

import dataclasses

import pytest

from hw.presets import PRESETS, PresetError, get_preset

TINY = get_preset("tiny")


@pytest.mark.parametrize(("changes", "text"), [
    ({"lut_inputs": 5}, "preset tiny: lut_inputs must be 4 or 6, not 5"),
    ({"groups": 0}, "preset tiny: groups must be positive, not 0"),
    ({"lanes": 12}, "preset tiny: lanes must divide 32, not 12"),
    ({"fifo_depth": 12}, "preset tiny: fifo_depth must be a power of two, not 12"),
])
def test_what_cannot_be_built(changes: dict[str, int], text: str) -> None:
    with pytest.raises(PresetError, match=text):
        dataclasses.replace(TINY, **changes)


def test_identities() -> None:
    """Each field counts; those of presets without wide LUTs are of before there were any."""
    assert [get_preset(name).identity() for name in ("tiny", "small", "ecp5")] == [
        0xad9f543, 0x5133cf95, 0x601826ef]
    found = {preset.identity() for preset in PRESETS.values()}
    found |= {dataclasses.replace(TINY, **changes).identity() for changes in (
        {"lut_inputs": 6}, {"groups": 3}, {"acc_width": 26})}
    assert len(found) == len(PRESETS) + 3
