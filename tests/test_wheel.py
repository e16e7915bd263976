"""The wheel ships weiml and nothing else, whole, and works away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.process


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, since setuptools writes into the tree that it builds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    for folder in ("weiml", "actors", "pipelines", "serve", "tune", "configs", "benchmarks"):
        shutil.copytree(
            root / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), ".", cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-compile", "--target", str(target), str(wheel), cwd=target)
    return target


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_only_top_level_name_is_weiml(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"weiml"}


def test_every_file_of_the_library_is_inside(wheel: Path, root: Path) -> None:
    files = {
        str(file.relative_to(root))
        for file in (root / "weiml").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert "weiml/py.typed" in files
    assert files == {name for name in names(wheel) if name.startswith("weiml/")}


def test_the_licence_and_the_command_are_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        by_end = {name.split(".dist-info/")[-1]: name for name in archive.namelist()}
        assert "Apache License" in archive.read(by_end["licenses/LICENSE"]).decode()
        assert "weiml = weiml.cli:main" in archive.read(by_end["entry_points.txt"]).decode()


def test_the_installed_wheel_is_imported_elsewhere(installed: Path, tmp_path: Path) -> None:
    code = "import weiml, weiml.cli; print(weiml.__file__); print(weiml.hash_key('user_id', 7))"
    lines = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert Path(lines[0]).is_relative_to(installed)
    assert int(lines[1]) > 0


@pytest.mark.slow
def test_tests_pass_against_the_installed_wheel(
    installed: Path, root: Path, tmp_path: Path
) -> None:
    chosen = ("test_errors.py", "hashing", "features/test_batch.py", "features/test_encoder.py")
    tests = [str(root / "tests" / name) for name in chosen]
    options = ["-c", str(root / "pyproject.toml"), "-o", "pythonpath=", "-p", "no:cacheprovider"]
    code = (
        "import sys, pytest, weiml\n"
        f"assert weiml.__file__.startswith({str(installed)!r}), weiml.__file__\n"
        f"sys.exit(pytest.main({[*options, *tests]!r}))"
    )
    out = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert " passed" in out
