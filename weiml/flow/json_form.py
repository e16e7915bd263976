"""The JSON form of a flow: the same graph as plain mappings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from weiml.config import nearest
from weiml.errors import FlowError
from weiml.flow.graph import Flow, Node, Param, Position, Step, StepKind

__all__ = ["from_json", "to_json"]

_MISSING = object()


def to_json(flow: Flow) -> str:
    """Write a flow as JSON; ``from_json`` reads it back to an equal flow."""
    tree = {
        "name": flow.name,
        "steps": list(flow.steps),
        "seed": flow.seed,
        "params": _plain_params(flow.params),
        "nodes": [
            {
                "id": node.id,
                "engine": node.engine,
                "upstream": list(node.upstream),
                "cache": node.cache,
                "retries": node.retries,
                "backoff_s": node.backoff_s,
                "timeout_s": node.timeout_s,
                "options": _plain_params(node.options),
                "steps": [
                    {
                        "name": step.name,
                        "kind": step.kind.value,
                        "class": step.cls,
                        "dependencies": list(step.dependencies),
                        "params": _plain_params(step.params),
                    }
                    for step in node.steps
                ],
            }
            for node in flow.nodes
        ],
    }
    return json.dumps(tree, indent=2, ensure_ascii=False)


def _plain_params(params: tuple[Param, ...]) -> dict[str, str | list[str]]:
    return {p.name: p.values[0] if len(p.values) == 1 else list(p.values) for p in params}


def from_json(text: str, *, source: str = "<json>") -> Flow:
    """Build a flow from JSON text.

    Raises:
        FlowError: the text is not JSON (with its line), or not a valid flow (with the place in the
            tree).
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise FlowError(
            f"{source}:{error.lineno}: not valid JSON, column {error.colno}: {error.msg}"
        ) from None
    fields = _Fields(tree, Position(source=source))
    flow = Flow(
        position=fields.position,
        name=fields.take("name", str),
        steps=tuple(fields.take("steps", list, [])),
        seed=fields.take("seed", int, 0),
        params=fields.params("params"),
        nodes=tuple(_node(item) for item in fields.items("nodes")),
    )
    fields.finish()
    return flow


def _node(fields: _Fields) -> Node:
    timeout_s = fields.take("timeout_s", (int, float, type(None)), None)
    node = Node(
        position=fields.position,
        id=fields.take("id", str),
        engine=fields.take("engine", str),
        upstream=tuple(fields.take("upstream", list, [])),
        cache=fields.take("cache", bool, True),
        retries=fields.take("retries", int, 0),
        backoff_s=float(fields.take("backoff_s", (int, float), 1.0)),
        timeout_s=None if timeout_s is None else float(timeout_s),
        options=fields.params("options"),
        steps=tuple(_step(item) for item in fields.items("steps")),
    )
    fields.finish()
    return node


def _step(fields: _Fields) -> Step:
    kind = fields.take("kind", str)
    kinds = [member.value for member in StepKind]
    if kind not in kinds:
        raise FlowError(f"{fields.position}: unknown kind {kind!r}{nearest(kind, kinds)}")
    step = Step(
        position=fields.position,
        name=fields.take("name", str),
        kind=StepKind(kind),
        cls=fields.take("class", str),
        dependencies=tuple(fields.take("dependencies", list, [])),
        params=fields.params("params"),
    )
    fields.finish()
    return step


class _Fields:
    """Takes checked values out of one mapping; what is left at the end was not known."""

    def __init__(self, tree: Any, position: Position) -> None:
        self.position = position
        if not isinstance(tree, Mapping):
            raise FlowError(f"{position}: expected an object, got {tree!r:.40}")
        self._tree = dict(tree)
        self._known: list[str] = []

    def take(self, name: str, kind: Any, default: Any = _MISSING) -> Any:
        self._known.append(name)
        value = self._tree.pop(name, default)
        if value is _MISSING:
            raise FlowError(f"{self.position}: {name!r} is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise FlowError(f"{self.position}: {name!r} has the wrong type, got {value!r:.40}")
        return value

    def params(self, name: str) -> tuple[Param, ...]:
        values = self.take(name, dict, {})
        return tuple(Param.of(key, value, self.position) for key, value in values.items())

    def items(self, name: str) -> list[_Fields]:
        place = self.position.source
        return [
            _Fields(item, Position(source=f"{place} {name}[{index}]"))
            for index, item in enumerate(self.take(name, list))
        ]

    def finish(self) -> None:
        for name in self._tree:
            raise FlowError(f"{self.position}: unknown key {name!r}{nearest(name, self._known)}")
