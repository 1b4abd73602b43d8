# SPDX-License-Identifier: Apache-2.0
"""The command `addend`.

Exit codes: 0 everything that was asked held; 1 it did not (a difference from the golden model, an
error of the accelerator); 2 bad input.
"""

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Optional

import typer

from hw.presets import PRESETS
from sw.energy.tables import DEFAULT_TABLE, TABLES
from sw.fpga.targets import TARGETS, get_target
from sw.soc_map import DEFAULT_SOC
from sw.uio_files import DEFAULT_BUFFER

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    help="""Spike-driven transformers on an accelerator of adders.

    From a float checkpoint to images on the simulated hardware, compared bit for bit:

        addend quantise CHECKPOINT --calibration IMAGES --time-steps 4 -o model.safetensors

        addend run model.safetensors --images IMAGES --preset ecp5
    """)

FAILED, BAD_INPUT = 1, 2


class Backend(enum.StrEnum):
    """Where images run."""

    rtl = "rtl"
    golden = "golden"


class LevelMode(enum.StrEnum):
    """How levels travel."""

    planes = "planes"
    steps = "steps"


class Core(enum.StrEnum):
    """Components that are exported alone."""

    lif = "lif"
    conv = "conv"
    sdsa = "sdsa"


ModelFile = Annotated[Path, typer.Argument(
    metavar="MODEL", help="Model file of `addend quantise`.")]
PresetName = Annotated[str, typer.Option(
    "--preset", metavar="NAME", help=f"Size of the accelerator: {', '.join(PRESETS)}.")]
IMAGES = ("A picture, a folder of pictures, the folder of CIFAR-10's binary version, or an .npy, "
          ".npz or .pt file: float32 [N, C, H, W] already normalised ([N, T, C, H, W] for events), "
          "or uint8 [N, H, W, C].")
ImagesPath = Annotated[Path, typer.Option("--images", metavar="IMAGES", help=IMAGES)]
Limit = Annotated[Optional[int], typer.Option(help="Run the first N images.")]
Stalls = Annotated[Optional[int], typer.Option(
    metavar="SEED", help="Pause the memory port at random, by this seed.")]
Levels = Annotated[LevelMode, typer.Option(
    "--levels", help="How the levels of an E-SpikeFormer travel: `planes` as binary numbers, "
    "`steps` as spikes in virtual time steps.")]
