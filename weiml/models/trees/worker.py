"""What runs on each worker that grows trees: surveying, binning, boosting its part of the examples.

These functions run by `weiml.group.Group`, unchanged in this process and in Ray actors, in this
order: `survey`, `bin_examples`, then for each segment of rounds `open_port`, `start_segment`,
`boost` as often as wanted, `end_segment`. Between workers LightGBM's own sockets sum histograms.
"""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from weiml.data import BatchSource
from weiml.errors import ClusterError, ConfigError, DataError
from weiml.features import Batch
from weiml.group import WorkerContext
from weiml.models.trees.columns import TreeColumns
from weiml.models.trees.config import GBDTConfig
from weiml.models.trees.counts import KeyCounts, count_slots
from weiml.models.trees.forest import Forest
from weiml.models.trees.text import TreeText

__all__ = [
    "Address",
    "Boosted",
    "Survey",
    "bin_examples",
    "boost",
    "end_segment",
    "import_lightgbm",
    "open_port",
    "start_segment",
    "survey",
]

_BLOCK = 8192
"""Examples that are made a matrix at a time."""


class Survey(NamedTuple):
    """What one pass over a worker's examples finds."""

    examples: int
    positives: int
    weighted: bool
    """Whether any example has another weight than 1."""
    counts: list[KeyCounts]
    sample: Batch | None
    """Examples to find the borders of bins by."""


class Address(NamedTuple):
    """Where a worker's LightGBM listens."""

    host: str
    port: int


class Boosted(NamedTuple):
    """What a few rounds gave."""

    rounds: int
    """Fewer than wanted if no leaf can be split any more."""
    metrics: list[tuple[float, float]]
    """Validation AUC and log-loss after each; empty where there is no validation set."""


@dataclass
class _Set:
    """Examples as bins, and where to read them again."""

    source: BatchSource
    worker: int
    num_workers: int
    data: Any
    scores: np.ndarray
    """float64 (n,): log-odds by the trees of the segments before."""


@dataclass
class _Worker:
    config: GBDTConfig
    columns: TreeColumns
    train: _Set
    validation: _Set | None
    booster: Any = None
    port: socket.socket | None = field(default=None, repr=False)


def import_lightgbm() -> Any:
    """Return the module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise ConfigError(
            "growing trees needs LightGBM, which is not installed: pip install 'weiml[trees]'"
        ) from None
    return lightgbm


def survey(context: WorkerContext, source: BatchSource, config: GBDTConfig) -> Survey:
    """Count keys, check labels and draw the sample that bins are found by.

    Raises:
        DataError: there are several labels an example, or others than 0 and 1.
    """
    counts = [KeyCounts() for _ in source.slots]
    chosen = _sample_of(source.num_examples, config)
    at = context.rank * (source.num_examples // context.num_workers)
    examples, positives, weighted, sample = 0, 0, False, []
    for batch in _blocks(source, context.rank, context.num_workers):
        _check_labels(batch, source)
        count_slots(batch, counts)
        first, last = np.searchsorted(chosen, [at, at + len(batch)])
        if last > first:
            sample.append(batch.take(chosen[first:last] - at))
        at += len(batch)
        examples += len(batch)
        positives += int(batch.labels.sum())
        weighted |= bool((batch.weights != 1).any())
    joined = Batch.concat(sample) if sample else None
    return Survey(examples, positives, weighted, counts, joined)


def bin_examples(
    context: WorkerContext,
    source: BatchSource,
    validation: BatchSource | None,
    columns: TreeColumns,
    sample: Batch,
    config: GBDTConfig,
    weighted: bool,
) -> None:
    """Make LightGBM's data of the worker's examples, block by block.

    All workers find the same bins, since all find them by the same sample. Rank 0 alone has the
    validation set, so that there is one number to stop by.
    """
    lightgbm = import_lightgbm()
    like = lightgbm.Dataset(
        columns.matrix(sample),
        label=np.zeros(len(sample), np.float32),
        categorical_feature=list(columns.categorical),
        params=config.bin_parameters(),
    ).construct()
    train = _read(source, context.rank, context.num_workers, columns, like, weighted, config)
    held = None
    if validation is not None and context.rank == 0:
        held = _read(validation, 0, 1, columns, like, True, config)
    context.memory["trees"] = _Worker(config, columns, train, held)


def open_port(context: WorkerContext) -> Address:
    """Take a free port for LightGBM, held until `start_segment`."""
    import ray

    port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    port.bind(("127.0.0.1", 0))
    _worker(context).port = port
    return Address(str(ray.util.get_node_ip_address()), int(port.getsockname()[1]))


def start_segment(
    context: WorkerContext, before: TreeText | None, first_round: int, addresses: list[Address]
) -> None:
    """Begin boosting after `first_round` rounds.

    Args:
        context: the worker.
        before: trees that the worker does not have in its scores yet.
        first_round: how many trees there are.
        addresses: of all workers; empty for a lone one.
    """
    worker = _worker(context)
    if before is not None:
        forest = Forest.from_text(before)
        for each in (worker.train, worker.validation):
            if each is not None:
                _add_scores(each, forest, worker.columns)
    parameters = worker.config.parameters(first_round)
    if addresses:
        parameters |= _network(addresses, context.rank, worker.config)
    if worker.port is not None:
        worker.port.close()
        worker.port = None
    with _named_failures(context):
        worker.booster = import_lightgbm().Booster(parameters, worker.train.data)
        if worker.validation is not None:
            worker.booster.add_valid(worker.validation.data, "validation")


def boost(context: WorkerContext, count: int) -> Boosted:
    """Add up to `count` trees."""
    worker = _worker(context)
    metrics: list[tuple[float, float]] = []
    for done in range(count):
        with _named_failures(context):
            if worker.booster.update():
                return Boosted(done, metrics)
            if worker.validation is not None:
                auc, loss = (entry[2] for entry in worker.booster.eval_valid())
                metrics.append((float(auc), float(loss)))
    return Boosted(count, metrics)


def end_segment(context: WorkerContext) -> tuple[TreeText | None, str]:
    """Return the segment's trees, from rank 0 only, and their digest; leave the network."""
    worker = _worker(context)
    text = TreeText.parse(worker.booster.model_to_string(num_iteration=-1))
    worker.booster.free_network()
    worker.booster = None
    digest = hashlib.sha256(str(text).encode()).hexdigest()
    return (None if context.rank else text), digest


