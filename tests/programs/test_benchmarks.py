"""Benchmarks are fair in order, speak one line a case, and leave a dated report."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.contest import Contestant, contest
from benchmarks.harness import Case, interleaved
from benchmarks.readers import prepare
from benchmarks.zipf import FLAT, SLOTS, STEEP, Clicks

KEYS = [
    *("benchmark", "case", "value", "unit", "peer", "peer_value", "ratio"),
    *("goal", "holds", "quality", "regime", "n"),
]


def test_contestants_take_turns_and_swap_sides() -> None:
    calls: list[str] = []
    seconds = interleaved({"a": partial(calls.append, "a"), "b": partial(calls.append, "b")}, 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"  # a warm-up, then three rounds
    assert set(seconds) == {"a", "b"}
    assert all(value > 0 for value in seconds.values())


def test_a_line_has_the_agreed_keys_and_four_digits() -> None:
    case = Case(
        case="c",
        value=123456.789,
        unit="examples/s",
        peer="p",
        peer_value=61728.3945,
        goal="≥ 1 ×",
        holds=True,
        quality="equal",
        regime="warm",
        n=5,
    )
    line = case.line("b")
    assert list(line) == KEYS
    assert (line["value"], line["ratio"], line["n"]) == (123500.0, 2.0, 5)


@pytest.mark.slow
@pytest.mark.process
def test_contestants_in_processes_of_their_own(tmp_path: Path) -> None:
    about = prepare(tmp_path, 3_000)
    entries = {
        "ours": Contestant("benchmarks.readers", "csv_weiml", (str(tmp_path),)),
        "theirs": Contestant("benchmarks.readers", "csv_pyarrow", (str(tmp_path),)),
    }
    for result in contest(entries, 2).values():
        assert result.rows == about["rows"]
        assert len(result.seconds) == len(result.cpu) == 2
        assert result.peak > 2**20
    broken = {"none": Contestant("benchmarks.readers", "csv_weiml", (str(tmp_path / "none"),))}
    with pytest.raises(RuntimeError, match="exit code 1"):
        contest(broken, 1)


@pytest.mark.slow
@pytest.mark.process
def test_a_quick_run_prints_lines_and_writes_its_report(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.hashing", "--quick", "--report", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    assert all(list(line) == KEYS for line in lines)
    assert all(line["quality"] == "0 collisions" for line in lines)
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert path.name == f"{report['date']}-hashing.json"
    assert report["cases"] == lines
    assert report["machine"]["cores"] >= 1
    assert {"numpy", "pandas", "pyarrow", "python"} <= set(report["versions"])


@pytest.mark.process
def test_an_unknown_benchmark_is_refused_with_the_known(root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "hashin"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no benchmark 'hashin'" in done.stderr
    known = done.stderr.partition("there are: ")[2]
    assert {"hashing", "ps_kernels", "train_transports"} <= set(known.strip().split(", "))
    assert "harness" not in known


def test_vowpal_wabbit_gets_the_same_clicks(tmp_path: Path) -> None:
    clicks = Clicks.write(tmp_path, 300, STEEP, bits=20)
    assert clicks.text is not None
    table = pq.read_table(clicks.parquet)
    lines = clicks.text.read_text().splitlines()
    assert len(lines) == table.num_rows == clicks.examples == 300
    keys = [table[name].to_pylist() for name in SLOTS]
    assert clicks.keys == len({key for column in keys for key in column})
    for i, line in enumerate(lines):
        label, space, *features = line.split(" ")
        assert (label, space) == ("1" if table["label"][i].as_py() else "-1", "|f")
        assert features == [str(column[i] % 2**20) for column in keys]


def test_generated_clicks_are_the_same_each_time_and_flatter_laws_have_more_keys(
    tmp_path: Path,
) -> None:
    first, again = (Clicks.write(tmp_path / name, 500, STEEP) for name in "ab")
    assert pq.read_table(first.parquet).equals(pq.read_table(again.parquet))
    assert Clicks.write(tmp_path / "c", 500, FLAT).keys > 2 * first.keys
    assert 0.3 < first.noise < 0.5
