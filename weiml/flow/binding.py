"""A flow joined to what is registered: engines, step functions and converted parameters.

Everything that can be checked before running is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.errors import FlowError
from weiml.flow.engines.base import Engine, find_engine
from weiml.flow.graph import Flow, Node, Step
from weiml.flow.json_form import from_json
from weiml.flow.params import resolve_params
from weiml.flow.steps import StepFunction, find_step, load_step_modules
from weiml.flow.xml import read_xml

__all__ = ["BoundFlow", "BoundNode", "BoundStep", "bind_flow", "load_flow"]


@dataclass(frozen=True, kw_only=True)
class BoundStep:
    """A step and the function it calls."""

    step: Step
    function: StepFunction
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class BoundNode:
    """A node, its engine, and its steps in the order they run."""

    node: Node
    engine: Engine
    options: Mapping[str, Any]
    steps: tuple[BoundStep, ...]


@dataclass(frozen=True, kw_only=True)
class BoundFlow:
    """A flow ready to run; nodes in the order they run."""

    flow: Flow
    nodes: tuple[BoundNode, ...]


def load_flow(path: str | Path) -> Flow:
    """Read a flow from a ``.xml`` or ``.json`` file.

    Raises:
        FlowError: the file is missing, of another kind, or not a valid flow.
    """
    file = Path(path)
    if file.suffix == ".xml":
        return read_xml(file)
    if file.suffix != ".json":
        raise FlowError(
            f"{file}: a flow is a .xml or a .json file, got {file.suffix or 'no suffix'!r}"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FlowError(f"{file}: cannot be read ({error})") from None
    return from_json(text, source=str(file))


def bind_flow(flow: Flow, params: Mapping[str, object] | None = None) -> BoundFlow:
    """Load the flow's modules and check every engine, option, class and parameter.

    Raises:
        FlowError: one of them is unknown, missing or does not fit; with file and line.
    """
    load_step_modules(flow.steps, flow.position)
    resolved = resolve_params(flow, params)
    return BoundFlow(flow=resolved, nodes=tuple(_bind_node(node) for node in resolved.order))


def _bind_node(node: Node) -> BoundNode:
    engine = find_engine(node.engine, node.position)
    return BoundNode(
        node=node,
        engine=engine,
        options=engine.bind_options(node),
        steps=tuple(_bind_step(step) for step in node.order),
    )


def _bind_step(step: Step) -> BoundStep:
    function = find_step(step.cls, step.position)
    return BoundStep(step=step, function=function, params=function.bind(step))
