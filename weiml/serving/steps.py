"""The step classes ``serve.register``, ``serve.rank`` and ``serve.replay``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weiml.config import from_mapping, load_config, parse_overrides
from weiml.errors import DataError, FlowError
from weiml.flow import StepContext, step
from weiml.models import ModelFolder
from weiml.serving.app import Endpoint
from weiml.serving.config import ServingConfig
from weiml.serving.engine import ServingSession
from weiml.serving.feeds import FeedConfig, rank_feeds
from weiml.serving.online import ReplayConfig, replay
from weiml.serving.registry import ModelRegistry

__all__ = ["rank_users", "register_model", "replay_events", "resolve_model"]

_VERSION = "version.json"


@step("serve.register")
def register_model(
    context: StepContext,
    model: Path,
    metrics: Path | None = None,
    *,
    registry: str,
    name: str = "feed",
    alias: str = "champion",
) -> None:
    """Register a saved model as the next version of `name`; writes version.json.

    Args:
        context: of an output step.
        model: the model's folder.
        metrics: a JSON file (or a folder with metrics.json) whose numbers are logged with it; by
            default those that ``train.select`` left in the model's folder.
        registry: the registry's folder; it is made if it is not there. Not a Path: what is in it
            is no input of this step, or each version would make the next.
        name: of the registered model.
        alias: points at the version once it is complete.

    Raises:
        DataError: the folder holds no model.
        RegistryError: the name is not usable.
    """
    saved = ModelFolder.open(model)
    context.progress(f"registering {name}")
    version = ModelRegistry(registry).register(
        name,
        model,
        _selected(model) if metrics is None else _numbers(_read_json(metrics, "metrics.json")),
        params={"model": saved.manifest["model"]["name"], "version": saved.version},
        tags={"flow": context.flow.name},
        alias=alias,
    )
    tree = {
        "name": version.name,
        "version": version.version,
        "alias": alias,
        "folder": str(version.folder),
        "registry": str(Path(registry).resolve()),
        "metrics": dict(version.metrics),
    }
    (context.output_dir / _VERSION).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    context.report("version", version.version)
    context.report("name", name)


@step("serve.rank")
def rank_users(
    context: StepContext,
    model: Path,
    view: Path,
    examples: Path,
    *,
    name: str = "feed",
    config: Path | None = None,
    port: int = 0,
    users: int = 10,
    top_k: int = 10,
) -> None:
    """Serve a model and rank what some users have not seen, over HTTP; writes feeds.json.

    Fails unless every served score equals the offline one to 1e-5.

    Args:
        context: of an output step in a node on the engine ``serve``.
        model: a model's folder, or the output of ``serve.register``.
        view: the feature view's folder.
        examples: examples.parquet, or the folder that holds it.
        name: of the model in the endpoint.
        config: a ServingConfig, as in configs/serving; models and view come from above.
        port: where to listen; 0 takes a free one.
        users: how many users.
        top_k: how many items of each feed are kept.

    Raises:
        ClusterError: the port is taken, replicas do not come up, or scores differ.
    """
    folder = resolve_model(model)
    endpoint = _endpoint(context, folder, view, name, config, port)
    context.progress(f"ranking for {users} users at {endpoint.url}")
    feeds = rank_feeds(
        endpoint,
        name,
        folder,
        _read_examples(examples),
        FeedConfig(users=users, top_k=top_k, seed=context.seed),
    )
    feeds.save(context.output_dir / "feeds.json")
    context.report("model_version", feeds.model_version)
    context.report("max_difference", feeds.max_difference)
    context.report("scores", feeds.num_scores)
    context.report("feeds", feeds.feeds)


@step("serve.replay")
def replay_events(
    context: StepContext,
    model: Path,
    view: Path,
    examples: Path,
    *,
    name: str = "feed",
    config: Path | None = None,
    port: int = 0,
    chunk_size: int = 250,
    batch_size: int = 64,
    max_events: int | None = None,
    deadline_s: float = 15.0,
    dense_lr_scale: float = 0.1,
    num_shards: int = 2,
) -> None:
    """Replay the test events as a stream to learn from; writes replay.json and replay.parquet.

    Args:
        context: of an output step in a node on the engine ``serve``.
        model: a model's folder, or the output of ``serve.register``.
        view: the feature view's folder.
        examples: examples.parquet, or the folder that holds it.
        name: of the model in the endpoint.
        config: a ServingConfig, as in configs/serving; models and view come from above.
        port: where to listen; 0 takes a free one.
        chunk_size: events between two versions.
        batch_size: examples of one learning step.
        max_events: stop after so many events.
        deadline_s: how long a version may take to all replicas.
        dense_lr_scale: factor on the dense part's learning rate.
        num_shards: of the parameter server; as many as the model was trained on.

    Raises:
        ClusterError: the endpoint does not come up, or a version does not reach all replicas.
    """
    from weiml.ps import RayParameterServer

    folder = resolve_model(model)
    endpoint = _endpoint(context, folder, view, name, config, port)
    rows = _read_examples(examples)
    rows = rows.filter(pc.equal(rows["split"], "test"))
    settings = ReplayConfig(
        chunk_size=chunk_size,
        batch_size=batch_size,
        max_events=max_events,
        deadline_s=deadline_s,
        dense_lr_scale=dense_lr_scale,
    )
    group = f"{context.flow.name}-{context.node.id}-online"
    with RayParameterServer.create(num_shards=num_shards, name=group) as server:
        result = replay(endpoint, name, folder, server, rows, settings, progress=context.progress)
    result.save(context.output_dir)
    for key in ("online", "frozen", "freshness_ms", "num_events", "first_chunk_max_difference"):
        context.report(key, result.summary[key])
    context.report("versions", len(result.summary["versions"]))
    context.report("replicas", len(result.summary["replicas"]))


def resolve_model(path: Path) -> Path:
    """Return the model's folder: `path` itself, or where its version.json points.

    Raises:
        DataError: there is neither a model nor a version.
    """
    if (path / "model.json").exists():
        return path
    if not (path / _VERSION).exists():
        raise DataError(f"{path} is neither a saved model nor a registered version")
    tree = _read_json(path, _VERSION)
    folder = Path(tree["folder"])
    if not folder.is_dir():
        raise DataError(
            f"{tree['name']} version {tree['version']} is no longer in {tree['registry']}: "
            "register it again (run the flow's node with --force)"
        )
    return folder


def _endpoint(
    context: StepContext, folder: Path, view: Path, name: str, config: Path | None, port: int
) -> Endpoint:
    if not isinstance(context.session, ServingSession):
        raise FlowError(
            f'{context.step.position}: step {context.step.name!r} needs engine="serve", node '
            f"{context.node.id!r} has {context.node.engine!r}"
        )
    texts = [f"models.{name}={json.dumps(str(folder))}", f"view={json.dumps(str(view))}"]
    if port:
        texts.append(f"port={port}")
    if config is None:
        settings = from_mapping(ServingConfig, parse_overrides(texts), where="serve")
    else:
        settings = load_config(ServingConfig, config, texts)
    context.progress("bringing the endpoint up")
    return context.session.endpoint(settings, any_port=not port)


def _read_examples(path: Path) -> pa.Table:
    file = path / "examples.parquet" if path.is_dir() else path
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from None


def _read_json(path: Path, name: str) -> dict[str, Any]:
    file = path / name if path.is_dir() else path
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{file} must hold a JSON object")
    return tree


def _selected(model: Path) -> dict[str, float]:
    """Return the validation metrics by which a model was chosen, if it was."""
    if not (model / "selection.json").exists():
        return {}
    tree = _read_json(model, "selection.json")
    chosen = [c for c in tree["candidates"] if c["version"] == tree["selected"]]
    return _numbers({"validation": chosen[0]["metrics"]}) if chosen else {}


def _numbers(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a tree by their dotted path."""
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + key] = float(value)
    return found
