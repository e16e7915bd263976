"""Online learning against a live endpoint: score each event before learning from it.

Events replay in time order, chunk by chunk: scored over HTTP by whatever version serves, learned
from by pushing to the parameter server, and what changed is delivered to all replicas before the
next chunk (progressive validation: Blum, Kalai & Langford, COLT 1999).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weiml.config import to_mapping
from weiml.data import FeatureView
from weiml.errors import ClusterError, ConfigError, DataError
from weiml.features import Batch, FeatureSpec
from weiml.models import Predictor, auc, evaluate_scores, log_loss
from weiml.ps import ParameterServer
from weiml.serving.app import Endpoint
from weiml.serving.client import Client
from weiml.serving.protocol import Tensor
from weiml.train import OnlineTrainer

__all__ = ["OnlineLearner", "ReplayConfig", "ReplayResult", "replay"]

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How a stream is replayed."""

    chunk_size: int = 250
    """Events between two versions: a chunk is scored, then learned from, then delivered."""
    batch_size: int = 64
    """Examples of one learning step."""
    deadline_s: float = 15.0
    """How long the delivery of a version to all replicas may take."""
    max_events: int | None = None
    """Stop after so many events; None replays all."""
    dense_lr_scale: float = 0.1
    """Factor on the dense part's learning rate, see OnlineTrainer."""

    def __post_init__(self) -> None:
        for knob in ("chunk_size", "batch_size"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        if self.max_events is not None and self.max_events < 1:
            raise ConfigError(f"max_events must be at least 1 or None, got {self.max_events}")
        if not self.deadline_s > 0:
            raise ConfigError(f"deadline_s must be above 0, got {self.deadline_s}")


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """What a replay saw.

    `summary` holds, fit for JSON: ``online`` and ``frozen`` (metrics over all events), ``curve``
    (one entry a chunk: events, online_auc, frozen_auc, online_log_loss, frozen_log_loss, version,
    freshness_ms), ``freshness_ms`` (p50, p99, max: from the last push of a chunk to the moment at
    which all replicas answer with it), ``versions``, ``replicas`` (by name: pid) and the numbers of
    the run. `events` has one row an event, see `save`.
    """

    summary: dict[str, Any]
    events: pa.Table

    def save(self, folder: str | Path) -> None:
        """Write replay.json (the summary) and replay.parquet.

        Its columns: user_id, item_id, timestamp, label, online_score, frozen_score,
        model_version, sequence.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.events, place / "replay.parquet", compression="zstd")
        text = json.dumps(self.summary, indent=1, allow_nan=False) + "\n"
        (place / "replay.json").write_text(text, encoding="utf-8")


class OnlineLearner:
    """Learns from labelled examples and delivers what changed to an endpoint's replicas.

    Args:
        endpoint: serves `model`, at the snapshot in `folder`.
        model: its name there.
        folder: the saved model; its rows replace what the server holds.
        server: an open parameter server; as many shards as the model was trained on keep the
            version's sequence number rising.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        folder: str | Path,
        server: ParameterServer,
        config: ReplayConfig | None = None,
    ) -> None:
        self.config = config or ReplayConfig()
        self._endpoint = endpoint
        self._model = model
        self._trainer = OnlineTrainer(folder, server, dense_lr_scale=self.config.dense_lr_scale)
        self._client = server.client()
        self._cut = server.cut  # what the replicas' snapshot corresponds to

    def learn(self, batch: Batch, events: dict[str, list[Any]] | None = None) -> dict[str, Any]:
        """Learn from a batch, in small steps, and wait until all replicas serve the result.

        Args:
            batch: labelled examples in time order.
            events: what the replicas' feature views shall observe with it.

        Returns:
            sequence (of the update), freshness_ms (from the last push to all replicas), rows (of
            the delta), loss, replicas (by name: pid).

        Raises:
            ClusterError: a replica did not get there within ``deadline_s``.
        """
        steps = []
        for start in range(0, len(batch), self.config.batch_size):
            steps.append(self._trainer.learn(batch.slice(start, start + self.config.batch_size)))
        pushed = time.perf_counter()
        delta = self._client.delta(self._cut)
        sequence = self._endpoint.publish({self._model: delta}, events)
        status = self._endpoint.wait_for(sequence, timeout_s=self.config.deadline_s)
        self._cut = delta.cut
        examples = sum(step["examples"] for step in steps)
        return {
            "sequence": sequence,
            "freshness_ms": (time.perf_counter() - pushed) * 1e3,
            "rows": delta.num_rows,
            "loss": sum(step["loss"] * step["examples"] for step in steps) / examples,
            "replicas": {name: replica["pid"] for name, replica in status["replicas"].items()},
        }


