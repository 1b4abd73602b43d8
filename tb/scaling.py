# SPDX-License-Identifier: Apache-2.0
"""What more adders, time steps, pixels and images cost, on the RTL.

    python -m tb.scaling

`v2` of `sw.imagenet` at four time steps with 64 to 1024 adders and 32 bytes a cycle: adder-cycles
of an image against those with 64. Then a bundled network on ``large`` with twice the time steps,
twice the side and twice the batch: cycles against useful additions, both as multiples of those of
the network before. Prints both and writes ``build/bench/scaling.json``. Every tensor is compared.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from rich.table import Table

from hw.presets import PRESETS, Preset, get_preset
from sw.bundled import ROOT
from sw.display import out, progress
from sw.export import write_json
from sw.imagenet import network_model
from sw.images import Images, load_images
from sw.model_file import IntegerModel
from sw.run import Step, quantise_checkpoint, run

__all__ = ["scaled"]

OUTPUT = Path("build/bench/scaling.json")
ADDERS = (64, 256, 512, 1024)
NETWORK, STEPS = "v2", 4
SHIPPED = "cifar10_v2"
DOUBLED = {"before": {"time_steps": 2, "side": 32, "batch": 2},
           "time steps": {"time_steps": 4, "side": 32, "batch": 2},
           "side": {"time_steps": 2, "side": 64, "batch": 2},
           "batch": {"time_steps": 2, "side": 32, "batch": 4}}
MOST = max(case["batch"] for case in DOUBLED.values())


def scaled(adders: int) -> Preset:
    """Preset ``large`` with other groups and 32 bytes a cycle; more than 512 adders also read
    windows twice as wide."""
    preset = dataclasses.replace(
        PRESETS["large"], name=f"scaled_{adders}", groups=adders // 32, axi_bits=256, out_banks=4,
        map_banks=16 if adders > 512 else 8)
    PRESETS[preset.name] = preset  # where the build looks it up
    return preset


def _shipped(time_steps: int, side: int, step: Step) -> tuple[IntegerModel, Images]:
    """The bundled network for pictures of another size, whose pixels are repeated."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name in ("cifar10_calibration_256", "cifar10_test_256"):
            with np.load(ROOT / "data" / f"{name}.npz") as found:
                fields = dict(found)
            factor = side // fields["images"].shape[1]
            fields["images"] = fields["images"].repeat(factor, 1).repeat(factor, 2)
            paths.append(Path(folder, f"{name}.npz"))
            np.savez(paths[-1], **fields)
        model = quantise_checkpoint(ROOT / "models" / f"{SHIPPED}.safetensors", paths[0],
                                    name=SHIPPED, time_steps=time_steps, size=(side, side),
                                    step=step)
        return model, load_images(paths[1], model, limit=MOST)


def _record(model: IntegerModel, images: Images, preset: Preset, batch: int,
            step: Step) -> dict[str, object]:
    images = Images(images.names[:batch], images.pixels[:batch])
    report = run(model, images, preset, batch=batch, jobs=1, step=step)
    return {"network": model.name, "time_steps": model.time_steps, "adders": preset.adders,
            "size": images.pixels.shape[-2:], "batch": batch, "cycles": report.cycles,
            "useful_additions": report.useful_additions, "utilisation": report.utilisation,
            "adder_cycles_per_image": preset.adders * report.cycles // batch,
            "bit_exact": report.bit_exact}


def main() -> int:
    """Measure, print, write; 1 if any value differs."""
    found: dict[str, dict[str, dict[str, object]]] = {"doubled": {}, "adders": {}}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with progress() as step:
        for name, case in DOUBLED.items():
            model, images = _shipped(case["time_steps"], case["side"], step)
            found["doubled"][name] = _record(model, images, get_preset("large"), case["batch"],
                                             step)
        write_json(OUTPUT, found)
        model, images = network_model(NETWORK, STEPS, None, step)
        for adders in ADDERS:
            found["adders"][str(adders)] = _record(model, images, scaled(adders), 1, step)
            write_json(OUTPUT, found)
    before = found["doubled"]["before"]
    table = Table(title=f"{SHIPPED} on large, as multiples")
    for column in ("twice the", "useful additions", "cycles", "cycles by additions"):
        table.add_column(column, justify="right")
    for name, record in found["doubled"].items():
        additions, cycles = (record[key] / before[key] for key in ("useful_additions", "cycles"))
        table.add_row(name, f"{additions:.3f}", f"{cycles:.3f}", f"{cycles / additions:.3f}")
    out.print(table)
    first = found["adders"][str(ADDERS[0])]["adder_cycles_per_image"]
    table = Table(title=f"{NETWORK}, {STEPS} time steps, 32 bytes a cycle")
    for column in ("adders", "cycles", "utilisation", "adder-cycles", f"against {ADDERS[0]}"):
        table.add_column(column, justify="right")
    for adders, record in found["adders"].items():
        cost = record["adder_cycles_per_image"]
        table.add_row(adders, f"{record['cycles']:,}", f"{record['utilisation']:.1%}",
                      f"{cost / 1e9:.2f} G", f"{cost / first - 1:+.1%}")
    out.print(table)
    records = [record for part in found.values() for record in part.values()]
    return 0 if all(record["bit_exact"] for record in records) else 1


if __name__ == "__main__":
    raise SystemExit(main())
