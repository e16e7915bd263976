"""`benchmarks.generate` writes whole parts, goes on where it was interrupted, and says the best."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from benchmarks.generate import generate
from weiml.data import ClickGenerator, ClicksConfig
from weiml.errors import DataError

CONFIG = ClicksConfig(rows=2_500, seed=9, days=3)
TABLE = ClickGenerator(CONFIG).examples(0, CONFIG.rows)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_parts_are_the_data_set(tmp_path: Path, kind: str) -> None:
    about = generate(CONFIG, tmp_path, kind, rows_per_part=1_000)
    assert list(about["parts"]) == [f"part-0000{i}.{kind}" for i in range(3)]
    assert about["parts"] == {name: (tmp_path / name).stat().st_size for name in about["parts"]}
    options = pyarrow.csv.ConvertOptions(column_types=TABLE.schema, strings_can_be_null=True)
    tables = [
        pq.read_table(tmp_path / name)
        if kind == "parquet"
        else pyarrow.csv.read_csv(tmp_path / name, convert_options=options)
        for name in about["parts"]
    ]
    assert pa.concat_tables(tables).equals(TABLE)
    p = TABLE["probability"].to_numpy()
    assert about["click_rate"] == pytest.approx(p.mean())
    entropy = -np.mean(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert about["best_log_loss"] == pytest.approx(entropy)
    assert json.loads((tmp_path / "clicks.json").read_text()) == about


def test_missing_parts_are_made_and_others_left(tmp_path: Path) -> None:
    first = generate(CONFIG, tmp_path, "parquet", rows_per_part=1_000, truth=False)
    assert pq.read_schema(tmp_path / "part-00000.parquet").names == TABLE.schema.names[:-2]
    kept = (tmp_path / "part-00000.parquet").stat().st_mtime_ns
    (tmp_path / "part-00001.parquet").unlink()
    (tmp_path / "clicks.json").unlink()
    again = generate(CONFIG, tmp_path, "parquet", rows_per_part=1_000, truth=False)
    assert again == first
    assert (tmp_path / "part-00000.parquet").stat().st_mtime_ns == kept
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*first["parts"], "clicks.json", "plan.json"}, "nothing half-written is left"


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    generate(CONFIG, tmp_path, "csv", rows_per_part=2_500)
    other = ClicksConfig(rows=2_500, seed=10, days=3)
    with pytest.raises(DataError, match="another data set"):
        generate(other, tmp_path, "csv", rows_per_part=2_500)
