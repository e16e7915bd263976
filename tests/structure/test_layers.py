"""Imports inside weiml point one way: a layer imports only from layers above it in this list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# The one list; docs/ARCHITECTURE.md shows the same. Names of one line stand in order too.
LAYERS = (
    ("errors", "config", "files", "hashing", "cluster"),
    ("features",),
    ("ps",),
    ("data",),
    ("group",),
    ("models",),
    ("train",),
    ("flow",),
    ("search",),
    ("serving",),
    ("report",),
    ("cli",),
)
ORDER = {name: place for place, name in enumerate(name for line in LAYERS for name in line)}


def imported(module: Path, source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source, filename=str(module))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: climb from the module's own package
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def upward(root: Path, module: Path, source: str) -> list[str]:
    """Return the imports of one file of weiml that break the rule, as readable lines."""
    parts = module.relative_to(root).with_suffix("").parts
    layer = parts[1]
    wrong = []
    for line, name in [*imported(module, source, ".".join(parts[:-1])), *attributes(source)]:
        words = name.split(".")
        if words[0] != "weiml" or len(words) == 1 or words[1].startswith("__"):
            continue
        target = words[1] if words[1] in ORDER else LAYERS[-1][-1]  # an SDK name: from anywhere
        if ORDER[target] > ORDER[layer]:
            wrong.append(f"{module.relative_to(root)}:{line} ({layer}) imports upward: {name}")
    return wrong


def attributes(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, ``weiml.x``) of every attribute taken from the package itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def modules(root: Path) -> list[Path]:
    files = sorted((root / "weiml").rglob("*.py"))
    fronts = (root / "weiml" / "__init__.py", root / "weiml" / "__main__.py")
    return [file for file in files if file not in fronts]


def test_every_module_of_weiml_lies_in_a_layer_and_every_layer_exists(root: Path) -> None:
    entries = {file.relative_to(root / "weiml").parts[0] for file in modules(root)}
    assert {entry.removesuffix(".py") for entry in entries} == set(ORDER)


def test_imports_point_one_way(root: Path) -> None:
    wrong = [line for file in modules(root) for line in upward(root, file, file.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "import weiml.train",
        "from weiml import train",
        "from weiml.train.trainer import Trainer",
        "from ..train import Trainer",
        "from weiml import Trainer",
        "import weiml\nweiml.Trainer",
        "def f():\n    from weiml.train import Trainer",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from weiml.train import Trainer",
        "import importlib\nimportlib.import_module('weiml.train')",
    ],
)
def test_the_rule_sees_every_form_of_import(root: Path, source: str) -> None:
    assert upward(root, root / "weiml" / "ps" / "example.py", source)


@pytest.mark.parametrize(
    "source",
    [
        "from weiml.errors import DataError",
        "from .tables import X",
        "import numpy",
        "import weiml\nweiml.__file__",
    ],
)
def test_the_rule_lets_downward_imports_pass(root: Path, source: str) -> None:
    assert not upward(root, root / "weiml" / "ps" / "example.py", source)


def test_the_architecture_page_lists_the_same_layers(root: Path) -> None:
    page = (root / "docs" / "ARCHITECTURE.md").read_text()
    section = re.search(r"^## Layers\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert section, "docs/ARCHITECTURE.md has no section called Layers"
    rows = re.findall(r"^\| *([^|]+?) *\|", section[1], re.MULTILINE)[2:]  # below head and rule
    assert tuple(tuple(re.split(r",\s*", names)) for names in rows) == LAYERS
