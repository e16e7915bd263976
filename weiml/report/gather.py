"""From the outputs of a flow's nodes to a report's data; what an output is, its files tell."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weiml.flow import FlowResult
from weiml.flow.draw import to_svg
from weiml.report.data import Evaluation, LearningCurve, NodeTime, ReportData
from weiml.report.sources import (
    read_evaluations,
    read_examples,
    read_feeds,
    read_json,
    read_learning,
    read_search,
)
from weiml.report.text import package_version

__all__ = ["gather", "machine_facts"]

_PACKAGES = ("weiml", "ray", "torch", "numpy", "pyarrow", "numba", "optuna", "mlflow")
_COUNTS = {
    "rows": "examples",
    "positives": "positive",
    "users": "users",
    "items": "items",
    "distinct_keys": "distinct keys",
    "collisions": "key collisions",
    "rows_by_split": "split",
}
_MISSING = {
    "learning": "no history.json is among the report's dependencies",
    "metrics": "no metrics.json is among the report's dependencies",
    "search": "no trials.json is among the report's dependencies",
    "feeds": "no feeds.json is among the report's dependencies",
    "online": "no replay.json is among the report's dependencies",
    "flow": "the report was made outside of a flow",
}


def gather(
    outputs: Mapping[str, Path], history: FlowResult | None = None, *, title: str = ""
) -> ReportData:
    """Read what is in `outputs`, folders by name such as ``"wide_deep.model"``.

    Known by their files: history.json (a training), metrics.json (an evaluation or baselines),
    trials.json (a search), feeds.json, replay.json, version.json (a registered model),
    selection.json (the model chosen), examples.parquet and a feature view (facts for the feeds).

    Raises:
        DataError: a file is there, but damaged.
    """
    learning: list[LearningCurve] = []
    evaluations: list[Evaluation] = []
    for name, folder in outputs.items():
        chosen = (folder / "selection.json").exists()  # a copy of a model reported elsewhere
        if (folder / "history.json").exists() and not chosen and _is_training(folder):
            learning.append(read_learning(folder, _label(name)))
        if (folder / "metrics.json").exists():
            evaluations += read_evaluations(folder, _label(name))
    search, feeds, replay = (_holder(outputs, f) for f in ("trials", "feeds", "replay"))
    examples = next((f for f in outputs.values() if (f / "examples.parquet").exists()), None)
    view = next((f for f in outputs.values() if (f / "items.parquet").exists()), None)
    table = read_examples(examples) if examples and feeds else None
    found = {
        "learning": learning,
        "metrics": evaluations,
        "search": search,
        "feeds": feeds,
        "online": replay,
        "flow": history,
    }
    return ReportData(
        title=title or _title(history),
        facts=_facts(outputs, history),
        flow_svg="" if history is None else to_svg(history.flow, history),
        nodes=() if history is None else _nodes(history),
        learning=tuple(learning),
        evaluations=tuple(evaluations),
        search={} if search is None else read_search(search),
        feeds=() if feeds is None else read_feeds(feeds, table, view),
        replay={} if replay is None else read_json(replay / "replay.json"),
        missing={name: reason for name, reason in _MISSING.items() if not found[name]},
    )


def machine_facts() -> dict[str, Any]:
    """Cores, memory, system and versions of this machine."""
    facts: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count()
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory"] = f"{size / 2**30:.0f} GiB"
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["python"] = platform.python_version()
    return facts


def _is_training(folder: Path) -> bool:
    """The feature view keeps a history.json of its own, of another kind."""
    return isinstance(read_json(folder / "history.json").get("history"), list)


def _label(name: str) -> str:
    """The node's name for an output called "model", else the output's."""
    node, _, output = name.partition(".")
    return node if output in ("", "model") else output


def _holder(outputs: Mapping[str, Path], stem: str) -> Path | None:
    return next((f for f in outputs.values() if (f / f"{stem}.json").exists()), None)


def _title(history: FlowResult | None) -> str:
    if history is None:
        return "weiml report"
    dataset = _params(history).get("dataset")
    return f"Flow {history.flow.name}" + (f" on {dataset}" if dataset else "")


def _params(history: FlowResult) -> dict[str, str]:
    return {param.name: param.text for param in history.flow.params}


def _nodes(history: FlowResult) -> tuple[NodeTime, ...]:
    return tuple(
        NodeTime(
            id=node.id,
            engine=node.engine,
            state=node.state.value,
            seconds=round(node.seconds, 3),
            computed_seconds=round(node.computed_seconds, 3),
        )
        for node in history.nodes.values()
        if node.outputs
    )


def _facts(outputs: Mapping[str, Path], history: FlowResult | None) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    run: dict[str, Any] = {"created": f"{now:%Y-%m-%d %H:%M} UTC"}
    data: dict[str, Any] = {}
    if history is not None:
        run |= {"run": history.run, "flow": history.flow.name, "seed": history.flow.seed}
        params = _params(history)
        data |= {"data set": params.pop("dataset")} if "dataset" in params else {}
        run |= params
        reports = {k: v for node in history.reports.values() for k, v in node.items()}
        data |= {title: reports[key] for key, title in _COUNTS.items() if key in reports}
    facts = {
        "Run": run,
        "Data": data,
        "Model": _model_facts(outputs),
        "Machine": machine_facts(),
        "Versions": {name: package_version(name) for name in _PACKAGES},
    }
    return {group: values for group, values in facts.items() if values}


def _evaluated_as(outputs: Mapping[str, Path], version: str) -> str | None:
    """Return the name under which a version stands in the table: two may be of one type."""
    for name, folder in outputs.items():
        file = folder / "metrics.json"
        if file.exists() and read_json(file).get("version") == version:
            return _label(name)
    return None


def _model_facts(outputs: Mapping[str, Path]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    selection, version = _holder(outputs, "selection"), _holder(outputs, "version")
    if selection is not None:
        tree = read_json(selection / "selection.json")
        better = min if tree["metric"] == "log_loss" else max
        chosen = better(tree["candidates"], key=lambda c: c["metrics"][tree["metric"]])
        facts |= {
            "served": _evaluated_as(outputs, chosen["version"]) or chosen["model"],
            "chosen by": f"validation {tree['metric'].replace('_', '-')}",
        }
        facts["candidates"] = len(tree["candidates"])
    if version is not None:
        tree = read_json(version / "version.json")
        facts["registered as"] = f"{tree['name']} version {tree['version']}"
        facts["alias"] = tree.get("alias", "")
    return facts
