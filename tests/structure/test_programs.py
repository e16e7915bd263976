"""Programs use the library and never each other; the library never uses a program."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

PROGRAMS = ("actors", "pipelines", "serve", "tune")
OUTSIDE = (*PROGRAMS, "benchmarks", "tests", "notebooks", "configs", "docs")


def roots_imported(source: str) -> set[str]:
    """Return the first word of every absolute import in a file, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def program_files(root: Path, folder: str) -> list[Path]:
    return sorted((root / folder).glob("*.py"))


@pytest.mark.parametrize("folder", PROGRAMS)
def test_a_program_imports_no_program_folder(root: Path, folder: str) -> None:
    for file in program_files(root, folder):
        taken = roots_imported(file.read_text()) & set(OUTSIDE)
        assert not taken, f"{file.relative_to(root)} imports {taken}"


def test_the_library_imports_no_program(root: Path) -> None:
    for file in sorted((root / "weiml").rglob("*.py")):
        taken = roots_imported(file.read_text()) & set(OUTSIDE)
        assert not taken, f"{file.relative_to(root)} imports {taken}"


@pytest.mark.parametrize("folder", [*PROGRAMS, "benchmarks", "tests"])
def test_a_folder_of_programs_is_no_package(root: Path, folder: str) -> None:
    assert not list((root / folder).rglob("__init__.py"))


@pytest.mark.parametrize("folder", PROGRAMS)
def test_a_program_folder_has_a_program_and_a_readme_that_names_its_library(
    root: Path, folder: str
) -> None:
    assert program_files(root, folder), f"{folder}/ holds no program"
    first = (root / folder / "README.md").read_text().splitlines()[0]
    packages = re.findall(r"weiml\.(\w+)", first)
    assert packages, f"{folder}/README.md: the first line names no package of weiml: {first!r}"
    for package in packages:
        assert (root / "weiml" / package / "__init__.py").exists(), f"no weiml.{package}"


@pytest.mark.parametrize("folder", PROGRAMS)
def test_each_program_has_a_main_behind_a_guard(root: Path, folder: str) -> None:
    for file in program_files(root, folder):
        tree = ast.parse(file.read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "main" in functions, f"{file.relative_to(root)} has no main()"
        guards = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
        assert "__name__ == '__main__'" in guards, f"{file.relative_to(root)} runs on import"


def test_no_installed_package_shadows_a_program_folder(root: Path) -> None:
    # A regular package anywhere on the path beats a folder without __init__.py.
    others = [Path(entry) for entry in sys.path if entry and Path(entry).resolve() != root]
    for folder in (*PROGRAMS, "benchmarks"):
        shadows = [path for path in others if (path / folder / "__init__.py").exists()]
        assert not shadows, f"{folder}/ is shadowed by {shadows}"