def replay(
    endpoint: Endpoint,
    model: str,
    folder: str | Path,
    server: ParameterServer,
    examples: pa.Table,
    config: ReplayConfig | None = None,
    *,
    progress: Progress | None = None,
) -> ReplayResult:
    """Replay labelled raw examples in time order against a live endpoint.

    The same events are scored by the model as it was saved, on the same features.

    Args:
        endpoint: serves `model`, at the snapshot in `folder`.
        model: its name there.
        folder: the saved model.
        server: an open parameter server; its content is replaced.
        examples: raw columns of the model's features, user_id, item_id, timestamp, rating, label.
        config: sizes and deadline.
        progress: called with a text, events done and all events.

    Raises:
        DataError: there is no example, or a column is missing.
        ClusterError: an answer came from another version than all replicas had confirmed, or a
            version did not get to all replicas in time.
    """
    config = config or ReplayConfig()
    examples = examples.sort_by("timestamp").slice(0, config.max_events)
    if examples.num_rows == 0:
        raise DataError("there is no example to replay")
    start = time.perf_counter()
    run = _Replay(endpoint, model, folder, server, config)
    for at in range(0, examples.num_rows, config.chunk_size):
        chunk = examples.slice(at, config.chunk_size)
        run.chunk(chunk)
        if progress is not None:
            text = f"{run.curve[-1]['version']}, AUC {run.curve[-1]['online_auc'] or 0:.4f}"
            progress(text, at + chunk.num_rows, examples.num_rows)
    return run.result(time.perf_counter() - start)


