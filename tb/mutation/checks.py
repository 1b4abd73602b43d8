# SPDX-License-Identifier: Apache-2.0
"""The fast tests that run the accelerator, as functions of a mutant.

They are the test functions of `make test` themselves, each with all of its parameters; only the
accelerator that they get is the one with the mutants.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from hw.presets import get_preset
from sim import build as builder
from sim.build import QUICK
from sim.verilated import VerilatedTransport
from sw.driver import Driver
from tb.conv import test_compute
from tb.driver import test_errors, test_limits, test_system, test_wide
from tb.mutation.netlist import PRESET, Mutants
from tb.top import cases, random_descriptors, test_malformed, test_random_descriptors
from tb.top.compute_bench import AcceleratorBench

__all__ = ["Check", "checks"]

NOT_ON_THE_STUB = {"test_counters", "test_trace", "test_mismatch"}
"""Its netlist has what the true compute unit's constants leave of the counters; the others need
no hardware or write files."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One test with its parameters; ``run`` takes the number of a mutant and raises if it fails.

    ``stub``: it runs on the stub system, which has no mutants of the compute unit.
    """

    name: str
    run: Callable[[int], object]
    stub: bool


def _parameters(function: Callable) -> Iterator[tuple[str, dict[str, object]]]:
    """List the parameters of a test, as pytest would; marked ones (slow) are left out."""
    axes = []
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "slow":
            return
        if mark.name != "parametrize":
            continue
        names, values = mark.args[:2]
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        rows = [value.values if hasattr(value, "values") and hasattr(value, "marks")
                else value if len(names) > 1 else (value,) for value in values
                if not getattr(value, "marks", ())]
        axes.append([dict(zip(names, row, strict=True)) for row in rows])
    for number, chosen in enumerate(itertools.product(*axes)):
        yield (f"[{number}]" if axes else ""), {k: v for part in chosen for k, v in part.items()}


@contextmanager
def _stub_driver(generator: str, mutant: int) -> Iterator[Callable[..., Driver]]:
    """What the fixture of that name gives, on a mutant."""
    with ExitStack() as stack:
        def make(preset_name: str = PRESET, **options: object) -> Driver:
            options = {"memory_bytes": 1 << 20, "generator": generator, "mutant": mutant,
                       "effort": QUICK} | options
            if options["generator"] != generator:
                del options["mutant"]
            transport = stack.enter_context(VerilatedTransport(
                get_preset(preset_name), **options))
            return Driver(transport, get_preset(preset_name))

        yield make


def _on_stub(function: Callable, arguments: dict, generator: str) -> Callable[[int], None]:
    def run(mutant: int) -> None:
        with _stub_driver(generator, mutant) as make:
            function(stub_driver=make, **arguments)

    return run


def checks(drawn: Mutants) -> list[Check]:
    """List all checks for these mutants, and build the accelerators that they need."""
    for generator in (drawn.full, drawn.stub):
        builder.build(PRESET, generator, QUICK, mutants=True)
    for name in cases.NETWORKS:
        cases.expected(name)                # once, not in each process
    full = {"generator": drawn.full, "effort": QUICK}
    found = [Check(f"tb/top/cases {name}",
                   lambda mutant, name=name: cases.run_network(name, mutant=mutant, **full), False)
             for name in cases.NETWORKS]

    def bench(mutant: int) -> Callable[..., AcceleratorBench]:
        return lambda preset, seed: AcceleratorBench(preset, seed, mutant=mutant, **full)

    for name, function in inspect.getmembers(test_compute, inspect.isfunction):
        if name.startswith("test_") and "make_bench" in inspect.signature(function).parameters:
            for suffix, arguments in _parameters(function):
                if arguments.get("name", PRESET) == PRESET and name != "test_tiles_share_words":
                    found.append(Check(
                        f"tb/conv {name}{suffix}", lambda mutant, f=function, a=arguments: f(
                            make_bench=bench(mutant), **a), False))

    def malformed(mutant: int, function: Callable, arguments: dict[str, object]) -> None:
        with test_malformed.open_driver(mutant=mutant, **full) as driver:
            function(driver, **arguments)

    for function in (test_malformed.test_malformed_conv,
                     test_malformed.test_errors_name_the_layer):
        for suffix, arguments in _parameters(function):
            found.append(Check(
                f"tb/top {function.__name__}{suffix}",
                lambda mutant, f=function, a=arguments: malformed(mutant, f, a), False))
    for seed in range(random_descriptors.SEEDS):
        random_descriptors.draw(seed)
        found.append(Check(f"tb/top test_random_descriptors[{seed}]", lambda mutant, s=seed: (
            test_random_descriptors.check_seed(s, mutant=mutant, **full)), False))
    for module in (test_system, test_limits, test_wide, test_errors):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if (not name.startswith("test_") or name in NOT_ON_THE_STUB
                    or "stub_driver" not in (needs := inspect.signature(function).parameters)
                    or "tmp_path" in needs):
                continue
            found += [Check(f"{module.__name__.replace('.', '/')} {name}{suffix}",
                            _on_stub(function, arguments, drawn.stub), True)
                      for suffix, arguments in _parameters(function)]
    return found
