from __future__ import annotations

import types
from pathlib import Path
from typing import Any, cast

import pytest

from weiml.errors import FetchError
from weiml.flow.context import StepContext
from weiml.flow.data_steps import data_fetch
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