class _Replay:
    """The state of one `replay`."""

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        folder: str | Path,
        server: ParameterServer,
        config: ReplayConfig,
    ) -> None:
        self._config = config
        self._frozen = Predictor.load(folder)
        self._learner = OnlineLearner(endpoint, model, folder, server, config)
        self._http = Client(endpoint.url, model=model, timeout_s=config.deadline_s)
        self._sent = _sent_features(self._frozen.encoder.spec, endpoint.config.view)
        self._sequence = int(endpoint.status()["sequence"])
        self._parts: list[pa.Table] = []
        self._groups: list[np.ndarray] = []
        self._requests = 0
        self._replicas: dict[str, int] = {}
        self.curve: list[dict[str, Any]] = []

    def chunk(self, rows: pa.Table) -> None:
        """Score a chunk, then learn from it and deliver what was learned."""
        batch = self._frozen.encoder.encode(rows)
        online, versions, sequences = self._score(rows)
        columns = {name: rows[name] for name in ("user_id", "item_id", "timestamp", "label")}
        columns |= {
            "online_score": pa.array(online),
            "frozen_score": pa.array(self._frozen.score(batch)),
            "model_version": pa.array(versions),
            "sequence": pa.array(sequences),
        }
        self._parts.append(pa.table(columns))
        self._groups.append(batch.groups)
        names = ("user_id", "item_id", "timestamp", "rating")
        learned = self._learner.learn(batch, {name: rows[name].to_pylist() for name in names})
        self._sequence = learned["sequence"]
        self._replicas |= learned["replicas"]
        self.curve.append(self._point(learned, versions[-1]))

    def result(self, seconds: float) -> ReplayResult:
        """Return what was seen so far."""
        events = pa.concat_tables(self._parts)
        labels, online, frozen = _scores(events)
        groups = np.concatenate(self._groups)
        freshness = np.array([point["freshness_ms"] for point in self.curve])
        first = self._parts[0]
        difference = pc.max(pc.abs(pc.subtract(first["online_score"], first["frozen_score"])))
        summary = {
            "config": to_mapping(self._config),
            "num_events": events.num_rows,
            "num_requests": self._requests,
            "seconds": seconds,
            "online": _finite(evaluate_scores(labels, online, groups)),
            "frozen": _finite(evaluate_scores(labels, frozen, groups)),
            "curve": self.curve,
            "freshness_ms": {
                "p50": float(np.percentile(freshness, 50)),
                "p99": float(np.percentile(freshness, 99)),
                "max": float(freshness.max()),
            },
            "versions": list(dict.fromkeys(events["model_version"].to_pylist())),
            "replicas": self._replicas,
            # Before the first update both are the same model: the difference is serving's own.
            "first_chunk_max_difference": float(difference.as_py()),
        }
        return ReplayResult(summary=summary, events=events)

    def _score(self, rows: pa.Table) -> tuple[np.ndarray, list[str], list[int]]:
        """Score events over HTTP, one request a user, with each event's own features."""
        scores = np.empty(rows.num_rows, np.float32)
        versions = [""] * rows.num_rows
        sequences = [0] * rows.num_rows
        users = rows["user_id"].to_numpy(zero_copy_only=False)
        for user in dict.fromkeys(users.tolist()):
            at = np.flatnonzero(users == user)
            answer = self._http.infer(self._tensors(user, rows.take(pa.array(at))))
            self._requests += 1
            self._check(answer.parameters)
            scores[at] = answer.outputs["score"]
            for i in at.tolist():
                versions[i] = answer.model_version
                sequences[i] = answer.parameters["sequence"]
        return scores, versions, sequences

    def _tensors(self, user: Any, rows: pa.Table) -> list[Tensor]:
        # What changes from event to event is sent; profiles are looked up by the replica.
        return [
            Tensor.of("user_id", [user]),
            Tensor.of("item_id", rows["item_id"].to_pylist()),
            Tensor.of("timestamp", [rows["timestamp"][0].as_py()]),
            *(Tensor.of(name, rows[name].to_pylist()) for name in self._sent),
        ]

    def _check(self, parameters: Any) -> None:
        if parameters["sequence"] != self._sequence:
            raise ClusterError(
                f"replica {parameters['replica']} answered at update {parameters['sequence']}, "
                f"though all replicas had confirmed {self._sequence}: does something else publish "
                "to this endpoint?"
            )

    def _point(self, learned: dict[str, Any], version: str) -> dict[str, Any]:
        """Return the curve's entry: metrics over all events so far (None before both classes)."""
        labels, online, frozen = _scores(pa.concat_tables(self._parts))
        point = {"events": len(labels), "version": version}
        for name, scores in (("online", online), ("frozen", frozen)):
            metrics = {"auc": auc(labels, scores), "log_loss": log_loss(labels, scores)}
            point |= {f"{name}_{metric}": value for metric, value in _finite(metrics).items()}
        return point | {name: learned[name] for name in ("freshness_ms", "rows", "loss")}


def _sent_features(spec: FeatureSpec, view: str | None) -> list[str]:
    """Return the features that the view cannot know as of each event: all but profiles and ids."""
    known = {spec.group, spec.item, spec.time}
    if view is not None:
        loaded = FeatureView.load(view)
        known |= {*loaded.users.names, *loaded.items.names}
    return [feature.name for feature in spec.features if feature.name not in known]


def _scores(events: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = events["label"].to_numpy().astype(np.float32)
    return labels, events["online_score"].to_numpy(), events["frozen_score"].to_numpy()


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
