"""Saved models: a folder of JSON, Arrow and safetensors files, written aside and renamed.

Layout: ``model.json`` (name, configuration, columns, version, checksums), ``encoder.json``,
``dense.safetensors``, ``calibration.json`` (if scores are mapped), ``tables/NAME.arrow`` (key,
weights: what serving needs) and ``state/`` (``server/``, a checkpoint of the parameter server, and
``dense.safetensors``, the dense optimizer's memory: what training needs to go on). Nothing in it is
code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from weiml.errors import DataError
from weiml.features import FeatureEncoder
from weiml.models.base import Columns, Model, build_model
from weiml.models.calibration import FittedCalibration, TaskCalibrations, fitted_from_mapping
from weiml.ps import Cut, Delta, ParameterServer

__all__ = ["ModelFolder", "check_calibration", "save_model"]

_FORMAT = 1
_MANIFEST = "model.json"
_ENCODER = "encoder.json"
_CALIBRATION = "calibration.json"
_DENSE = "dense.safetensors"
_DENSE_STATE = "state/dense.safetensors"
_SERVER_STATE = "state/server"


def save_model(
    folder: str | Path,
    model: Model,
    server: ParameterServer,
    *,
    encoder: FeatureEncoder | None = None,
    calibration: FittedCalibration | None = None,
    delta: Delta | None = None,
    about: dict[str, Any] | None = None,
) -> ModelFolder:
    """Save a model and its rows as a new folder, whole or not at all, and open it.

    Args:
        folder: the folder to make; one that exists must be empty.
        model: as trained; its dense part is saved from the object.
        server: whose applied state is saved, for serving and for training on.
        encoder: the one that the model's batches were made by.
        calibration: what the model's scores are mapped by, where they are served and evaluated.
        delta: all rows (``delta(Cut.zero())``) if the caller has them already.
        about: further facts for ``model.json``: metrics, history, configuration of the run.

    Raises:
        DataError: the folder is not empty, or the calibration is of other tasks.
    """
    check_calibration(calibration, model.tasks)
    target = Path(folder)
    with _new_folder(target) as aside:
        (aside / "tables").mkdir()
        (aside / "state").mkdir()
        everything = delta or server.client().delta(Cut.zero())
        for config in model.tables():
            _write_table(aside / "tables" / f"{config.name}.arrow", *everything.tables[config.name])
        _write_tensors(aside / _DENSE, model.dense_tensors())
        _write_tensors(aside / _DENSE_STATE, model.dense_state())
        server.save(str(aside / _SERVER_STATE))
        if encoder is not None:
            encoder.save(aside / _ENCODER)
        if calibration is not None:
            _write_json(aside / _CALIBRATION, calibration.to_mapping())
        manifest = _manifest(aside, model, everything.cut) | {"about": about or {}}
        _write_json(aside / _MANIFEST, manifest)
    return ModelFolder.open(target)


def check_calibration(calibration: FittedCalibration | None, tasks: tuple[str, ...]) -> None:
    """Raise DataError unless a model of `tasks` can be served with a calibration."""
    own = len(calibration.tasks) if isinstance(calibration, TaskCalibrations) else 1
    if calibration is not None and own != len(tasks):
        raise DataError(
            f"a model of the tasks {tasks} needs a calibration of each, got one of {own}: fit it "
            f"on scores (n, {len(tasks)})"
        )


@dataclass(frozen=True)
class ModelFolder:
    """A saved model opened for reading; its parts are read, and checked, when asked for."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> ModelFolder:
        """Open what `save_model` wrote.

        Raises:
            DataError: there is no model, or it is of another format.
        """
        path = Path(folder)
        try:
            manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != _FORMAT:
                raise DataError(
                    f"model {path} has format {manifest['format']}, this weiml reads {_FORMAT}"
                )
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{path} is not a model folder: it has no {_MANIFEST}") from None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path / _MANIFEST} is damaged: {error!r}") from None
        return cls(path, manifest)

    @property
    def snapshot(self) -> str:
        """Id of the content, 12 hexadecimal digits."""
        return str(self.manifest["snapshot"])

    @property
    def sequence(self) -> int:
        """The parameter server's sequence number when the model was saved."""
        return int(self.manifest["sequence"])

    @property
    def version(self) -> str:
        """``snapshot.sequence``."""
        return f"{self.snapshot}.{self.sequence}"

    @property
    def server_state(self) -> Path:
        """The parameter server's checkpoint, for `ParameterServer.load`."""
        return self.path / _SERVER_STATE

    def model(self, *, for_training: bool = False) -> Model:
        """Return the model with its dense part; `for_training` also with the optimizer's memory."""
        about = self.manifest["model"]
        columns = Columns(
            slots=tuple(about["slots"]),
            dense_names=tuple(about["dense_names"]),
        )
        model = build_model(about["name"], about["config"], columns, seed=about["seed"])
        tensors = self._read_tensors(_DENSE)
        # Files keep tensors in an order of their own; the model says what comes first.
        parts = [tensors[name].reshape(-1) for name in model.dense_tensors()]
        model.set_dense_vector(np.concatenate(parts) if parts else np.empty(0, np.float32))
        if for_training:
            model.set_dense_state(self._read_tensors(_DENSE_STATE))
        return model

    def encoder(self) -> FeatureEncoder | None:
        """Return the encoder, None if the model was saved without."""
        file = self._checked(_ENCODER) if _ENCODER in self.manifest["files"] else None
        return None if file is None else FeatureEncoder.load(file)

    def calibration(self) -> FittedCalibration | None:
        """Return what the model's scores are mapped by, None if they are served as they are.

        Raises:
            DataError: it is damaged, or of a kind that this process does not know.
        """
        if _CALIBRATION not in self.manifest["files"]:
            return None
        text = self._checked(_CALIBRATION).read_text(encoding="utf-8")
        return fitted_from_mapping(json.loads(text))

    def calibrated(self, folder: str | Path, calibration: FittedCalibration | None) -> ModelFolder:
        """Copy the model to a new folder with another calibration, or without one.

        All else is the same, so that training goes on and deltas fit; only the snapshot differs,
        for other scores come out.

        Raises:
            DataError: the folder is not empty, or the calibration is of other tasks.
        """
        check_calibration(calibration, self.model().tasks)
        target = Path(folder)
        with _new_folder(target) as aside:
            shutil.copytree(self.path, aside, dirs_exist_ok=True)
            files = {n: d for n, d in self.manifest["files"].items() if n != _CALIBRATION}
            (aside / _CALIBRATION).unlink(missing_ok=True)
            if calibration is not None:
                _write_json(aside / _CALIBRATION, calibration.to_mapping())
                files[_CALIBRATION] = _digest(aside / _CALIBRATION)
            files = dict(sorted(files.items()))
            snapshot = _snapshot(self.manifest["model"], files)
            manifest = self.manifest | {"snapshot": snapshot, "files": files}
            _write_json(aside / _MANIFEST, manifest)
        return ModelFolder.open(target)

    def tables(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return (keys uint64 (n,), weights float32 (n, dim)) of each table."""
        return {
            name: _read_table(self._checked(f"tables/{name}.arrow"))
            for name in self.manifest["tables"]
        }

    def _read_tensors(self, name: str) -> dict[str, np.ndarray]:
        from safetensors.numpy import load_file

        tensors: dict[str, np.ndarray] = load_file(self._checked(name))
        return tensors

    def _checked(self, name: str) -> Path:
        file = self.path / name
        try:
            digest = _digest(file)
        except FileNotFoundError:
            raise DataError(f"model {self.path} lacks its file {name}") from None
        if digest != self.manifest["files"].get(name):
            raise DataError(f"{file} is damaged: its checksum is not the one in {_MANIFEST}")
        return file


def _manifest(folder: Path, model: Model, cut: Cut) -> dict[str, Any]:
    about = {
        "name": model.name,
        "config": model.config_mapping(),
        "slots": model.columns.slots,
        "dense_names": model.columns.dense_names,
        "seed": model.seed,
    }
    own = sorted(f for f in folder.rglob("*") if f.is_file())
    names = [str(f.relative_to(folder)) for f in own]
    files = {n: _digest(folder / n) for n in names if not n.startswith(_SERVER_STATE)}
    return {
        "format": _FORMAT,
        "model": about,
        "tables": [config.name for config in model.tables()],
        "snapshot": _snapshot(about, files),
        "sequence": cut.total,
        "files": files,
    }


def _snapshot(about: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the id of a model's content.

    The state's bytes are left out: two models that score alike share the id.
    """
    content = json.dumps([about, {n: d for n, d in files.items() if not n.startswith("state/")}])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `target` at the end, if nothing goes wrong."""
    if target.is_dir() and any(target.iterdir()):
        raise DataError(f"{target} is not empty: models are saved to a new folder")
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
    aside.mkdir(parents=True)
    try:
        yield aside
        os.rename(aside, target)  # also replaces an empty folder
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_json(file: Path, tree: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def _write_table(file: Path, keys: np.ndarray, weights: np.ndarray) -> None:
    """Write the rows that are not all zeros, sorted by key: equal models give equal files."""
    kept = np.flatnonzero(weights.any(axis=1))
    kept = kept[np.argsort(keys[kept])]
    flat = pa.array(np.ascontiguousarray(weights[kept]).reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(flat, weights.shape[1])
    table = pa.table({"key": pa.array(keys[kept]), "weights": rows})
    with pa.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_table(file: Path) -> tuple[np.ndarray, np.ndarray]:
    with pa.memory_map(str(file)) as source:
        table = pyarrow.ipc.open_file(source).read_all().combine_chunks()
    keys = table.column("key").to_numpy()
    dim = table.schema.field("weights").type.list_size
    weights = table.column("weights").combine_chunks()
    if isinstance(weights, pa.ChunkedArray):
        weights = pa.concat_arrays(weights.chunks) if weights.num_chunks else None
    flat = np.empty(0, np.float32) if weights is None else weights.flatten().to_numpy()
    return keys, flat.reshape(len(keys), dim)


def _write_tensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
