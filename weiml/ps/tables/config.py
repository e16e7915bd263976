"""What a table is: its rows' form, its rule for gradients, and which rows it takes and keeps.

Plain data that travels between processes and into checkpoints; it knows no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError
from weiml.ps.optimizers import Optimizer, OptimizerConfig, optimizer_from_mapping
from weiml.ps.tables.admission import AdmissionConfig
from weiml.ps.tables.expiry import ExpiryConfig

__all__ = ["STATISTICS", "Statistic", "TableConfig", "check_name"]

MAX_DIM = 256
Statistic: TypeAlias = Literal["count", "last_seen", "shows", "clicks"]
STATISTICS: tuple[Statistic, ...] = ("count", "last_seen", "shows", "clicks")
"""All statistics, in the order in which they lie in a row."""


@dataclass(frozen=True)
class TableConfig:
    """One table of a parameter server."""

    name: str
    """A word of letters, digits, ``_``, ``-`` and ``.``; it becomes part of file names."""
    _: KW_ONLY
    dim: int = 1
    """Weights per key, 1 to 256."""
    optimizer: OptimizerConfig
    """The rule that gradients go through."""
    init_scale: float = 0.0
    """Standard deviation of a new row's weights; 0 starts rows at 0."""
    seed: int = 0
    """With the key and the column, all that a new row's weights depend on."""
    rows: int | None = None
    """A dense table of that many rows, whose keys are 0 … rows-1; None: a sparse table."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """How weights are stored; bfloat16 takes half the room and is rounded stochastically."""
    statistics: tuple[Statistic, ...] = ()
    """What is counted in each row, 4 bytes each: pushes, the last step, shows, clicks."""
    admission: AdmissionConfig | None = None
    """Which keys get a row; None: all, at their first push."""
    expiry: ExpiryConfig | None = None
    """Which rows `expire` deletes; None: it deletes none."""
    capacity: int | None = None
    """The most rows that the table may have, over all shards; None: as many as there is room for.
    Each bucket has an equal share."""
    capacity_policy: Literal["refuse", "oldest", "smallest"] = "refuse"
    """What happens when a bucket is full: new keys are refused, or room is made by deleting the
    rows seen longest ago, or those whose weights have the smallest norm."""
    max_load: float = 0.8
    """How full a bucket of rows gets before it grows: higher saves room and costs time."""
    expected_rows: int = field(default=0, compare=False)
    """Rows that the table will about have, over all shards: memory for them is taken at once, and
    inserting them takes less time than when buckets grow on the way. 0: not known. A hint, not what
    the table is: a table that exists keeps its own."""
    change_log_bytes: int | None = None
    """The most that the list of changed keys takes, per shard; when it is full, changes since long
    ago are answered by all rows. None: 64 MiB, or 1/32 of the table's rows if that is more."""

    def __post_init__(self) -> None:
        check_name("table", self.name)
        self._check_form()
        self._check_statistics()
        if self.rows is not None:
            self._check_dense()

    def _check_form(self) -> None:
        if not 1 <= self.dim <= MAX_DIM:
            raise self._error(f"dim must be 1 to {MAX_DIM}, got {self.dim}")
        if not isinstance(self.optimizer, Optimizer):
            raise self._error(
                f"optimizer must be FTRL(...), Adagrad(...), SGD(...) or another Optimizer, "
                f"got {self.optimizer!r}"
            )
        if not (self.init_scale >= 0 and np.isfinite(self.init_scale)):
            raise self._error(
                f"init_scale must be a finite number, 0 or more, got {self.init_scale!r}"
            )
        if not 0 <= self.seed < 2**64:
            raise self._error(f"seed must be in 0 … 2⁶⁴-1, got {self.seed}")
        if self.weights not in ("float32", "bfloat16"):
            raise self._error(f"weights must be float32 or bfloat16, got {self.weights!r}")
        if self.weights == "bfloat16" and not self.optimizer.stores_weights:
            raise self._error(
                f"weights = bfloat16 needs an optimizer that stores the weights themselves, which "
                f"{self.optimizer.name} does not; use float32"
            )
        if not 0.1 <= self.max_load <= 0.97:
            raise self._error(f"max_load must be from 0.1 to 0.97, got {self.max_load}")
        if self.expected_rows < 0:
            raise self._error(f"expected_rows must be 0 or more, got {self.expected_rows}")
        if self.change_log_bytes is not None and self.change_log_bytes < 1024:
            raise self._error(f"change_log_bytes must be 1024 or more, got {self.change_log_bytes}")

    def _check_statistics(self) -> None:
        wrong = [name for name in self.statistics if name not in STATISTICS]
        if wrong or len(set(self.statistics)) < len(self.statistics):
            raise self._error(
                f"statistics must be some of {', '.join(STATISTICS)}, each once, "
                f"got {self.statistics!r}"
            )
        if self.capacity is not None and self.capacity < 1:
            raise self._error(f"capacity must be 1 or more, got {self.capacity}")
        if self.capacity_policy not in ("refuse", "oldest", "smallest"):
            raise self._error(
                f"capacity_policy must be refuse, oldest or smallest, got {self.capacity_policy!r}"
            )
        needed = {} if self.expiry is None else self.expiry.needed_statistics()
        if self.capacity is not None and self.capacity_policy == "oldest":
            needed = {**needed, "last_seen": "capacity_policy = oldest"}
        for statistic, knob in needed.items():
            if statistic not in self.statistics:
                raise self._error(
                    f"{knob} needs the statistic {statistic!r}; add it to statistics, "
                    f"which are {self.statistics!r}"
                )

    def _check_dense(self) -> None:
        if self.rows is not None and not 1 <= self.rows <= 2**48:
            raise self._error(f"rows must be 1 to 2⁴⁸, got {self.rows}")
        for knob in ("admission", "expiry", "capacity"):
            if getattr(self, knob) is not None:
                raise self._error(f"{knob} is for sparse tables; leave it out or leave rows out")
        if self.expected_rows:
            raise self._error("expected_rows is for sparse tables; a dense one is told its rows")

    def _error(self, what: str) -> ConfigError:
        return ConfigError(f"table {self.name!r}: {what}")

    @property
    def width(self) -> int:
        """The number of float32 in the state of a row."""
        return self.optimizer.width(self.dim)

    @property
    def state_words(self) -> int:
        """The number of 32-bit words that the state of a row takes."""
        if self.weights == "bfloat16":
            return self.width - self.dim + (self.dim + 1) // 2
        return self.width

    @property
    def payload_words(self) -> int:
        """The number of 32-bit words of a row beside its key: state, then statistics."""
        return self.state_words + len(self.statistics)

    def statistic_offset(self, statistic: Statistic) -> int | None:
        """Return at which word of a row a statistic lies, or None where it is not kept."""
        kept = [name for name in STATISTICS if name in self.statistics]
        return self.state_words + kept.index(statistic) if statistic in kept else None

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data fit for JSON; `from_mapping` reads it back."""
        return to_mapping(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> TableConfig:
        """Build the configuration that `to_mapping` wrote, registered optimizers included."""
        rest = dict(mapping)
        optimizer: Any = optimizer_from_mapping(rest.pop("optimizer"))
        where = f"table {rest.get('name')!r}"
        for knob, kind in (("admission", AdmissionConfig), ("expiry", ExpiryConfig)):
            if isinstance(rest.get(knob), Mapping):
                rest[knob] = from_mapping(kind, rest[knob], where=f"{where}: {knob}")
        rest["statistics"] = tuple(rest.get("statistics", ()))
        return cls(rest.pop("name"), optimizer=optimizer, **rest)


def check_name(what: str, name: str) -> None:
    """Raise ConfigError unless `name` is fit to be part of a file name."""
    if not name or name.startswith(".") or not all(c.isalnum() or c in "_-." for c in name):
        raise ConfigError(
            f"{what} name {name!r} must be a word of letters, digits, '_', '-' and '.', "
            f"and not start with '.'"
        )
