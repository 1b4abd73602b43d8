# SPDX-License-Identifier: Apache-2.0
"""Write results as files: reports, compiled programs, and Verilog. Whole files or none."""

import dataclasses
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hw import regmap
from hw.presets import Preset
from sw.compile.program import Program
from sw.features import feature_maps
from sw.model_file import IntegerModel
from sw.report import RunReport

__all__ = ["CORES", "export_program", "export_verilog", "write_arrays", "write_bytes",
           "write_features", "write_json"]

CORES = ("lif", "conv", "sdsa")
"""Components that can be exported alone; see hw.generate."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed `.npz`."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue())


def write_features(path: Path, model: IntegerModel, report: RunReport) -> None:
    """Write the feature maps of all images: `STAGE/ROLE`, float32 `[N, T, C, H, W]`."""
    maps: dict[str, list[np.ndarray]] = {}
    for image in report.images:
        for stage, roles in feature_maps(model, image.features).items():
            for role, value in roles.items():
                maps.setdefault(f"{stage}/{role}", []).append(value.numpy())
    write_arrays(path, {name: np.stack(values) for name, values in maps.items()})


def export_program(program: Program, path: Path) -> list[Path]:
    """Write the memory image to `path` and its description beside it, as `.json`.

    The image is the segments one behind the other; the description says at which address each
    belongs, and where the program, the input and every tensor are.
    """
    segments, parts, offset = [], [], 0
    for address, data in program.segments:
        segments.append({"address": address, "offset": offset, "bytes": int(data.size)})
        parts.append(np.ascontiguousarray(data).tobytes())
        offset += int(data.size)
    description = {
        "model": program.model_name, "preset": program.preset.name, "image": path.name,
        "identity": regmap.identity(program.preset), "memory_base": program.base,
        "memory_bytes": program.size, "program_address": program.address,
        "program_count": program.count, "read_region": list(program.read_region),
        "write_region": list(program.write_region), "input": program.input_name,
        "logits": program.logits_name, "segments": segments,
        "tensors": {name: {"layout": type(layout).__name__, "bytes": layout.size,
                           **dataclasses.asdict(layout)}
                    for name, layout in program.tensors.items()},
        "predicted_cycles": program.predicted_cycles, "layers": program.rows()}
    beside = path.with_suffix(".json")
    if beside == path:
        raise ValueError(f"{path}: the image needs another suffix than .json")
    write_bytes(path, b"".join(parts))
    write_json(beside, description)
    return [path, beside]


def export_verilog(preset: Preset, folder: Path, core: str | None = None,
                   megahertz: float = 100) -> list[Path]:
    """Write Verilog of the accelerator or of one core, and what is needed to use it.

    NAME.v (self-contained), NAME_template.v (a module that instantiates it), NAME_ports.md (a
    table), NAME.sdc, NAME.xdc and NAME.lpf (constraints for that clock rate), NAME.json (the
    sizes); for the accelerator also NAME_registers.h and NAME_registers.py.
    """
    # not at the top: only this needs Amaranth
    from hw import generate, ports
    from sw.fpga.constraints import FORMATS

    name, component = generate.instance(preset, core)
    title, listed = f"`{name}`, preset {preset.name}", ports.ports(component)
    contents = {
        f"{name}.v": generate.convert(name, component),
        f"{name}_template.v": ports.template(name, title, listed),
        f"{name}_ports.md": ports.markdown(title, listed),
        **{f"{name}.{suffix}": text(megahertz) for suffix, text in FORMATS.items()}}
    if core is None:
        contents[f"{name}_registers.h"] = regmap.c_header(preset)
        contents[f"{name}_registers.py"] = regmap.python_module(preset)
    for file, text in contents.items():
        write_bytes(folder / file, text.encode())
    parameters = folder / f"{name}.json"
    write_json(parameters, {"top": name, "preset": dataclasses.asdict(preset),
                            "adders": preset.adders, "megahertz": megahertz,
                            "identity": None if core else regmap.identity(preset)})
    return [*(folder / file for file in contents), parameters]
