"""What a model is: its tables on the parameter server, its dense part, one training step, scoring.

A model owns no sparse rows. It is told them by position, both in training (rows pulled for a batch)
and in serving (rows held by a `Predictor`), so that there is one forward pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.fetch import Fetch, Prepared
from weiml.models.kernels import sigmoid
from weiml.models.registry import ModelConfig, model_class
from weiml.models.stages import Stages
from weiml.ps import Client, TableConfig, Ticket

__all__ = [
    "Columns",
    "Model",
    "Rows",
    "StepResult",
    "TrainingStep",
    "build_model",
    "pulled",
]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of the batches that a model reads."""

    slots: tuple[str, ...]
    dense_names: tuple[str, ...]

    @classmethod
    def of(cls, batch: Batch) -> Columns:
        """Return the columns of a batch."""
        return cls(slots=batch.slots, dense_names=batch.dense_names)


class Rows(NamedTuple):
    """Rows of one table as a model reads them."""

    weights: np.ndarray
    """float32 (n, dim)."""
    positions: np.ndarray
    """The row of each key of `Model.keys`, below 0 for one without a row (it counts as zeros)."""


class StepResult(NamedTuple):
    """What one step saw."""

    examples: int
    weight: float
    """Sum of example weights."""
    loss: float
    """Sum of weighted losses, before the step's update."""


TrainingStep = Generator[np.ndarray, np.ndarray, StepResult]
"""A step of a worker: yields `Model.dense_gradient`, is sent its mean over the workers, returns
what it saw. A model without a dense part yields nothing."""


