"""A trained model's network as an ONNX graph, and folders of models whose network is a graph."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weiml.errors import ConfigError
from weiml.features import FeatureEncoder
from weiml.models.base import Columns
from weiml.models.folder import ModelFolder, save_model
from weiml.models.onnx.config import OnnxConfig, OnnxInput
from weiml.models.onnx.model import OnnxModel
from weiml.models.onnx.tracing import example_of, graph_of
from weiml.ps import Cut, Delta, EmbeddedParameterServer

if TYPE_CHECKING:
    from weiml.models.deep.base import DeepModel

__all__ = ["export_network", "export_onnx", "save_onnx"]


def export_network(model: DeepModel, file: str | Path) -> Path:
    """Write a torch model's network as an .onnx file, whole or not at all.

    Its inputs are those of `weiml.models.deep.contract.Arrays` that the model has, its output
    "logits" (B,) or (B, T); B is free.

    Raises:
        ConfigError: the package onnx is not installed, or the network cannot be exported.
    """
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
    try:
        aside.write_bytes(graph_of(model))
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def export_onnx(source: str | Path, target: str | Path) -> ModelFolder:
    """Write a saved torch model as a new folder whose network is an ONNX graph, and open it.

    Its rows, encoder and version's sequence are the source's; deltas of rows apply to it.

    Raises:
        DataError: the source holds no model, or the target is not empty.
        ConfigError: the network cannot be exported.
    """
    saved = ModelFolder.open(source)
    model = saved.model()
    content = graph_of(_torch_model(model))
    config = OnnxConfig(
        inputs=tuple(OnnxInput(name=n, source=n) for n in example_of(model, 1)),  # type: ignore[arg-type]
        tasks=model.tasks,
        main_task=model.tasks[model.main_task],
        rows_of=model.config,
    )
    graph = OnnxModel(config, model.columns, seed=model.seed)
    graph.set_dense_vector(np.frombuffer(content, np.uint8))
    return _save(target, graph, saved.tables(), saved.encoder(), saved.sequence)


def save_onnx(
    folder: str | Path,
    config: OnnxConfig,
    columns: Columns,
    *,
    encoder: FeatureEncoder | None = None,
) -> ModelFolder:
    """Save a graph of anyone's as a model folder, to be registered and served like others.

    Args:
        folder: the folder to make; one that exists must be empty.
        config: names the file and its inputs.
        columns: slots and dense columns of the batches.
        encoder: that makes such batches of raw columns; serving needs it.

    Raises:
        DataError: the file is no graph that can be run, or the folder is not empty.
        ConfigError: the configuration does not fit the graph or the columns.
    """
    if not config.file:
        raise ConfigError("save_onnx needs `file`: the .onnx file")
    if config.rows_of is not None:
        raise ConfigError("rows_of goes with rows: export_onnx brings them from a saved model")
    return _save(folder, OnnxModel(config, columns), {}, encoder, 0)


def _save(
    folder: str | Path,
    model: OnnxModel,
    tables: dict[str, tuple[np.ndarray, np.ndarray]],
    encoder: FeatureEncoder | None,
    sequence: int,
) -> ModelFolder:
    everything = Delta(since=Cut.zero(), cut=Cut((sequence,)), tables=tables, vectors={}, full=True)
    with EmbeddedParameterServer() as nothing:  # a graph has no state to train on from
        return save_model(folder, model, nothing, encoder=encoder, delta=everything)


def _torch_model(model: Any) -> DeepModel:
    from weiml.models.deep.base import DeepModel

    if not isinstance(model, DeepModel):
        raise ConfigError(
            f"only models with a torch network are exported to ONNX, not {model.name!r}"
        )
    return model
