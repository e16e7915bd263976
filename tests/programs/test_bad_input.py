"""Bad input, one kind a row: one line that says where and what to do, exit code 2, nothing left."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from weiml.cli import app
from weiml.data import SyntheticConfig, generate_feed

STEPS = '''
"""Steps of a test."""
from pathlib import Path
import pyarrow.parquet as pq
from weiml.features import Categorical, Continuous, FeatureEncoder, FeatureSpec
from weiml.flow import step

@step("badtest.folder")
def folder(context, *, path: str) -> Path:
    return Path(path)

@step("badtest.encode")
def encode(context, folder: Path) -> None:
    spec = FeatureSpec(features=(Categorical("user_id"), Continuous("rating")), label="rating")
    encoder = FeatureEncoder(spec).fit(pq.read_table(folder / "ratings.parquet"))
    encoder.save(context.output_dir / "encoder.json")
'''
FLOW = """
<flow name="bad" steps="bad_input_steps pipelines.feed">
  <node id="first" engine="python">
    <input name="raw" class="badtest.folder"><path>raw</path></input>
    <process name="examples" class="feed.examples" dependency="raw"/>
    <output name="encoder" class="badtest.encode" dependency="raw"/>
  </node>
</flow>
""".lstrip()
RUN = ("flow", "run", "flow.xml")


class Place:
    """A folder with a flow, its steps and its raw data, all of them good as yet."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = patch
        (folder / "bad_input_steps.py").write_text(STEPS)
        (folder / "raw").mkdir()
        for name, table in generate_feed(SyntheticConfig(events=50, users=5, items=6)).items():
            pq.write_table(table, folder / "raw" / f"{name}.parquet")
        self.flow(FLOW)

    def flow(self, text: str) -> None:
        (self.folder / "flow.xml").write_text(text)

    def files(self) -> set[str]:
        found = (p for p in self.folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return {path.relative_to(self.folder).as_posix() for path in found}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Place(tmp_path, monkeypatch)
    sys.modules.pop("bad_input_steps", None)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def change(old: str, new: str) -> Callable[[Place], None]:
    assert old in FLOW
    return lambda place: place.flow(FLOW.replace(old, new))


def no_rating(place: Place) -> None:
    file = place.folder / "raw" / "ratings.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["rating"]), file)


def rating_as_text(place: Place) -> None:
    place.flow(
        FLOW.replace('<process name="examples" class="feed.examples" dependency="raw"/>', "")
    )
    file = place.folder / "raw" / "ratings.parquet"
    table = pq.read_table(file)
    text = pc.cast(table["rating"], pa.string())
    pq.write_table(table.drop_columns(["rating"]).append_column("rating", text), file)


def empty_flow(place: Place) -> None:
    place.flow("")


def empty_table(place: Place) -> None:
    (place.folder / "raw" / "ratings.parquet").write_bytes(b"")


def no_ray(place: Place) -> None:
    change('engine="python"', 'engine="ray_data"')(place)
    place.patch.setattr("ray.is_initialized", lambda: False)  # the suite's own does not count
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place.patch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed.getsockname()[1]}")


def damaged_download(place: Place) -> None:
    place.patch.setenv("PIP_NO_INDEX", "1")
    place.patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens on "discard"
    (place.folder / "cache" / "downloads").mkdir(parents=True)
    (place.folder / "cache" / "downloads" / "ml-100k.zip").write_bytes(b"cut short")


@dataclass(frozen=True)
class Case:
    """What is done to the good input, the command, and what its one line must say."""

    spoil: Callable[[Place], None]
    says: tuple[str, ...]
    command: tuple[str, ...] = RUN


FETCH = ("data", "fetch", "movielens-100k", "--cache-dir", "cache")
CASES = {
    "malformed XML": Case(
        change("</node>\n", ""),
        (
            "flow.xml:6: not well-formed XML, column 5: mismatched tag",
            "<node> of line 2 is still open",
        ),
    ),
    "unknown engine": Case(
        change('engine="python"', 'engine="pyton"'),
        ("flow.xml:2: unknown engine 'pyton'; did you mean 'python'?",),
    ),
    "cycle of nodes": Case(
        change('engine="python"', 'engine="python" preid="first"'),
        ("flow.xml:2: the nodes form a cycle (first → first); remove one",),
    ),
    "cycle of steps": Case(
        change('class="badtest.folder"', 'class="badtest.folder" dependency="examples"'),
        ("flow.xml:3: the steps of node 'first' form a cycle", "raw → examples → raw", "remove"),
    ),
    "missing column": Case(
        no_rating,
        ("flow.xml:4: ", "raw/ratings.parquet has no column 'rating'; got ['user_id', 'item_id'"),
    ),
    "wrong type of a column": Case(
        rating_as_text,
        ("flow.xml:5: ", "column 'rating'", "must hold numbers, got string: cast the column"),
    ),
    "wrong type of a parameter": Case(
        change(
            'class="feed.examples" dependency="raw"/>',
            ('class="feed.examples" dependency="raw"><threshold>four</threshold></process>'),
        ),
        ("flow.xml:4: parameter 'threshold' of step 'examples' must be a number, got 'four'",),
    ),
    "empty flow": Case(empty_flow, ("flow.xml: the file is empty; a flow starts with <flow",)),
    "empty table": Case(empty_table, ("raw/ratings.parquet cannot be read as Parquet", "0 bytes")),
    "Ray not reachable": Case(
        no_ray, ("flow.xml:2: ", "no Ray cluster at '127.0.0.1:", "`ray start --head`, or correct")
    ),
    "corrupted download": Case(
        damaged_download,
        (
            "downloads/ml-100k.zip) is damaged",
            "(9 bytes); fetch it again",
            "Without a network: on another",
        ),
        FETCH,
    ),
    "path that is no folder": Case(
        lambda place: None,
        ("/nowhere/flow.svg: No such file or directory; check the path",),
        ("flow", "show", "flow.xml", "--svg", "/nowhere/flow.svg"),
    ),
}


def ask(place: Place, command: tuple[str, ...]) -> str:
    """Run a command that must be refused; returns its only line that is an error."""
    before = place.files()
    done: Any = CliRunner().invoke(app, list(command))
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:], done.stderr
    left = {name for name in place.files() - before if not name.startswith("runs/ledger.sqlite3")}
    assert left <= {"runs/lock"}
    return str(errors[0])


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(place: Place, name: str) -> None:
    case = CASES[name]
    case.spoil(place)
    line = ask(place, case.command)
    for part in case.says:
        assert part in line, line


def test_a_port_in_use_is_told_before_anything_starts(place: Place, taken: int) -> None:
    line = ask(place, ("serve", "feed=raw", "--port", str(taken), "--detach"))
    assert f"port {taken} on 127.0.0.1 is in use: choose another with port = … (--port)" in line
    assert not (place.folder / "runs").exists()


def test_missing_data_is_told_before_a_search_starts(place: Place, root: Path) -> None:
    plan = str(root / "configs/search/feed.toml")
    line = ask(place, ("tune", "raw", "searches/a", "--plan", plan))
    assert "raw/train is not a dataset folder" in line
    assert not (place.folder / "searches").exists()
