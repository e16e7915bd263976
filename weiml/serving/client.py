"""A client of the endpoint: a thin layer over HTTP that speaks the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import numpy as np

from weiml.errors import ClusterError, RequestError
from weiml.serving.protocol import DATATYPES, Tensor, format_request

__all__ = ["Client", "InferResult"]


@dataclass(frozen=True, kw_only=True)
class InferResult:
    """An answer: which version scored, and the outputs by name."""

    model_version: str
    outputs: Mapping[str, np.ndarray]
    parameters: Mapping[str, Any]
    id: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return the outputs as one dictionary a candidate."""
        columns = {name: values.tolist() for name, values in self.outputs.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Client:
    """Asks one endpoint. Safe for threads (httpx pools connections). A context manager.

    Example:
        >>> with Client("http://127.0.0.1:8000") as client:                     # doctest: +SKIP
        ...     client.rank(196, [242, 302, 377], top_k=2).rows()
    """

    def __init__(self, url: str, *, model: str | None = None, timeout_s: float = 30.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)
        self._model = model

    def rank(
        self,
        user_id: int | str,
        items: Sequence[int] | Sequence[str] | np.ndarray,
        *,
        timestamp: int | None = None,
        top_k: int | None = None,
        model: str | None = None,
    ) -> InferResult:
        """Return the best candidates first: outputs ``item_id``, ``score`` and ``title``."""
        parameters: dict[str, Any] = {"rank": True}
        if top_k is not None:
            parameters["top_k"] = top_k
        inputs = _ids(user_id, items, timestamp)
        return self.infer(inputs, parameters=parameters, model=model)

    def score(
        self,
        user_id: int | str,
        items: Sequence[int] | Sequence[str] | np.ndarray,
        *,
        timestamp: int | None = None,
        model: str | None = None,
    ) -> InferResult:
        """Return the scores of candidates in the order given: output ``score``."""
        return self.infer(_ids(user_id, items, timestamp), model=model)

    def infer(
        self,
        inputs: Sequence[Tensor],
        *,
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        model: str | None = None,
    ) -> InferResult:
        """Send tensors and return what the model answers.

        Raises:
            RequestError: the server refused the request; the message is the server's.
            ClusterError: the server cannot be reached, is overloaded or failed.
        """
        body = format_request(inputs, outputs=outputs, parameters=parameters, request_id=request_id)
        tree = self._call("POST", f"/v2/models/{self._name(model)}/infer", body)
        return InferResult(
            model_version=tree["model_version"],
            outputs={output["name"]: _array(output) for output in tree["outputs"]},
            parameters=tree.get("parameters", {}),
            id=tree.get("id"),
        )

    def observe(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Send feedback events to all replicas; returns the number of the update they travel in."""
        body = json.dumps({"events": list(events)}).encode()
        return int(self._call("POST", "/v2/events", body)["sequence"])

    def metadata(self, model: str | None = None) -> dict[str, Any]:
        """Return a model's inputs, outputs and version."""
        return self._call("GET", f"/v2/models/{self._name(model)}")

    def stats(self, model: str | None = None) -> dict[str, Any]:
        """Return version, staleness, counts and latency of one replica."""
        return self._call("GET", f"/v2/models/{self._name(model)}/stats")

    def server(self) -> dict[str, Any]:
        """Return the server's name, version, extensions and models."""
        return self._call("GET", "/v2")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _name(self, model: str | None) -> str:
        """Return the model asked for; without a name, the server's only one."""
        if model is None and self._model is None:
            models = self.server()["models"]
            if len(models) != 1:
                raise RequestError(f"say which model: this server has {', '.join(models)}")
            self._model = str(models[0])
        return model or str(self._model)

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, content=body)
        except httpx.HTTPError as error:
            raise ClusterError(
                f"no answer from {self._http.base_url}: {error or type(error).__name__}; "
                "is the server up (weiml serve)?"
            ) from None
        try:
            tree = response.json()
        except ValueError:
            tree = {"error": response.text[:200]}
        if response.status_code >= 400:
            kind = ClusterError if response.status_code >= 500 else RequestError
            message = tree.get("error") if isinstance(tree, dict) else None
            raise kind(f"{path} answered {response.status_code}: {message or response.text[:200]}")
        return dict(tree)


def _ids(user_id: Any, items: Any, timestamp: int | None) -> list[Tensor]:
    tensors = [Tensor.of("user_id", [user_id]), Tensor.of("item_id", items)]
    if timestamp is not None:
        tensors.append(Tensor.of("timestamp", [timestamp]))
    return tensors


def _array(output: Mapping[str, Any]) -> np.ndarray:
    dtype = DATATYPES[output["datatype"]]
    return np.array(output["data"], dtype=dtype).reshape(output["shape"])
