"""Several labels from raw files: missing ones, their names in the data set, tasks that fit them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data import BatchDataset, CsvExamples, Examples, ParquetExamples, write_batches
from weiml.errors import DataError
from weiml.features import Batch, Categorical, FeatureEncoder, FeatureSpec

FEATURES = (Categorical("user_id"),)
SPEC = FeatureSpec(features=FEATURES, labels=("click", "buy"))
ENCODER = FeatureEncoder(SPEC)
TABLE = pa.table(
    {
        "user_id": ["a", "b", "a", "c"],
        "click": pa.array([1, 0, None, 1], pa.int64()),
        "buy": pa.array([0.0, None, 1.0, float("nan")]),
    }
)
NAN = np.nan
LABELS = np.array([[1, 0], [0, NAN], [NAN, 1], [1, NAN]], np.float32)


def test_the_encoder_gives_a_column_a_label_and_nan_where_it_is_missing() -> None:
    np.testing.assert_array_equal(ENCODER.encode(TABLE).labels, LABELS)
    with pytest.raises(DataError, match="'buy' is missing"):
        ENCODER.encode(TABLE.drop_columns(["buy"]))


def test_one_label_must_be_there() -> None:
    one = FeatureEncoder(FeatureSpec(features=FEATURES, label="click"))
    with pytest.raises(DataError, match="'click' has missing values"):
        one.encode(TABLE)
    listed = FeatureEncoder(FeatureSpec(features=FEATURES, labels=("click",)))
    with pytest.raises(DataError, match="'click' has missing values"):
        listed.encode(TABLE)


def test_csv_and_parquet_give_the_encoders_batches(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "x.parquet")
    text = "user_id,click,buy\na,1,0\nb,0,\na,,1\nc,1,\n"
    (tmp_path / "x.csv").write_text(text)
    for source in (
        ParquetExamples(tmp_path / "x.parquet", ENCODER),
        CsvExamples(tmp_path / "x.csv", ENCODER),
    ):
        batch = Batch.concat(list(source.iter_batches(3)))
        np.testing.assert_array_equal(batch.labels, LABELS)
        np.testing.assert_array_equal(batch.keys, ENCODER.encode(TABLE).keys)
    one = FeatureEncoder(FeatureSpec(features=FEATURES, label="buy"))
    with pytest.raises(DataError, match="buy"):
        list(CsvExamples(tmp_path / "x.csv", one).iter_batches(3))


def test_the_data_set_keeps_the_names(tmp_path: Path) -> None:
    batch = ENCODER.encode(TABLE)
    kept = write_batches([batch], tmp_path / "kept", encoder=ENCODER)
    assert (kept.label_names, kept.num_labels) == (("click", "buy"), 2)
    assert kept.counts["positives"] == 2
    np.testing.assert_array_equal(kept.read().labels, LABELS)
    told = write_batches([batch], tmp_path / "told", label_names=("like", "share"))
    assert told.label_names == ("like", "share")
    assert write_batches([batch], tmp_path / "bare").label_names == ()
    with pytest.raises(DataError, match="label_names must name 2 labels"):
        write_batches([batch], tmp_path / "wrong", label_names=("like",))
    assert not (tmp_path / "wrong").exists()


def test_examples_write_them_too(tmp_path: Path) -> None:
    examples = Examples.of(TABLE)
    written = examples.write_batches(tmp_path / "set", ENCODER)
    assert isinstance(written, BatchDataset)
    assert written.label_names == ("click", "buy")
    np.testing.assert_array_equal(written.read().labels, LABELS)


def test_tasks_are_the_labels_in_their_order(tmp_path: Path) -> None:
    kept = write_batches([ENCODER.encode(TABLE)], tmp_path / "kept", encoder=ENCODER)
    kept.check_tasks(("click", "buy"), "it")
    kept.check_tasks(("label",), "it")  # one task has no name to compare
    with pytest.raises(DataError, match=r"it has the tasks \['buy', 'click'\].*\['click', 'buy'\]"):
        kept.check_tasks(("buy", "click"), "it")
    with pytest.raises(DataError, match="no label is called 'clik'; did you mean 'click'"):
        kept.check_tasks(("clik", "buy"), "it")
    bare = write_batches([ENCODER.encode(TABLE)], tmp_path / "bare")
    bare.check_tasks(("x", "y"), "it")
    with pytest.raises(DataError, match="the labels 2"):
        bare.check_tasks(("x", "y", "z"), "it")
