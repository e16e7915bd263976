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


def test_convert_tells_what_it_did_and_names_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,b\n1,x\n2\n3,z\n")
    source, target = str(tmp_path / "s.csv"), str(tmp_path / "t.parquet")
    failed = CliRunner().invoke(app, ["data", "convert", source, target])
    assert failed.exit_code == 2
    assert "s.csv: line 3: Expected 2 columns" in failed.stderr
    assert not (tmp_path / "t.parquet").exists()
    done = CliRunner().invoke(app, ["data", "convert", source, target, "--skip-bad", "--json"])
    told = json.loads(done.stdout)
    assert (told["rows"], told["bad_rows"]) == (2, 1)
    assert told["columns"] == {"a": "int64", "b": "string"}
    assert "line 3 left out" in done.stderr
    assert pq.read_table(target)["b"].to_pylist() == ["x", "z"]


def test_stats_and_drift(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,c\n" + "1,u\n2,v\n" * 20)
    (tmp_path / "b.csv").write_text("x,c\n" + "1,u\n9,w\n" * 20)
    one, other = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    saved = str(tmp_path / "a.json")
    shown = CliRunner().invoke(app, ["data", "stats", one, "--out", saved]).stdout.splitlines()
    assert shown[0].endswith("40 rows")
    assert shown[1].startswith("FEATURE")
    tree = json.loads(CliRunner().invoke(app, ["data", "stats", saved, "--json"]).stdout)
    assert tree["columns"]["x"]["numbers"]["mean"] == 1.5
    drifts = json.loads(CliRunner().invoke(app, ["data", "drift", saved, other, "--json"]).stdout)
    assert {d["feature"]: d["l_infinity"] for d in drifts} == {"c": 0.5, "x": 0.5}
    failed = CliRunner().invoke(app, ["data", "drift", saved, other, "--max-psi", "0.2"])
    assert failed.exit_code == 2
    assert "feature 'c': psi" in failed.stderr
    assert failed.stdout.startswith("FEATURE")
    assert CliRunner().invoke(app, ["data", "drift", one, one, "--max-psi", "0.2"]).exit_code == 0


def test_drift_may_be_ignored_where_it_is_meant(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 100)):
        lines = "\n".join(f"{first + i},{i % 3}" for i in range(60))
        (tmp_path / f"{name}.csv").write_text(f"id,x\n{lines}\n")
    drift = ["data", "drift", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    failed = CliRunner().invoke(app, [*drift, "--max-psi", "0.25"])
    assert failed.exit_code != 0
    assert CliRunner().invoke(app, [*drift, "--max-psi", "0.25", "--ignore", "id"]).exit_code == 0
    checks = tmp_path / "checks.toml"
    checks.write_text('ignore = ["id"]\n[all]\nmax_psi = 0.25\n')
    assert CliRunner().invoke(app, [*drift, "--checks", str(checks)]).exit_code == 0
    assert CliRunner().invoke(app, drift).exit_code == 0


def test_decimals_are_converted_to_tfrecord_where_rounding_is_asked_for(tmp_path: Path) -> None:
    source, target = tmp_path / "a.csv", tmp_path / "a.tfrecord.gz"
    source.write_text("x\n0.1\n")
    refused = CliRunner().invoke(app, ["data", "convert", str(source), str(target)])
    assert refused.exit_code != 0
    assert not target.exists()
    rounded = ["data", "convert", str(source), str(target), "--round-floats"]
    assert CliRunner().invoke(app, rounded).exit_code == 0
    assert target.exists()