def _worker(context: WorkerContext) -> _Worker:
    worker = context.memory["trees"]
    assert isinstance(worker, _Worker)
    return worker


def _blocks(source: BatchSource, worker: int, num_workers: int) -> Iterator[Batch]:
    return source.iter_batches(_BLOCK, worker=worker, num_workers=num_workers)


def _sample_of(examples: int, config: GBDTConfig) -> np.ndarray:
    """Return the rising numbers of the examples that bins are found by, int64."""
    if examples <= config.bin_sample:
        return np.arange(examples)
    rng = np.random.default_rng(config.seed)
    drawn = rng.choice(examples, config.bin_sample, replace=False, shuffle=False)
    return np.sort(drawn)


def _check_labels(batch: Batch, source: BatchSource) -> None:
    if batch.labels.shape[1] != 1:
        raise DataError(
            f"{source} has {batch.labels.shape[1]} labels an example, trees learn one; encode it "
            "with one label"
        )
    odd = ~np.isin(batch.labels, (0, 1))
    if odd.any():
        raise DataError(f"{source}: labels must be 0 or 1, got {batch.labels[odd][0]}")
    if not (np.isfinite(batch.weights).all() and (batch.weights >= 0).all()):
        raise DataError(f"{source}: weights must be finite and not negative")


def _read(
    source: BatchSource,
    worker: int,
    num_workers: int,
    columns: TreeColumns,
    like: Any,
    weighted: bool,
    config: GBDTConfig,
) -> _Set:
    """Bin a part of the examples, reading it once."""
    lightgbm = import_lightgbm()
    size = source.num_examples // num_workers
    labels = np.zeros(size, np.float32)
    weights = np.ones(size, np.float32)
    blocks = _blocks(source, worker, num_workers)

    class Matrices(lightgbm.Sequence):  # type: ignore[name-defined]
        batch_size = _BLOCK

        def __len__(self) -> int:
            return size

        def __getitem__(self, where: Any) -> np.ndarray:
            # LightGBM asks for one slice after the other, and for labels and weights at the end.
            batch = next(blocks)
            assert len(batch) == where.stop - where.start
            _check_labels(batch, source)
            labels[where] = batch.labels[:, 0]
            weights[where] = batch.weights
            return columns.matrix(batch)

    data = lightgbm.Dataset(
        Matrices(),
        label=labels,
        weight=weights if weighted else None,
        reference=like,
        params=config.bin_parameters(),
    ).construct()
    return _Set(source, worker, num_workers, data, np.zeros(size))


def _add_scores(of: _Set, forest: Forest, columns: TreeColumns) -> None:
    at = 0
    for batch in _blocks(of.source, of.worker, of.num_workers):
        forest.add_scores(columns.matrix(batch), of.scores[at : at + len(batch)])
        at += len(batch)
    of.data.set_init_score(of.scores)


def _network(addresses: list[Address], rank: int, config: GBDTConfig) -> dict[str, Any]:
    # LightGBM finds its rank by its own addresses; on one machine loopback keeps data on it.
    alone = len({address.host for address in addresses}) == 1
    hosts = ["127.0.0.1" if alone else address.host for address in addresses]
    machines = [f"{host}:{a.port}" for host, a in zip(hosts, addresses, strict=True)]
    return {
        "tree_learner": "data",
        "pre_partition": True,
        "machines": ",".join(machines),
        "num_machines": len(addresses),
        "local_listen_port": addresses[rank].port,
        "time_out": max(1, math.ceil(config.timeout_s / 60)),  # minutes
    }


@contextmanager
def _named_failures(context: WorkerContext) -> Iterator[None]:
    lightgbm = import_lightgbm()
    try:
        yield
    except lightgbm.basic.LightGBMError as error:
        if context.num_workers == 1:
            raise ConfigError(f"LightGBM refused: {error}") from None
        raise ClusterError(
            f"worker {context.rank} of {context.num_workers}: LightGBM failed: {error}; if it is "
            "about sockets, another worker died: look into Ray's logs, and start again"
        ) from None
