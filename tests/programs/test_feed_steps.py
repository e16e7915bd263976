"""The features node of the feed flow, run as a flow on generated data."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data import BatchDataset, FeatureView, fetch
from weiml.errors import DataError, FlowError
from weiml.features import Batch, FeatureEncoder
from weiml.flow import from_xml, run_flow
from weiml.flow.result import FlowResult

NODE = """
<flow name="features" steps="weiml.flow.data_steps pipelines.feed">
  <node id="features" engine="ray_data" preid="-1">
    <option name="num_blocks">3</option>
    <input name="ratings" class="data.fetch">
      <dataset>{dataset}</dataset><cache_dir>{cache}</cache_dir>
    </input>
    <process name="feed" class="feed.examples" dependency="ratings">{params}</process>
    <process name="encoded" class="feed.encode" dependency="feed">
      <spec>{spec}</spec><local_rows>{local_rows}</local_rows>
    </process>
    <output name="train" class="feed.write" dependency="encoded"><split>train</split></output>
    <output name="validation" class="feed.write" dependency="encoded">
      <split>validation</split>
    </output>
    <output name="test" class="feed.write" dependency="encoded"><split>test</split></output>
    <output name="encoder" class="feed.write_encoder" dependency="encoded"/>
    <output name="keys" class="feed.write_keys" dependency="feed,encoded"/>
    <output name="examples" class="feed.write_examples" dependency="feed"/>
    <output name="view" class="feed.write_view" dependency="feed"/>
  </node>
