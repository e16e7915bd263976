"""Saved states of a run: the server's checkpoint and one JSON file, whole or not at all.

Layout: ``iteration-00000020/server`` and ``iteration-00000020/state.json``. Vectors are saved as
they are and scalars to their last bit, so a run that goes on computes what it would have.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weiml.errors import ConfigError, DataError
from weiml.ps import ParameterServer
from weiml.train.solvers.minimise import Iteration, Standing

__all__ = ["SavedState", "StateFolder"]

_FORMAT = 1
_FILE = "state.json"
_SERVER = "server"
_PREFIX = "iteration-"


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A state that was read."""

    path: Path
    standing: Standing
    iterations: list[Iteration]

    def load_vectors(self, server: ParameterServer) -> None:
        """Replace what the server holds by the state's vectors."""
        server.load(str(self.path / _SERVER))


class StateFolder:
    """A folder of a run's states, of which the newest is kept.

    Args:
        folder: made where it is missing.
        run: what must be the same for a run to go on: fit for JSON.
    """

    def __init__(self, folder: str | Path, run: dict[str, Any]) -> None:
        self.path = Path(folder)
        self._run: dict[str, Any] = json.loads(json.dumps(run))

    def save(self, server: ParameterServer, standing: Standing, told: list[Iteration]) -> Path:
        """Save a state and remove the older ones; return its folder.

        Raises:
            DataError: the folder cannot be written to.
        """
        target = self.path / f"{_PREFIX}{standing.iteration:08d}"
        aside = self.path / f".{target.name}.{uuid.uuid4().hex[:12]}.writing"
        content = {
            "format": _FORMAT,
            "run": self._run,
            "standing": asdict(standing),
            "iterations": [list(iteration) for iteration in told],
        }
        try:
            aside.mkdir(parents=True)
            server.save(str(aside / _SERVER))
            (aside / _FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)
            os.rename(aside, target)
        except OSError as error:
            raise DataError(f"no solver's state can be written to {self.path}: {error}") from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for older in self._states():
            if older.name < target.name:
                shutil.rmtree(older, ignore_errors=True)
        return target

    def newest(self) -> SavedState | None:
        """Return the newest state; None if there is none.

        Raises:
            DataError: it is damaged.
            ConfigError: it is of another run.
        """
        states = self._states()
        if not states:
            return None
        file = states[-1] / _FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise DataError(
                    f"{file} has format {content['format']}, this weiml reads {_FORMAT}"
                )
            standing = Standing(**content["standing"])
            told = [Iteration(*values) for values in content["iterations"]]
            run = dict(content["run"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file} is damaged: {error!r}; remove {states[-1]}") from None
        self._check(run)
        return SavedState(path=states[-1], standing=standing, iterations=told)

    def _check(self, run: dict[str, Any]) -> None:
        differs = [name for name, value in self._run.items() if run.get(name) != value]
        if differs:
            told = ", ".join(
                f"{name} was {run.get(name)!r} and is {self._run[name]!r}" for name in differs
            )
            raise ConfigError(
                f"{self.path} holds the state of another run: {told}; give a new folder to begin "
                f"anew, or set back what differs"
            )

    def _states(self) -> list[Path]:
        return sorted(path for path in self.path.glob(f"{_PREFIX}*") if (path / _FILE).is_file())
