"""What a run gave: states, times, outputs and reports, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weiml.config import nearest
from weiml.errors import FlowError
from weiml.flow.graph import Flow
from weiml.flow.json_form import from_json
from weiml.flow.ledger import Ledger, State
from weiml.flow.manifest import Manifest

__all__ = ["LEDGER", "FlowResult", "NodeResult", "load_result"]

LEDGER = "ledger.sqlite3"


@dataclass(frozen=True, kw_only=True)
class NodeResult:
    """One node of a run."""

    id: str
    engine: str
    state: State
    reason: str = ""
    """Why it ran or was taken from the cache."""
    seconds: float = 0.0
    """Time that it took in this run."""
    computed_seconds: float = 0.0
    """Time that the attempt took which made the outputs; for a cached node an earlier one."""
    attempts: int = 0
    key: str = ""
    folder: Path | None = None
    outputs: Mapping[str, Path] = field(default_factory=dict)
    reports: Mapping[str, Any] = field(default_factory=dict)
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def of(cls, manifest: Manifest, folder: Path, **fields: Any) -> NodeResult:
        """The result of a node whose outputs lie in `folder`."""
        return cls(
            id=manifest.node,
            key=manifest.key,
            folder=folder,
            outputs={name: folder / name for name in manifest.outputs},
            reports=manifest.reports,
            step_seconds=manifest.step_seconds,
            computed_seconds=manifest.seconds,
            **fields,
        )


@dataclass(frozen=True, kw_only=True)
class FlowResult:
    """A run of a flow; nodes in the order they ran."""

    flow: Flow
    run: str
    state: State
    seconds: float
    nodes: Mapping[str, NodeResult]

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """What the steps reported: ``reports[node][name]``."""
        return {id: dict(node.reports) for id, node in self.nodes.items()}

    def artifact(self, name: str) -> Path:
        """Return the folder of an output, named ``node.output``.

        Raises:
            FlowError: there is no such output, or its node did not finish.
        """
        outputs = {f"{id}.{out}": out for id in self.nodes for out in self.flow.node(id).outputs}
        if name not in outputs:
            raise FlowError(
                f"flow {self.flow.name!r} has no output {name!r}{nearest(name, outputs)}"
            )
        node = self.nodes[name.partition(".")[0]]
        if outputs[name] not in node.outputs:
            raise FlowError(f"output {name!r} was not made: node {node.id!r} is {node.state.value}")
        return node.outputs[outputs[name]]

    def to_mapping(self) -> dict[str, Any]:
        """The result in JSON's types."""
        return {
            "flow": self.flow.name,
            "run": self.run,
            "state": self.state.value,
            "seconds": round(self.seconds, 3),
            "nodes": {
                id: {
                    "engine": node.engine,
                    "state": node.state.value,
                    "reason": node.reason,
                    "seconds": round(node.seconds, 3),
                    "computed_seconds": round(node.computed_seconds, 3),
                    "attempts": node.attempts,
                    "outputs": {name: str(path) for name, path in node.outputs.items()},
                    "reports": dict(node.reports),
                    "error": node.error,
                }
                for id, node in self.nodes.items()
            },
        }


def load_result(
    runs_dir: str | Path, *, flow: str | None = None, run: str | None = None
) -> FlowResult:
    """Read a run back: the one named `run`, such as ``"feed-12"``, or the last (of a flow).

    Raises:
        FlowError: there is no such run.
    """
    root = Path(runs_dir).resolve()
    what = f"run {run!r}" if run else f"run of flow {flow!r}" if flow else "run"
    number = run.rpartition("-")[2] if run else ""
    if not (root / LEDGER).is_file() or (run and not number.isdigit()):
        raise FlowError(f"there is no {what} in {root}; run a flow there, or name another folder")
    with Ledger(root / LEDGER) as ledger:
        row = ledger.find_run(run.rpartition("-")[0] if run else flow, int(number or 0) or None)
        if row is None:
            raise FlowError(f"there is no {what} in {root}")
        nodes = ledger.run_nodes(row["id"])
    graph = from_json(row["graph"], source=f"{row['flow']}-{row['id']}")
    results = {entry["node"]: _node_result(graph, entry, root) for entry in nodes}
    return FlowResult(
        flow=graph,
        run=f"{row['flow']}-{row['id']}",
        state=State(row["state"]),
        seconds=(row["finished"] or row["started"]) - row["started"],
        nodes={node.id: results[node.id] for node in graph.order},
    )


def _node_result(flow: Flow, row: Mapping[str, Any], root: Path) -> NodeResult:
    fields: dict[str, Any] = {
        "engine": flow.node(row["node"]).engine,
        "state": State(row["state"]),
        "reason": row["reason"] or "",
        "seconds": (row["finished"] or 0.0) - (row["started"] or 0.0),
        "attempts": row["attempts"],
        "error": row["error"] or "",
    }
    folder = root / row["folder"] if row["folder"] else None
    if folder is not None and folder.is_dir():
        return NodeResult.of(Manifest.read(folder), folder, **fields)
    return NodeResult(id=row["node"], key=row["key"] or "", **fields)