</flow>
"""
DATASET = "synthetic-feed:events=3000,users=80,items=90"


def run(
    folder: Path,
    root: Path,
    *,
    dataset: str = DATASET,
    local_rows: int = 10_000,
    params: str = "",
    spec: Path | None = None,
) -> FlowResult:
    text = NODE.format(
        dataset=dataset,
        cache=folder / "cache",
        local_rows=local_rows,
        params=params,
        spec=spec or root / "configs/features/feed.toml",
    )
    return run_flow(from_xml(text), folder / "runs", progress="none")


@pytest.fixture(scope="module")
def program_path() -> None:
    """Let flows find the program folders, as they do when run from the checkout."""
    checkout = str(Path(__file__).resolve().parent.parent.parent)
    if checkout not in sys.path:
        sys.path.insert(0, checkout)


@pytest.fixture(scope="module")
def result(
    ray_session: None, program_path: None, tmp_path_factory: pytest.TempPathFactory, root: Path
) -> FlowResult:
    return run(tmp_path_factory.mktemp("feed"), root)


@pytest.fixture(scope="module")
def examples(result: FlowResult) -> pa.Table:
    return pq.read_table(result.artifact("features.examples") / "examples.parquet")


def dataset(result: FlowResult, split: str) -> BatchDataset:
    return BatchDataset.open(result.artifact(f"features.{split}"))


def test_every_event_is_an_example_once_in_time_order(examples: pa.Table) -> None:
    assert examples.num_rows == 3000
    assert (np.diff(examples["timestamp"].to_numpy()) >= 0).all()
    split = examples["split"].to_pylist()
    assert split == sorted(split, key=["train", "validation", "test"].index)
    positive = [float(rating >= 4) for rating in examples["rating"].to_pylist()]
    assert examples["label"].to_pylist() == positive
    assert {len(code) for code in examples["zip_code"].to_pylist()} == {3}


def test_the_datasets_hold_the_examples_encoded(result: FlowResult, examples: pa.Table) -> None:
    encoder = FeatureEncoder.load(result.artifact("features.encoder") / "encoder.json")
    expected = encoder.encode(examples)
    whole = Batch.concat([dataset(result, s).read() for s in ("train", "validation", "test")])
    for name in ("labels", "dense", "keys", "offsets", "groups", "items", "times"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(expected, name))
    assert dataset(result, "train").spec == encoder.spec
    train = dataset(result, "train").read().dense
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-4)


def test_the_manifest_counts_what_is_there(result: FlowResult, examples: pa.Table) -> None:
    (node,) = result.nodes.values()
    sets = {name: dataset(result, name) for name in ("train", "validation", "test")}
    assert node.reports["rows"] == 3000
    assert node.reports["positives"] == sum(s.counts["positives"] for s in sets.values())
    assert node.reports["rows_by_split"] == {name: len(s) for name, s in sets.items()}
    keys = np.concatenate([s.read().keys for s in sets.values()])
    assert node.reports["keys"] == keys.size
    assert node.reports["distinct_keys"] == np.unique(keys).size
    assert node.reports["collisions"] == 0


def test_the_key_names_explain_the_keys(result: FlowResult, examples: pa.Table) -> None:
    names = pq.read_table(result.artifact("features.keys") / "keys.parquet").to_pylist()
    found = {(row["feature"], row["value"]): row["key"] for row in names}
    batch = dataset(result, "test").read()
    slot = batch.slots.index("genres")
    first = examples.filter(pa.array(np.array(examples["split"].to_pylist()) == "test")).slice(0, 1)
    expected = [found["genres", genre] for genre in first["genres"][0].as_py()]
    assert batch.keys[batch.offsets[slot] : batch.offsets[slot + 1]].tolist() == expected


def test_the_view_continues_where_the_test_period_begins(
    result: FlowResult, examples: pa.Table
) -> None:
    view = FeatureView.load(result.artifact("features.view"))
    start = examples["split"].to_pylist().index("test")
    for i in range(start, start + 60):
        event = examples.slice(i, 1)
        online = view.rows(
            event["user_id"][0].as_py(),
            [event["item_id"][0].as_py()],
            event["timestamp"][0].as_py(),
        )
        assert online.equals(event.select(online.column_names))
        view.observe(event)


@pytest.mark.slow
def test_encoding_on_ray_gives_the_same_files(
    result: FlowResult, tmp_path: Path, root: Path
) -> None:
    other = run(tmp_path, root, local_rows=0)
    for split in ("train", "test"):
        here, there = dataset(result, split).read(), dataset(other, split).read()
        for name in ("labels", "dense", "keys", "offsets", "times"):
            np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


@pytest.mark.usefixtures("ray_session", "program_path")
class TestBadInput:
    """Each error says which file or column is wrong, and leaves no output behind."""

    def broken(self, tmp_path: Path, name: str, table: pa.Table | bytes) -> None:
        """Put a data set into the cache one of whose files is not as it should be."""
        folder = fetch(DATASET, tmp_path / "cache")
        file = folder / f"{name}.parquet"
        if isinstance(table, bytes):
            file.write_bytes(table)
        else:
            pq.write_table(table, file)
        manifest = json.loads((folder / "dataset.json").read_text())
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        manifest["files"][file.name]["sha256"] = digest
        (folder / "dataset.json").write_text(json.dumps(manifest))

    @pytest.mark.parametrize(
        ("name", "table", "said"),
        [
            ("ratings", pa.table({"user_id": [1], "item_id": [1], "rating": [1.0]}), "'timestamp'"),
            ("users", b"", "users.parquet cannot be read"),
            ("items", pa.table({"item_id": [1], "title": ["a"], "release_year": [1]}), "'genres'"),
        ],
    )
    def test_a_wrong_file_is_named(
        self, tmp_path: Path, root: Path, name: str, table: pa.Table | bytes, said: str
    ) -> None:
        self.broken(tmp_path, name, table)
        with pytest.raises((DataError, FlowError), match=said):
            run(tmp_path, root)
        assert not list((tmp_path / "runs").rglob("dataset.json"))

    def test_an_empty_file_is_named(self, tmp_path: Path, root: Path) -> None:
        schema = {"user_id": pa.int32(), "item_id": pa.int32(), "rating": pa.float32()}
        empty = pa.schema({**schema, "timestamp": pa.int64()}).empty_table()
        self.broken(tmp_path, "ratings", empty)
        with pytest.raises((DataError, FlowError), match=r"ratings\.parquet has no rows"):
            run(tmp_path, root)

    @pytest.mark.slow
    def test_a_feature_that_no_column_gives_is_named(self, tmp_path: Path, root: Path) -> None:
        spec = tmp_path / "spec.toml"
        spec.write_text('[[features]]\nname = "genders"\ntype = "categorical"\n')
        with pytest.raises((DataError, FlowError), match=r"'genders' is missing.*'gender'"):
            run(tmp_path, root, spec=spec)

    def test_a_wrong_parameter_is_named(self, tmp_path: Path, root: Path) -> None:
        with pytest.raises(FlowError, match="threshold"):
            run(tmp_path, root, params="<treshold>4</treshold>")


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flow", "{tmp}/none.xml"], "none.xml"),
        (["--flow", "{tmp}/flow.xml", "--set", "treshold=3"], "did you mean 'threshold'"),
        (["--flow", "{tmp}/flow.xml", "--set", "threshold"], "NAME=VALUE"),
        (["--bogus"], "--bogus"),
    ],
)
def test_the_program_answers_a_wrong_call_in_one_line_and_exits_with_2(
    tmp_path: Path, root: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "flow.xml").write_text(
        '<flow name="f" steps="weiml.flow.data_steps"><param name="dataset" value="x"/>'
        '<param name="threshold" value="4"/><node id="n" engine="python">'
        '<input name="a" class="data.fetch"><dataset>${dataset}</dataset></input></node></flow>'
    )
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    command = [sys.executable, "-m", "pipelines.feed", "--runs", str(tmp_path / "runs"), *filled]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
