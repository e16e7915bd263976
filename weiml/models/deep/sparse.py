"""Networks over rows of the parameter server, whatever computes the network.

    logits = network([pool_s(v_k x_k) for slots s] ‖ dense, Σ_k w_k x_k)

Rows are looked up, pooled, and their gradients summed and pushed here, on numpy arrays by compiled
loops; a framework's class says how the network is run on `Arrays` and what it learns of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, with_crosses
from weiml.features.spec import check_crosses
from weiml.models.base import Columns, Rows, StepResult
from weiml.models.deep.cells import Cells, cells_of_slots
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.contract import Arrays, Gradients
from weiml.models.deep.network_model import NetworkModel
from weiml.models.deep.shape import InputShape
from weiml.models.fetch import Fetch, Lookup, Prepared
from weiml.models.kernels import (
    key_counts,
    linear_gradients,
    linear_sums,
    pool,
    pool_gradients,
    sequence_gradients,
    sequence_places,
    sequence_rows,
)
from weiml.ps import Client, TableConfig, unique_keys

__all__ = ["EMBEDDING", "LINEAR", "Learned", "SparseModel", "starts_of"]

EMBEDDING = "embedding"
LINEAR = "linear"


class Learned(NamedTuple):
    """What a batch taught the tables."""

    prepared: Prepared
    rows: Mapping[str, np.ndarray]
    flat: np.ndarray
    linear: np.ndarray | None
    sequences: np.ndarray | None


class SparseModel(NetworkModel):
    """A network over rows of the parameter server. A framework's subclass runs the network.

    The loss whose gradients go to the tables is the sum over examples (shares of a mean would drown
    in the optimizers' initial sums), tempered by `multiplicity`; the network's is the mean.
    """

    config_class: ClassVar[type[DeepConfig]] = DeepConfig
    config: DeepConfig
    has_linear: ClassVar[bool] = False
    """Whether the network uses `Arrays.linear`."""

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        grouped = (cross for groups in self.config.cross_groups for cross in groups.crosses)
        self._crosses = (*self.config.crosses, *grouped)
        check_crosses(self._crosses, columns.slots)
        self._slots = (*columns.slots, *(cross.name for cross in self._crosses))
        self._deep_slots = self._chosen("deep_slots", self.config.deep_slots)
        self._linear_slots = self._chosen("linear_slots", self.config.linear_slots)
        self._sequences = self._chosen("sequences", self.config.sequences)
        self._places = [self._deep_slots.index(slot) for slot in self._sequences]
        self.shape = self._input_shape()
        self._learned: Learned | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "push" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__}.push would not be called where pushes go beside the next step; "
                "override take_push instead"
            )

    @abstractmethod
    def _learn(self, batch: Batch, arrays: Arrays, total: float) -> Gradients:
        """Run the network forward and back; its own gradients are added to `network.gradient`.

        `total` is the sum of the examples' weights; statistics are not learned where it is 0.
        """

    @abstractmethod
    def _logits(self, arrays: Arrays) -> np.ndarray:
        """Return float32 (B,) or (B, T); nothing is learned."""

    @property
    def label_columns(self) -> tuple[int, ...]:
        """See `Model.label_columns`: a network of one task learns the column of its own choice."""
        return super().label_columns if len(self.tasks) > 1 else (self.config.task,)

    @property
    def row_dim(self) -> int:
        """Numbers of an embedding row."""
        return self.config.embedding_dim

    def tables(self) -> tuple[TableConfig, ...]:
        """See `Model.tables`."""
        config = self.config
        embedding = TableConfig(
            EMBEDDING,
            dim=self.row_dim,
            optimizer=config.embedding,
            init_scale=config.init_scale,
            seed=self.seed,
            expected_rows=config.expected_rows,
        )
        linear = TableConfig(
            LINEAR,
            dim=1,
            optimizer=config.linear,
            seed=self.seed,
            expected_rows=config.expected_rows,
        )
        return (embedding, linear) if self.has_linear else (embedding,)

    def keys(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """See `Model.keys`: the batch's own keys and those of its crosses, slot by slot."""
        return {name: cells.keys for name, cells in self._cells(batch).items()}

    @property
    def families(self) -> tuple[tuple[str, ...], ...]:
        """See `Model.families`: a linear part of other slots has keys of its own."""
        apart = self.has_linear and self._linear_slots != self._deep_slots
        return ((EMBEDDING,), (LINEAR,)) if apart else super().families

    def logits(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.logits`."""
        return self._logits(self.arrays(batch, rows))

    def scores(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.scores`: the loss says what its logits stand for."""
        logits = self.logits(batch, rows).reshape(len(batch), len(self.tasks))
        return self.config.loss.probabilities(logits)

    def arrays(self, batch: Batch, rows: Mapping[str, Rows]) -> Arrays:
        """Return what the network sees of a batch, by rows of ``keys(batch)``.

        Raises:
            DataError: the batch has other columns than the model was made for.
        """
        self.check(batch)
        lookups = {
            name: Lookup(cells.keys, rows[name].positions, cells.values, cells.offsets)
            for name, cells in self._cells(batch).items()
        }
        return self._arrays(batch, lookups, {n: r.weights for n, r in rows.items()})

    def prepare(self, batch: Batch) -> Prepared:
        """See `Model.prepare`."""
        self.check(batch)
        lookups: dict[str, Lookup] = {}
        shared: dict[int, Lookup] = {}  # tables looked up by the same cells
        for name, cells in self._cells(batch).items():
            if id(cells) not in shared:
                distinct, positions = unique_keys(cells.keys)
                shared[id(cells)] = Lookup(distinct, positions, cells.values, cells.offsets)
            lookups[name] = shared[id(cells)]
        return Prepared(batch, lookups)

    def compute(self, client: Client, fetch: Fetch) -> StepResult:
        """See `Model.compute`."""
        batch, lookups = fetch.prepared
        total = float(batch.weights.sum(dtype=np.float64))
        rows = {name: self._rows(client, fetch, name) for name in lookups}
        with self.stages.timed("compute"):
            found = self._learn(batch, self._arrays(batch, lookups, rows), total)
        # Gradients may be infinite while the loss is finite still.
        loss = found.loss if self._is_finite(found.flat) else float("nan")
        self._learned = Learned(fetch.prepared, rows, *found[1:])
        self._weight += total
        return StepResult(len(batch), total, loss)

    def push(self, client: Client, *, missed_by: Fetch | None = None) -> None:
        """See `Model.push`: gradients by distinct key, to each table."""
        if missed_by is not None:
            # Asked for before the push, they could come after it: what they miss would be chance.
            with self.stages.timed("pull"):
                missed_by.wait()
        self.take_push()(client)

    def take_push(self) -> Callable[[Client], None]:
        """See `Model.take_push`; what subclasses push besides is added here, not in `push`."""
        assert self._learned is not None, "nothing was computed"
        learned, self._learned = self._learned, None
        return partial(self._push_learned, learned)

    def _push_learned(self, learned: Learned, client: Client) -> None:
        with self.stages.timed("push"):
            lookups = learned.prepared.lookups
            self._push_rows(client, EMBEDDING, lookups, self._embedding_gradients(learned))
            if learned.linear is not None:
                lookup = lookups[LINEAR]
                gradients = linear_gradients(
                    learned.linear,
                    lookup.positions,
                    lookup.values,
                    starts_of(lookup, len(learned.linear)),
                    len(lookup.keys),
                )
                self._push_rows(client, LINEAR, lookups, gradients)

    def _chosen(self, knob: str, names: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the slots that a knob names; None: all."""
        for name in names or ():
            known = self._deep_slots if knob == "sequences" else self._slots
            if name not in known:
                raise ConfigError(f"{knob}: {name!r} is no slot{nearest(name, known)}")
        return self._slots if names is None else tuple(names)

    def _cells(self, batch: Batch) -> dict[str, Cells]:
        """Return the cells of each table; tables with the same slots share theirs."""
        crossed = with_crosses(batch, self._crosses)
        deep = cells_of_slots(crossed, self._deep_slots)
        if not self.has_linear:
            return {EMBEDDING: deep}
        same = self._linear_slots == self._deep_slots
        linear = deep if same else cells_of_slots(crossed, self._linear_slots)
        return {EMBEDDING: deep, LINEAR: linear}

    def _input_shape(self) -> InputShape:
        """Return what the network is built for."""
        return InputShape(
            slots=self._deep_slots,
            row_dim=self.row_dim,
            dense_names=self.columns.dense_names,
            sequences=self._sequences,
            max_length=self.config.max_length,
        )

    def _is_finite(self, array: np.ndarray) -> bool:
        """Return whether a float32 array sums to a number."""
        return bool(np.isfinite(array.sum()))

    def _empty(self, *shape: int) -> np.ndarray:
        """Return float32 memory for an input; a framework may want it aligned its own way."""
        return np.empty(shape, np.float32)

    def _arrays(
        self, batch: Batch, lookups: Mapping[str, Lookup], rows: Mapping[str, np.ndarray]
    ) -> Arrays:
        lookup = lookups[EMBEDDING]
        flat = self._empty(len(batch), self.shape.num_inputs)
        self._sum_rows(lookup, rows, flat)
        flat[:, self.shape.num_inputs - batch.dense.shape[1] :] = batch.dense
        linear = sequences = mask = None
        if self.has_linear:
            wide = lookups[LINEAR]
            starts = starts_of(wide, len(batch))
            linear = linear_sums(rows[LINEAR], wide.positions, wide.values, starts)
        if self._places:
            places = self._sequence_places(lookup, len(batch))
            sequences, mask = sequence_rows(rows[EMBEDDING], places), places >= 0
        return Arrays(flat, linear, sequences, mask)

    def _sum_rows(self, lookup: Lookup, rows: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Write what the network sees of the rows to `out` (B, num_inputs), before the dense."""
        mean = self.config.pooling == "mean"
        pool(rows[EMBEDDING], lookup.positions, lookup.values, lookup.offsets, mean, out)

    def _loss(self, batch: Batch, logits: np.ndarray) -> tuple[float, np.ndarray]:
        """Return (sum of weighted losses, its gradients by the logits)."""
        labels = batch.labels[:, self.config.task] if logits.ndim == 1 else batch.labels
        if labels.shape != logits.shape:
            raise DataError(
                f"model {self.name!r} predicts {logits.shape[1:]} tasks {self.tasks}, the batch "
                f"has labels {batch.labels.shape}"
            )
        result = self.config.loss(logits, labels, batch.weights, batch.groups)
        return result.total, result.gradients

    def _embedding_gradients(self, learned: Learned) -> np.ndarray:
        """Sum the gradients of the embeddings by distinct key: float32 (m, d)."""
        lookup = learned.prepared.lookups[EMBEDDING]
        gradients = pool_gradients(
            learned.flat,
            lookup.positions,
            lookup.values,
            lookup.offsets,
            self.config.pooling == "mean",
            len(lookup.keys),
            self.row_dim,
        )
        if learned.sequences is not None:
            places = self._sequence_places(lookup, len(learned.flat))
            sequence_gradients(learned.sequences, places, gradients)
        return np.asarray(gradients)

    def _sequence_places(self, lookup: Lookup, num_examples: int) -> np.ndarray:
        places = np.array(self._places, np.int64)
        return np.asarray(
            sequence_places(
                lookup.positions,
                lookup.offsets,
                places,
                num_examples,
                len(self._deep_slots),
                self.config.max_length,
            )
        )

    def _push_rows(
        self, client: Client, table: str, lookups: Mapping[str, Lookup], gradients: np.ndarray
    ) -> None:
        keys, positions, *_ = lookups[table]
        if self.config.multiplicity != "sum":
            counts = key_counts(positions, len(keys))
            if self.config.multiplicity == "sqrt":
                counts = np.sqrt(counts)
            gradients /= counts[:, None]
        client.push(table, keys, gradients)


def starts_of(lookup: Lookup, num_examples: int) -> np.ndarray:
    """Return where each example's keys begin: int32 (B + 1,)."""
    num_slots = (len(lookup.offsets) - 1) // max(num_examples, 1)
    if not num_slots:  # of no slots, or in no examples
        return np.zeros(num_examples + 1, np.int32)
    return np.ascontiguousarray(lookup.offsets[::num_slots])
