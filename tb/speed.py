# SPDX-License-Identifier: Apache-2.0
"""Cycles of whole networks on the RTL, against what spikes ask for and the cycle model predicts.

    python -m tb.speed [NAME ...]

Runs each of `CASES` (those named, else all) with every tensor compared, prints a table and writes
``build/bench/speed.json``: a record for each. Utilisation is useful additions (`sw.golden.useful`)
by adders times cycles, transfers and all; `losses` are the other causes of the account of slots
(`sw.profile`), from a run of its own. Reads and writes share the memory's bytes a cycle.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from rich.table import Table

from hw.presets import Preset, get_preset
from sw.bundled import bundled_network
from sw.compile.compiler import compile_model
from sw.compile.estimate import LATENCY
from sw.cycles.timeline import Timeline, predict
from sw.display import out, progress
from sw.export import write_json
from sw.golden.activity import set_bits
from sw.golden.network import evaluate, quantise_images
from sw.imagenet import network_model
from sw.images import Images
from sw.model_file import IntegerModel
from sw.profile import profile
from sw.run import Step, run

__all__ = ["CASES", "Case", "measure"]

OUTPUT = Path("build/bench/speed.json")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network on a preset; `network` is bundled in models/, or one of `sw.imagenet`."""

    network: str
    preset: str
    time_steps: int | None = None
    """Of `sw.imagenet`'s networks; bundled ones say themselves."""
    batch: int = 1
    """Images of a run, which share loaded weights."""

    @property
    def name(self) -> str:
        steps = f"-t{self.time_steps}" if self.time_steps else ""
        return f"{self.network}{steps}-{self.preset}-b{self.batch}"


CASES = (
    Case("cifar10_v3", "small", batch=4), Case("cifar10_v3", "large", batch=8),
    Case("cifar10_v3_wide", "large", batch=8), Case("cifar10_v2", "large", batch=4),
    Case("cifar10_v2_wide", "large", batch=4), Case("v2", "large", time_steps=1),
    Case("v2", "large", time_steps=4), Case("v3", "large", time_steps=1))


def _network(case: Case, step: Step) -> tuple[IntegerModel, Images]:
    if case.time_steps is not None:
        return network_model(case.network, case.time_steps, None, step)
    return bundled_network(case.network, case.batch, step)


def _predicted(model: IntegerModel, integers: torch.Tensor, preset: Preset,
               batch: int) -> Timeline:
    """The cycle model's account of a batch, from the spikes of these very images."""
    total: dict[str, float] = {}
    for image in integers:
        for name, bits in set_bits(model, evaluate(model, image)).items():
            total[name] = total.get(name, 0) + bits / len(integers)
    return predict(model, compile_model(model, preset, batch=batch), total)


def measure(case: Case, step: Step) -> dict[str, object]:
    """Run a case; its record."""
    preset = get_preset(case.preset)
    model, images = _network(case, step)
    report = run(model, images, preset, batch=case.batch, jobs=1, step=step)
    first = Images(images.names[:1], images.pixels[:1])
    alone = report if case.batch == 1 else run(model, first, preset, jobs=1, step=step)
    cycles, useful = report.cycles, report.useful_additions
    slots = preset.adders * cycles
    integers = quantise_images(model, images.pixels)
    predicted = _predicted(model, integers, preset, case.batch)
    layers = {layer["name"]: {"cycles": layer["cycles"], "cycles_predicted": foretold}
              for layer, foretold in zip(report.layers(), predicted.layers, strict=True)}
    step(f"profile of {case.name}", 0, 0)
    account = profile(model, integers, preset)
    if account.cycles != cycles or abs(account.utilisation - useful / slots) > 1e-9:
        raise RuntimeError(f"{case.name}: the profile is of another run")
    return {
        "network": model.name, "preset": preset.name, "time_steps": model.time_steps,
        "batch": case.batch, "adders": preset.adders,
        "memory_bytes_per_cycle": preset.beat_bytes, "memory_latency": LATENCY,
        "cycles": cycles, "useful_additions": useful, "utilisation": useful / slots,
        "adder_cycles_per_image": slots // len(images), "latency_cycles": alone.cycles,
        "bytes_read": sum(image.bytes_read for image in report.images),
        "bytes_written": sum(image.bytes_written for image in report.images),
        "losses": {cause: share for cause, share in account.shares().items() if cause != "useful"},
        "cycles_predicted": predicted.cycles, "layers": layers,
        "layers_within_10_percent": sum(
            abs(layer["cycles_predicted"] - layer["cycles"]) <= 0.1 * layer["cycles"]
            for layer in layers.values()) / len(layers),
        "bit_exact": bool(report.bit_exact and alone.bit_exact),
        "seconds": report.seconds_run,
    }


def main() -> int:
    """Run the cases; 1 if any value differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases (all if none is named): "
                        + ", ".join(case.name for case in CASES))
    names = parser.parse_args().names
    unknown = set(names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}")
    records = []
    for case in CASES:
        if names and case.name not in names:
            continue
        with progress() as step:
            records.append(measure(case, step))
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        write_json(OUTPUT, records)
    table = Table(title="networks on the RTL")
    for column in ("network", "preset", "T", "batch", "cycles an image", "utilisation",
                   "adder-cycles an image", "latency, batch 1", "predicted", "layers within 10 %",
                   "equal"):
        table.add_column(column, justify="left" if column in ("network", "preset") else "right")
    for record in records:
        table.add_row(
            record["network"], record["preset"], str(record["time_steps"]), str(record["batch"]),
            f"{record['cycles'] / record['batch']:,.0f}", f"{record['utilisation']:.1%}",
            f"{record['adder_cycles_per_image'] / 1e6:,.1f} M", f"{record['latency_cycles']:,}",
            f"{record['cycles_predicted'] / record['cycles'] - 1:+.1%}",
            f"{record['layers_within_10_percent']:.0%}",
            "yes" if record["bit_exact"] else "NO")
    out.print(table)
    return 0 if all(record["bit_exact"] for record in records) else 1


if __name__ == "__main__":
    raise SystemExit(main())
