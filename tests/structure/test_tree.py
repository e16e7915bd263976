"""The tree keeps its habits: tests mirror the library, no drawers, nothing unfinished."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# Tests of the project as a whole rather than of one module of weiml.
OTHER_FOLDERS = {"structure", "programs", "faults"}
OTHER_FILES = {"test_wheel.py", "test_readme.py", "test_notebooks.py", "test_sdk.py"}
# Tests of what several modules of a folder promise together.
FOLDER_FILES = {
    "data/streams/test_crashes.py",
    "features/transforms/test_conformance.py",
    "models/calibration/test_conformance.py",
    "models/losses/test_conformance.py",
    "models/image/test_networks.py",
    "ps/test_consistency.py",
    "ps/optimizers/test_known_answers.py",
    "ps/optimizers/test_references.py",
    "ps/wire/test_client.py",
    "train/test_aside.py",
    "train/test_image_workers.py",
    "train/test_restarts.py",
    "train/test_sync_async.py",
    "train/test_wire.py",
}
DRAWERS = {"utils", "util", "helpers", "misc", "common", "tools"}
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImpl" + "emented", "pass  " + "#")


def tracked(root: Path) -> list[Path]:
    """Return the repository's files, committed or about to be, without what .gitignore names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [root / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.exists()]


def python_files(root: Path) -> list[Path]:
    return [file for file in tracked(root) if file.suffix == ".py"]


def library(root: Path) -> list[Path]:
    return sorted((root / "weiml").rglob("*.py"))


def test_tests_mirror_the_library(root: Path) -> None:
    for file in sorted((root / "tests").rglob("test_*.py")):
        path = file.relative_to(root / "tests")
        if path.parts[0] in OTHER_FOLDERS or str(path) in OTHER_FILES | FOLDER_FILES:
            continue
        mirrored = root / "weiml" / path.parent / path.name.removeprefix("test_")
        assert mirrored.exists() or mirrored.with_suffix("").is_dir(), (
            f"{file.relative_to(root)} tests {mirrored.relative_to(root)}, which does not exist"
        )


def test_every_package_of_the_library_has_tests(root: Path) -> None:
    for package in (root / "weiml").iterdir():
        if (package / "__init__.py").exists():
            tests = list((root / "tests" / package.name).rglob("test_*.py"))
            assert tests, f"weiml/{package.name}/ has no tests"


def test_every_package_is_importable_as_one(root: Path) -> None:
    folders = {file.parent for file in library(root)}
    for folder in folders:
        assert (folder / "__init__.py").exists(), f"{folder.relative_to(root)} has no __init__.py"


def test_no_drawers(root: Path) -> None:
    for file in python_files(root):
        names = {part.removesuffix(".py") for part in file.relative_to(root).parts}
        assert not names & DRAWERS, f"{file.relative_to(root)}: name it for what it holds"


def test_every_module_says_what_it_is_and_what_it_offers(root: Path) -> None:
    for file in library(root):
        tree = ast.parse(file.read_text())
        name = file.relative_to(root)
        assert ast.get_docstring(tree), f"{name} has no docstring"
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        assert "__all__" in assigned, f"{name} has no __all__"


def test_every_module_postpones_annotations(root: Path) -> None:
    for file in python_files(root):
        body = ast.parse(file.read_text()).body
        futures = [n for n in body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        assert futures or not body, f"{file.relative_to(root)} lacks the __future__ import"


def test_nothing_is_left_unfinished(root: Path) -> None:
    for file in python_files(root):
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            found = [word for word in UNFINISHED if word in line]
            assert not found, f"{file.relative_to(root)}:{number} says {found[0]}"


def test_pins_are_exact_and_name_no_place(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    for pin in pins:
        name, equals, version = pin.partition("==")
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum(), pin
        assert equals, pin
        assert version.replace(".", "").replace("post", "").isalnum(), pin
    names = [pin.split("==")[0].lower() for pin in pins]
    assert names == sorted(set(names))


def test_every_requirement_is_pinned(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    for requirement in wanted:
        name = re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-")
        assert name in pinned, f"constraints.txt does not pin {name}"


# Import name -> the requirement that brings it, where they differ.
BROUGHT_BY = {
    "confluent_kafka": "confluent-kafka",
    "sklearn": "scikit-learn",
    "typing_extensions": "typing-extensions",
}


def test_every_import_is_a_requirement(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = ("tensorflow", "kafka", "trees", "onnx")
    optional = [requirement for extra in own for requirement in extras[extra]]
    wanted = [*project["dependencies"], *optional]
    named = {re.split(r"[\[<>=~! ]", text)[0].lower().removesuffix("-cpu") for text in wanted}
    programs = [root / folder for folder in ("actors", "pipelines", "serve", "tune")]
    for file in [*library(root), *(file for folder in programs for file in folder.glob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names}:
                known = name in sys.stdlib_module_names or name == "weiml"
                assert known or BROUGHT_BY.get(name, name) in named, (
                    f"{file.relative_to(root)} imports {name}, which pyproject.toml does not name"
                )
