# SPDX-License-Identifier: Apache-2.0
"""What the command line shows: progress and tables. Results go to stdout, progress to stderr."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hw.presets import Preset
from sw.compare import Comparison
from sw.energy.estimate import PJ_IN_UJ, Estimate, RowEnergy
from sw.profile import CAUSES, Profile
from sw.report import RunReport

if TYPE_CHECKING:
    from sw.evaluation.evaluate import Evaluation

__all__ = ["TABLE_WIDTH", "out", "preset_table", "progress", "show_activity", "show_comparison",
           "show_energy", "show_evaluation", "show_layers", "show_profile", "show_report",
           "show_verdict"]

TABLE_WIDTH = 160
"""Columns of a table where the output is no terminal."""
SHOWN_DIFFERENCES = 5

out = Console(highlight=False, soft_wrap=False)
if not out.is_terminal:
    out = Console(highlight=False, width=TABLE_WIDTH)
_errors = Console(stderr=True, highlight=False)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal, a line for each new activity elsewhere."""
    if not _errors.is_terminal:
        yield _lines()
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TimeElapsedColumn(), console=_errors, transient=True)
    with bar:
        task = bar.add_task("", total=None)

        def step(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield step


def _lines() -> Callable[[str, int, int], None]:
    def step(what: str, done: int, total: int) -> None:
        if done < total or not total:
            count = f" ({done + 1}/{total})" if total > 1 else ""
            _errors.print(f"[addend] {what}{count} ...", markup=False, soft_wrap=True)
    return step


def show_report(report: RunReport) -> None:
    """Images, the totals, and the verdict."""
    table = Table(title=f"{report.model} at T={report.time_steps}, {report.backend}"
                  + (f", {report.preset} ({report.adders} adders)"
                     if report.backend != "golden" else ""))
    for name in ("image", "class", "truth", "cycles", "useful additions", "utilisation", "equal"):
        table.add_column(name, justify="left" if name in ("image", "class", "truth") else "right")
    for image in report.images:
        used = report.utilisation_of(image.useful_additions, image.cycles)
        table.add_row(
            image.name, report.class_name(image.prediction), report.class_name(image.truth),
            "-" if image.cycles is None else f"{image.cycles:,}", f"{image.useful_additions:,}",
            "-" if used is None else f"{used:.1%}",
            "-" if not image.tensors_compared else "no" if image.differences else "yes")
    out.print(table)
    if report.correct is not None:
        out.print(f"right: {report.correct} of {len(report.images)}")
    if report.utilisation is not None:
        out.print(f"utilisation: {report.utilisation:.1%} ({report.useful_additions:,} useful "
                  f"additions / ({report.adders} adders x {report.cycles:,} cycles))")
        out.print(f"seconds: {report.seconds_build:.1f} build, {report.seconds_run:.1f} run")
    show_verdict(report)


def show_verdict(report: RunReport) -> None:
    """The first differences, and whether all values were equal."""
    for difference in report.differences[:SHOWN_DIFFERENCES]:
        out.print(f"difference: {difference}", markup=False, soft_wrap=True)
    if len(report.differences) > SHOWN_DIFFERENCES:
        out.print(f"... and in {len(report.differences) - SHOWN_DIFFERENCES} more tensors")
    if report.bit_exact is None:
        out.print("bit-exact: nothing was compared (golden model alone)")
        return
    out.print(f"bit-exact: {'yes' if report.bit_exact else 'no'} "
              f"({report.tensors_compared:,} tensors, {report.values_compared:,} values compared)")


def show_layers(report: RunReport) -> None:
    """Every layer, summed over the images."""
    table = Table(title=f"{report.model}: layers, {len(report.images)} images")
    for name in ("layer", "kind", "rate", "useful additions", "cycles", "utilisation", "read",
                 "written", "equal"):
        table.add_column(name, justify="left" if name in ("layer", "kind") else "right")

    def number(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    for row in report.layers():
        used = report.utilisation_of(row["useful_additions"], row["cycles"])
        table.add_row(
            row["name"], row["kind"], "-" if row["rate"] is None else f"{row['rate']:.3f}",
            number(row["useful_additions"]), number(row["cycles"]),
            "-" if used is None else f"{used:.1%}", number(row["bytes_read"]),
            number(row["bytes_written"]),
            {None: "-", True: "yes", False: "no"}[row["equal"]])
    out.print(table)


def show_evaluation(evaluation: "Evaluation") -> None:
    """Accuracy, agreement and the cost of an image."""
    table = Table(title=f"{evaluation.model.name} at T={evaluation.model.time_steps}")
    for name in ("", "golden model", f"RTL, {evaluation.preset} ({evaluation.adders} adders)"):
        table.add_column(name, justify="right" if name else "left")
    right, known = evaluation.right, evaluation.simulated

    def mean(name: str) -> str:
        return "-" if not known else f"{evaluation.mean(name):,.0f}"

    table.add_row("images", f"{evaluation.images:,}", f"{known:,}")
    if right is not None:
        table.add_row("right", f"{right:,} ({right / max(1, evaluation.images):.2%})", "")
    table.add_row("equal to the golden model", "", "-" if not known else f"{evaluation.equal:,}")
    table.add_row("useful additions an image", f"{evaluation.additions:,.0f}", "")
    table.add_row("cycles an image", "", mean("cycles"))
    table.add_row("adder-cycles an image", "", "-" if not known else
                  f"{evaluation.adders * evaluation.mean('cycles'):,.0f}")
    table.add_row("utilisation", "", "-" if not known else f"{evaluation.utilisation:.1%}")
    table.add_row("bytes read an image", "", mean("bytes_read"))
    table.add_row("bytes written an image", "", mean("bytes_written"))
    out.print(table)
    for difference in evaluation.results.differences[:SHOWN_DIFFERENCES]:
        out.print(f"difference: {difference}", markup=False, soft_wrap=True)
    if known:
        out.print(f"bit-exact: {'yes' if evaluation.equal == known else 'no'} ({known:,} images, "
                  f"{int(evaluation.results.rtl['values'].sum()):,} values compared)")


def show_activity(evaluation: "Evaluation") -> None:
    """Every layer's spikes, useful additions, bytes and predicted cycles, means of an image."""
    table = Table(title=f"{evaluation.model.name}: layers, means of {evaluation.images:,} images")
    for name in ("layer", "kind", "spikes", "useful additions", "share", "read", "written",
                 "cycles predicted"):
        table.add_column(name, justify="left" if name in ("layer", "kind") else "right")
    for row in evaluation.layers:
        table.add_row(row["name"], row["kind"], f"{row['spikes']:,.0f}",
                      f"{row['useful_additions']:,.0f}",
                      f"{row['useful_additions'] / max(1.0, evaluation.additions):.1%}",
                      f"{row['bytes_read']:,}", f"{row['bytes_written']:,}",
                      f"{row['cycles_predicted']:,}")
    out.print(table)


def show_profile(profile: Profile) -> None:
    """Shares of the adder slots by layer and cause, in per cent of the whole run."""
    table = Table(title=f"{profile.model} on {profile.preset}: adder slots in per cent of "
                  f"{profile.adders} adders x {profile.cycles:,} cycles")
    table.add_column("layer")
    causes = [cause for cause, share in profile.shares().items() if share]
    for cause in (*causes, "all"):
        table.add_column(cause, justify="right")
    slots = profile.adders * profile.cycles

    def row(name: str, found: Mapping[str, float]) -> None:
        table.add_row(name, *(f"{found[cause]:.2%}".rstrip("%") for cause in causes),
                      f"{sum(found.values()):.2%}".rstrip("%"))

    for name, found in profile.by_layer().items():
        row(name, {cause: count / slots for cause, count in found.items()})
    table.add_section()
    row("all", profile.shares())
    out.print(table)
    elsewhere = sum(profile.elsewhere.values())
    out.print(f"utilisation: {profile.utilisation:.1%}, with {elsewhere:,} useful additions in the "
              f"count matrix and the epilogue")
    for cause in causes:
        out.print(f"{cause}: {CAUSES[cause]}", markup=False)


def show_energy(estimate: Estimate) -> None:
    """Energy of an image by layer and part, the totals, and the papers' figure beside them."""
    table = Table(title=f"{estimate.model} on {estimate.preset.name}, {estimate.table.name}: an "
                  f"image, mean of {estimate.images}")
    whole, papers = estimate.whole, estimate.papers
    for name in ("layer", "kind", "additions", "bytes\non chip", "bytes of\nmemory",
                 *(f"{part}\nuJ" for part in (*whole.parts, "all", "papers"))):
        table.add_column(name, justify="left" if name in ("layer", "kind") else "right")

    def add(found: RowEnergy, as_papers: float) -> None:
        row = found.row
        counts = row.additions + row.outside, sum(row.bytes_on_chip.values()), row.bytes_moved
        energies = *found.parts.values(), found.total, as_papers
        table.add_row(row.name, row.kind, *(f"{count:,.0f}" for count in counts),
                      *(f"{energy / PJ_IN_UJ:.3f}" for energy in energies))

    for found in estimate.rows:
        add(found, papers.layer(found.row.name))
    table.add_section()
    add(whole, papers.total)
    out.print(table)
    energies = estimate.table
    total = f"energy of an image: {estimate.total / PJ_IN_UJ:.2f} uJ"
    if energies.dram_high != energies.dram:
        total += (f"; {estimate.total_dram_high / PJ_IN_UJ:.2f} uJ with {energies.dram_high:,.0f} "
                  f"instead of {energies.dram:,.0f} pJ for 64 bits of DRAM")
    for line in (
            f"energies: {energies.source}",
            "SRAM in uJ: " + ", ".join(f"{buffer} {energy / PJ_IN_UJ:.3f}"
                                       for buffer, energy in whole.sram.items()),
            total, f"as papers count: {papers.total / PJ_IN_UJ:.2f} uJ ({papers})"):
        out.print(line, markup=False, soft_wrap=True)


def show_comparison(comparison: Comparison) -> None:
    """Each image's first difference and the layers that differ, and the verdict."""
    def say(text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)

    for image in comparison.images:
        for failure in image.failures:
            say(f"image {image.image}: the accelerator failed: {failure}")
        shown = image.differences if comparison.teacher_forced else image.differences[:1]
        for difference in shown:
            say(f"{'' if comparison.teacher_forced else 'first '}difference: {difference}")
        later = image.layers[1:]
        if later and not comparison.teacher_forced:
            say(f"image {image.image}: later layers that differ: {', '.join(later)}")
    size = (f"{comparison.values_compared:,} values in {comparison.tensors_compared:,} tensors of "
            f"{len(comparison.images)} images")
    wrong = [image for image in comparison.images if not image.equal]
    if not wrong:
        say(f"Accelerator and golden model are equal: {size} compared.")
        return
    layers = {layer for image in wrong for layer in image.layers}
    say(f"Accelerator and golden model differ in {len(wrong)} of the images, in {len(layers)} "
        f"layers: {size} compared.")


def preset_table(preset: Preset) -> Table:
    """Sizes of a preset."""
    table = Table(title=f"preset {preset.name}")
    for name in ("part", "size", "bytes"):
        table.add_column(name, justify="left" if name == "part" else "right")
    table.add_row("adders", f"{preset.adders} ({preset.groups} groups x {preset.lanes} lanes)", "")
    table.add_row("epilogue", f"{preset.epilogue_lanes} channels a cycle", "")
    table.add_row("memory port", f"{preset.axi_bits} bits", str(preset.beat_bytes))
    table.add_row("window read", f"{preset.map_banks} words of 32 spikes", "")
    buffers = (
        ("map buffer", preset.map_rows, preset.map_row_bits),
        ("weight buffer", preset.weight_rows, preset.weight_row_bits),
        ("partial sums", preset.psum_rows, preset.sum_width * preset.epilogue_lanes),
        ("residual buffer", preset.residual_rows, preset.residual_row_bits),
        ("parameters", preset.param_rows, preset.param_row_bits),
        ("output buffer", preset.out_rows, preset.out_banks * preset.axi_bits))
    for name, rows, bits in buffers:
        table.add_row(name, f"{rows} x {bits} bits", f"{rows * bits // 8:,}")
    total = sum(rows * bits for _, rows, bits in buffers)
    table.add_row("memory on chip", "", f"{total // 8:,}", style="bold")
    return table
