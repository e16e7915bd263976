"""The servable: transforms, all collocated models and one feature view, in one process.

The unit of work is (user, N candidates). Knows nothing of HTTP or Ray; not safe for threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.data import FeatureView
from weiml.errors import ConfigError, DataError, RequestError
from weiml.features import Binary, Continuous, FeatureSpec, SparseBinary
from weiml.models import Predictor, Scorer, load_scorer
from weiml.ps import Delta
from weiml.serving.protocol import InferRequest, Limits, Tensor
from weiml.serving.tensors import column_of
from weiml.serving.updates import Events

__all__ = ["Ranking", "Scores", "Servable"]

_PARAMETERS = ("rank", "top_k")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Scores of N candidates, in the order in which they were asked, and who gave them."""

    version: str
    item_ids: np.ndarray
    scores: np.ndarray
    """``(N,)`` float32 probabilities."""
    titles: np.ndarray | None
    """``(N,)`` object, where the raw columns have a title."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking(Scores):
    """The best candidates first; equal scores keep the order in which they were asked."""


class Servable:
    """Models by name over one shared view; scores by the code that evaluation uses.

    Args:
        scorers: what scores (`weiml.models.load_scorer`), for each model name.
        view: looks up what clients do not send; None if they send every raw column.
        limits: bounds of one request.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        view: FeatureView | None,
        *,
        limits: Limits | None = None,
    ) -> None:
        if not scorers:
            raise ConfigError("a servable needs at least one model, got none")
        self._scorers = dict(scorers)
        self._view = view
        self._limits = limits or Limits()

    @classmethod
    def load(
        cls,
        models: Mapping[str, str | Path] | str | Path,
        view_folder: str | Path | None,
        *,
        limits: Limits | None = None,
    ) -> Servable:
        """Load models, by name or one (named after its folder), and the view they share.

        Raises:
            DataError: a folder is missing or damaged.
        """
        if not isinstance(models, Mapping):
            models = {Path(models).name: models}
        scorers = {name: load_scorer(Path(folder)) for name, folder in models.items()}
        view = None if view_folder is None else FeatureView.load(Path(view_folder))
        return cls(scorers, view, limits=limits)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self._scorers)

    def version(self, model: str) -> str:
        """Return the version that scores now: ``"snapshot.sequence"``."""
        return self._scorer(model).version

    def score(
        self, model: str, user_id: Any, item_ids: Any, timestamp: int | None = None
    ) -> Scores:
        """Score candidates for a user from what the view knows; timestamp defaults to now."""
        inputs = {
            "user_id": Tensor.of("user_id", [user_id]),
            "item_id": Tensor.of("item_id", item_ids),
        }
        if timestamp is not None:
            inputs["timestamp"] = Tensor.of("timestamp", [timestamp])
        return self._score(model, inputs)

    def rank(
        self,
        model: str,
        user_id: Any,
        item_ids: Any,
        timestamp: int | None = None,
        *,
        top_k: int | None = None,
    ) -> Ranking:
        """Return the `top_k` best candidates (None: all) for a user, best first."""
        return _best(self.score(model, user_id, item_ids, timestamp), top_k)

    def infer(self, model: str, request: InferRequest) -> tuple[str, list[Tensor]]:
        """Answer a protocol request: the version that scored, and the outputs asked for.

        Raises:
            RequestError: unknown model, tensor, output or parameter, or a wrong shape or type.
        """
        ranked, top_k = _ranking_parameters(request.parameters)
        scored = self._score(model, request.inputs)
        if ranked:
            scored = _best(scored, top_k)
        outputs = {
            "item_id": Tensor.of("item_id", scored.item_ids),
            "score": Tensor.of("score", scored.scores),
        }
        if scored.titles is not None:
            outputs["title"] = Tensor.of("title", scored.titles, "BYTES")
        wanted = request.outputs
        if wanted is None:
            wanted = tuple(outputs) if ranked else ("score",)
        for name in wanted:
            if name not in outputs:
                raise RequestError(f"no output {name!r}{nearest(name, outputs)}")
        return scored.version, [outputs[name] for name in wanted]

    def apply_delta(self, model: str, delta: Delta) -> None:
        """Replace the rows and vectors that the delta holds; the version moves with it.

        Raises:
            RequestError: no parameter server moves the model on, as of trees.
            DataError: the delta is of another model.
        """
        scorer = self._scorer(model)
        if not isinstance(scorer, Predictor):
            raise RequestError(
                f"model {model!r} ({scorer.name}) takes no deltas: nothing of it is kept on a "
                "parameter server; serve a new version"
            )
        scorer.apply_delta(delta)

    def check_events(self, events: Events) -> None:
        """Find out whether `observe` can take events, before they go to all replicas.

        Raises:
            RequestError: a value is not of the type of the view's column.
        """
        if self._view is None:
            raise RequestError("this server has no feature view that could observe events")
        self._events_table(self._view, events)

    def observe(self, events: Events) -> None:
        """Count feedback events in the view, so that history features follow them."""
        if self._view is not None:
            self._view.observe(self._events_table(self._view, events))

    def warm_up(self) -> None:
        """Score a few candidates with each model, so that the first request compiles nothing."""
        if self._view is None or not len(self._view.users) or not len(self._view.items):
            return
        user = self._view.users.ids()[0].as_py()
        items = self._view.items.ids()[:8].to_pylist()
        for model in self._scorers:
            self.rank(model, user, items)

    def describe(self, model: str) -> dict[str, Any]:
        """Return the protocol's metadata of a model: its inputs and outputs."""
        scorer = self._scorer(model)
        spec = scorer.encoder.spec
        inputs = [
            {"name": spec.group, "datatype": "INT64", "shape": [1]},
            {"name": spec.item, "datatype": "INT64", "shape": [-1]},
            {"name": spec.time, "datatype": "INT64", "shape": [1]},
        ]
        known = {entry["name"] for entry in inputs}
        inputs += [_describe_feature(f) for f in spec.features if f.name not in known]
        outputs = [
            {"name": "score", "datatype": "FP32", "shape": [-1]},
            {"name": "item_id", "datatype": "INT64", "shape": [-1]},
            {"name": "title", "datatype": "BYTES", "shape": [-1]},
        ]
        return {
            "name": model,
            "versions": [scorer.version],
            "platform": "weiml",
            "inputs": inputs,
            "outputs": outputs,
        }

    def _score(self, model: str, inputs: Mapping[str, Tensor]) -> Scores:
        scorer = self._scorer(model)
        encoder = scorer.encoder
        table = self._rows(encoder.spec, inputs)
        try:
            batch = encoder.encode(table, labels=False)
        except DataError as error:
            raise RequestError(str(error)) from None
        titles = None
        if "title" in table.column_names:
            titles = np.array(table["title"].to_pylist(), dtype=object)
        return Scores(
            version=scorer.version,
            item_ids=inputs[encoder.spec.item].data,
            scores=scorer.score(batch),
            titles=titles,
        )

    def _rows(self, spec: FeatureSpec, inputs: Mapping[str, Tensor]) -> pa.Table:
        """Return the raw columns of N candidates: what the view knows, what was sent on top."""
        items = self._items(spec, inputs)
        N = items.data.size
        features = {feature.name: feature for feature in spec.features}
        allowed = {spec.group, spec.item, spec.time, *features}
        for name in inputs:
            if name not in allowed:
                raise RequestError(f"the model has no input {name!r}{nearest(name, allowed)}")
        user = _one(inputs, spec.group)
        timestamp = _one(inputs, spec.time) if spec.time in inputs else int(time.time())
        ids = {spec.group: [user] * N, spec.item: items.data.tolist(), spec.time: [timestamp] * N}
        sent = set(inputs)
        if set(features) <= sent | set(ids):
            table = pa.table(ids)
        elif self._view is None:
            missing = sorted(set(features) - sent - set(ids))
            raise RequestError(f"this server looks nothing up: send inputs {', '.join(missing)}")
        else:
            table = self._look_up(user, items, timestamp)
        for name in sent - set(ids):
            column = column_of(inputs[name], features[name], N)
            at = table.column_names.index(name) if name in table.column_names else -1
            table = (
                table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
            )
        return table

    def _look_up(self, user: Any, items: Tensor, timestamp: Any) -> pa.Table:
        assert self._view is not None
        if not isinstance(timestamp, int) or timestamp >= 2**63:
            raise RequestError(f"tensor 'timestamp' must hold whole seconds, got {timestamp!r}")
        try:
            return self._view.rows(user, items.data.tolist(), timestamp)
        except (DataError, pa.ArrowException) as error:
            raise RequestError(f"cannot look up features: {error}") from None

    @staticmethod
    def _events_table(view: FeatureView, events: Events) -> pa.Table:
        kinds = {
            view.users.on: view.users.table.schema.field(view.users.on).type,
            view.items.on: view.items.table.schema.field(view.items.on).type,
            "timestamp": pa.int64(),
            "rating": pa.float32(),
        }
        columns = {}
        for name, kind in kinds.items():
            try:
                columns[name] = pa.array(events[name], kind)
            except (KeyError, pa.ArrowException, OverflowError) as error:
                raise RequestError(f"events: {name!r} must hold {kind}: {error}") from None
        return pa.table(columns)

    def _items(self, spec: FeatureSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        for name, shape in ((spec.group, "[1]"), (spec.item, "[N]")):
            if name not in inputs:
                got = f"; got {', '.join(map(repr, inputs))}" if inputs else ""
                raise RequestError(f"input {name!r} of shape {shape} is missing{got}")
        items = inputs[spec.item]
        if items.data.ndim != 1 or items.data.size == 0:
            raise RequestError(
                f"tensor {spec.item!r} must have shape [N] with N of 1 or more, "
                f"got {list(items.shape)}"
            )
        if items.data.dtype.kind == "f":
            raise RequestError(f"tensor {spec.item!r} must hold integers or BYTES")
        if items.data.size > self._limits.max_candidates:
            raise RequestError(
                f"{items.data.size} candidates are more than limits.max_candidates = "
                f"{self._limits.max_candidates}; send fewer a request"
            )
        return items

    def _scorer(self, model: str) -> Scorer:
        if model not in self._scorers:
            raise RequestError(f"no model {model!r}{nearest(model, self._scorers)}")
        return self._scorers[model]


def _best(scored: Scores, top_k: int | None) -> Ranking:
    order = np.argsort(-scored.scores, kind="stable")[:top_k]
    return Ranking(
        version=scored.version,
        item_ids=scored.item_ids[order],
        scores=scored.scores[order],
        titles=None if scored.titles is None else scored.titles[order],
    )


def _ranking_parameters(parameters: Mapping[str, Any]) -> tuple[bool, int | None]:
    for name in parameters:
        if name not in _PARAMETERS:
            raise RequestError(f"unknown parameter {name!r}{nearest(name, _PARAMETERS)}")
    ranked = parameters.get("rank", "top_k" in parameters)
    if not isinstance(ranked, bool):
        raise RequestError(f"parameter 'rank' must be true or false, got {ranked!r}")
    top_k = parameters.get("top_k")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise RequestError(f"parameter 'top_k' must be an integer of at least 1, got {top_k!r}")
    return ranked, top_k


def _one(inputs: Mapping[str, Tensor], name: str) -> Any:
    tensor = inputs[name]
    if tensor.data.size != 1 or tensor.data.dtype.kind == "f":
        raise RequestError(
            f"tensor {name!r} must hold one integer or text, got {tensor.datatype} of shape "
            f"{list(tensor.shape)}"
        )
    return tensor.data.reshape(-1).tolist()[0]


def _describe_feature(feature: Any) -> dict[str, Any]:
    if isinstance(feature, Continuous):
        return {"name": feature.name, "datatype": "FP64", "shape": [-1]}
    if isinstance(feature, Binary):
        return {"name": feature.name, "datatype": "BOOL", "shape": [-1]}
    shape = [-1, -1] if isinstance(feature, SparseBinary) else [-1]
    return {"name": feature.name, "datatype": "BYTES", "shape": shape}
