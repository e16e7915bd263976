"""The names of ``import weiml`` resolve, are few, and are the library's own objects."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import weiml

NAMES = [name for name in weiml.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_its_layer_exports(name: str) -> None:
    value = getattr(weiml, name)
    home = importlib.import_module(".".join(value.__module__.split(".")[:2]))
    assert getattr(home, value.__name__) is value
    assert value.__name__ in home.__all__
    assert value.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_pickled_by_reference(name: str) -> None:
    value = getattr(weiml, name)
    assert pickle.loads(pickle.dumps(value)) is value


def test_no_name_takes_the_place_of_a_package(root: Path) -> None:
    packages = {path.stem for path in (root / "weiml").iterdir()}
    assert not packages & set(weiml.__all__)


def test_dir_lists_the_names_and_all_is_sorted() -> None:
    assert set(weiml.__all__) <= set(dir(weiml))
    assert sorted(weiml.__all__) == weiml.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    misspelt = "Tranier"
    with pytest.raises(AttributeError, match="no attribute 'Tranier'"):
        getattr(weiml, misspelt)


def test_the_version_is_the_distributions(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["version"] == weiml.__version__


def test_every_name_can_be_imported_first() -> None:
    # One process each would take minutes; the cheap one shows that no name needs another before it.
    code = "from weiml import hash_key; print(hash_key('user_id', '7'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == weiml.hash_key("user_id", "7")
