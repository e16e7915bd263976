"""The list of models, and the knobs of each as its dataclass says them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from weiml.cli import app
from weiml.models import MODELS, model_class
from weiml.models.trees import GBDTConfig


def ask(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["models", *arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_all_models_are_listed_with_what_they_are_and_a_page() -> None:
    listed = {entry["name"]: entry for entry in ask()}
    assert set(listed) == {*MODELS, "gbdt"}
    assert all(
        entry["about"].endswith(".") and "\n" not in entry["about"] for entry in listed.values()
    )
    assert listed["din"]["about"].startswith("Deep Interest Network")
    assert listed["din"]["doc"] == "docs/models/din.md"
    assert listed["gbdt_lr"]["doc"] == "docs/models/gbdt_lr.md"


def test_listing_loads_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from weiml.cli import app\n"
        "done = CliRunner().invoke(app, ['models']); assert 'din' in done.stdout, done.output\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [*sorted(MODELS), "gbdt"])
def test_the_knobs_are_those_of_the_configuration(name: str) -> None:
    cls = GBDTConfig if name == "gbdt" else model_class(name).config_class
    told = ask(name)["knobs"]
    own = [knob["name"] for knob in told if "." not in knob["name"]]
    assert own == [field.name for field in dataclasses.fields(cls) if field.name != "name"]


def test_knobs_have_defaults_and_words_and_go_below_the_dot() -> None:
    told = {knob["name"]: knob for knob in ask("lr")["knobs"]}
    assert told["optimizer"]["default"] == "ftrl"
    assert told["optimizer.beta"]["default"] == 1.0
    mmoe = {knob["name"]: knob for knob in ask("mmoe")["knobs"]}
    assert mmoe["tasks"] == {
        "name": "tasks",
        "default": [],
        "doc": "A name for each column of the labels, in order. NaN in a column: the label is "
        "missing, and the example teaches that task nothing.",
    }


def test_for_people_the_knobs_are_text() -> None:
    done = CliRunner().invoke(app, ["models", "gbdt"])
    assert "rounds = 500\n    Trees at most" in done.stdout
    assert "--set model.name=gbdt" in done.stdout


def test_a_misspelt_model_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(app, ["models", "wide_dep"])
    assert done.exit_code == 2
    assert "did you mean 'wide_deep'" in done.stderr
