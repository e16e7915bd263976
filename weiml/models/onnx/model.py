"""An ONNX graph as a model: scored, saved and served like others, but not trained.

score = σ(graph(columns of the batch, or pooled rows))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from weiml.config import to_mapping
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.base import Columns, Model, Rows, StepResult, build_model
from weiml.models.deep.sparse import SparseModel
from weiml.models.fetch import Fetch, Prepared
from weiml.models.onnx.config import ROW_SOURCES, OnnxConfig, OnnxInput
from weiml.models.onnx.graph import Graph
from weiml.models.onnx.inputs import array_of, check_input
from weiml.models.registry import register_model
from weiml.ps import Client, TableConfig

__all__ = ["OnnxModel"]

_TENSOR = "onnx"


@register_model
class OnnxModel(Model):
    """See the module. The graph's bytes are saved with the model, as its only dense tensor."""

    name = "onnx"
    config_class = OnnxConfig
    config: OnnxConfig

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        for given in self.config.inputs:
            check_input(given, columns)
        self._rows_of = self._model_of_rows(options)
        self._graph: Graph | None = None
        if self.config.file:
            try:
                content = Path(self.config.file).read_bytes()
            except OSError as error:
                raise DataError(f"file {self.config.file!r} cannot be read: {error}") from None
            self._set_graph(content, self.config.file)

    @property
    def tasks(self) -> tuple[str, ...]:
        """See `Model.tasks`."""
        return self.config.tasks

    @property
    def main_task(self) -> int:
        """See `Model.main_task`."""
        return self.tasks.index(self.config.main_task) if self.config.main_task else 0

    @property
    def families(self) -> tuple[tuple[str, ...], ...]:
        """See `Model.families`."""
        return () if self._rows_of is None else self._rows_of.families

    def tables(self) -> tuple[TableConfig, ...]:
        """See `Model.tables`: those of `rows_of`."""
        return () if self._rows_of is None else self._rows_of.tables()

    def keys(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """See `Model.keys`."""
        return {} if self._rows_of is None else self._rows_of.keys(batch)

    def logits(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.logits`; of a graph that gives probabilities, their log-odds."""
        found = self._run(batch, rows)
        if self.config.gives == "logits":
            return found
        inside = np.clip(found.astype(np.float64), 1e-15, 1 - 1e-15)
        return np.log(inside / (1 - inside)).astype(np.float32)

    def scores(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.scores`; the loss of `rows_of` says what its logits stand for."""
        if self.config.gives == "probabilities":
            return self._run(batch, rows)
        if self._rows_of is None:
            return super().scores(batch, rows)
        return self._rows_of.config.loss.probabilities(self.logits(batch, rows))

    def prepare(self, batch: Batch) -> Prepared:
        """Raise ConfigError: graphs are not trained."""
        self._refuse()

    def compute(self, client: Client, fetch: Fetch) -> StepResult:
        """Raise ConfigError: graphs are not trained."""
        self._refuse()

    def push(self, client: Client, *, missed_by: Fetch | None = None) -> None:
        """Raise ConfigError: graphs are not trained."""
        self._refuse()

    def dense_tensors(self) -> dict[str, np.ndarray]:
        """Return the bytes of the graph; none if the model knows none yet."""
        content = b"" if self._graph is None else self._graph.content
        return {_TENSOR: np.frombuffer(content, np.uint8).copy()}

    def dense_vector(self) -> np.ndarray:
        """Return float32 (0,): nothing is trained."""
        return np.empty(0, np.float32)

    def set_dense_vector(self, vector: np.ndarray) -> None:
        """Take the bytes of `dense_tensors` of a saved model, or nothing."""
        if not vector.size:
            return
        if vector.dtype != np.uint8:
            raise DataError(
                f"the graph of model 'onnx' is fixed, got {vector.size} numbers of a network that "
                "is trained: export that again, or send rows only"
            )
        self._set_graph(vector.tobytes(), "the saved graph")

    def config_mapping(self) -> dict[str, Any]:
        """See `Model.config_mapping`; the file is left out, for the graph is saved."""
        return to_mapping(replace(self.config, file=""))

    def _model_of_rows(self, options: Mapping[str, Any]) -> SparseModel | None:
        config = self.config.rows_of
        if config is None:
            return None
        model = build_model(config.name, config, self.columns, **options)
        if not isinstance(model, SparseModel):
            raise ConfigError(f"rows_of must be a model with a network, got {config.name!r}")
        if model.tasks != self.tasks:
            raise ConfigError(f"rows_of has tasks {model.tasks}, tasks are {self.tasks}")
        return model

    def _set_graph(self, content: bytes, where: str) -> None:
        graph = Graph(
            content,
            where=where,
            output=self.config.output,
            threads=self.threads,
            device=self.device,
        )
        named = {given.name for given in self.config.inputs}
        if named != set(graph.types):
            raise ConfigError(
                f"{where} has inputs {sorted(graph.types)}, the configuration's inputs are "
                f"{sorted(named)}: name each of the graph's, and no others"
            )
        self._graph = graph

    def _run(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """Return the graph's output float32 (B, T)."""
        self.check(batch)
        if self._graph is None:
            raise ConfigError("model 'onnx' needs a graph: set `file` to an .onnx file")
        shape = (len(batch), len(self.tasks))
        if not len(batch):
            return np.zeros(shape, np.float32)
        found = self._graph.run(self._arrays(batch, rows, self._graph.types))
        if found.size != shape[0] * shape[1] or found.shape[0] != shape[0]:
            raise DataError(
                f"output {self._graph.output!r} of the graph has shape {found.shape}, {shape} is "
                f"needed for {len(batch)} examples and tasks {self.tasks}; `output` chooses another"
            )
        return found.reshape(shape)

    def _arrays(
        self, batch: Batch, rows: Mapping[str, Rows], types: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        of_rows: dict[str, np.ndarray | None] = {}
        if self._rows_of is not None:
            of_rows = self._rows_of.arrays(batch, rows)._asdict()
        return {
            given.name: self._array(given, batch, of_rows, types[given.name])
            for given in self.config.inputs
        }

    def _array(
        self, given: OnnxInput, batch: Batch, of_rows: Mapping[str, np.ndarray | None], dtype: Any
    ) -> np.ndarray:
        if given.source not in ROW_SOURCES:
            return array_of(given, batch, dtype)
        found = of_rows[given.source]
        if found is None:
            raise ConfigError(f"input {given.name!r}: the model in rows_of has no {given.source!r}")
        return np.ascontiguousarray(found, dtype)

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            "model 'onnx' is for scoring only; train the model that it was made of, and export it"
        )
