# SPDX-License-Identifier: Apache-2.0
"""The testbenches on generated Verilog, see docs/verification.md."""

from __future__ import annotations

import dataclasses

import pytest

from tb.cocotb_run import BENCH_PRESETS, BenchFailure, base_seed, run_bench

RUNS = 3
"""Seeds of the long tests."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """A component, its coroutines, and what of them is quick: a preset, a choice of names."""

    component: str
    module: str
    preset: str
    tests: str | None = None


BENCHES = {
    "lif": Bench("hw.lif.neuron_array:NeuronArray", "tb.lif.cocotb_neuron_array", "tiny"),
    "levels": Bench("hw.lif.level_array:LevelArray", "tb.lif.cocotb_level_array", "tiny"),
    "conv": Bench("hw.conv.group:Group", "tb.conv.cocotb_group", "tiny"),
    "conv for wide LUTs": Bench("hw.conv.group:Group", "tb.conv.cocotb_group", "odd"),
    "sdsa": Bench("hw.sdsa.count_matrix:CountMatrix", "tb.sdsa.cocotb_count_matrix", "tiny"),
    "scan": Bench("tb.conv.scan:Scan", "tb.conv.cocotb_scan", "odd"),
    "epilogue": Bench("hw.lif.epilogue:Epilogue", "tb.lif.cocotb_epilogue", "odd"),
    "dma": Bench("tb.dma.movers:Movers", "tb.dma.cocotb_movers", "small"),
    "control": Bench("tb.control.processor:Processor", "tb.control.cocotb_control", "tiny"),
    "registers": Bench("hw.control.register_bank:RegisterBank", "tb.control.cocotb_registers",
                       "tiny"),
    "accelerator": Bench("hw.top:Accelerator", "tb.top.cocotb_accelerator", "odd",
                         r"stall=0\.4(/model=all_layers)?$"),
}


@pytest.mark.parametrize("name", BENCHES)
def test_bench(name: str) -> None:
    bench = BENCHES[name]
    run_bench(bench.component, bench.module, bench.preset, tests=bench.tests)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RUNS))
@pytest.mark.parametrize("preset", BENCH_PRESETS)
@pytest.mark.parametrize("name", BENCHES)
def test_bench_on_every_preset(name: str, preset: str, number: int) -> None:
    run_bench(BENCHES[name].component, BENCHES[name].module, preset, number=number)


FAULTY = ("hw.lif.neuron_array:NeuronArray", "tb.cocotb_faulty", "tiny")


def test_the_runner_sees_failures() -> None:
    """Failing coroutines fail the test that runs them, with their messages and the seed."""
    with pytest.raises(BenchFailure) as caught:
        run_bench(*FAULTY, tests="passes|asserts|raises|hangs")
    found = [line.split(": ", 1) for line in str(caught.value).splitlines()
             if line.startswith("tb.cocotb_faulty.")]
    assert [name.rsplit(".", 1)[1] for name, _ in found] == [
        "asserts", "raises", "asserts_in_the_background", "hangs"]
    for (_, text), message in zip(found, (
            "planted: no spikes without currents", "planted: nothing here", "planted: in a task",
            "SimTimeoutError"), strict=True):
        assert message in text
    assert f"ADDEND_SEED={base_seed()} python -m pytest" in str(caught.value)
    assert "test_the_runner_sees_failures" in str(caught.value)


@pytest.mark.parametrize(("tests", "message"), [
    ("dies", "no results(.|\\n)*return code: 3"), ("absent", "no coroutine ran")])
def test_the_runner_sees_that_nothing_ran(tests: str, message: str) -> None:
    with pytest.raises(BenchFailure, match=message):
        run_bench(*FAULTY, tests=tests)


def test_bad_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADDEND_SEED", "-1")
    with pytest.raises(ValueError, match="ADDEND_SEED must be a number of 0 or more, not '-1'"):
        base_seed()
