"""Clicks with a known model: 39 slots of Zipf-like ids, as Parquet of hashed keys and as VW's text.

A slot's ids follow a Zipf-Mandelbrot law, ``P(id = k) ~ (k + shift)^-exponent`` for k below 10⁶.
The label is drawn from a logistic model with a weight for each slot and id modulo 1000, so that
rare ids can be learned from too few examples only, as in real logs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from weiml.hashing import hash_values

__all__ = ["FLAT", "SLOTS", "STEEP", "Clicks", "Law"]

SLOTS = tuple(f"c{s}" for s in range(39))
_IDS = 10**6
_WEIGHTS = 1000
_BIAS = -1.5
_CHUNK = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Law:
    """How ids are spread."""

    exponent: float
    shift: float

    def __str__(self) -> str:
        return f"Zipf-Mandelbrot of exponent {self.exponent:g} and shift {self.shift:g}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return int64 ids, by the inverse of the distribution function."""
        tail = self.exponent - 1
        most = 1 - (1 + _IDS / self.shift) ** -tail
        ids = self.shift * ((1 - most * rng.random(shape)) ** (-1 / tail) - 1)
        return np.asarray(np.minimum(ids.astype(np.int64), _IDS - 1))


STEEP = Law(exponent=2.1, shift=10)
"""A few hundred ids of each slot make up nearly all: the table stays in cache."""
FLAT = Law(exponent=1.1, shift=1)
"""Millions of keys, most of them seen once: the table does not fit in cache."""


@dataclass(frozen=True)
class Clicks:
    """Generated examples on disk."""

    parquet: Path
    """A float32 column label and a uint64 column a slot, as pyarrow writes them by default."""
    text: Path | None
    """The same keys, modulo 2**24 or 2**26, as features of one namespace."""
    examples: int
    keys: int
    """Distinct ones."""
    noise: float
    """Mean log-loss of the model that drew the labels."""

    @classmethod
    def write(
        cls, folder: Path, examples: int, law: Law, *, seed: int = 0, bits: int | None = None
    ) -> Clicks:
        """Generate examples; for VW too where `bits` are given, of which its features have so many.

        The weights are those of seed 0, whatever the seed of the examples.
        """
        folder.mkdir(parents=True, exist_ok=True)
        parquet, text = folder / "clicks.parquet", folder / "clicks.vw"
        known = [np.empty(0, np.uint64)] * len(SLOTS)
        noise = 0.0
        text.unlink(missing_ok=True)
        writer: pq.ParquetWriter | None = None
        for table, loss in _tables(examples, law, seed):
            writer = writer or pq.ParquetWriter(parquet, table.schema)
            writer.write_table(table)
            noise += loss
            columns = [table[name].to_numpy() for name in SLOTS]
            known = [np.union1d(*pair) for pair in zip(known, columns, strict=True)]
            if bits is not None:
                _append_text(text, table, bits)
        assert writer is not None, "there must be examples"
        writer.close()
        keys = sum(map(len, known))
        return cls(parquet, text if bits else None, examples, keys, noise / examples)


def _tables(examples: int, law: Law, seed: int) -> Iterator[tuple[pa.Table, float]]:
    """Yield chunks of examples with the sum of the true model's log-losses."""
    weights = np.random.default_rng(0).normal(0, 0.3, (_WEIGHTS, len(SLOTS)))
    rng = np.random.default_rng((seed, 1))
    for start in range(0, examples, _CHUNK):
        count = min(_CHUNK, examples - start)
        ids = law.draw(rng, (count, len(SLOTS)))
        logits = np.take_along_axis(weights, ids % _WEIGHTS, axis=0).sum(axis=1) + _BIAS
        labels = rng.random(count) < 1 / (1 + np.exp(-logits))
        columns = {name: hash_values(name, pa.array(ids[:, s])) for s, name in enumerate(SLOTS)}
        yield (
            pa.table({"label": labels.astype(np.float32), **columns}),
            float(np.logaddexp(0, np.where(labels, -logits, logits)).sum()),
        )


def _append_text(path: Path, table: pa.Table, bits: int) -> None:
    positive = table["label"].to_numpy() > 0
    columns = {"label": pa.array(np.where(positive, 1, -1)), "": pa.array(["|f"] * len(table))}
    mask = np.uint64((1 << bits) - 1)
    columns |= {name: pa.array(table[name].to_numpy() & mask) for name in SLOTS}
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    with path.open("ab") as file:
        pyarrow.csv.write_csv(pa.table(columns), file, options)
