# SPDX-License-Identifier: Apache-2.0
"""Run images on the RTL and estimate the energy of one.

    report, found = measure(model, images, get_preset("ecp5"), "jouppi-7nm")
    print(found.total, found.papers.total)      # pJ
"""

from collections.abc import Iterable, Mapping

from hw.presets import Preset
from sw.compile.program import Program
from sw.energy.account import Counted, account
from sw.energy.estimate import Estimate
from sw.energy.papers import papers_energy
from sw.energy.tables import DEFAULT_TABLE, get_table
from sw.golden.activity import set_bits
from sw.golden.network import evaluate, quantise_images
from sw.golden.useful import useful_additions, useful_outside_lanes
from sw.images import Images
from sw.model_file import IntegerModel
from sw.report import RunReport
from sw.run import Step, run, silent
from sw.simulated_device import SimulatedDevice

__all__ = ["count", "measure"]


def measure(model: IntegerModel, images: Images, preset: Preset, table: str = DEFAULT_TABLE, *,
            level_mode: str = "planes", jobs: int | None = None, effort: str | None = None,
            step: Step = silent) -> tuple[RunReport, Estimate]:
    """Run every image as `sw.run.run` does; the report, and the energy of an image on average."""
    energies = get_table(table)     # before anything that takes long
    programs: list[Program] = []

    def open_device(program: Program) -> SimulatedDevice:
        programs.append(program)
        return SimulatedDevice(program, layers=len(model.layers), effort=effort)

    report = run(model, images, preset, open_device=open_device, level_mode=level_mode, jobs=jobs,
                 step=step)
    step("counting", 0, 0)
    counted = count(model, report, images, ones=level_mode == "steps")
    useful = {name: counted.useful[name] + counted.outside[name] for name in counted.useful}
    return report, Estimate.of(
        model.name, preset, energies, len(images), account(model, programs[0], counted),
        papers_energy(model, useful))


def count(model: IntegerModel, report: RunReport, images: Images, *,
          ones: bool = False) -> Counted:
    """Means of the hardware's counters and of the golden model's counts; `ones` as `set_bits`."""
    useful, outside, bits = [], [], []
    for image in quantise_images(model, images.pixels):
        tensors = evaluate(model, image)
        elsewhere = {layer.name: useful_outside_lanes(layer, [tensors[n] for n in layer.inputs])
                     for layer in model.layers}
        outside.append(elsewhere)
        useful.append({name: number - elsewhere[name]
                       for name, number in useful_additions(model, tensors).items()})
        bits.append(set_bits(model, tensors, ones))
    size = len(report.images)
    return Counted(
        additions=sum(image.additions for image in report.images) / size,
        bytes_read=sum(image.bytes_read for image in report.images) / size,
        useful=_mean(useful), outside=_mean(outside), bits=_mean(bits))


def _mean(counts: Iterable[Mapping[str, int]]) -> dict[str, float]:
    rows = list(counts)
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
