# SPDX-License-Identifier: Apache-2.0
"""FuseSoC gets the accelerator from addend.core, lints it, and finds its registers."""

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hw import regmap
from hw.presets import PRESETS, PresetError, get_preset
from sim.build import environment
from sw.export import CORES
from sw.fusesoc_generator import NEEDED, GeneratorError, core_file, generate, verilog_header

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "sw" / "fusesoc_generator.py"
SYSTEM = "addend_ip_addend_0.1.0"
GENERATED = "src/addend_ip_addend-accelerator_0.1.0"
Fusesoc = Callable[..., subprocess.CompletedProcess[str]]
SIMULATORS = [pytest.param("icarus", marks=pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")),
    "verilator"]
DESIGN = """CAPI=2:
name: example:soc:design:1.0.0
filesets:
  rtl: {depend: ["%s"]}
targets:
  default: {filesets: [rtl], toplevel: design}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that FuseSoC reads or writes but the project; ``build`` is what it builds."""
    return tmp_path_factory.mktemp("fusesoc")


@pytest.fixture(scope="module")
def fusesoc(folder: Path) -> Fusesoc:
    """A function that runs FuseSoC, without the user's configuration."""
    if importlib.util.find_spec("fusesoc") is None:
        pytest.skip("FuseSoC is not installed")
    config = folder / "fusesoc.conf"
    config.write_text(f"[main]\ncores_root = {ROOT} {folder / 'cores'}\n"
                      f"ignored_dirs = {ROOT / '.venv'} {ROOT / 'build'}\n"
                      f"build_root = {folder / 'build'}\ncache_root = {folder / 'cache'}\n")
    (folder / "cores").mkdir()
    clean = {name: value for name, value in environment().items()
             if not name.startswith("FUSESOC_") and name != "MAKEFLAGS"}
    clean |= {f"XDG_{name}_HOME": str(folder / name) for name in ("CONFIG", "CACHE", "DATA")}
    # the generator falls back on the python3 of the PATH
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fusesoc.main", "--config", str(config), *arguments],
            cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=900, check=False)

    return run


def consumer(folder: Path, parameters: str) -> str:
    """Write README.md's core that depends on the generator, with these parameters; its name."""
    [text] = re.findall(r"```yaml\n(CAPI=2:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "{preset: small}" in text
    (folder / "cores" / "soc.core").write_text(text.replace("{preset: small}", parameters))
    return re.search(r"^name: (\S+)$", text, re.MULTILINE)[1]


def core(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text().removeprefix("CAPI=2:\n"))


def test_the_cores_are_read(fusesoc: Fusesoc) -> None:
    done = fusesoc("core", "show", "addend")
    assert done.returncode == 0
    assert "WARNING" not in done.stdout and "ERROR" not in done.stdout
    assert re.findall(r"^(\w+) +: <", done.stdout, re.MULTILINE) == ["default", "lint", "sim"]
    done = fusesoc("gen", "show", "addend")
    assert done.returncode == 0
    assert all(name in done.stdout for name in (*PRESETS, *CORES))


def test_versions_and_folders_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert core("addend.core")["name"] == f"addend:ip:addend:{version}"
    generator = core("addend_generator.core")["name"]
    assert generator == f"addend:ip:generator:{version}"
    assert core("addend.core")["filesets"]["rtl"]["depend"] == [generator]
    config = configparser.ConfigParser(default_section="main")
    config.read(ROOT / "fusesoc.conf")
    assert config["main"]["ignored_dirs"].split() == [".venv", "build"]
    assert config["main"]["build_root"] == "build/fusesoc"


def test_setup_generates_the_files(fusesoc: Fusesoc, folder: Path) -> None:
    done = fusesoc("run", "--setup", "--target", "lint", "addend")
    assert done.returncode == 0, done.stdout
    work = folder / "build" / SYSTEM / "lint"
    assert {path.name for path in (work / GENERATED).iterdir()} == {
        "addend.v", "addend_registers.h", "addend_registers.vh"}
    text = (work / GENERATED / "addend.v").read_text()
    assert "module addend(" in text and "endmodule" in text
    header = (work / GENERATED / "addend_registers.h").read_text()
    assert header == regmap.c_header(get_preset("tiny"))
    options = (work / f"{SYSTEM}.vc").read_text().split()
    assert {"--lint-only", "-Wall", f"{GENERATED}/addend.v"} <= set(options)
    assert "examples" not in " ".join(options)


def test_a_core_of_its_own(fusesoc: Fusesoc, folder: Path) -> None:
    """As README.md says, in a design that depends on it; not the accelerator of addend.core."""
    (folder / "cores" / "design.core").write_text(
        DESIGN % consumer(folder, "{preset: tiny, core: lif}"))
    done = fusesoc("run", "--setup", "--tool", "verilator", "example:soc:design")
    assert done.returncode == 0, done.stdout
    found = {path.name for path in (folder / "build").rglob("src/*/*.v")
             if SYSTEM not in str(path)}
    assert found == {"addend_lif.v"}


@pytest.mark.parametrize(("parameters", "message"), [
    ("{preset: huge}", "no preset 'huge'; there are tiny, small, ecp5, large"),
    ("{presets: small}", "no parameter 'presets'; there are preset, core")])
def test_wrong_parameters(fusesoc: Fusesoc, folder: Path, parameters: str, message: str) -> None:
    done = fusesoc("run", "--setup", "--tool", "verilator", consumer(folder, parameters))
    assert done.returncode == 1
    assert f"accelerator:1.0.0: {message}" in done.stdout, done.stdout
    assert "Failed to run generator" in done.stdout


def test_wrong_parameters_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="no core 'mlp'; there are lif, conv, sdsa"):
        generate({"core": "mlp"}, "a:b:c:1", tmp_path)
    with pytest.raises(PresetError, match="no preset '5'"):
        generate({"preset": 5}, "a:b:c:1", tmp_path)
    assert not list(tmp_path.iterdir())