Jobs = Annotated[Optional[int], typer.Option(
    help="Accelerators to simulate side by side.  [default: one for each processor]",
    show_default=False)]


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn the errors that input or hardware can cause into one sentence and an exit code."""
    from hw.presets import PresetError
    from sw.driver import DeviceError, DeviceMismatch, DeviceTimeout
    from sw.errors import AddendError
    from sw.models.config import CheckpointError

    try:
        yield
    except (DeviceError, DeviceMismatch, DeviceTimeout) as error:
        _fail(f"the accelerator failed: {error}", FAILED)
    except (AddendError, CheckpointError, PresetError, OSError) as error:
        _fail(str(error), BAD_INPUT)
    except RuntimeError as error:
        # those of sim and sw.profile
        if type(error).__name__ not in ("BuildError", "ProfileError", "ProtocolError"):
            raise
        _fail(str(error), FAILED)


def _fail(text: str, code: int) -> None:
    typer.echo(f"addend: {text}", err=True)
    raise typer.Exit(code)


def _numbers(text: str | None, kind: type = float) -> tuple | None:
    if text is None:
        return None
    try:
        return tuple(kind(item) for item in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"'{text}' must be numbers with commas between") from None


@app.command()
def quantise(
    checkpoint: Annotated[Path, typer.Argument(
        metavar="CHECKPOINT", help="Float weights in the published key layout: .pt or "
        ".safetensors. Architecture and sizes are read from keys and shapes.")],
    calibration: Annotated[Path, typer.Option(metavar="IMAGES", help=IMAGES)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.safetensors",
                                         help="The model file to write.")],
    time_steps: Annotated[Optional[int], typer.Option(
        help="Time steps T.  [default: the checkpoint's, or 1]", show_default=False)] = None,
    name: Annotated[Optional[str], typer.Option(help="Name of the model.")] = None,
    limit: Annotated[Optional[int], typer.Option(help="Calibrate on the first N images.")] = None,
    size: Annotated[Optional[str], typer.Option(
        metavar="H,W", help="Input size, where pictures calibrate and the checkpoint doesn't "
        "say.")] = None,
    mean: Annotated[Optional[str], typer.Option(metavar="R,G,B", help="Normalisation.")] = None,
    std: Annotated[Optional[str], typer.Option(metavar="R,G,B", help="Normalisation.")] = None,
    num_heads: Annotated[Optional[int], typer.Option(help="Attention heads.")] = None,
    strides: Annotated[Optional[str], typer.Option(
        metavar="A,B,C,D,E", help="Strides of the five downsamplings.")] = None,
    integer_bits: Annotated[int, typer.Option(help="Width of the depthwise maps.")] = 10,
    features: Annotated[bool, typer.Option(
        "--features", help="Name the maps that stages end with, for detection and "
        "segmentation.")] = False,
) -> None:
    """Turn a float checkpoint into an integer model file.

    Example: `addend quantise net.pt --calibration pictures --time-steps 4 -o net.safetensors`
    """
    options = {"mean": _numbers(mean), "std": _numbers(std), "num_heads": num_heads,
               "strides": _numbers(strides, int)}
    pair = _numbers(size, int)
    if pair is not None and len(pair) != 2:
        raise typer.BadParameter(f"'{size}' must be height,width", param_hint="--size")
    with _one_sentence():
        from sw.display import out, progress
        from sw.model_file import save_model
        from sw.run import quantise_checkpoint

        _one_thread()
        if not output.parent.is_dir():
            output.parent.mkdir(parents=True)
        with progress() as step:
            model = quantise_checkpoint(
                checkpoint, calibration, time_steps=time_steps, name=name, limit=limit, size=pair,
                integer_bits=integer_bits, features=features, step=step,
                **{key: value for key, value in options.items() if value is not None})
        save_model(model, output)
        weights = sum(layer.weight.numel() for layer in model.layers if layer.weight is not None)
        out.print(f"{output}: {len(model.layers)} layers, {weights:,} weights, "
                  f"T={model.time_steps}", markup=False, soft_wrap=True)


@app.command("convert-checkpoint")
def convert_checkpoint(
    source: Annotated[Path, typer.Argument(
        metavar="FILE", help="The authors' .pth file.")],
    output: Annotated[Path, typer.Argument(
        metavar="OUT.safetensors", help="The checkpoint to write.")],
) -> None:
    """Take the weights out of the authors' training files.

    These hold an `argparse.Namespace` beside the weights and can only be unpickled; that one class
    is allowed here, and no other.

    Example: `addend convert-checkpoint 55M_kd_T4.pth 55M_kd_T4.safetensors`
    """
    with _one_sentence():
        from sw.display import out
        from sw.models.convert import convert_checkpoint as convert

        count = convert(source, output)
        out.print(f"{output}: {count} tensors", markup=False, soft_wrap=True)


@app.command()
def run(
    model: ModelFile,
    images: ImagesPath,
    preset: PresetName,
    backend: Annotated[Backend, typer.Option(
        help="`rtl` simulates the accelerator and compares every tensor that it writes with the "
        "golden model; `golden` evaluates the golden model alone.")] = Backend.rtl,
    limit: Limit = None,
    stalls: Stalls = None,
    jobs: Jobs = None,
    levels: Levels = LevelMode.planes,
    batch: Annotated[int, typer.Option(
        help="Images of one run of the accelerator, which share loaded weights.")] = 1,
    layers: Annotated[bool, typer.Option(
        "--layers", help="Print a table of all layers.")] = False,
    uio: Annotated[Optional[str], typer.Option(
        metavar="NAME", help="Instead of simulating, run on the accelerator of this board: the "
        "UIO device of that name. Not yet tried on a board.")] = None,
    buffer: Annotated[str, typer.Option(
        metavar="NAME", help="Its memory, with --uio: a u-dma-buf device, or `map1` for map 1 of "
        "the UIO device.")] = DEFAULT_BUFFER,
    mhz: Annotated[float, typer.Option(
        min=1, max=2000, help="Its clock rate, with --uio, for time limits.")] = 100,
    uart: Annotated[Optional[str], typer.Option(
        metavar="PORT", help="Instead of simulating, run on the accelerator in a SoC of LiteX at "
        "this serial port. Not yet tried on a board.")] = None,
    soc: Annotated[Path, typer.Option(
        metavar="FILE", help="With --uart: the `soc.json` that the bitstream's build wrote."
        )] = DEFAULT_SOC,
    features: Annotated[Optional[Path], typer.Option(
        metavar="FILE.npz", help="Write the maps that stages end with, as real numbers: "
        "`STAGE/residual` and `STAGE/spikes`, [N, T, C, H, W].")] = None,
    json: Annotated[Optional[Path], typer.Option(
        metavar="FILE", help="Write the whole report as JSON.")] = None,
) -> None:
    """Run images and compare every tensor with the golden model, bit for bit.

    Exit code 0 if all values are equal, 1 if any differs, 2 if the input is bad.

    Example: `addend run model.safetensors --images cat.png --preset ecp5`
    """
    chosen = "--uio" if uart is None else "--uart"
    if uio is not None and uart is not None:
        raise typer.BadParameter("one board at a time", param_hint="--uio, --uart")
    if (uio or uart) is not None and (
            backend is Backend.golden or stalls is not None or jobs is not None):
        raise typer.BadParameter("a board takes no --backend golden, --stalls or --jobs",
                                 param_hint=chosen)
    with _one_sentence():
        from hw.presets import get_preset
        from sw.board import board, uart_board
        from sw.display import progress, show_layers, show_report
        from sw.export import write_features, write_json
        from sw.features import require_features
        from sw.images import load_images
        from sw.model_file import load_model
        from sw.run import run as run_images

        _one_thread()
        size, network = get_preset(preset), load_model(model)
        if features is not None:
            require_features(network)
        given = load_images(images, network, limit=limit)
        where = {"backend": backend.value}
        if uio is not None:
            where = board(uio, buffer, 1e6 * mhz)
        if uart is not None:
            where = uart_board(uart, soc)
        with progress() as step:
            report = run_images(network, given, size, stalls=stalls, jobs=jobs,
                                level_mode=levels.value, batch=batch, step=step, **where)
        if layers:
            show_layers(report)
        show_report(report)
        if json is not None:
            write_json(json, report.as_json())
        if features is not None:
            write_features(features, network, report)
    if report.bit_exact is False:
        raise typer.Exit(FAILED)


@app.command()
def compare(
    model: ModelFile,
    images: ImagesPath,
    preset: PresetName,
    teacher_forced: Annotated[bool, typer.Option(
        "--teacher-forced", help="Run each layer by itself, from the golden model's tensors: only "
        "layers that are wrong themselves differ, and all of them are listed.")] = False,
    limit: Limit = None,
    stalls: Stalls = None,
    jobs: Jobs = None,
    levels: Levels = LevelMode.planes,
    json: Annotated[Optional[Path], typer.Option(
        metavar="FILE", help="Write what differs as JSON.")] = None,
) -> None:
    """Find the first value in which the accelerator differs from the golden model.

    Simulates the accelerator and names, for each image, the first layer (in program order),
    tensor, time step, channel, y and x that differ, with both values, and the later layers that
    differ. Where the accelerator stops with an error, what it had written is compared.

    Exit code 0 if all values are equal, 1 if any differs, 2 if the input is bad.

    Example: `addend compare model.safetensors --images cat.png --preset tiny --teacher-forced`
    """
    with _one_sentence():
        from hw.presets import get_preset
        from sw.compare import compare as compare_images
        from sw.display import progress, show_comparison
        from sw.export import write_json
        from sw.images import load_images
        from sw.model_file import load_model

        _one_thread()
        size, network = get_preset(preset), load_model(model)
        given = load_images(images, network, limit=limit)
        with progress() as step:
            found = compare_images(network, given, size, teacher_forced=teacher_forced,
                                   stalls=stalls, jobs=jobs, level_mode=levels.value,
                                   step=step)
        show_comparison(found)
        if json is not None:
            write_json(json, found.as_json())
    if not found.equal:
        raise typer.Exit(FAILED)


@app.command()
def evaluate(
    model: ModelFile,
    images: ImagesPath,
    preset: PresetName,
    rtl: Annotated[int, typer.Option(
        metavar="N", help="Images, drawn at random, that the RTL also runs.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    limit: Limit = None,
    jobs: Annotated[Optional[int], typer.Option(
        help="Processes.  [default: one for each processor]", show_default=False)] = None,
    scheduler: Annotated[Optional[str], typer.Option(
        metavar="ADDRESS", help="Work on the machines of a dask scheduler, such as "
        "tcp://host:8786, instead of processes here.")] = None,
    results: Annotated[Optional[Path], typer.Option(
        metavar="FILE", help="Results so far; an interrupted evaluation goes on from them.  "
        "[default: build/evaluate/MODEL-PRESET.safetensors]", show_default=False)] = None,
    layers: Annotated[bool, typer.Option(
        "--layers", help="Print spikes and additions of all layers.")] = False,
    json: Annotated[Optional[Path], typer.Option(
        metavar="FILE", help="Write the totals and layers as JSON.")] = None,
) -> None:
    """Accuracy on a whole set by the golden model; a random sample of it on the RTL.

    Exit code 0 if all values are equal, 1 if any differs, 2 if the input is bad.

    Example: `addend evaluate model.safetensors --images cifar-10-batches-bin --preset ecp5
    --rtl 200`
    """
    with _one_sentence():
        from sw.display import out, progress, show_activity, show_evaluation
        from sw.evaluation.evaluate import evaluate_set
        from sw.export import write_json
        from sw.images import load_images
        from sw.model_file import load_model

        network = load_model(model)
        given = load_images(images, network, limit=limit)
        where = results or Path("build", "evaluate", f"{model.stem}-{preset}.safetensors")
        with progress() as step:
            found = evaluate_set(network, given, preset, where, rtl=rtl, seed=seed, jobs=jobs,
                                 scheduler=scheduler, step=step)
        if layers:
            show_activity(found)
        show_evaluation(found)
        if json is not None:
            write_json(json, found.as_json())
        if found.simulated < len(given):
            chosen = {"--images": images, "--preset": preset, "--limit": limit,
                      "--seed": seed or None, "--scheduler": scheduler, "--results": results}
            out.print(f"the rest on the RTL: addend evaluate {model} " + " ".join(
                f"{name} {value}" for name, value in chosen.items() if value is not None)
                + f" --rtl {len(given)}", markup=False, soft_wrap=True)
    if found.equal < found.simulated:
        raise typer.Exit(FAILED)


@app.command()
def profile(
    model: ModelFile,
    images: ImagesPath,
    preset: PresetName,
    limit: Annotated[int, typer.Option(
        help="Images: a batch that shares loaded weights.")] = 1,
    levels: Levels = LevelMode.planes,
    json: Annotated[Optional[Path], typer.Option(
        metavar="FILE", help="Write the account of all descriptors as JSON.")] = None,
    trace: Annotated[Optional[Path], typer.Option(
        metavar="FILE.json", help="Write what load, compute, epilogue and store did over time, "
        "for ui.perfetto.dev or chrome://tracing.")] = None,
) -> None:
    """Say where every adder slot of a run went, by layer and cause.

    Example: `addend profile model.safetensors --images cat.png --preset ecp5 --trace trace.json`
    """
    with _one_sentence():
        from hw.presets import get_preset
        from sw.display import progress, show_profile
        from sw.export import write_json
        from sw.golden.network import quantise_images
        from sw.images import load_images
        from sw.model_file import load_model
        from sw.profile import profile as profile_run

        _one_thread()
        size, network = get_preset(preset), load_model(model)
        if limit < 1:
            raise typer.BadParameter(f"{limit} must be at least 1", param_hint="--limit")
        given = load_images(images, network, limit=limit)
        with progress() as step:
            step(f"running {network.name} on {preset} with probes", 0, 0)
            found = profile_run(network, quantise_images(network, given.pixels), size,
                                level_mode=levels.value)
        show_profile(found)
        if json is not None:
            write_json(json, found.as_json())
        if trace is not None:
            write_json(trace, found.as_trace())


@app.command()
def energy(
    model: ModelFile,
    images: ImagesPath,
    preset: PresetName,
    table: Annotated[str, typer.Option(
        "--table", metavar="NAME",
        help=f"Energies of operations: {', '.join(TABLES)}.")] = DEFAULT_TABLE,
    limit: Limit = None,
    jobs: Jobs = None,
    levels: Levels = LevelMode.planes,
    json: Annotated[Optional[Path], typer.Option(
        metavar="FILE", help="Write all layers and totals as JSON.")] = None,
) -> None:
    """Estimate the energy of an image from what a run counts and published energies.

    Runs images as `addend run` does. Exit code 0 if all values are equal, 1 if any differs, 2 if
    the input is bad.

    Example: `addend energy model.safetensors --images cat.png --preset ecp5 --table jouppi-7nm`
    """
    with _one_sentence():
        from hw.presets import get_preset
        from sw.display import progress, show_energy, show_verdict
        from sw.energy.measure import measure
        from sw.energy.tables import get_table
        from sw.export import write_json
        from sw.images import load_images
        from sw.model_file import load_model

        _one_thread()
        get_table(table)
        size, network = get_preset(preset), load_model(model)
        given = load_images(images, network, limit=limit)
        with progress() as step:
            report, found = measure(network, given, size, table, level_mode=levels.value,
                                    jobs=jobs, step=step)
        show_energy(found)
        show_verdict(report)
        if json is not None:
            write_json(json, found.as_json() | {"bit_exact": report.bit_exact})
    if not report.bit_exact:
        raise typer.Exit(FAILED)


@app.command("compile")
def compile_(
    model: ModelFile,
    preset: PresetName,
    levels: Levels = LevelMode.planes,
    output: Annotated[Optional[Path], typer.Option(
        "--output", "-o", metavar="FILE", help="Write the memory image, and its description as "
        ".json beside it.")] = None,
) -> None:
    """Compile a model for a preset and print its table of layers.

    Example: `addend compile model.safetensors --preset ecp5 -o build/program.bin`
    """
    if output is not None and output.suffix == ".json":
        raise typer.BadParameter(f"'{output}' is the description's name: choose another suffix",
                                 param_hint="--output")
    with _one_sentence():
        from sw.display import out
        from sw.export import export_program

        program, timeline = _compile(model, preset, levels.value)
        out.print(program.table(timeline.layers))
        if output is not None:
            for path in export_program(program, output):
                out.print(f"wrote {path}", markup=False, soft_wrap=True)


@app.command()
def info(
    preset: PresetName,
    model: Annotated[Optional[Path], typer.Option(
        metavar="MODEL", help="Say also what this model needs there.")] = None,
    bandwidth: Annotated[Optional[float], typer.Option(
        min=0.01, help="Bytes that the memory moves in a cycle, reads and writes together. "
        "Default: a beat of the preset's.")] = None,
    latency: Annotated[int, typer.Option(
        min=1, help="Cycles until the memory answers.")] = 100,
    target: Annotated[Optional[str], typer.Option(
        metavar="NAME", help=f"Device whose resources are foretold part by part: "
        f"{', '.join(TARGETS)}. Default: totals on each.")] = None,
) -> None:
    """Show the sizes of a preset, what it takes of an FPGA, and what a model needs on it.

    LUTs, flip-flops and block RAM are foretold, not synthesised: see docs/synthesis.md.

    Example: `addend info --preset ecp5 --target ecp5-85k --model model.safetensors --bandwidth 8`
    """
    with _one_sentence():
        from hw.presets import get_preset
        from sw.display import out, preset_table
        from sw.fpga.show import show_estimate, show_estimates

        size = get_preset(preset)
        device = None if target is None else get_target(target)
        out.print(preset_table(size))
        if device is None:
            show_estimates(size)
        else:
            show_estimate(size, device)
        if model is not None:
            program, timeline = _compile(model, preset, bandwidth=bandwidth, latency=latency)
            out.print(program.table(timeline.layers))
            out.print(f"memory: {program.size:,} bytes; predicted cycles of an image: "
                      f"{timeline.cycles:,}")


@app.command()
def verilog(
    preset: PresetName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR",
                                         help="Folder to write to.")],
    core: Annotated[Optional[Core], typer.Option(
        help="One core alone instead of the accelerator.")] = None,
    mhz: Annotated[float, typer.Option(
        min=1, max=2000, help="Clock rate of the constraints.")] = 100,
) -> None:
    """Write the Verilog of the accelerator, or of one core, with constraints and a template.

    Example: `addend verilog --preset ecp5 -o build/verilog`
    """
    with _one_sentence():
        from hw.presets import get_preset
        from sw.display import out, progress
        from sw.export import export_verilog

        size = get_preset(preset)
        with progress() as step:
            step(f"generating the Verilog of {preset}", 0, 0)
            paths = export_verilog(size, output, None if core is None else core.value, mhz)
        for path in paths:
            out.print(f"wrote {path}", markup=False, soft_wrap=True)


def _compile(path: Path, preset: str, level_mode: str = "planes", **memory: float | None):
    from hw.presets import get_preset
    from sw.compile.compiler import compile_model
    from sw.cycles.timeline import predict
    from sw.display import progress
    from sw.model_file import load_model

    size, model = get_preset(preset), load_model(path)
    with progress() as step:
        step(f"compiling {model.name} for {preset}", 0, 0)
        program = compile_model(model, size, level_mode=level_mode)
        step("predicting its cycles", 0, 0)
        return program, predict(model, program, **memory)


def _one_thread() -> None:
    """PyTorch's threads cost more than they give at these sizes."""
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    app()
