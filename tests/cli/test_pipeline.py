from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from weiml.cli.pipeline import Tables, run_pipeline
from weiml.data import BatchDataset, Examples, col

SPEC = """
[[features]]
name = "user_id"
type = "categorical"

[[features]]
name = "age"
type = "continuous"
"""


def prepare(tables: Tables) -> Mapping[str, Examples]:
    """Join ratings with users."""
    rated = tables("ratings").with_columns(label=(col("rating") >= 4).cast("float"))
    return rated.join(tables("users"), "user_id").split_by_hash("user_id")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def run(spec: Path, *argv: str, prepare: object = prepare) -> int:
    return run_pipeline(
        prepare,  # type: ignore[arg-type]
        name="pipelines.toy",
        dataset="synthetic-feed:events=500",
        spec=spec,
        argv=list(argv),
    )


def test_tables_become_data_sets_and_the_result_is_told(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(spec, "--out", f"{tmp_path}/out") == 0
    text = capsys.readouterr().out
    assert f"weiml train {tmp_path}/out" in text
    assert "1 slots, 1 dense columns" in text
    parts = {part: BatchDataset.open(tmp_path / "out" / part) for part in ("train", "test")}
    assert parts["train"].num_examples > parts["test"].num_examples > 0
    assert run(spec, "--out", f"{tmp_path}/again", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(part["examples"] for part in told["parts"].values()) == 500
    assert told["collisions"] == 0


def test_a_failed_check_stops_the_run_before_anything_is_written(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = tmp_path / "checks.toml"
    checks.write_text("min_rows = 10\n[all]\nmax_psi = 0.25\n")
    assert run(spec, "--out", f"{tmp_path}/first", "--checks", str(checks)) == 0
    before = str(tmp_path / "first" / "statistics.json")
    same = ("--out", f"{tmp_path}/same", "--checks", str(checks), "--reference", before)
    assert run(spec, *same) == 0

    def older(tables: Tables) -> Mapping[str, Examples]:
        return {"train": prepare(tables)["train"].with_columns(age=col("age") + 30)}

    capsys.readouterr()
    assert run(spec, "--out", f"{tmp_path}/older", "--reference", before, prepare=older) == 2
    told = capsys.readouterr().err
    assert "age" in told
    assert "psi" in told
    assert not (tmp_path / "older").exists()


def test_errors_are_one_line(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert run(spec, "--out", f"{tmp_path}/full") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert run(spec, "--out", f"{tmp_path}/x", "--dataset", "movielens") == 2
    assert "unknown data set 'movielens'" in capsys.readouterr().err

    def no_train(tables: Tables) -> Mapping[str, Examples]:
        return {"test": tables("ratings")}

    assert run(spec, "--out", f"{tmp_path}/x", prepare=no_train) == 2
    assert "there must be a part 'train'" in capsys.readouterr().err

    def interrupted(tables: Tables) -> Mapping[str, Examples]:
        raise KeyboardInterrupt

    assert run(spec, "--out", f"{tmp_path}/x", prepare=interrupted) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not (tmp_path / "x").exists()
