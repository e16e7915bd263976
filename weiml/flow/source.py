"""Digests of source code, so that a node runs again when the code that computes it changes.

Comments, docstrings and layout do not count. weiml counts as a whole: engines, models and the like
are found through registries, which no reading of imports would see.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from weiml.flow.steps import module_file

__all__ = ["module_digest", "package_digest"]

_INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def package_digest(folder: Path) -> str:
    """Digest of all files of a package, Python by meaning and others by bytes."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
            digest.update(_file_digest(file))
    return digest.hexdigest()


def module_digest(name: str) -> str | None:
    """Digest of a step module and of the modules it imports that are not installed ones.

    Returns:
        None when the module has no source file, as in a notebook.
    """
    file = module_file(name)
    if file is None or not file.is_file():
        return None
    digest = hashlib.sha256()
    for module, path in sorted(_local_imports(name, file).items()):
        digest.update(f"{module}\0".encode())
        digest.update(_file_digest(path))
    return digest.hexdigest()


def _file_digest(file: Path) -> bytes:
    stat = file.stat()
    return _cached_digest(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _cached_digest(file: Path, mtime_ns: int, size: int) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".py":
        content = _meaning(content)
    return hashlib.sha256(content).digest()


def _meaning(content: bytes) -> bytes:
    """Python source without what does not change what it does; as it is if it does not parse."""
    try:
        tree = ast.parse(content)
    except SyntaxError:
        return content
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree).encode()


def _local_imports(name: str, file: Path) -> dict[str, Path]:
    """The module and all that it imports, directly or not, from outside of what is installed."""
    found = {name: file}
    todo = [name]
    while todo:
        current = todo.pop()
        for imported in _imported_names(current, found[current]):
            path = _local_file(imported)
            if path is not None and imported not in found:
                found[imported] = path
                todo.append(imported)
    return found


def _imported_names(module: str, file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:
        return
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _local_file(name: str) -> Path | None:
    top = name.partition(".")[0]
    if not top or top == "weiml" or top in sys.stdlib_module_names:
        return None
    try:
        if not _is_local(importlib.util.find_spec(top)):
            return None
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None  # a name inside a module, or a module that is not there
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _is_local(spec: object) -> bool:
    """Whether a module lies outside of the standard library and of installed packages."""
    origin = getattr(spec, "origin", None)
    locations = list(getattr(spec, "submodule_search_locations", None) or ())
    if origin is None and not locations:
        return False
    path = Path(locations[0] if locations else str(origin)).resolve()
    return not any(path.is_relative_to(folder) for folder in _INSTALLED)
