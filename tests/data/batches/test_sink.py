from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from weiml.data import BatchDataset, BatchSink, Examples, col, write_batches
from weiml.errors import DataError
from weiml.features import Batch, Categorical, Continuous, FeatureEncoder, FeatureSpec, KeyNames
from weiml.features.transforms import MDL, MinMax, QuantileBuckets


def raw(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user_id": rng.integers(0, 9, n),
            "item_id": rng.integers(0, 5, n),
            "age": rng.random(n),
            "timestamp": np.arange(n),
            "label": rng.integers(0, 2, n),
        }
    )


TABLES = [raw(50, 1), raw(30, 2)]
ENCODER = FeatureEncoder(FeatureSpec(features=(Categorical("user_id"), Continuous("age")))).fit(
    pa.concat_tables(TABLES)
)


def test_encoded_examples_are_those_of_the_encoder(tmp_path: Path) -> None:
    sink = BatchSink(tmp_path / "out", encoder=ENCODER, examples_per_part=20)
    dataset = Examples.of(TABLES).encode(ENCODER).write(sink)
    assert isinstance(dataset, BatchDataset)
    tables = [ENCODER.encode(table) for table in TABLES]
    expected = write_batches(tables, tmp_path / "expected", encoder=ENCODER)
    ours, theirs = dataset.read(), expected.read()
    for name in ("labels", "dense", "keys", "offsets", "groups", "times"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert dataset.counts == expected.counts
    assert dataset.spec == ENCODER.spec
    assert dataset.encoder().encode(TABLES[0]).keys.size == 50


def test_an_encoder_is_fitted_piece_by_piece_and_names_are_kept(tmp_path: Path) -> None:
    examples = Examples.of(TABLES)
    encoder = examples.fit_encoder(ENCODER.spec)
    dataset = examples.write_batches(tmp_path / "out", encoder)
    np.testing.assert_allclose(dataset.read().dense, ENCODER.encode(pa.concat_tables(TABLES)).dense)
    known = KeyNames.load(tmp_path / "out" / "keys.parquet")
    assert known.to_table().num_rows == 9
    assert known.collisions().lost == 0
    with pytest.raises(DataError, match="user_id"):
        examples.drop("user_id").fit_encoder(ENCODER.spec)


def test_transforms_of_the_spec_are_fitted_pass_by_pass_and_kept(tmp_path: Path) -> None:
    spec = FeatureSpec(
        transforms=(
            MinMax("age"),
            QuantileBuckets("age", buckets=4, output="bucket"),
            MDL("item_id", output="cut"),
        ),
        features=(Categorical("bucket"), Continuous("age"), Categorical("cut")),
    )
    examples = Examples.of(TABLES)
    encoder = examples.fit_encoder(spec)
    whole = FeatureEncoder(spec).fit(pa.concat_tables(TABLES))
    dataset = examples.write_batches(tmp_path / "out", encoder)
    for other in (whole, dataset.encoder()):
        expected = other.encode(pa.concat_tables(TABLES))
        np.testing.assert_array_equal(dataset.read().keys, expected.keys)
        np.testing.assert_allclose(dataset.read().dense, expected.dense, rtol=1e-6)
    alone = encoder.encode(TABLES[0].slice(7, 1).drop(["label"]), labels=False)
    np.testing.assert_array_equal(alone.keys, dataset.read().slice(7, 8).keys)
    assert set(dataset.names().to_table()["feature"].to_pylist()) == {"bucket", "cut"}
    with pytest.raises(DataError, match="'age'"):
        examples.drop("age").fit_encoder(spec)


def test_no_examples_make_a_data_set_with_columns(tmp_path: Path) -> None:
    none = Examples.of(TABLES).filter(col("age") > 2).encode(ENCODER)
    dataset = none.write(BatchSink(tmp_path / "out"))
    assert dataset.num_examples == 0
    assert dataset.slots == ("user_id",)


def test_what_is_not_encoded_and_a_full_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a batch"):
        Examples.of(TABLES).write(BatchSink(tmp_path / "out"))
    with pytest.raises(DataError, match="'user_id' is missing"):
        Examples.of(TABLES).drop("user_id").encode(ENCODER)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(DataError, match="not empty"):
        Examples.of(TABLES).encode(ENCODER).write(BatchSink(tmp_path / "out"))
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    ran: list[int] = []

    def count(table: pa.Table) -> pa.Table:
        ran.append(table.num_rows)
        return table

    examples = Examples.of(TABLES).map(count).encode(ENCODER)
    ran.clear()
    for path in (tmp_path / "mine", tmp_path / "mine" / "below"):
        with pytest.raises(DataError, match="mine"):
            examples.write(BatchSink(path))
    assert not ran
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    batch = ENCODER.encode(TABLES[0])
    writer = BatchSink(tmp_path / "out").open(batch.to_arrow().schema)
    written = [writer.write(0, [batch.to_arrow()])]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(DataError, match="was taken while"):
        writer.commit(written)
    writer.abort()
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_pieces_of_other_columns_do_not_make_a_dataset(tmp_path: Path) -> None:
    batch = ENCODER.encode(TABLES[0])
    wide = replace(batch, labels=np.repeat(batch.labels, 2, axis=1))
    none = batch.slice(0, 0)
    writer = BatchSink(tmp_path / "out").open(batch.to_arrow().schema)
    pieces = [writer.write(i, [b.to_arrow()]) for i, b in enumerate((batch, none, wide))]
    with pytest.raises(DataError, match="got labels 1 and 2"):
        writer.commit(pieces)
    dataset = writer.commit(pieces[1:])
    assert dataset.num_examples == 50
    assert Batch.concat(list(dataset.iter_batches(7))).labels.shape == (50, 2)
    assert Batch.concat(list(dataset.iter_batches(7, seed=1))).labels.shape == (50, 2)
