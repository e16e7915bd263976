"""Generated clicks of the shape of Criteo's, of any size, whose true probabilities are known.

13 whole numbers with heavy tails and 26 categories with Zipf popularity, many of them missing. The
label is drawn from a probability made of main effects, pairs of categories, slopes of a number by
category, and drift by day; that probability is a column, so that the best log-loss and AUC that any
model can reach are known (`BestScores`). Each example depends on the configuration and its number
alone: blocks can be made in any order and in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weiml.data.datasets import click_kernels as kernels
from weiml.data.datasets.registry import Dataset, Workshop, register_dataset
from weiml.data.ordered import map_ordered
from weiml.errors import ConfigError

__all__ = ["CATEGORIES", "NUMBERS", "ClickGenerator", "ClicksConfig"]

NUMBERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))

SCHEMA = pa.schema(
    [
        pa.field("label", pa.int8()),
        *(pa.field(name, pa.int32()) for name in NUMBERS),
        *(pa.field(name, pa.string()) for name in CATEGORIES),
        pa.field("timestamp", pa.int64()),
        pa.field("probability", pa.float64()),
    ]
)

_START = 1_403_913_600  # 28 June 2014, 00:00 UTC
_DAY_S = 86_400
_PROBES = 1 << 15  # examples by which the bias is set
_STRENGTH = 1.25  # of all effects: the best AUC is then near what is reached on the real data
_WEEK = (0.06, 0.02, 0.0, -0.02, 0.0, 0.08, 0.12)  # added to the log-odds by day


@dataclass(frozen=True)
class _Number:
    """The law of one numeric column; see `draw_numbers`."""

    scale: float
    lowest: int = 0
    missing: float = 0.0
    effect: float = 0.0
    bump: float = 0.0


@dataclass(frozen=True)
class _Category:
    """The law of one categorical column; see `draw_ids`."""

    vocabulary: int
    missing: float = 0.0
    deviation: float = 0.0
    drift: float = 0.0
    turnover: int = 0
    """How many of the most popular ids are followed by others each day."""

    @property
    def squarings(self) -> int:
        """The larger the vocabulary, the flatter its law: exponents 1.5, 1.25, 1.125."""
        return 1 if self.vocabulary < 1_000 else 2 if self.vocabulary < 100_000 else 3


_NUMBERS = (
    _Number(1.5, 0, 0.45, 0.9),
    _Number(4.0, -3, 0.0, 0.3, 0.3),
    _Number(12.0, 0, 0.21, -0.4),
    _Number(6.0, 0, 0.22, 0.2),
    _Number(3_000.0, 0, 0.026, -0.8),
    _Number(60.0, 0, 0.22, -0.6, 0.2),
    _Number(8.0, 0, 0.043, 0.8),
    _Number(10.0, 0, 0.001, 0.1),
    _Number(60.0, 0, 0.043, -0.3, -0.3),
    _Number(0.8, 0, 0.45, 0.4),
    _Number(2.0, 0, 0.043, 0.7),
    _Number(0.9, 0, 0.765, 0.2),
    _Number(7.0, 0, 0.22, -0.3),
)
_CATEGORIES = (
    _Category(1_500, 0.0, 0.10),
    _Category(600, 0.0, 0.30),
    _Category(10_000_000, 0.034, 0.08, 0.05, turnover=3),
    _Category(2_200_000, 0.034, 0.08),
    _Category(300, 0.0, 0.12),
    _Category(20, 0.12, 0.15),
    _Category(12_500, 0.0, 0.20),
    _Category(630, 0.0, 0.10),
    _Category(10, 0.0, 0.15),
    _Category(93_000, 0.0, 0.12, 0.15, turnover=1),
    _Category(5_700, 0.0, 0.20),
    _Category(8_300_000, 0.034, 0.08, turnover=3),
    _Category(3_200, 0.0, 0.15),
    _Category(27, 0.0, 0.25, 0.30),
    _Category(15_000, 0.0, 0.20),
    _Category(5_500_000, 0.034, 0.08, turnover=3),
    _Category(12, 0.0, 0.30),
    _Category(5_600, 0.0, 0.20),
    _Category(2_200, 0.44, 0.10),
    _Category(10, 0.44, 0.15),
    _Category(7_000_000, 0.034, 0.08, turnover=3),
    _Category(18, 0.76, 0.15),
    _Category(15, 0.0, 0.20),
    _Category(286_000, 0.034, 0.10),
    _Category(100, 0.44, 0.12),
    _Category(143_000, 0.44, 0.08),
)
_CROSSES = (
    ("C6", "C17", 0.30),
    ("C9", "C14", 0.30),
    ("C2", "C23", 0.30),
    ("C5", "C22", 0.20),
    ("C7", "C20", 0.20),
    ("C10", "C17", 0.20),
)
_SLOPES = (("C14", "I5", 0.6), ("C17", "I11", 0.8))


@dataclass(frozen=True, kw_only=True)
class ClicksConfig:
    """How many examples over how many days; the same configuration gives the same examples."""

    rows: int = 100_000
    seed: int = 0
    days: int = 7
    click_rate: float = 0.25
    """The mean probability, to about a hundredth of itself."""

    def __post_init__(self) -> None:
        for name in ("rows", "days"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be from 0 to 2^63 - 1, got {self.seed}")
        if not 0.0 < self.click_rate < 1.0:
            raise ConfigError(f"click_rate must lie between 0 and 1, got {self.click_rate}")


class ClickGenerator:
    """Makes any of the configured examples. Immutable, so thread-safe; picklable.

    >>> generator = ClickGenerator(ClicksConfig(rows=1000, seed=3))
    >>> generator.examples(10, 12).equals(generator.examples(0, 20).slice(10, 2))
    True
    """

    schema = SCHEMA
    """label int8, I1 … I13 int32, C1 … C26 strings of eight hexadecimal digits, timestamp int64
    (seconds, rising), probability float64 (that of the label being 1)."""

    def __init__(self, config: ClicksConfig) -> None:
        self.config = config
        self._seed = np.uint64(config.seed * 0x9E3779B97F4A7C15 % 2**64)
        self._bias = 0.0
        rows = np.linspace(0, config.rows - 1, min(_PROBES, config.rows)).astype(np.uint64)
        self._bias = _solve_bias(self._draw(rows).logits, config.click_rate)

    def examples(self, start: int, stop: int) -> pa.Table:
        """Return examples number `start` to `stop`, of `schema`.

        Raises:
            ConfigError: they are not within the configured rows.
        """
        rows = self._rows(start, stop)
        drawn = self._draw(rows)
        probability = _sigmoid(drawn.logits)
        clicked = kernels.uniforms(self._seed, rows, _LABEL_COLUMN) < probability
        numbers = [pa.array(values, mask=absent) for values, absent in drawn.numbers]
        texts = [self._text(ids, c) for c, ids in enumerate(drawn.ids)]
        columns = [clicked.astype(np.int8), *numbers, *texts, drawn.times + _START, probability]
        return pa.Table.from_arrays([pa.array(column) for column in columns], schema=self.schema)

    def probabilities(self, start: int, stop: int) -> np.ndarray:
        """Return the probabilities of examples `start` to `stop` alone, float64 ``(n,)``.

        Raises:
            ConfigError: they are not within the configured rows.
        """
        return _sigmoid(self._draw(self._rows(start, stop)).logits)

    def blocks(self, *, rows_per_block: int = 1 << 16, threads: int = 1) -> Iterator[pa.Table]:
        """Yield all examples in order, in blocks; about `threads` + 1 of them are in memory."""
        starts = range(0, self.config.rows, rows_per_block)

        def block(start: int) -> pa.Table:
            return self.examples(start, min(start + rows_per_block, self.config.rows))

        return map_ordered(block, starts, threads=threads)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        if not 0 <= start <= stop <= self.config.rows:
            raise ConfigError(
                f"examples {start} to {stop} are not within the {self.config.rows} configured: "
                f"raise rows"
            )
        return np.arange(start, stop, dtype=np.uint64)

    def _draw(self, rows: np.ndarray) -> _Drawn:
        times = (rows.astype(np.int64) * (self.config.days * _DAY_S)) // self.config.rows
        days = times // _DAY_S
        middle = (self.config.days - 1) / 2
        place = (days - middle) / self.config.days  # -½ … ½
        logits = np.asarray(_WEEK)[days % len(_WEEK)]
        numbers, shares = [], {}
        for i, (name, law) in enumerate(zip(NUMBERS, _NUMBERS, strict=True)):
            values, absent, shares[name] = kernels.draw_numbers(
                self._seed, rows, 2 * i, law.scale, law.lowest, law.missing, law.effect, law.bump,
                logits,
            )  # fmt: skip
            numbers.append((values, absent))
        ids = {}
        for c, (name, kind) in enumerate(zip(CATEGORIES, _CATEGORIES, strict=True)):
            ids[name] = kernels.draw_ids(
                self._seed, rows, days * kind.turnover, 100 + 2 * c, kind.vocabulary,
                kind.squarings, 2.0, kind.missing, self._salt(c), kind.deviation, place,
                kind.drift, logits,
            )  # fmt: skip
        for c, (left, right, deviation) in enumerate(_CROSSES):
            kernels.add_cross(self._salt(100 + c), ids[left], ids[right], deviation, logits)
        for c, (category, number, deviation) in enumerate(_SLOPES):
            slopes = self._salt(200 + c)
            kernels.add_slope(slopes, ids[category], shares[number], deviation, logits)
        return _Drawn(times, numbers, list(ids.values()), _STRENGTH * logits + self._bias)

    def _salt(self, column: int) -> np.uint64:
        return np.uint64((self.config.seed * 1_000_003 + column + 1) * 0xD1B54A32D192ED03 % 2**64)

    def _text(self, ids: np.ndarray, column: int) -> pa.Array:
        data, offsets = kernels.hex_text(ids, self._salt(column))
        absent = ids == kernels.MISSING
        valid = np.packbits(~absent, bitorder="little") if absent.any() else None
        buffers = [None if valid is None else pa.py_buffer(valid)]
        buffers += [pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.string(), ids.size, buffers)


@dataclass(frozen=True)
class _Drawn:
    times: np.ndarray  # int64 seconds from the first on
    numbers: list[tuple[np.ndarray, np.ndarray]]  # values int32 and whether they are missing
    ids: list[np.ndarray]
    logits: np.ndarray


_LABEL_COLUMN = 99  # no other column draws by this number


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _solve_bias(logits: np.ndarray, click_rate: float) -> float:
    """Return what to add to the log-odds for a mean probability of `click_rate`, by bisection."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if np.mean(_sigmoid(logits + middle)) < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _build(config: ClicksConfig, _: Workshop) -> Mapping[str, pa.RecordBatchReader]:
    batches = (b for t in ClickGenerator(config).blocks() for b in t.to_batches())
    return {"examples": pa.RecordBatchReader.from_batches(SCHEMA, batches)}


register_dataset(
    Dataset(
        name="synthetic-criteo",
        description="generated clicks of Criteo's shape with known probabilities; choose rows, "
        "seed, days, click_rate",
        licence="none needed: generated",
        home="weiml/data/datasets/clicks.py",
        build=_build,
        config=ClicksConfig(),
        tables=("examples",),
    )
)
