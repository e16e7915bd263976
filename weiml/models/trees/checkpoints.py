"""Checkpoints of growing trees: whole models with the run's history, the newest two kept."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from weiml.errors import DataError
from weiml.models.trees.config import GBDTConfig
from weiml.models.trees.model import GBDT

__all__ = ["TreeCheckpoints"]

_KEPT = 2
_NAME = re.compile(r"round-(\d{8})")


@dataclass(frozen=True)
class TreeCheckpoints:
    """A folder of checkpoints ``round-00000100`` of one configuration."""

    folder: Path
    config: GBDTConfig

    @classmethod
    def of(cls, folder: str | Path | None, config: GBDTConfig) -> Self | None:
        """Return the checkpoints in a folder, None without one."""
        return None if folder is None else cls(Path(folder), config)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def done(self) -> int:
        """The rounds of the newest one, 0 without any."""
        return max(self._rounds(), default=0)

    def newest(self) -> GBDT | None:
        """Return the newest checkpoint, None if there is none.

        Raises:
            DataError: it is damaged, or of another configuration.
        """
        rounds = self._rounds()
        if not rounds:
            return None
        model = GBDT.load(self._path(rounds[-1]))
        if _recipe(model.config) != _recipe(self.config):
            raise DataError(
                f"{self._path(rounds[-1])} was made by another configuration, {model.config}; use "
                "another folder, or the same configuration (rounds may be more)"
            )
        return model

    def write(self, model: GBDT, done: int) -> None:
        """Keep a model after `done` rounds, and drop what is older than the newest two."""
        path = self._path(done)
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            model.save(path)
        for old in self._rounds()[:-_KEPT]:
            shutil.rmtree(self._path(old))

    def _rounds(self) -> list[int]:
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)

    def _path(self, done: int) -> Path:
        return self.folder / f"round-{done:08d}"


def _recipe(config: GBDTConfig) -> GBDTConfig:
    """Return what the trees so far depend on: not how many more there will be, nor reporting."""
    return replace(
        config,
        rounds=1,
        early_stopping_rounds=0,
        early_stopping_metric="auc",
        progress_rounds=1,
        timeout_s=1.0,
        cpus_per_worker=0,
    )
