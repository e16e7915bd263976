from __future__ import annotations

import types
from pathlib import Path
from typing import Any, cast

import pytest

from weiml.errors import DataError, FetchError
from weiml.flow.context import StepContext
from weiml.flow.data_steps import data_check, data_fetch
from weiml.flow.steps import find_step

CONTEXT = cast(StepContext, types.SimpleNamespace(progress=lambda *told, **more: None))


def test_fetches_into_the_given_cache(tmp_path: Path) -> None:
    name = "synthetic-feed:events=50"
    folder = data_fetch(CONTEXT, dataset=name, cache_dir=str(tmp_path))
    assert folder.parent.parent == tmp_path
    assert (folder / "ratings.parquet").exists()


def test_fetches_into_the_default_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIML_HOME", str(tmp_path / "home"))
    folder = data_fetch(CONTEXT, dataset="synthetic-feed:events=50")
    assert folder.is_relative_to(tmp_path / "home")


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(FetchError, match="did you mean 'synthetic-feed'"):
        data_fetch(CONTEXT, dataset="sythetic-feed")


def test_it_is_registered_under_its_name() -> None:
    function: Any = find_step("data.fetch").function
    assert function is data_fetch


def checking(tmp_path: Path, reports: dict[str, Any]) -> StepContext:
    made = types.SimpleNamespace(
        progress=lambda *told, **more: None,
        report=reports.__setitem__,
        folder=tmp_path,
        output_dir=tmp_path,
    )
    return cast(StepContext, made)


def test_good_data_is_passed_on_with_its_statistics(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("x\n1\n2\n")
    reports: dict[str, Any] = {}
    context = checking(tmp_path, reports)
    assert data_check(context, tmp_path / "day.csv") == tmp_path / "day.csv"
    assert reports == {"rows": 2, "findings": []}
    reference = tmp_path / "statistics.json"
    assert data_check(context, tmp_path / "day.csv", reference) == tmp_path / "day.csv"


def test_bad_data_ends_the_flow_before_training(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("x\n1\n2\n")
    (tmp_path / "next.csv").write_text("x\n8\n9\n")
    (tmp_path / "checks.toml").write_text("[all]\nmax_psi = 0.5\n")
    context = checking(tmp_path, {})
    day, following = tmp_path / "day.csv", tmp_path / "next.csv"
    with pytest.raises(DataError, match=r"next\.csv failed 1 checks: feature 'x': psi is .* 0\.5"):
        data_check(context, following, day, checks=tmp_path / "checks.toml")
    loose = ("all.max_psi=100",)
    assert data_check(context, following, day, overrides=loose) == following
    assert find_step("data.check").function is data_check
