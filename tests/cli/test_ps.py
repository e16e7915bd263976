"""The commands of ``weiml ps`` on a real group of Ray actors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from weiml.cli import app
from weiml.hashing import TypeTag, hash_key
from weiml.ps import FTRL, SGD, RayParameterServer, TableConfig

NAME = "cli"
KEYS = np.array([0, 1, 2**64 - 1, 255, 7], np.uint64)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ps", *arguments])


def said(*arguments: str) -> Any:
    """Return the one JSON document that a command prints."""
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def root_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(ray_session: None, root_folder: Path) -> Iterator[RayParameterServer]:
    """A group with a table of five rows, two of which have the statistics of two pushes."""
    root = str(root_folder)
    with RayParameterServer.create(2, 1, 0, NAME, checkpoint_root=root, lease_s=None) as made:
        statistics = ("count", "shows", "clicks")
        config = TableConfig("wide", dim=2, optimizer=SGD(lr=1.0), statistics=statistics)  # type: ignore[arg-type]
        made.create_table(config)
        made.create_table(TableConfig("ftrl", optimizer=FTRL()))
        client = made.client()
        client.push("wide", KEYS, np.outer(-np.arange(5), [3.0, 4.0]).astype(np.float32)).wait()
        client.push("wide", KEYS[3:], np.zeros((2, 2), np.float32)).wait()
        more = np.full(2, 8.0, np.float32)
        client.push_statistics("wide", KEYS[3:], more, more / 4).wait()
        yield made


def test_status_counts_what_a_group_has_done(server: RayParameterServer) -> None:
    (group,) = said("status", NAME)
    assert (group["name"], group["num_shards"], group["rows"]) == (NAME, 2, 5)
    assert group["tables"] == {"wide": 5, "ftrl": 0}
    heads, line, *troubles = run("status").stdout.splitlines()
    shown = dict(zip(heads.split(), line.split(), strict=True))
    assert shown["NAME"] == NAME
    assert (shown["STATE"], shown["REPLICAS"], shown["DEGRADED"]) == ("running", "1", "0")
    assert (shown["VERSION"], shown["ROWS"], shown["CLOCKS"]) == ("0", "5", "0:0")
    assert troubles == []


def test_rows_are_shown_by_key_and_by_the_hash_of_a_feature(server: RayParameterServer) -> None:
    asked = ["rows", NAME, "wide", "255", "0xffffffffffffffff", "9", "--hash", "user_id=5"]
    rows = said(*asked)
    assert [row["key"] for row in rows] == [255, 2**64 - 1, 9, hash_key("user_id", 5)]
    (typed,) = said("rows", NAME, "wide", "--hash", "tags=a", "--type", "sparse_binary")
    assert typed["key"] == hash_key("tags", "a", TypeTag.SPARSE_BINARY)
    assert [row["present"] for row in rows] == [True, True, False, False]
    assert (rows[0]["weights"], rows[0]["norm"]) == ([9.0, 12.0], 15.0)
    assert rows[0]["statistics"] == {"count": 2, "shows": 8.0, "clicks": 2.0}
    assert rows[1]["statistics"] == {"count": 1, "shows": 0.0, "clicks": 0.0}
    assert rows[1]["state"] == [6.0, 8.0]
    heads, first, *_ = run(*asked, "--state").stdout.splitlines()
    assert heads.split()[:5] == ["KEY", "ASKED", "ROW", "NORM", "WEIGHTS"]
    assert heads.split()[-1] == "STATE"
    assert " ".join(first.split()) == "255 255 yes 15.0000 9 12 2 8.0000 2.0000 9 12"


def test_the_largest_rows_are_found_on_all_shards(server: RayParameterServer) -> None:
    rows = said("rows", NAME, "wide", "--top", "2")
    assert [(row["key"], row["norm"]) for row in rows] == [(7, 20.0), (255, 15.0)]
    assert run("rows", NAME, "ftrl", "--top", "2").stdout == "the table has no rows\n"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["status", "nowhere"], "nowhere"),
        (["rows", NAME, "wid", "1"], "did you mean 'wide'?"),
        (["rows", NAME, "wide", "-1x"], "got '-1x'"),
        (["rows", NAME, "wide", str(2**64)], "a key must be 0 … 2⁶⁴-1"),
        (["rows", NAME, "wide", "--hash", "user"], "--hash needs FEATURE=VALUE, got 'user'"),
        (["rows", NAME, "wide"], "one of the two"),
        (["rows", NAME, "wide", "1", "--top", "1"], "one of the two"),
        (["rows", NAME, "wide", "--top", "0"], "--top must be 1 or more, got 0"),
        (["rescale", NAME, "0"], "num_shards must be"),
        (["top", NAME, "--interval-s", "0"], "--interval-s must be above 0"),
        (["restore", NAME, "20000101T000000.000Z-full"], "does not exist; "),
        (["checkpoints", "nowhere/at/all"], "there is no folder nowhere/at/all"),
    ],
)
def test_a_mistake_gives_one_clear_line_and_exit_code_2(
    server: RayParameterServer, arguments: list[str], what: str
) -> None:
    if arguments[-1].startswith("-"):
        arguments = [*arguments[:-1], "--", arguments[-1]]
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert what in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_top_shows_two_looks_at_once_and_as_one_document(server: RayParameterServer) -> None:
    lines = run("top", "--once", "--interval-s", "0.2").stdout.splitlines()
    assert lines[0].split()[:2] == [NAME, "running"]
    assert any(line.split()[:2] == ["wide", "5"] for line in lines)
    look = said("top", NAME, "--interval-s", "0.2")
    assert (look["name"], look["staleness"], look["keys_per_s"]) == (NAME, 0, 0.0)
    assert {key["key"] for key in look["hot_keys"]["wide"]} >= {255, 7}
    pushes = [bins for s in look["status"]["shards"] for bins in s["latency_bins"]["push"]]
    assert sum(count for _, count in pushes) == look["status"]["pushes"]


def test_checkpoints_are_taken_listed_exported_and_restored(
    server: RayParameterServer, root_folder: Path, tmp_path: Path
) -> None:
    root = str(root_folder)
    full = Path(said("checkpoint", NAME)["path"])
    client = server.client()
    client.push("wide", np.array([1000], np.uint64), -np.ones((1, 2), np.float32)).wait()
    delta = Path(run("checkpoint", NAME).stdout.strip())
    assert (full.parent, delta.parent) == (root_folder, root_folder)
    client.delete("wide", KEYS).wait()
    assert said("checkpoint", NAME, "--to", str(tmp_path / "one"))["path"] == str(tmp_path / "one")
    listed = said("checkpoints", root, "--verify")
    assert [(info["id"], info["kind"]) for info in listed] == [
        (full.name, "full"),
        (delta.name, "delta"),
    ]
    assert run("checkpoints", root).stdout.splitlines()[2].split()[-1] == "intact"

    assert said("export", root, "latest", str(tmp_path / "rows"))["id"] == delta.name
    exported = pq.read_table(tmp_path / "rows" / "wide")
    assert sorted(exported["key"].to_pylist()) == sorted([*KEYS.tolist(), 1000])

    restored = said("restore", NAME, "latest")
    assert (restored["path"], restored["rows"]) == (str(delta), 6)
    assert said("restore", NAME, full.name)["rows"] == 5
    assert said("restore", NAME, str(tmp_path / "one"))["rows"] == 1
    run("restore", NAME, full.name)

    file = next(delta.rglob("rows-wide-*.arrow"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert run("checkpoints", root).exit_code == 0
    done = run("checkpoints", root, "--verify")
    assert done.exit_code == 2
    assert f"1 of 2 checkpoints below {root} are damaged: {delta.name}" in done.stderr
    assert file.name in done.stdout


def test_rescaling_says_what_was_and_what_is_and_others_hear_of_it(
    server: RayParameterServer,
) -> None:
    done = said("rescale", NAME, "3")
    assert (done["before"], done["num_shards"], done["version"]) == (2, 3, 1)
    assert (server.status()["num_shards"], len(server.cut.shards)) == (3, 3)
    server.create_table(TableConfig("later", optimizer=SGD()))
    worker = server.client(0)
    worker.push("later", KEYS, np.ones((5, 1), np.float32)).wait()
    worker.finish()
    assert run("rescale", NAME, "1").stdout == f"{NAME}: 3 → 1 shards, version 2\n"
    assert (server.status()["num_shards"], server.status()["tables"]["later"]) == (1, 5)
    assert [row["weights"] for row in said("rows", NAME, "wide", "255")] == [[9.0, 12.0]]


def test_a_stopped_group_has_saved_and_leaves_no_process(
    server: RayParameterServer, root_folder: Path
) -> None:
    processes = [psutil.Process(pid) for pid, _ in server.status()["processes"]]
    before = len(list(root_folder.iterdir()))
    assert said("stop", NAME) == {"name": NAME, "stopped": True, "saved_below": str(root_folder)}
    assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert len(list(root_folder.iterdir())) == before + 1
    assert run("status").stdout == "no parameter server runs in this Ray cluster\n"
    assert run("stop", NAME).exit_code == 2
    assert run("top").exit_code == 2


def test_every_command_explains_itself_with_an_example_and_speaks_json() -> None:
    group = typer.main.get_command(app)
    commands = group.commands["ps"].commands  # type: ignore[attr-defined]
    names = "status top rows checkpoint checkpoints export restore rescale stop"
    assert " ".join(commands) == names
    for name, command in commands.items():
        assert f"Example: weiml ps {name}" in (command.help or "")
        options = [option for parameter in command.params for option in parameter.opts]
        assert "--json" in options
        assert ("--address" in options) == (name not in ("checkpoints", "export"))
        with click.Context(command):
            assert run(name, "--help").exit_code == 0