def test_core_file() -> None:
    content = core_file("a:b:c:1", "text", "x.v", ["x.h", "x.vh"])
    assert content["targets"]["default"]["filesets"] == ["rtl", "registers"]
    assert content["filesets"]["rtl"] == {"files": ["x.v"], "file_type": "verilogSource"}
    assert content["filesets"]["registers"]["files"] == [
        {"x.h": {"file_type": "user"}},
        {"x.vh": {"file_type": "verilogSource", "is_include_file": True}}]
    assert list(core_file("a:b:c:1", "text", "x.v", [])["filesets"]) == ["rtl"]


def test_verilog_header() -> None:
    """The names and values of the C header, all of them."""
    header = regmap.c_header(get_preset("tiny"))
    in_c = dict(re.findall(r"^#define (\w+) (\w+)u\b", header, re.MULTILINE))
    made = verilog_header(header)
    in_verilog = {name: (base, digits) for name, base, digits in re.findall(
        r"^`define (\w+) 32'([hd])(\w+)", made, re.MULTILINE)}
    assert len(in_c) > 70 and "#" not in made
    assert {name: int(value, 0) for name, value in in_c.items()} == {
        name: int(digits, 16 if base == "h" else 10)
        for name, (base, digits) in in_verilog.items()}
    assert verilog_header("#define A 0x1fu /* 2u */\n#define B 12u") == (
        "`define A 32'h1f /* 2u */\n`define B 32'd12\n")


def test_packages_are_missing(tmp_path: Path) -> None:
    """A Python without the project's packages says what to do."""
    script = tmp_path / "sw" / SCRIPT.name
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    done = subprocess.run([sys.executable, "-S", script, "input.yml"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"has no {', '.join(NEEDED)}: run `make setup` in {tmp_path}" in done.stderr


def test_the_projects_own_python_takes_over(tmp_path: Path) -> None:
    script, python = tmp_path / "sw" / SCRIPT.name, tmp_path / ".venv" / "bin" / "python"
    for path in (script, python):
        path.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    python.write_text('#!/bin/sh\necho "took over: $*"\n')
    python.chmod(0o755)
    done = subprocess.run([sys.executable, script, "input.yml"], capture_output=True, text=True,
                          check=False)
    assert done.stdout == f"took over: {script} input.yml\n"


@pytest.mark.slow
def test_lint(fusesoc: Fusesoc, folder: Path) -> None:
    done = fusesoc("run", "--target", "lint", "addend")
    assert done.returncode == 0, done.stdout
    assert "%Warning" not in done.stdout and "V e r i l a t i o n" in done.stdout
    work = folder / "build" / SYSTEM / "lint"
    verilog = work / GENERATED / "addend.v"
    verilog.write_text(verilog.read_text().replace(
        "endmodule", "wire [3:0] planted = 5'd17;\nendmodule", 1))
    done = subprocess.run(["make"], cwd=work, env=environment(), capture_output=True, text=True,
                          check=False)
    assert done.returncode and "%Warning-WIDTHTRUNC" in done.stderr


def simulate(fusesoc: Fusesoc, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return fusesoc("run", "--target", "sim", "addend", "--tool", tool, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("tool", SIMULATORS)
def test_simulation(fusesoc: Fusesoc, folder: Path, tool: str) -> None:
    shutil.rmtree(folder / "build" / SYSTEM / "sim", ignore_errors=True)
    done = simulate(fusesoc, tool)
    identity = f"{regmap.identity(get_preset('tiny')):08x}"
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"addend: identity {identity}, version {regmap.VERSION:08x}, register" in done.stdout
    wrong = f"{regmap.identity(get_preset('small')):08x}"
    done = simulate(fusesoc, tool, "--identity", wrong)
    assert done.returncode == 1, done.stdout[-4000:]
    assert f"000 reads {identity}, not {wrong}" in done.stdout
    work = folder / "build" / SYSTEM / "sim"
    model = ["vvp", "-n", SYSTEM] if tool == "icarus" else ["./Vaddend_soc_tb"]
    for argument, message in (
            ("+version=00020000", "004 reads 00010000, not 00020000"),
            ("+address=024", "024 reads 000fc380, not 5a0fc380"),       # holds 24 bits
            ("+limit=5", "no answer in 5 cycles")):
        said = subprocess.run([*model, argument], cwd=work, capture_output=True, text=True,
                              check=False)
        assert said.returncode and message in said.stdout + said.stderr