class Model(ABC):
    """One model. Not thread-safe; its dense parameters live in the object.

    Args:
        config: the model's configuration dataclass.
        columns: slots and dense columns, the same in all batches that it will see.
        seed: of all that is drawn.
        rank: of the worker that trains this copy; the draws of a worker's steps depend on it, the
            initial parameters don't.
        threads: that the dense part computes with. Equal numbers give equal bits.
        device: where the dense part is: "cpu", "cuda" or "cuda:1".
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]
    scores_kind: ClassVar[Literal["tasks", "classes"]] = "tasks"
    """What scores are: the probability of each task by itself, whose labels are 0 or 1, or of each
    class, which sum to 1, where the one label is a class's number."""
    has_dense: ClassVar[bool] = False
    """Whether there is a dense part, whose gradients the workers average."""

    def __init__(
        self,
        config: Any,
        columns: Columns,
        *,
        seed: int = 0,
        rank: int = 0,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.columns = columns
        self.seed = seed
        self.rank = rank
        self.threads = threads
        self.device = device
        self.stages = Stages()
        """Seconds of the steps' stages: pull (waiting for rows), mend, compute, push."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model predicts, one name a column of its scores."""
        return ("label",)

    @property
    def main_task(self) -> int:
        """The column of the scores by which examples are ranked."""
        return 0

    @property
    def label_columns(self) -> tuple[int, ...]:
        """The column of the batch's labels that each task learns."""
        return tuple(range(len(self.tasks)))

    @abstractmethod
    def tables(self) -> tuple[TableConfig, ...]:
        """Return the tables that the model's sparse rows live in."""

    @abstractmethod
    def keys(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """Return the keys uint64 (K,) that each table is looked up by, repeated ones too.

        Tables that are looked up by the same keys have the very same array.
        """

    @property
    def families(self) -> tuple[tuple[str, ...], ...]:
        """The tables, those that are looked up by the same keys together."""
        return (tuple(table.name for table in self.tables()),)

    @abstractmethod
    def logits(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """Return float32 (B, T) log-odds, given for each table the rows of ``keys(batch)``.

        (B,) of a model with one task. An example's logits do not depend on the others in the batch,
        but for rounding.
        """

    def scores(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """Return float32 (B, T) probabilities; see `logits`, whose sigmoid they are by default."""
        logits = self.logits(batch, rows)
        return np.asarray(sigmoid(logits.reshape(-1)).reshape(len(batch), len(self.tasks)))

    @abstractmethod
    def prepare(self, batch: Batch) -> Prepared:
        """Return a batch made ready for `fetch`: its distinct keys, and where each key stands.

        It changes nothing in the model, so that another thread may do it for later batches.

        Raises:
            DataError: the batch has other columns than the model was made for.
        """

    def fetch(self, client: Client, prepared: Prepared, *, ahead: int = 0) -> Fetch:
        """Send the pulls of a batch's step. `ahead` = 1: it is the step after the one under way."""
        tickets = {
            name: client.pull(name, lookup.keys, ahead=ahead)
            for name, lookup in prepared.lookups.items()
        }
        return Fetch(prepared=prepared, tickets=tickets)

    @abstractmethod
    def compute(self, client: Client, fetch: Fetch) -> StepResult:
        """Wait for the rows of a batch and learn from it; `push` sends what the rows learn.

        What the dense part learns is added to `dense_gradient`.
        """

    @abstractmethod
    def push(self, client: Client, *, missed_by: Fetch | None = None) -> None:
        """Send what the last `compute` found for the rows.

        It does not tick; that is the loop's. `missed_by` is a later batch whose rows were asked for
        before this and do not wait for the step's tick. They are waited for first, since a server
        that is late with them could take the push before; then the batch is told the push, to be
        mended by it if pushes are differences. Rows pulled as weights stay one step behind the
        worker's own pushes.
        """

    def take_push(self) -> Callable[[Client], None] | None:
        """Take what the last `compute` found for the rows; return what pushes it, in any thread.

        None: it has to be pushed at once, by `push`.
        """
        return None

    def dense_gradient(self) -> np.ndarray | None:
        """Return what the dense part learned since the last `apply_dense`, float32 (P + 1,).

        The sum of the gradients of P numbers over the examples, then the sum of the examples'
        weights, so that a mean over workers is one over all their examples. None without a dense
        part.
        """
        return None

    def apply_dense(self, mean: np.ndarray) -> None:  # noqa: B027 - without a dense part, nothing
        """Take one step of the dense part along the mean of the workers' `dense_gradient`."""

    def step(
        self, client: Client, batch: Batch | Fetch, *, missed_by: Fetch | None = None
    ) -> TrainingStep:
        """Train one step: pull unless the rows are on their way already, compute, push, apply."""
        fetch = batch if isinstance(batch, Fetch) else self.fetch(client, self.prepare(batch))
        result = self.compute(client, fetch)
        self.push(client, missed_by=missed_by)
        gradient = self.dense_gradient()
        if gradient is not None:
            self.apply_dense((yield gradient))
        return result

    def _rows(self, client: Client, fetch: Fetch, table: str) -> np.ndarray:
        """Wait for the rows of one table."""
        with self.stages.timed("pull"):
            return pulled(client, fetch.tickets[table])

    def dense_tensors(self) -> dict[str, np.ndarray]:
        """Return copies of the dense parameters by name; empty without a dense part."""
        return {}

    def dense_vector(self) -> np.ndarray:
        """Return a float32 (P,) copy of all dense parameters, in the order of their names' dict."""
        parts = [tensor.reshape(-1) for tensor in self.dense_tensors().values()]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def set_dense_vector(self, vector: np.ndarray) -> None:
        """Set the dense parameters from what `dense_vector` gives."""
        if vector.size:
            raise DataError(f"model {self.name!r} has no dense part, got {vector.size} numbers")

    def dense_state(self) -> dict[str, np.ndarray]:
        """Return what the dense optimizer remembers, by name, to go on training later."""
        return {}

    def set_dense_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `dense_state` gave."""
        if state:
            raise DataError(f"model {self.name!r} has no dense part, got state {sorted(state)}")

    def worker_state(self) -> dict[str, np.ndarray]:
        """Return what else this worker's steps depend on, to resume them to the bit."""
        return {}

    def set_worker_state(self, state: Mapping[str, np.ndarray]) -> None:  # noqa: B027
        """Set what `worker_state` of the same rank gave."""

    def scale_dense_lr(self, factor: float) -> None:
        """Multiply the learning rate of the dense part, if there is one.

        Raises:
            ConfigError: the factor is negative.
        """
        if not factor >= 0:
            raise ConfigError(f"a learning rate cannot be scaled by {factor}")

    def schedule_dense_lr(self, factor: float) -> None:  # noqa: B027
        """Set the factor on the dense part's learning rate that a schedule asks for."""

    def check(self, batch: Batch) -> None:
        """Raise DataError unless the batch has the columns that the model was made for."""
        if (batch.slots, batch.dense_names) != (self.columns.slots, self.columns.dense_names):
            raise DataError(
                f"model {self.name!r} was made for slots {self.columns.slots} and dense columns "
                f"{self.columns.dense_names}, the batch has {batch.slots} and {batch.dense_names}; "
                "encode it with the model's own encoder"
            )

    def config_mapping(self) -> dict[str, Any]:
        """Return the configuration as plain data for JSON; `build_model` reads it back."""
        return to_mapping(self.config)


def build_model(
    name: str,
    config: Any,
    columns: Columns,
    *,
    seed: int = 0,
    rank: int = 0,
    threads: int = 1,
    device: str = "cpu",
) -> Model:
    """Make the model `name` from its configuration, a dataclass or plain data.

    Raises:
        ConfigError: there is no such model, or the configuration does not fit it.
    """
    cls = model_class(name)
    if isinstance(config, Mapping):
        config = from_mapping(cls.config_class, config, where=f"model {name}")
    if not isinstance(config, cls.config_class):
        raise ConfigError(f"model {name!r} takes {cls.config_class.__name__}, got {config!r}")
    assert isinstance(config, ModelConfig)
    return cls(config, columns, seed=seed, rank=rank, threads=threads, device=device)


def pulled(client: Client, ticket: Ticket) -> np.ndarray:
    """Wait for a pull and return its rows."""
    answer = client.wait(ticket)
    assert answer is not None, "only pulls have an answer"
    return answer
