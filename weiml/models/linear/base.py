"""Sparse linear models by FTRL-proximal, trained as differences of state.

    margin = bias + Σ_s Σ_{k in slot s} w_k x_k + Σ_d w_d dense_d

Each step pulls the state (z, n) of the batch's distinct keys, runs the serial algorithm over the
batch on its own copy, and pushes the change of state, which the server adds. So a batch of 16 k
examples learns like 16 k single steps, not like one step with summed gradients, in which all hot
keys overshoot together. Several workers share the change of keys that all of them have
(`joint_differences`). (McMahan et al., "Ad click prediction: a view from the trenches", KDD
2013.) A model is a loss of the margin, and perhaps products of slots of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numba
import numpy as np

from weiml.errors import DataError
from weiml.features import Batch, Cross, CrossGroups, with_crosses
from weiml.features.spec import check_crosses
from weiml.hashing import hash_key
from weiml.models.base import Columns, Model, Rows, StepResult
from weiml.models.fetch import Fetch, Lookup, Prepared
from weiml.models.kernels import linear_sums
from weiml.models.linear.serial_ftrl import (
    OthersShare,
    ftrl_pass,
    joint_differences,
    row_addresses,
    settling_count,
)
from weiml.models.registry import ModelConfig
from weiml.ps import FTRL, Client, TableConfig, unique_keys

__all__ = ["LinearConfig", "LinearModel"]

TABLE = "linear"
_OFTEN = 1 / 16  # of the count at which a row is taken to settle in a batch


@dataclass(frozen=True, kw_only=True)
class LinearConfig(ModelConfig):
    """FTRL's parameters; see `weiml.ps.FTRL`. And of the table, see `weiml.ps.TableConfig`."""

    optimizer: FTRL = field(default_factory=lambda: FTRL(alpha=0.05, beta=1.0, l1=0.0, l2=1.0))
    expected_rows: int = 0
    """About how many different keys there will be, if that is known."""
    crosses: tuple[Cross, ...] = ()
    """Products of slots to take on the fly: they have keys and rows as if the batch held them, but
    live for one step only. Not those that are slots of the batch already."""
    cross_groups: tuple[CrossGroups, ...] = ()
    """Whole groups of such products."""


