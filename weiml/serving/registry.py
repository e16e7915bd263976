"""The model registry: versions of model folders in MLflow, on a local SQLite file.

The only module that imports mlflow (seconds to import); replicas get folders, never a registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.config import nearest
from weiml.errors import RegistryError

__all__ = ["ModelRegistry", "ModelVersion"]

_DATABASE = "mlflow.db"
_ARTIFACTS = "artifacts"
_MODEL = "model"
_COMPLETE = "weiml.complete"
_DIGEST = "weiml.sha256"
_UNUSUAL = re.compile(r"[^\w\-. /]")  # what mlflow refuses in the name of a metric


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One registered version of a model: where its folder is and what is known of it."""

    name: str
    version: int
    folder: Path
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run_id: str


class ModelRegistry:
    """Registered models below one folder (a path or its ``sqlite:///folder/mlflow.db``).

    The folder is made unless `create` is false: who only reads would find nothing in a new one.
    It holds ``mlflow.db`` and ``artifacts/``; ``mlflow ui`` opens it.

    A version becomes visible, to `versions`, `get` and aliases, only once its folder is copied
    in full and it is marked complete; what a crash leaves behind is never returned. Not safe
    for threads; several processes may share the folder (SQLite locks).

    Example:
        >>> registry = ModelRegistry(folder)                                    # doctest: +SKIP
        >>> version = registry.register("feed", "runs/model", {"auc": 0.78}, alias="champion")
        >>> registry.get("feed", "champion").folder                             # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, *, create: bool = True) -> None:
        text = str(folder)
        path = Path(text.removeprefix("sqlite:///")).parent if "://" in text else Path(folder)
        if "://" in text and not text.startswith("sqlite:///"):
            raise RegistryError(
                f"the registry is a folder or sqlite:///folder/mlflow.db, got {text}"
            )
        self.folder = path.resolve()
        if not create and not (self.folder / _DATABASE).is_file():
            raise RegistryError(f"{self.folder} is not a model registry: it has no {_DATABASE}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = f"sqlite:///{self.folder / _DATABASE}"
        with _quiet():
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def register(
        self,
        name: str,
        model_folder: str | Path,
        metrics: Mapping[str, float] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        alias: str | None = None,
    ) -> ModelVersion:
        """Copy a model's folder into the registry as the next version of `name`.

        Raises:
            RegistryError: the folder is missing or empty, or the name or alias is not usable.
        """
        source = Path(model_folder)
        if not source.is_dir() or not any(source.iterdir()):
            raise RegistryError(f"cannot register {name!r}: no model in folder {source}")
        self._check_name(name)
        with _quiet():
            run_id = self._client.create_run(self._experiment(), run_name=name).info.run_id
            try:
                return self._fill(run_id, name, source, metrics or {}, params or {}, tags, alias)
            except BaseException:
                self._client.set_terminated(run_id, status="FAILED")
                raise

    def versions(self, name: str) -> list[ModelVersion]:
        """Return the complete versions of a model, oldest first.

        Raises:
            RegistryError: no model of this name; the nearest one is named.
        """
        with _quiet():
            aliases = self._aliases(name)
            found = self._client.search_model_versions(f"name = '{name}'")
            complete = [version for version in found if version.tags.get(_COMPLETE) == "true"]
            complete.sort(key=lambda version: int(version.version))
            return [self._describe(version, aliases) for version in complete]

    def get(self, name: str, version: int | str = "latest") -> ModelVersion:
        """Return one version, by number, alias or ``"latest"``.

        Raises:
            RegistryError: no such model, version or alias; the nearest known one is named.
        """
        versions = self.versions(name)
        if not versions:
            raise RegistryError(f"model {name!r} has no version yet; register one")
        if version == "latest":
            return versions[-1]
        wanted = str(version)
        for found in versions:
            if wanted == str(found.version) or wanted in found.aliases:
                return found
        known = ["latest", *(str(v.version) for v in versions)]
        known += [alias for v in versions for alias in v.aliases]
        raise RegistryError(
            f"model {name!r} has no version or alias {wanted!r}{nearest(wanted, known)}"
        )

    def set_alias(self, name: str, alias: str, version: int | str) -> None:
        """Point an alias at a complete version; one step, readers see the old one or the new.

        Raises:
            RegistryError: no such model or version, or the alias is a number or ``latest``.
        """
        target = self.get(name, version)
        _check_alias(alias)
        with _quiet(), _mlflow_errors(f"cannot set alias {alias!r} of model {name!r}"):
            self._client.set_registered_model_alias(name, alias, str(target.version))

    def models(self) -> list[str]:
        """Return the names of the registered models."""
        with _quiet():
            return sorted(model.name for model in self._client.search_registered_models())

    def _fill(
        self,
        run_id: str,
        name: str,
        source: Path,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None,
        alias: str | None,
    ) -> ModelVersion:
        """Log, copy, create the version, and only then mark it complete and point the alias."""
        if alias is not None:
            _check_alias(alias)
        client = self._client
        for key, value in metrics.items():
            client.log_metric(run_id, _UNUSUAL.sub("_", key), float(value))
        for key, value in params.items():
            client.log_param(run_id, key, value)
        client.log_artifacts(run_id, str(source), _MODEL)
        artifacts = urllib.parse.urlparse(client.get_run(run_id).info.artifact_uri).path
        folder = Path(urllib.parse.unquote(artifacts)) / _MODEL
        digest = _digest(source)
        if _digest(folder) != digest:
            raise RegistryError(f"the copy of {source} in {folder} differs; is the disk full?")
        if name not in self.models():
            client.create_registered_model(name)
        all_tags = {**(tags or {}), _DIGEST: digest}
        with _mlflow_errors(f"cannot register a version of {name!r}"):
            version = client.create_model_version(
                name, source=str(folder), run_id=run_id, tags=all_tags
            ).version
        client.set_terminated(run_id)
        client.set_model_version_tag(name, str(version), _COMPLETE, "true")
        if alias is not None:
            self.set_alias(name, alias, int(version))
        return self.get(name, int(version))

    def _describe(self, version: Any, aliases: Mapping[str, str]) -> ModelVersion:
        run = self._client.get_run(version.run_id)
        own = tuple(sorted(a for a, v in aliases.items() if str(v) == str(version.version)))
        return ModelVersion(
            name=version.name,
            version=int(version.version),
            folder=Path(version.source),
            metrics=dict(run.data.metrics),
            params=dict(run.data.params),
            tags={k: v for k, v in version.tags.items() if not k.startswith("weiml.")},
            aliases=own,
            run_id=version.run_id,
        )

    def _aliases(self, name: str) -> dict[str, str]:
        models = {model.name: model for model in self._client.search_registered_models()}
        if name not in models:
            raise RegistryError(
                f"no model {name!r} in registry {self.folder}{nearest(name, models)}"
            )
        return dict(self._client.get_registered_model(name).aliases)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name("weiml")
        if found is not None:
            return str(found.experiment_id)
        location = (self.folder / _ARTIFACTS).as_uri()
        return str(self._client.create_experiment("weiml", artifact_location=location))

    def _check_name(self, name: str) -> None:
        if not name or any(character in name for character in "/:'\"\\."):
            raise RegistryError(
                f"a model's name must have none of / : . \\ or quotes, got {name!r}"
            )


def _check_alias(alias: str) -> None:
    if alias == "latest" or alias.isdigit() or not alias:
        raise RegistryError(f"an alias must be a word other than 'latest', got {alias!r}")


def _digest(folder: Path) -> str:
    """Return the SHA-256 over all files' relative names and contents."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def _mlflow_errors(what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"{what}: {error.message}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep mlflow's and alembic's notes on database tables off the screen; errors are shown."""
    # Set before the first import: mlflow would otherwise report its usage over the network.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow  # noqa: F401 - its import sets the levels, so it goes first

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
