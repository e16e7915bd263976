"""Checkpoints of a training run: all that its next step depends on, in a folder a moment.

Layout of ``ROOT/step-00000120``: ``run.json`` (position, history, configuration), ``server/`` (a
checkpoint of the parameter server) and ``workers/RANK.safetensors``. The best model so far is
``ROOT/best-N``. Folders are written aside and renamed, so one that is there is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weiml.config import to_mapping
from weiml.errors import ConfigError, DataError
from weiml.ps import ParameterServer
from weiml.train.config import TrainConfig

__all__ = ["FREE_KNOBS", "Checkpoint", "Checkpoints", "bits_of"]

_NAME = re.compile(r"step-(\d{8,})")
_FORMAT = 1
FREE_KNOBS = {
    "cpus_per_worker",
    "checkpoint_steps",
    "epochs",
    "keep_checkpoints",
    "max_restarts",
    "max_workers",
    "min_workers",
    "num_shards",
    "progress_steps",
    "timeout_s",
    "transport",
}
"""Knobs that may differ when a run goes on: they change no bit of its steps, unless the number of
workers changes by them."""
_STRETCHED = {"cosine", "linear", "stairs"}  # schedules for which the number of epochs does


def bits_of(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as plain data, with the number of threads that it comes to here."""
    return to_mapping(replace(config, threads=config.threads_of_worker))


@dataclass(frozen=True)
class Checkpoint:
    """One that was written."""

    path: Path
    run: dict[str, Any]
    """The position and history of the run, as it was given."""

    def workers(self) -> list[dict[str, np.ndarray]]:
        """Return each worker's state, by rank."""
        from safetensors.numpy import load_file

        count = self.run.get("workers", self.run["config"]["num_workers"])
        return [load_file(self.path / "workers" / f"{rank}.safetensors") for rank in range(count)]

    @property
    def server(self) -> str:
        """Where the parameter server's checkpoint is."""
        return str(self.path / "server")


class Checkpoints:
    """The checkpoints of one run below a root folder; the newest `keep` stay."""

    def __init__(self, root: str | Path, keep: int = 2) -> None:
        self.root = Path(root)
        self._keep = keep

    def write(
        self,
        step: int,
        run: Mapping[str, Any],
        workers: list[dict[str, np.ndarray]],
        server: ParameterServer,
    ) -> Path:
        """Write the state behind `step` steps; return its folder."""
        from safetensors.numpy import save_file

        target = self.root / f"step-{step:08d}"
        aside = self.root / f".step-{step:08d}.{os.getpid()}.writing"
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "workers").mkdir(parents=True)
        try:
            server.save(str(aside / "server"))
            for rank, state in enumerate(workers):
                arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
                save_file(arrays, aside / "workers" / f"{rank}.safetensors")
            tree = {"format": _FORMAT, **run}
            (aside / "run.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.rename(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in self._paths()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def keep_best(self, epoch: int, model: Path) -> None:
        """Copy the best model so far, of `epoch`, in place of the one before."""
        target = self.root / f"best-{epoch}"
        aside = self.root / f".best-{epoch}.{os.getpid()}.writing"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(model, aside)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(aside, target)

    def best(self, epoch: int) -> Path:
        """Return where the best model of `epoch` is.

        Raises:
            DataError: it is not there.
        """
        path = self.root / f"best-{epoch}"
        if not path.is_dir():
            raise DataError(f"{self.root} lacks the best model of epoch {epoch}, {path.name}")
        return path

    def forget_bests_but(self, epoch: int) -> None:
        """Remove the best models of other epochs, which no checkpoint needs any more."""
        for path in self.root.glob("best-*"):
            if path.name != f"best-{epoch}":
                shutil.rmtree(path, ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """Return the newest one, None without any.

        Raises:
            DataError: it is damaged.
        """
        paths = self._paths()
        if not paths:
            return None
        try:
            run = json.loads((paths[-1] / "run.json").read_text(encoding="utf-8"))
            if run["format"] != _FORMAT:
                raise DataError(
                    f"{paths[-1]} has format {run['format']}, this weiml reads {_FORMAT}"
                )
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{paths[-1]} is damaged: {error!r}; remove it") from None
        return Checkpoint(paths[-1], run)

    def latest_of(self, config: Mapping[str, Any], examples: int) -> Checkpoint | None:
        """Return the newest one, after making sure that a run of `config` can go on from it.

        Raises:
            ConfigError: it is of a run of other steps: other knobs or another training set.
            DataError: it is damaged.
        """
        found = self.latest()
        if found is None:
            return None
        theirs = found.run["config"]
        stretched = config.get("lr_schedule", {}).get("name") in _STRETCHED
        free = FREE_KNOBS - ({"epochs"} if stretched else set())
        names = {*theirs, *config} - free
        other = sorted(name for name in names if theirs.get(name) != config.get(name))
        if other:
            raise ConfigError(
                f"the checkpoints in {self.root} are of another run: {', '.join(other)} differ"
                f" ({theirs.get(other[0])!r} there, {config.get(other[0])!r} here); take the same"
                f" configuration, or another folder"
            )
        if found.run["examples"] != examples:
            raise ConfigError(
                f"the checkpoints in {self.root} are of a training set of "
                f"{found.run['examples']} examples, this one has {examples}; take another folder"
            )
        return found

    def _paths(self) -> list[Path]:
        """Return the folders of checkpoints, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if _NAME.fullmatch(path.name))
