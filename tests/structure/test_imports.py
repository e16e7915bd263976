"""``import weiml`` is light: no framework is loaded until a name that needs it is used."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"ray", "torch", "tensorflow", "keras", "mlflow", "optuna", "pandas", "matplotlib", "numba"}


def modules_after(statement: str) -> set[str]:
    """Return the names in sys.modules of a fresh interpreter after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_weiml_loads_no_framework() -> None:
    assert not modules_after("import weiml") & HEAVY


def test_importing_weiml_loads_fewer_modules_than_numpy() -> None:
    nothing = modules_after("")
    ours = modules_after("import weiml") - nothing
    numpys = modules_after("import numpy") - nothing
    assert len(ours) < len(numpys)


def test_the_command_line_starts_without_a_framework() -> None:
    assert not modules_after("import weiml.cli") & HEAVY


def test_listing_the_names_loads_nothing() -> None:
    assert not modules_after("import weiml; dir(weiml)") & HEAVY
