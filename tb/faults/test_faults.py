# SPDX-License-Identifier: Apache-2.0
"""Each planted fault is caught and named to the element; without one nothing is reported."""

import dataclasses
import json
from pathlib import Path

import pytest

from hw.descriptor import Target
from tb.faults.__main__ import main
from tb.faults.edit import constants, replace, with_number
from tb.faults.hardware import NO_RESET
from tb.faults.planted import FAULTS, first_burst, threshold
from tb.faults.subject import Fault, network, one_pixel


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(name: str) -> None:
    fault = FAULTS[name]()
    found = fault.compare()
    assert not found.equal
    assert [image.differences for image in found.images] == fault.predicted
    assert fault.is_named(found), [image.failures for image in found.images]


@pytest.mark.parametrize("teacher_forced", [False, True])
def test_without_a_fault_nothing_is_reported(teacher_forced: bool) -> None:
    for subject in (network(), one_pixel()):
        found = subject.compare(teacher_forced=teacher_forced)
        assert found.equal and len(found.images) == len(subject.images)
        assert all(image.first is None and not image.layers for image in found.images)


def test_membranes_show_between_pixels_too() -> None:
    """In a whole network the first neurons differ, in the first image; their inputs don't."""
    subject = network()
    for image in subject.compare(lambda program: subject.device(program, NO_RESET)).images:
        assert image.first.tensor == "stem.spikes" and not image.failures
        assert image.first.expected != image.first.found


def test_one_bug_shows_as_one_layer_when_teacher_forced() -> None:
    """The same weight bit in every program, in the memory of its layer only."""
    subject = network()
    number = subject.layer_number("block1.q")

    def open_device(program):
        if [row.name for row in program.layers] == ["block1.q"]:
            address = constants(program, number, Target.WEIGHT)
            program = with_number(program, address, 1, lambda byte: byte ^ 0x40)
        return subject.device(program)

    found = subject.compare(open_device, teacher_forced=True)
    assert [image.layers for image in found.images if image.layers]
    assert {layer for image in found.images for layer in image.layers} == {"block1.q"}


def test_a_stopped_layer_does_not_stop_the_others() -> None:
    """Teacher-forced, the head waits for a lost beat in one image: the next one runs again."""
    subject, lost = network(), []

    def open_device(program):
        device = subject.device(program)
        if program.layers[0].kind == "head" and not lost:
            lost.append(first_burst(program, len(subject.model.layers) - 1))
            device.transport.inner.lose_read(lost[0])
        return device

    first, second = subject.compare(open_device, teacher_forced=True).images
    assert first.layers == ["head"] and first.first.count == 5 and not first.equal
    assert len(first.failures) == 1 and "WATCHDOG" in first.failures[0]
    assert second.equal


def not_planted() -> Fault:
    """A fault that is foretold, but isn't there."""
    fault = threshold()
    return dataclasses.replace(fault, open_device=fault.subject.device)


def badly_foretold() -> Fault:
    """A fault that shows in one value more than foretold."""
    fault = threshold()
    first, *rest = fault.predicted[0]
    return dataclasses.replace(fault, predicted=[
        [dataclasses.replace(first, count=first.count + 1), *rest], *fault.predicted[1:]])


@pytest.mark.parametrize(("make", "caught", "code"), [
    (threshold, True, 0), (not_planted, False, 1), (badly_foretold, True, 1)])
def test_campaign(tmp_path: Path, make, caught: bool, code: int) -> None:
    assert main({"it": make}, tmp_path / "faults.json") == code
    written = json.loads((tmp_path / "faults.json").read_text())
    assert written["without_fault_equal"] is True
    assert written["faults"][0]["caught"] is caught
    assert written["faults"][0]["as_predicted"] is (code == 0)
    assert (written["faults"][0]["first"] is None) is not caught


def test_edits_are_checked() -> None:
    program = network().program
    assert replace(program, {}).descriptors == program.descriptors
    with pytest.raises(ValueError, match="no constant at 0xffffffff"):
        with_number(program, 0xFFFFFFFF, 1, lambda byte: byte)
