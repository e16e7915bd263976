"""Raw Parquet gives the batches of the encoder, however files, row groups and blocks are cut."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data import BatchSource, ClickGenerator, ClicksConfig, ParquetExamples, ParquetKeys
from weiml.data.datasets.clicks import CATEGORIES, NUMBERS
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, Categorical, Continuous, FeatureEncoder, FeatureSpec, Text
from weiml.features.transforms import MinMax, Vocabulary

ROWS = 3_000
TABLE = ClickGenerator(ClicksConfig(rows=ROWS)).examples(0, ROWS)
SPEC = FeatureSpec(
    features=(
        *(Continuous(name) for name in NUMBERS),
        *(Categorical(name) for name in CATEGORIES[:-1]),
        Text("C26"),
    ),
    group="C1",
    item="C3",
)
ENCODER = FeatureEncoder(SPEC).fit(TABLE)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files: of small row groups, of none, and of one group without dictionaries."""
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    pq.write_table(TABLE.slice(0, 1_100), paths[0], row_group_size=300)
    pq.write_table(TABLE.slice(0, 0), paths[1])
    pq.write_table(TABLE.slice(1_100), paths[2], use_dictionary=False)
    return paths


def assert_same(got: Batch, expected: Batch) -> None:
    got.validate()
    for name in ("labels", "weights", "dense", "keys", "offsets", "groups", "items", "times"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("block", [70, 1 << 16])
@pytest.mark.parametrize("long_group", [400, 1 << 19])
def test_batches_are_those_of_the_tables(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, threads: int, block: int, long_group: int
) -> None:
    monkeypatch.setattr("weiml.data.batches.parquet_examples._BLOCK", block)
    monkeypatch.setattr("weiml.data.batches.row_groups.LONG_GROUP", long_group)
    source = ParquetExamples(files, ENCODER, threads=threads)
    batches = list(source.iter_batches(257))
    assert {len(batch) for batch in batches[:-1]} == {257}
    assert_same(Batch.concat(batches), ENCODER.encode(TABLE))
    assert source.num_examples == ROWS


def test_it_is_a_source_of_batches(files: list[Path]) -> None:
    source = ParquetExamples(files, ENCODER)
    assert isinstance(source, BatchSource)
    assert source.slots == SPEC.slots
    assert source.dense_names == SPEC.dense
    again = pickle.loads(pickle.dumps(source))
    assert_same(next(again.iter_batches(50)), ENCODER.encode(TABLE.slice(0, 50)))
    assert str(source) == f"{files[0]} and 2 more"


@pytest.mark.parametrize("workers", [2, 7])
def test_workers_share_the_rows(files: list[Path], workers: int) -> None:
    source = ParquetExamples(files, ENCODER)
    share = ROWS // workers
    for worker in range(workers):
        got = list(source.iter_batches(100, worker=worker, num_workers=workers))
        expected = ENCODER.encode(TABLE.slice(worker * share, share))
        assert_same(Batch.concat(got), expected)


def test_strings_stay_dictionaries(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def encode(self: FeatureEncoder, table: pa.Table, *, labels: bool) -> Batch:
        seen.add(table.schema.field("C1").type)
        return encoded(self, table, labels=labels)

    encoded = FeatureEncoder.encode
    monkeypatch.setattr(FeatureEncoder, "encode", encode)
    list(ParquetExamples(files, ENCODER).iter_batches(1000))
    assert seen == {pa.dictionary(pa.int32(), pa.string())}


def test_without_labels(tmp_path: Path) -> None:
    pq.write_table(TABLE.drop_columns(["label"]), tmp_path / "x.parquet")
    batch = next(ParquetExamples(tmp_path / "x.parquet", ENCODER, labels=False).iter_batches(ROWS))
    assert_same(batch, ENCODER.encode(TABLE, labels=False))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        ParquetExamples(tmp_path / "none.parquet", ENCODER)
    with pytest.raises(DataError, match="empty list"):
        ParquetExamples([], ENCODER)
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match="no whole Parquet file"):
        ParquetExamples(tmp_path / "text.parquet", ENCODER)
    pq.write_table(TABLE.rename_columns({"C7": "c7"}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column 'C7'"):
        ParquetExamples(tmp_path / "x.parquet", ENCODER)


def test_files_without_row_groups(tmp_path: Path) -> None:
    for at in (0, 2, 4):
        pq.ParquetWriter(tmp_path / f"{at}.parquet", TABLE.schema).close()
        assert pq.read_metadata(tmp_path / f"{at}.parquet").num_row_groups == 0
    for at in (1, 3):
        pq.write_table(TABLE.slice(at * 100, 100), tmp_path / f"{at}.parquet")
    source = ParquetExamples([tmp_path / f"{i}.parquet" for i in range(5)], ENCODER)
    whole = pa.concat_tables([TABLE.slice(100, 100), TABLE.slice(300, 100)])
    assert_same(Batch.concat(list(source.iter_batches(70))), ENCODER.encode(whole))
    assert list(ParquetExamples(source.paths[:1], ENCODER).iter_batches(70)) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read"):
        ParquetExamples(tmp_path, ENCODER)
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read"):
        ParquetKeys(tmp_path)


def _with(name: str, column: pa.Array) -> pa.Table:
    return TABLE.set_column(TABLE.schema.get_field_index(name), name, column)


def test_a_column_of_another_kind_in_another_file_is_named(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "1.parquet")
    numbers = pa.array(np.arange(ROWS))
    for column, said in (
        (pa.array([["x"]] * ROWS), "list of text"),
        (numbers, "number"),
        (pa.array([{"x": 1}] * ROWS), "struct"),
    ):
        pq.write_table(_with("C3", column), tmp_path / "2.parquet")
        for paths in (["1", "2"], ["2", "1"]):
            with pytest.raises(DataError, match=f"column 'C3' of .*parquet holds .*{said}"):
                ParquetExamples([tmp_path / f"{p}.parquet" for p in paths], ENCODER)


def test_columns_of_one_kind_stand_for_each_other(tmp_path: Path) -> None:
    """Numbers of other widths, text of other layouts, and columns that are null throughout."""
    dictionary = pa.dictionary(pa.int32(), pa.string())
    tables = [
        _with("I1", pa.nulls(ROWS)),
        _with("I1", TABLE["I1"].cast(pa.float32())),
        _with("C3", TABLE["C3"].cast(pa.large_string())),
        _with("C3", TABLE["C3"].cast(dictionary)),
        _with("C3", pa.nulls(ROWS)),
    ]
    for at, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{at}.parquet")
    source = ParquetExamples([tmp_path / f"{i}.parquet" for i in range(5)], ENCODER)
    expected = Batch.concat([ENCODER.encode(table) for table in tables])
    assert_same(Batch.concat(list(source.iter_batches(1_000))), expected)


def test_an_iterator_that_is_never_begun_starts_no_thread(files: list[Path]) -> None:
    before = threading.active_count()
    keys = files[0].with_name("keys.parquet")
    pq.write_table(pa.table({"label": [0], "key": pa.array([1], pa.uint64())}), keys)
    iterators = [
        ParquetExamples(files, ENCODER).iter_batches(10),
        ParquetKeys(keys, threads=2).iter_batches(10),
    ]
    assert threading.active_count() == before
    del iterators


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(TABLE, path, row_group_size=1000)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    data[at : at + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"row group 1 of .*x.parquet cannot be read"):
        list(ParquetExamples(path, ENCODER).iter_batches(10))


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"seed": 3}, {"worker": 1}])
def test_ranges_that_cannot_be(files: list[Path], given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ParquetExamples(files, ENCODER).iter_batches(**{"batch_size": 1, **given})
    with pytest.raises(ConfigError, match="threads"):
        ParquetExamples(files, ENCODER, threads=0)


def test_transforms_of_the_spec_read_their_own_columns(files: list[Path]) -> None:
    transforms = (MinMax("I1", output="scaled"), Vocabulary("C5"))
    spec = FeatureSpec(
        transforms=transforms, features=(Continuous("scaled"), Categorical("C5"), Continuous("I1"))
    )
    encoder = FeatureEncoder(spec).fit(TABLE)
    batches = list(ParquetExamples(files, encoder).iter_batches(100))
    assert_same(Batch.concat(batches), encoder.encode(TABLE))
