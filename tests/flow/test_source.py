from __future__ import annotations

import os
from pathlib import Path

import pytest

from weiml.flow.source import module_digest, package_digest
from weiml.flow.steps import load_step_modules


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    stamp = write_count[0] = write_count[0] + 1
    os.utime(file, ns=(stamp, stamp))  # edits within one tick of the clock count as well


write_count = [10**18]


def test_only_what_code_does_counts(tmp_path: Path) -> None:
    write(tmp_path / "a.py", 'def f(x):\n    """Doc."""\n    return x + 1\n')
    before = package_digest(tmp_path)
    write(tmp_path / "a.py", '"""Module."""\ndef f( x ):\n    # why\n    return x+1\n')
    assert package_digest(tmp_path) == before
    write(tmp_path / "a.py", "def f(x):\n    return x + 2\n")
    assert package_digest(tmp_path) != before


def test_other_files_and_names_count(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "x = 1\n")
    before = package_digest(tmp_path)
    write(tmp_path / "page.j2", "hello")
    with_page = package_digest(tmp_path)
    (tmp_path / "page.j2").rename(tmp_path / "other.j2")
    assert len({before, with_page, package_digest(tmp_path)}) == 3


def test_modules_that_a_step_module_imports_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "source_under_test"
    write(package / "__init__.py", "")
    write(package / "steps.py", "import json\nfrom . import near\nimport numpy\n")
    write(package / "near.py", "def g():\n    from source_under_test.far import h\n")
    write(package / "far.py", "def h():\n    return 1\n")
    write(package / "other.py", "x = 1\n")
    load_step_modules(("source_under_test.steps",))
    before = module_digest("source_under_test.steps")
    write(package / "other.py", "x = 2\n")
    assert module_digest("source_under_test.steps") == before
    write(package / "far.py", "def h():\n    return 2\n")
    assert module_digest("source_under_test.steps") != before


def test_a_module_without_a_file_has_no_digest() -> None:
    assert module_digest("nowhere_to_be_found") is None