class LinearModel(Model):
    """A linear model. The bias and the dense columns are keys of the same table as all others."""

    config_class: ClassVar[type[LinearConfig]] = LinearConfig
    config: LinearConfig
    hinge: ClassVar[bool] = False
    """Whether the loss is the hinge loss, not the log-loss; see `ftrl_pass`."""

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        names = [hash_key("weiml.bias", None)]
        names += [hash_key("weiml.dense", name) for name in columns.dense_names]
        self._own_keys = np.array(names, np.uint64)
        self._others: OthersShare | None = None
        self._learned = np.empty(0, np.uint64), np.empty((0, 2), np.float32)
        self._crosses = self._products()
        check_crosses(self._crosses, columns.slots)

    def extended(self, batch: Batch) -> Batch:
        """Return the batch with the slots that live for one step only: its crosses."""
        return with_crosses(batch, self._crosses)

    def tables(self) -> tuple[TableConfig, ...]:
        """See `Model.tables`."""
        table = TableConfig(
            TABLE,
            dim=1,
            optimizer=self.config.optimizer,
            seed=self.seed,
            expected_rows=self.config.expected_rows,
        )
        return (table,)

    def keys(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """See `Model.keys`: for each example the bias, the dense columns, then its slots' keys."""
        crossed = self.extended(batch)
        return {TABLE: np.asarray(_with_own_keys(self._own_keys, crossed.keys, _starts(crossed)))}

    def logits(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.logits`."""
        self.check(batch)
        starts, values = self._values(self.extended(batch))
        weights, positions = rows[TABLE]
        return np.asarray(linear_sums(weights, positions, values, starts))

    def prepare(self, batch: Batch) -> Prepared:
        """See `Model.prepare`. The model's own keys come first, `positions` counts from behind."""
        self.check(batch)
        crossed = self.extended(batch)
        distinct, positions = unique_keys(crossed.keys)
        keys = np.concatenate([self._own_keys, distinct])
        return Prepared(crossed, {TABLE: Lookup(keys, positions, crossed.values, crossed.offsets)})

    def fetch(self, client: Client, prepared: Prepared, *, ahead: int = 0) -> Fetch:
        """See `Model.fetch`; rows are pulled as state."""
        keys = prepared.lookups[TABLE].keys
        ticket = client.pull(TABLE, keys, what="state", ahead=ahead)
        return Fetch(prepared=prepared, tickets={TABLE: ticket})

    def compute(self, client: Client, fetch: Fetch) -> StepResult:
        """See `Model.compute`."""
        state = self._rows(client, fetch, TABLE)
        with self.stages.timed("mend"):
            fetch.mend(TABLE, state)
        with self.stages.timed("compute"):
            before = state.copy()
            result = self.train_rows(fetch.prepared, row_addresses(state))
            differences = self._differences(client, fetch.prepared, before, state)
        self._learned = fetch.prepared.lookups[TABLE].keys, differences
        return result

    def push(self, client: Client, *, missed_by: Fetch | None = None) -> None:
        """See `Model.push`: differences of state."""
        if missed_by is not None:
            # Asked for before the push, it could still act after it, and then be mended twice.
            with self.stages.timed("pull"):
                missed_by.tickets[TABLE].wait()
        with self.stages.timed("push"):
            client.push(TABLE, *self._learned, what="differences")
        if missed_by is not None:
            missed_by.missed.append(self._learned)

    def worker_state(self) -> dict[str, np.ndarray]:
        """See `Model.worker_state`: what the worker knows of the others."""
        return {} if self._others is None else self._others.state()

    def set_worker_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Model.set_worker_state`."""
        self._others = OthersShare.of(state) if state else None

    def train_rows(self, prepared: Prepared, rows: np.ndarray) -> StepResult:
        """Train serially on rows (z, n) in place: int64 (m,) addresses for the lookup's keys.

        The bits do not depend on how the examples are cut into batches.
        """
        batch = prepared.batch
        own = len(self._own_keys)
        loss = ftrl_pass(
            rows[:own],
            rows[own:],
            prepared.lookups[TABLE].positions,
            batch.dense,
            batch.values,
            _starts(batch),
            _labels(batch),
            batch.weights,
            *self.config.optimizer.scalars,
            self.hinge,
        )
        return StepResult(len(batch), float(batch.weights.sum(dtype=np.float64)), loss)

    def _products(self) -> tuple[Cross, ...]:
        """Return the products of slots that are taken on the fly."""
        grouped = (cross for groups in self.config.cross_groups for cross in groups.crosses)
        return (*self.config.crosses, *grouped)

    def _differences(
        self, client: Client, prepared: Prepared, before: np.ndarray, after: np.ndarray
    ) -> np.ndarray:
        """Return what to push, float32 (m, 2): see `joint_differences`."""
        workers = client.num_workers
        if workers == 1 or client.worker is None:
            return after - before
        if self._others is None:
            self._others = OthersShare(workers)
        own = len(self._own_keys)
        lookup = prepared.lookups[TABLE]
        counts = np.full(len(before), len(prepared.batch), np.int64)
        counts[own:] = np.bincount(lookup.positions, minlength=len(before) - own)
        scalars = self.config.optimizer.scalars
        settling = settling_count(float(scalars[0]), workers)
        often = np.flatnonzero(counts > settling * _OFTEN)
        others = np.full(len(before), workers - 1, np.float32)
        others[often] = self._others.observe(lookup.keys[often], before[often], after[often])
        return np.asarray(
            joint_differences(before, after, counts, others, np.float32(settling), *scalars)
        )

    def _values(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return where each example starts in `keys`, int64 (B + 1,), and its keys' values."""
        starts = _starts(batch)
        own = starts + np.arange(len(batch) + 1) * len(self._own_keys)
        return own, np.asarray(_with_own_values(batch.dense, batch.values, starts))


def _labels(batch: Batch) -> np.ndarray:
    """Return the first label of each example, float32 (B,).

    Raises:
        DataError: one is missing.
    """
    labels = np.ascontiguousarray(batch.labels[:, 0])
    missing = int(np.count_nonzero(np.isnan(labels)))
    if missing:
        raise DataError(
            f"{missing} of {len(batch)} examples lack the first label, which linear models learn: "
            "leave these out, or take a model of several tasks"
        )
    return labels


def _starts(batch: Batch) -> np.ndarray:
    """Return where each example's keys start in the batch: int64 (B + 1,)."""
    places = np.arange(len(batch) + 1) * len(batch.slots)
    return batch.offsets[places].astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _with_own_keys(own: np.ndarray, keys: np.ndarray, starts: np.ndarray) -> np.ndarray:
    out = np.empty(keys.size + own.size * (starts.size - 1), np.uint64)
    at = 0
    for b in range(starts.size - 1):
        for key in own:
            out[at] = key
            at += 1
        for j in range(starts[b], starts[b + 1]):
            out[at] = keys[j]
            at += 1
    return out


@numba.njit(cache=True, nogil=True)
def _with_own_values(
    dense: np.ndarray, values: np.ndarray | None, starts: np.ndarray
) -> np.ndarray:
    out = np.empty(starts[-1] + (dense.shape[1] + 1) * dense.shape[0], np.float32)
    at = 0
    for b in range(dense.shape[0]):
        out[at] = 1.0
        at += 1
        for d in range(dense.shape[1]):
            out[at] = dense[b, d]
            at += 1
        for j in range(starts[b], starts[b + 1]):
            out[at] = 1.0 if values is None else values[j]
            at += 1
    return out
