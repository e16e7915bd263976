from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tune import feed_search
from weiml.data import SyntheticConfig, generate_feed, write_batches
from weiml.errors import ConfigError, FlowError
from weiml.features import Categorical, FeatureEncoder, FeatureSpec


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    ratings = generate_feed(SyntheticConfig(events=3000, users=60, items=80))["ratings"]
    label = (ratings["rating"].to_numpy() >= 4).astype(np.float32)
    table = ratings.append_column("label", [label])
    spec = FeatureSpec(features=(Categorical("user_id"), Categorical("item_id")))
    encoder = FeatureEncoder(spec).fit(table)
    write_batches([encoder.encode(table.slice(0, 2400))], tmp_path / "train", encoder=encoder)
    write_batches([encoder.encode(table.slice(2400))], tmp_path / "validation")
    return ["--train", str(tmp_path / "train"), "--validation", str(tmp_path / "validation")]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_searches_and_goes_on(tmp_path: Path, data: list[str]) -> None:
    arguments = [*data, "--folder", str(tmp_path / "searches"), "--name", "small"]
    small = ["--set", "options.base.epochs=1", "--set", "options.base.model.hidden=[8]"]
    first = CliRunner().invoke(
        feed_search.app, [*arguments, *small, "--set", "search.trials=1"], catch_exceptions=False
    )
    assert first.exit_code == 0
    assert "1 trials (0 failed, 1 new)" in first.output
    assert str(tmp_path / "searches" / "small" / "best.json") in first.output.replace("\n", "")
    second = CliRunner().invoke(
        feed_search.app,
        [*arguments, *small, "--set", "search.trials=2", "--json"],
        catch_exceptions=False,
    )
    assert "1 trials done before, 1 to run" in second.output
    best = json.loads(second.stdout)
    assert best["config"]["model"]["hidden"] == [8]
    assert best["config"]["model"]["lr"] == best["params"]["model.lr"]


def test_says_what_is_missing(tmp_path: Path, data: list[str]) -> None:
    with pytest.raises(FlowError, match="there is no run of flow 'feed'"):
        feed_search.run(runs=tmp_path)
    with pytest.raises(ConfigError, match="--train and --validation together"):
        feed_search.run(runs=tmp_path, train=tmp_path)
