"""Networks over embeddings: what all models have in common that torch computes.

    logits = network([pool_s(v_k x_k) for slots s] ‖ dense, Σ_k w_k x_k)

Embeddings v and linear weights w are rows of the parameter server; the network is dense, averaged
over the workers. A model says how its network is built; the rest is here: looking rows up, pooling
them, the loss, and what is pushed.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from weiml.config import nearest
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, with_crosses
from weiml.features.spec import check_crosses
from weiml.models.base import Columns, Rows, StepResult
from weiml.models.deep.cells import Cells, cells_of_slots
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.network import torch_threads
from weiml.models.deep.network_model import NetworkModel
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

__all__ = ["EMBEDDING", "LINEAR", "DeepModel", "Learned", "starts_of"]

EMBEDDING = "embedding"
LINEAR = "linear"


class Learned(NamedTuple):
    """What a batch taught the tables."""

    prepared: Prepared
    rows: Mapping[str, np.ndarray]
    flat: np.ndarray
    linear: np.ndarray | None
    sequences: np.ndarray | None


class DeepModel(NetworkModel):
    """A torch network over rows of the parameter server. Subclasses build the network.

    The loss whose gradients go to the tables is the sum over examples (shares of a mean would drown
    in the optimizers' initial sums), tempered by `multiplicity`; the network's is the mean.
    """

    config_class: ClassVar[type[DeepConfig]] = DeepConfig
    config: DeepConfig
    has_linear: ClassVar[bool] = False
    """Whether the network uses `Inputs.linear`."""

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
        generator = self._drawn_from()
        self.shape = self._network_shape(generator)
        self.network = self._make_network(lambda: self.build(self.shape), generator)
        self._learned: Learned | None = None

    @abstractmethod
    def build(self, shape: NetworkShape) -> nn.Module:
        """Return the network: a module that maps `Inputs` to logits (B,) or (B, T).

        It may return (logits, further loss) of what is minimised beside the tasks' losses: a loss
        an example, (B,), which counts by the example's weight, or one sum over all. Its parameters
        are drawn from torch's own generator, which is seeded.
        """

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
        with self._scoring():
            logits, _ = self._forward(self._inputs_of(batch, rows), training=False)
            return np.asarray(logits.cpu().numpy())

    def scores(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.scores`: the loss says what its logits stand for."""
        logits = self.logits(batch, rows).reshape(len(batch), len(self.tasks))
        return self.config.loss.probabilities(logits)

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
        with self.stages.timed("compute"), torch_threads(self.threads):
            inputs = self._inputs(batch, lookups, rows)
            for leaf in inputs[:3]:
                if leaf is not None:
                    leaf.requires_grad_()
            logits, further = self._forward(inputs, training=total > 0)
            losses, gradients = self._losses(batch, logits.detach())
            if logits.requires_grad:
                further = [loss for loss in further if loss.requires_grad]
                shares = [self._shares(batch, loss) for loss in further]
                torch.autograd.backward([logits, *further], [gradients, *shares])
            flat, linear, sequences = (None if x is None else _array(x.grad, x) for x in inputs[:3])
        assert flat is not None
        if not np.isfinite(flat.sum()):  # as gradients may be while the loss is finite still
            losses = float("nan")
        self._learned = Learned(fetch.prepared, rows, flat, linear, sequences)
        self._weight += total
        return StepResult(len(batch), total, losses)

    def push(self, client: Client, *, missed_by: Fetch | None = None) -> None:
        """See `Model.push`: gradients by distinct key, to each table."""
        with self.stages.timed("push"):
            assert self._learned is not None, "nothing was computed"
            learned, self._learned = self._learned, None
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

    @contextlib.contextmanager
    def _scoring(self) -> Iterator[None]:
        """Torch computes inside as it does for scores: nothing is learned of it."""
        with (
            torch_threads(self.threads),
            torch.inference_mode(),
            self.network.computing(training=False),
        ):
            yield

    def _inputs_of(self, batch: Batch, rows: Mapping[str, Rows]) -> Inputs:
        """Return the network's inputs by rows that are told by position."""
        self.check(batch)
        lookups = {
            name: Lookup(cells.keys, rows[name].positions, cells.values, cells.offsets)
            for name, cells in self._cells(batch).items()
        }
        return self._inputs(batch, lookups, {n: r.weights for n, r in rows.items()})

    def _inputs(
        self, batch: Batch, lookups: Mapping[str, Lookup], rows: Mapping[str, np.ndarray]
    ) -> Inputs:
        """Return the network's inputs, on its device."""
        lookup, weights = lookups[EMBEDDING], rows[EMBEDDING]
        flat = torch.empty((len(batch), self.shape.num_inputs))
        self._sum_rows(lookup, rows, flat.numpy())
        flat.numpy()[:, self.shape.num_inputs - batch.dense.shape[1] :] = batch.dense
        linear = None
        if self.has_linear:
            wide = lookups[LINEAR]
            starts = starts_of(wide, len(batch))
            sums = linear_sums(rows[LINEAR], wide.positions, wide.values, starts)
            linear = torch.from_numpy(sums).to(self.device)
        sequences = mask = None
        if self._places:
            places = self._sequence_places(lookup, len(batch))
            sequences = torch.from_numpy(sequence_rows(weights, places)).to(self.device)
            mask = torch.from_numpy(places >= 0).to(self.device)
        return Inputs(flat.to(self.device), linear, sequences, mask, self.shape)

    def _network_shape(self, generator: torch.Generator) -> NetworkShape:
        """Return what the network is built for."""
        return NetworkShape(
            slots=self._deep_slots,
            row_dim=self.row_dim,
            dense_names=self.columns.dense_names,
            sequences=self._sequences,
            max_length=self.config.max_length,
            generator=generator,
        )

    def _sum_rows(self, lookup: Lookup, rows: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Write what the network sees of the rows to `out` (B, num_inputs), before the dense."""
        mean = self.config.pooling == "mean"
        pool(rows[EMBEDDING], lookup.positions, lookup.values, lookup.offsets, mean, out)

    def _forward(
        self, inputs: Inputs, *, training: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return (logits in float32, a further loss if the network has one)."""
        with self.network.computing(training=training, exact=torch.is_inference_mode_enabled()):
            found = self.network.module(inputs)
        logits, *further = found if isinstance(found, tuple) else (found,)
        return logits.float(), further

    def _losses(self, batch: Batch, logits: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return (sum of weighted losses, its gradients by the logits)."""
        labels = batch.labels[:, self.config.task] if logits.ndim == 1 else batch.labels
        if labels.shape != logits.shape:
            raise DataError(
                f"model {self.name!r} predicts {logits.shape[1:]} tasks {self.tasks}, the batch "
                f"has labels {batch.labels.shape}"
            )
        result = self.config.loss(logits.cpu().numpy(), labels, batch.weights, batch.groups)
        return result.total, torch.from_numpy(result.gradients).to(self.device)

    def _shares(self, batch: Batch, further: torch.Tensor) -> torch.Tensor:
        """Return what a further loss counts by: 1, or the weights if it is one an example."""
        if not further.ndim:
            return torch.ones_like(further)
        return torch.from_numpy(batch.weights.copy()).to(further)

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
    return lookup.offsets[np.arange(num_examples + 1) * num_slots]


def _array(gradient: torch.Tensor | None, of: torch.Tensor) -> np.ndarray:
    """Return a gradient; zeros where the network did not use what it is of."""
    found = torch.zeros_like(of) if gradient is None else gradient
    return np.asarray(found.detach().cpu().numpy())
