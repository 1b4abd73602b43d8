# SPDX-License-Identifier: Apache-2.0
"""Networks of full size on the simulated accelerator: 224x224, every tensor compared.

    python -m sw.imagenet v2 --time-steps 1
    python -m sw.imagenet v3 --levels steps

`v2` is Meta-SpikeFormer 8_256 (15.1 M parameters), `v2_8_512` its 55 M sibling, `v3` E-SpikeFormer
`s` (5.1 M). With the reference data at hand (`ADDEND_SHARED`, or ../shared) `v2` is the authors'
network, and is also compared with their spikes; else, and for the others, weights are seeded and
batch norms calibrated so that neurons fire at trained rates (`sw.models.seeded`).
"""

import argparse
import os
from pathlib import Path

import torch

from hw.presets import get_preset
from sw.compile.compiler import compile_model
from sw.display import out, progress, show_layers, show_report
from sw.export import write_json
from sw.golden.activity import with_activity
from sw.golden.network import quantise_images
from sw.images import Images, InputSpec, load_images
from sw.model_file import IntegerModel, load_model, save_model
from sw.models.e_spikeformer import E_SIZES, ESpikeFormer
from sw.models.load import load_network
from sw.models.meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig
from sw.models.seeded import steer_rates
from sw.models.trace import read_trace
from sw.quantise.calibrate import calibrate
from sw.quantise.compare import differences
from sw.quantise.quantiser import quantise
from sw.run import Step, run

__all__ = ["NETWORKS", "network_model"]

NETWORKS = ("v2", "v2_8_512", "v3")
ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "imagenet"
BUNDLED = ROOT / "data" / "cifar10_test_256.npz"
SIZE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _reference() -> Path | None:
    folder = Path(os.environ.get("ADDEND_SHARED", ROOT.parent / "shared"))
    folder = folder / "reference" / "v2_8_256_224"
    return folder if folder.is_dir() else None


def _pictures(path: Path | None) -> Images:
    """A normalised picture: of a file or folder, or a bundled one enlarged."""
    return load_images(path or BUNDLED, InputSpec(channels=3, height=SIZE, width=SIZE, mean=_MEAN,
                                                  std=_STD), limit=1)


def _seeded(name: str, images: torch.Tensor, step: Step) -> MetaSpikeFormer | ESpikeFormer:
    torch.manual_seed(1)
    if name == "v3":
        network = ESpikeFormer(E_SIZES["s"])
    else:
        network = MetaSpikeFormer(MetaSpikeFormerConfig(
            stem_channels=64, embed_dims=(128, 256, 512, 640)) if name == "v2_8_512"
            else MetaSpikeFormerConfig())
    steer_rates(network, images, step=step)
    return network


def network_model(name: str, time_steps: int, picture: Path | None,
                  step: Step) -> tuple[IntegerModel, Images]:
    """The integer model (from build/imagenet, if it is there) and the image to run."""
    reference = _reference() if name == "v2" and picture is None else None
    kind = "reference" if reference else "seeded"
    path = BUILD / f"{name}-{kind}-t{time_steps}.safetensors"
    images = None if reference else _pictures(picture)
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        if reference:
            _, network = load_network(reference / "state_dict.pt")
            pixels = torch.load(reference / "io.pt", weights_only=True)["input"]
        else:
            network, pixels = _seeded(name, images.pixels, step), images.pixels
        step("quantising", 0, 1)
        model = quantise(network, network.config, calibrate(network, pixels,
                                                            time_steps=time_steps),
                         time_steps=time_steps, name=f"{name}-{kind}", mean=_MEAN, std=_STD)
        save_model(with_activity(model, quantise_images(model, pixels)), path)
    model = load_model(path)
    return model, images or load_images(reference / "io.pt", model)


def _compare_with_reference(model: IntegerModel, images: Images, time_steps: int) -> None:
    """Teacher-forced: neurons of each layer that differ from the authors' spikes."""
    trace = read_trace(_reference() / f"trace_T{time_steps}.npz")
    found = sorted(differences(model, images.pixels[0], trace), key=lambda d: -d.share)
    total = sum(d.differing for d in found) / sum(d.neurons for d in found)
    out.print(f"teacher-forced against the authors' spikes: {100 * total:.2f} % of the neurons "
              f"differ; worst layer {100 * found[0].share:.2f} % ({found[0].neuron})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--time-steps", type=int, default=1)
    parser.add_argument("--preset", default="large")
    parser.add_argument("--levels", choices=("planes", "steps"), default="planes")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--backend", choices=("rtl", "golden"), default="rtl")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    preset = get_preset(options.preset)
    with progress() as step:
        model, images = network_model(options.network, options.time_steps, options.image, step)
        if model.name.endswith("reference"):
            _compare_with_reference(model, images, options.time_steps)
        program = compile_model(model, preset, level_mode=options.levels)
        out.print(f"{model.name}: {len(model.layers)} layers, {program.count:,} descriptors, "
                  f"{program.size:,} bytes of memory, {program.predicted_cycles:,} cycles "
                  f"predicted on {preset.name}")
        report = run(model, images, preset, backend=options.backend, jobs=1,
                     level_mode=options.levels, step=step)
    show_layers(report)
    show_report(report)
    if options.json is not None:
        write_json(options.json, report.as_json())
    raise SystemExit(0 if report.bit_exact in (True, None) else 1)


if __name__ == "__main__":
    main()
