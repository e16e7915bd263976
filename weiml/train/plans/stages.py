"""What each stage of a plan does, given the stages before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weiml.data import BatchDataset, Examples
from weiml.errors import DataError
from weiml.features import FeatureEncoder, FeatureSpec
from weiml.models import ModelFolder, Predictor
from weiml.models.calibration import Calibration, FittedCalibration
from weiml.models.trees import GBDTConfig, GBDTProgress, GBDTTrainer
from weiml.train.callbacks import Progress
from weiml.train.config import TrainConfig
from weiml.train.evaluate import evaluate_model
from weiml.train.plans.store import StageStore
from weiml.train.trainer import Trainer

__all__ = [
    "BATCHES",
    "ENCODER",
    "MODEL",
    "TREES",
    "calibrate",
    "encode",
    "fit_calibration",
    "fit_encoder",
    "grow_trees",
    "test_model",
    "train_network",
]

ENCODER = "encoder.json"
BATCHES = "batches"
TREES = "trees"
MODEL = "model"
_BATCH_SIZE = 8192


def fit_encoder(examples: Examples, spec: FeatureSpec, folder: Path) -> dict[str, Any]:
    """Fit the spec's transforms and scales on the training examples."""
    encoder = examples.fit_encoder(spec)
    encoder.save(folder / ENCODER)
    return {"transforms": len(spec.transforms), "slots": len(spec.slots), "dense": len(spec.dense)}


def encode(examples: Examples, encoder: FeatureEncoder, part: str, folder: Path) -> dict[str, Any]:
    """Write a part as batches; what keys stand for is kept beside those of train."""
    written = examples.write_batches(folder / BATCHES, encoder, names=part == "train")
    if not written.num_examples:
        raise DataError(f"part {part!r} has no examples: change data.shares or its files")
    return {"examples": written.num_examples, **written.counts}


def grow_trees(
    config: GBDTConfig,
    train: BatchDataset,
    validation: BatchDataset | None,
    folder: Path,
    left: Path,
    store: StageStore,
) -> dict[str, Any]:
    """Grow the trees whose leaves the network's model learns."""

    def show(at: GBDTProgress) -> None:
        store.tell(f"trees: round {at.round}, validation AUC {at.auc:.4f}", at.round, at.rounds)

    result = GBDTTrainer(config).fit(train, validation, progress=show, checkpoints=left)
    result.model.save(folder / TREES)
    return {"trees": result.model.num_trees, "history": result.history}


def train_network(
    config: TrainConfig,
    train: BatchDataset,
    validation: BatchDataset | None,
    trees: Path | None,
    folder: Path,
    left: Path,
    store: StageStore,
) -> dict[str, Any]:
    """Train the network, from its last checkpoint on if it was broken off."""

    def show(at: Progress) -> None:
        store.tell(
            f"network: epoch {at.epoch}/{at.epochs}, loss {at.loss:.4f}, "
            f"{at.examples_per_second:,.0f} examples/s",
            at.step,
            at.steps,
        )

    if trees is not None:
        model = replace(config.model_config, trees=str(trees))  # type: ignore[call-arg]
        config = replace(config, model=model)
    result = Trainer(config).fit(train, validation, progress=show, checkpoints=left)
    result.save(folder / MODEL)
    return {
        "model": config.model_config.name,
        "version": result.version,
        "best_epoch": result.best_epoch,
        "history": result.history,
    }


def calibrate(
    calibration: Calibration, model: Path, examples: BatchDataset, folder: Path
) -> dict[str, Any]:
    """Fit the calibration, and copy the model with it."""
    fitted = fit_calibration(calibration, Predictor.load(model), examples)
    saved = ModelFolder.open(model).calibrated(folder / MODEL, fitted)
    _write_json(folder / "calibration.json", fitted.to_mapping())
    return {"calibration": fitted.name, "examples": len(examples), "version": saved.version}


def fit_calibration(
    calibration: Calibration, predictor: Predictor, examples: BatchDataset
) -> FittedCalibration:
    """Fit a calibration on examples that the model was not trained on, each task by itself."""
    batches = examples.iter_batches(_BATCH_SIZE)
    scores = np.concatenate([predictor.score_tasks(batch) for batch in batches])
    data = examples.read()
    labels = data.labels[:, list(predictor.model.label_columns)]
    if scores.shape[1] == 1:
        scores, labels = scores[:, 0], labels[:, 0]
    return calibration.fit(scores, labels, data.weights)


def test_model(before: Path, after: Path, examples: BatchDataset, folder: Path) -> dict[str, Any]:
    """Score the test as it is served, without and with the calibration."""
    found = {
        when: evaluate_model(Predictor.load(model), examples)[0]
        for when, model in (("before", before), ("after", after))
    }
    _write_json(folder / "metrics.json", found)
    return found


test_model.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest's


def _write_json(file: Path, tree: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
