"""Feature values to 64-bit ids: weiml.hashing beside pandas and a Python loop.

    python -m benchmarks.hashing [--quick]

Each contestant starts from the container that it is made for and ends with a uint64 array.
weiml hashes an integer as its decimal text, so that 7 and "7" are one key wherever they come from;
pandas only mixes the integer's bits, which is less work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.harness import Case, interleaved, run
from weiml.hashing import hash_values

ROUNDS = 5


def columns(size: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (name, regime, values) of the columns that are hashed."""
    rng = np.random.default_rng(0)
    distinct = np.char.add("item_", rng.permutation(size).astype(str))
    yield "distinct strings", f"{size:,} distinct strings, warm", distinct
    skewed = np.char.add("item_", np.minimum(rng.zipf(1.2, size), 10**6).astype(str))
    yield "skewed strings", f"{size:,} strings, Zipf 1.2, warm", skewed
    yield "integers", f"{size:,} distinct int64, warm", rng.permutation(size).astype(np.int64)


def with_python(values: list[str] | list[int]) -> np.ndarray:
    """Hash by a loop over the values with the standard library's keyed hash."""
    ids = (hashlib.blake2b(str(value).encode(), digest_size=8).digest() for value in values)
    return np.frombuffer(b"".join(ids), dtype=np.uint64)


def collisions(values: np.ndarray, ids: np.ndarray) -> str:
    lost = len(np.unique(values)) - len(np.unique(ids))
    return f"{lost} collisions"


def cases(quick: bool) -> Iterator[Case]:
    size = 200_000 if quick else 1_000_000
    for name, regime, values in columns(size):
        arrow = pa.array(values)
        series = pd.Series(values if values.dtype.kind == "i" else values.astype(object))
        array = series.to_numpy()
        contestants: dict[str, Callable[[], object]] = {
            "weiml": partial(hash_values, "item_id", arrow),
            # The default, categorize=True, hashes each distinct value once.
            "pandas hash_array": partial(pd.util.hash_array, array),
            "pandas hash_array, categorize=False": partial(
                pd.util.hash_array, array, categorize=False
            ),
            "Python loop, blake2b": partial(with_python, values.tolist()),
        }
        seconds = interleaved(contestants, ROUNDS)
        ours = size / seconds.pop("weiml") / 1e6
        quality = collisions(values, hash_values("item_id", arrow))
        for peer, took in seconds.items():
            theirs = size / took / 1e6
            yield Case(
                case=name,
                value=ours,
                unit="M keys/s",
                peer=peer,
                peer_value=theirs,
                goal="≥ 1 × the peer",
                holds=ours >= theirs,
                quality=quality,
                regime=regime,
                n=ROUNDS,
            )


def main() -> None:
    """Run the benchmark."""
    run("hashing", cases)


if __name__ == "__main__":
    main()
