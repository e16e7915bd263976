"""A trained tree model: scoring, leaves, importance, and its saved form.

A folder, written aside and renamed: ``model.json`` (configuration, columns, id, checksums),
``trees.txt`` (LightGBM's text), ``columns.json`` (the vocabulary) and ``encoder.json``. Nothing in
it is code, and scoring needs no LightGBM.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from weiml.config import from_mapping, to_mapping
from weiml.errors import DataError
from weiml.features import Batch, FeatureEncoder
from weiml.models.trees.columns import TreeColumns
from weiml.models.trees.config import GBDTConfig
from weiml.models.trees.forest import Forest
from weiml.models.trees.text import TreeText

__all__ = ["GBDT"]

_FORMAT = 1
_NAME = "gbdt"
_MANIFEST, _TREES, _COLUMNS, _ENCODER = "model.json", "trees.txt", "columns.json", "encoder.json"


class GBDT:
    """Gradient-boosted trees that score batches. Thread-safe; picklable.

        p = sigmoid(Σ_t value_t(leaf of x in tree t))

    (Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics,
    2001; Ke et al., "LightGBM", NIPS 2017.) It is a `weiml.models.Scorer`.

    Args:
        columns: how batches become a matrix.
        trees: LightGBM's text.
        config: what they were grown by.
        encoder: the one that the batches were made by.
        about: further facts for the saved form: metrics, history.
    """

    def __init__(
        self,
        columns: TreeColumns,
        trees: TreeText,
        *,
        config: GBDTConfig | None = None,
        encoder: FeatureEncoder | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.columns = columns
        self.trees = trees
        self.config = config or GBDTConfig()
        self.about = about or {}
        self._encoder = encoder
        self.forest = Forest.from_text(trees)
        if self.forest.num_columns != len(columns.names):
            raise DataError(
                f"the trees have {self.forest.num_columns} columns, the vocabulary makes "
                f"{len(columns.names)}: they are of two models"
            )

    @property
    def name(self) -> str:
        """``gbdt``."""
        return _NAME

    @property
    def tasks(self) -> tuple[str, ...]:
        """Trees learn one label."""
        return ("label",)

    @property
    def main_task(self) -> int:
        """The only one."""
        return 0

    @property
    def label_columns(self) -> tuple[int, ...]:
        """The first."""
        return (0,)

    @property
    def num_trees(self) -> int:
        """How many trees there are."""
        return len(self.trees)

    @property
    def encoder(self) -> FeatureEncoder:
        """The encoder that the model's batches were made by.

        Raises:
            DataError: there is none.
        """
        if self._encoder is None:
            raise DataError("this model has no encoder; pass one to GBDTTrainer")
        return self._encoder

    @cached_property  # each request asks for it
    def snapshot(self) -> str:
        """Id of the content, 12 hexadecimal digits."""
        return _snapshot(self._parts)

    @property
    def sequence(self) -> int:
        """0: no parameter server moves trees on."""
        return 0

    @property
    def version(self) -> str:
        """``snapshot.sequence``: what the scores were made by."""
        return f"{self.snapshot}.{self.sequence}"

    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B,) probabilities; the batch's labels are not looked at.

        Keys that the vocabulary does not hold count as the slot's others.

        Raises:
            DataError: the batch has other slots or dense columns than the model.
        """
        return (1 / (1 + np.exp(-np.clip(self.log_odds(batch), -700, 700)))).astype(np.float32)

    def score_tasks(self, batch: Batch) -> np.ndarray:
        """Return float32 (B, 1), `score` as the column of the one task."""
        return self.score(batch)[:, None]

    def log_odds(self, batch: Batch) -> np.ndarray:
        """Return float64 (B,), to the bit what LightGBM gives for the same matrix."""
        scores = np.zeros(len(batch))
        self.forest.add_scores(self.columns.matrix(batch), scores)
        return scores

    def leaves(self, batch: Batch) -> np.ndarray:
        """Return int32 (B, trees): the leaf that each example falls into, from 0 in each tree."""
        return self.forest.leaf_indices(self.columns.matrix(batch))

    def importance(self, kind: Literal["gain", "split"] = "gain") -> pa.Table:
        """Return the columns ``column`` (`TreeColumns.names`) and ``importance``, highest first.

        Args:
            kind: gain is the summed decrease of the loss by the column's splits, split their
                number.
        """
        names = pa.array(self.columns.names, pa.string())
        table = pa.table({"column": names, "importance": self.forest.importance(kind)})
        return table.sort_by([("importance", "descending"), ("column", "ascending")])

    def save(self, folder: str | Path) -> None:
        """Save the model as a new folder, whole or not at all.

        Raises:
            DataError: the folder is not empty.
        """
        target = Path(folder)
        if target.is_dir() and any(target.iterdir()):
            raise DataError(f"{target} is not empty: models are saved to a new folder")
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
        aside.mkdir(parents=True)
        try:
            for name, text in self._parts.items():
                (aside / name).write_text(text, encoding="utf-8")
            if self._encoder is not None:
                self._encoder.save(aside / _ENCODER)
            (aside / _MANIFEST).write_text(self._manifest(aside), encoding="utf-8")
            os.rename(aside, target)  # also replaces an empty folder
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load what `save` wrote.

        Raises:
            DataError: the folder is missing, damaged or of another format; names the file.
        """
        path = Path(folder)
        manifest = _read_manifest(path)
        files = manifest["files"]
        trees = _part(path, files, _TREES, TreeText.parse)
        columns = _part(path, files, _COLUMNS, lambda t: TreeColumns.from_mapping(json.loads(t)))
        if _ENCODER in files:
            _checked(path, files, _ENCODER)
        return cls(
            columns,
            trees,
            config=from_mapping(GBDTConfig, manifest["model"]["config"], where=str(path)),
            encoder=FeatureEncoder.load(path / _ENCODER) if _ENCODER in files else None,
            about=manifest["about"],
        )

    @cached_property
    def _parts(self) -> dict[str, str]:
        columns = json.dumps(self.columns.to_mapping(), indent=1, ensure_ascii=False)
        return {_TREES: str(self.trees), _COLUMNS: columns + "\n"}

    def _manifest(self, folder: Path) -> str:
        model = {
            "name": _NAME,
            "config": to_mapping(self.config),
            "slots": self.columns.slots,
            "dense_names": self.columns.dense_names,
            "trees": self.num_trees,
        }
        manifest = {
            "format": _FORMAT,
            "model": model,
            "snapshot": self.snapshot,
            "sequence": self.sequence,
            "files": {f.name: _digest(f.read_bytes()) for f in sorted(folder.iterdir())},
            "about": self.about,
        }
        return json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"


def _snapshot(parts: dict[str, str]) -> str:
    return _digest(json.dumps([parts[_TREES], parts[_COLUMNS]]).encode())[:12]


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        name, form = manifest["model"]["name"], manifest["format"]
        dict(manifest["files"])
        dict(manifest["about"])
        dict(manifest["model"]["config"])
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is not a model folder: it has no {_MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / _MANIFEST} is damaged: {error!r}") from None
    if name != _NAME or form != _FORMAT:
        raise DataError(
            f"{path} holds a model {name!r} of format {form}, expected {_NAME!r} of {_FORMAT}; "
            "weiml.models.load_scorer reads both"
        )
    return manifest


def _part(path: Path, files: dict[str, str], name: str, read: Callable[[str], Any]) -> Any:
    data = _checked(path, files, name)
    try:
        return read(data.decode())
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / name} is damaged: {error}") from None


def _checked(path: Path, files: dict[str, str], name: str) -> bytes:
    try:
        data = (path / name).read_bytes()
    except FileNotFoundError:
        raise DataError(f"model {path} lacks its file {name}") from None
    if _digest(data) != files.get(name):
        raise DataError(f"{path / name} is damaged: its checksum is not the one in {_MANIFEST}")
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
