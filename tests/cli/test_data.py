"""``weiml data`` on the generated data set."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from weiml.cli import app


def test_ls_names_the_data_sets() -> None:
    listed = json.loads(CliRunner().invoke(app, ["data", "ls", "--json"]).stdout)
    assert {"movielens-100k", "synthetic-feed"} <= {entry["name"] for entry in listed}
    assert all(entry["licence"] and entry["description"] for entry in listed)


def test_ls_is_a_table_for_people() -> None:
    lines = CliRunner().invoke(app, ["data", "ls"]).stdout.splitlines()
    assert lines[0].startswith("NAME")
    assert any(line.startswith("synthetic-feed ") for line in lines)


def test_fetch_prints_the_folder_and_the_rows(tmp_path: Path) -> None:
    name = "synthetic-feed:events=300,seed=2"
    arguments = ["data", "fetch", name, "--cache-dir", str(tmp_path), "--json"]
    fetched = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert fetched["name"] == name
    assert fetched["rows"]["ratings"] == 300
    folder = Path(fetched["folder"])
    assert folder.is_relative_to(tmp_path)
    assert pq.read_table(folder / "ratings.parquet").num_rows == 300
    again = CliRunner().invoke(app, arguments[:-1]).stdout.splitlines()
    assert again[0] == str(folder)
    assert "  ratings: 300 rows" in again


def test_an_unknown_data_set_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "fetch", "movilens", "--cache-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == "error: unknown data set 'movilens'; did you mean 'movielens-100k'?\n"
    assert not list(tmp_path.iterdir())
