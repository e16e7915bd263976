"""The two graphs of a flow: nodes outside, the steps of each node inside.

A Flow that exists is well formed: names, dependencies and cycles are checked when it is built. It
does not know which engines and step classes are registered; binding.py checks those.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from weiml.config import nearest
from weiml.errors import FlowError
from weiml.flow.order import find_cycle, topological_order

__all__ = ["Flow", "Node", "Param", "Position", "Step", "StepKind", "to_text"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NO_UPSTREAM = "-1"


class StepKind(enum.Enum):
    """What a step does for its node."""

    INPUT = "input"
    PROCESS = "process"
    OUTPUT = "output"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a thing was written: file (or what stands for one) and line."""

    source: str = "<flow>"
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Param:
    """A named text, or several texts under one name; engines and steps convert them."""

    name: str
    values: tuple[str, ...]
    position: Position = field(default_factory=Position, compare=False)

    @property
    def text(self) -> str:
        """The texts as one, commas between."""
        return ",".join(self.values)

    @classmethod
    def of(cls, name: str, value: object, position: Position | None = None) -> Param:
        """Make a parameter of a Python value; sequences become several texts."""
        many = isinstance(value, Sequence) and not isinstance(value, str)
        values = tuple(map(to_text, value)) if many else (to_text(value),)  # type: ignore[call-overload]
        return cls(name=name, values=values, position=position or Position())


def to_text(value: object) -> str:
    """Write a Python value as the text that reads back to it (``true``, ``3``, ``0.5``, …)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float, Path)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return ",".join(map(to_text, value))
    raise FlowError(
        f"a flow's parameters are texts, numbers, booleans and lists of them, got {value!r}"
    )


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a node: a registered function, its dependencies and its parameters.

    A dependency is the name of a step of the same node, or ``node.output`` of an upstream node.
    """

    name: str
    kind: StepKind
    cls: str
    dependencies: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    position: Position = field(default_factory=Position, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name, "step", self.position)
        if not self.cls:
            raise FlowError(f'{self.position}: step {self.name!r} has no class; add class="…"')
        _check_unique(self.params, "parameter", f"step {self.name!r}")

    @property
    def local_dependencies(self) -> tuple[str, ...]:
        """Dependencies on steps of the same node."""
        return tuple(name for name in self.dependencies if "." not in name)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One outer node: steps that run together on one engine, cached and committed as one."""

    id: str
    engine: str
    upstream: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    options: tuple[Param, ...] = ()
    """Texts for the engine, such as ``threads`` of the torch engine."""
    cache: bool = True
    retries: int = 0
    backoff_s: float = 1.0
    """Pause before the first retry; it doubles with each one."""
    timeout_s: float | None = None
    """Longest time for one attempt; None for no limit."""
    position: Position = field(default_factory=Position, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.id, "node", self.position)
        where = f"{self.position}: node {self.id!r}"
        if not self.steps:
            raise FlowError(f"{where} has no step; add <input>, <process> or <output>")
        if self.retries < 0 or not 0 <= self.backoff_s < math.inf:
            raise FlowError(
                f"{where}: retries and backoff_s must be at least 0, got {self.retries} and "
                f"{self.backoff_s}"
            )
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise FlowError(f"{where}: timeout_s must be above 0, got {self.timeout_s}")
        _check_unique(self.options, "option", f"node {self.id!r}")
        _check_steps(self)

    @cached_property
    def order(self) -> tuple[Step, ...]:
        """The steps, each after those it depends on."""
        steps = {step.name: step for step in self.steps}
        graph = {step.name: step.local_dependencies for step in self.steps}
        return tuple(steps[name] for name in topological_order(graph))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output steps."""
        return tuple(step.name for step in self.steps if step.kind is StepKind.OUTPUT)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A named graph of nodes.

    Raises:
        FlowError: when built, for duplicate names, unknown dependencies or a cycle; the message
            starts with file and line.
    """

    name: str
    nodes: tuple[Node, ...]
    params: tuple[Param, ...] = ()
    """Values that ``${name}`` in the texts of the flow stands for, with their defaults."""
    steps: tuple[str, ...] = ()
    """Modules to import: they register the step classes and engines that the flow uses."""
    seed: int = 0
    position: Position = field(default_factory=Position, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name, "flow", self.position)
        if not self.nodes:
            raise FlowError(f"{self.position}: flow {self.name!r} has no node; add <node>")
        _check_unique(self.params, "parameter", f"flow {self.name!r}")
        _check_nodes(self)
        for node in self.nodes:
            _check_dotted(self, node)

    def node(self, id: str) -> Node:
        """Return the node `id`; FlowError naming the nearest one when there is none."""
        for node in self.nodes:
            if node.id == id:
                return node
        known = nearest(id, (node.id for node in self.nodes))
        raise FlowError(f"{self.position}: flow {self.name!r} has no node {id!r}{known}")

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The nodes, each after those upstream of it."""
        nodes = {node.id: node for node in self.nodes}
        graph = {node.id: node.upstream for node in self.nodes}
        return tuple(nodes[id] for id in topological_order(graph))


def _check_name(name: str, what: str, position: Position) -> None:
    if not _NAME.fullmatch(name):
        raise FlowError(
            f"{position}: {what} name {name!r} must be letters, digits, _ and -, not starting "
            "with a digit or -"
        )


def _check_unique(params: Iterable[Param], what: str, owner: str) -> None:
    seen: dict[str, Param] = {}
    for param in params:
        if param.name in seen:
            raise FlowError(
                f"{param.position}: {what} {param.name!r} of {owner} was already given at "
                f"{seen[param.name].position}; keep one"
            )
        seen[param.name] = param


def _check_steps(node: Node) -> None:
    seen: dict[str, Step] = {}
    for step in node.steps:
        if step.name in seen:
            raise FlowError(
                f"{step.position}: node {node.id!r} already has a step {step.name!r} at "
                f"{seen[step.name].position}; rename one"
            )
        seen[step.name] = step
    for step in node.steps:
        for name in step.local_dependencies:
            if name not in seen:
                raise FlowError(
                    f"{step.position}: step {step.name!r} of node {node.id!r} depends on "
                    f"{name!r}, which is not a step of the node{nearest(name, seen)}; outputs of "
                    "other nodes are written node.output"
                )
    cycle = find_cycle({step.name: step.local_dependencies for step in node.steps})
    if cycle:
        raise FlowError(
            f"{seen[cycle[0]].position}: the steps of node {node.id!r} form a cycle "
            f"({' → '.join(cycle)}); remove one of these dependencies"
        )


def _check_nodes(flow: Flow) -> None:
    seen: dict[str, Node] = {}
    for node in flow.nodes:
        if node.id in seen:
            raise FlowError(
                f"{node.position}: flow {flow.name!r} already has a node {node.id!r} at "
                f"{seen[node.id].position}; rename one"
            )
        seen[node.id] = node
    for node in flow.nodes:
        for id in node.upstream:
            if id not in seen:
                raise FlowError(
                    f"{node.position}: node {node.id!r} names {id!r} in preid, but there is no "
                    f'such node{nearest(id, seen)}; write preid="{_NO_UPSTREAM}" for none'
                )
    cycle = find_cycle({node.id: node.upstream for node in flow.nodes})
    if cycle:
        raise FlowError(
            f"{seen[cycle[0]].position}: the nodes form a cycle ({' → '.join(cycle)}); remove one "
            "of these from a preid"
        )


def _check_dotted(flow: Flow, node: Node) -> None:
    outputs: Mapping[str, tuple[str, ...]] = {other.id: other.outputs for other in flow.nodes}
    for step in node.steps:
        for name in step.dependencies:
            id, dot, output = name.partition(".")
            if not dot:
                continue
            where = f"{step.position}: step {step.name!r} of node {node.id!r} depends on {name!r}"
            if id not in outputs:
                raise FlowError(f"{where}, but there is no node {id!r}{nearest(id, outputs)}")
            if output not in outputs[id]:
                known = nearest(output, outputs[id])
                raise FlowError(f"{where}, but node {id!r} has no output {output!r}{known}")
            if id not in node.upstream:
                preid = ",".join((*node.upstream, id))
                raise FlowError(f'{where}, but {id!r} is not in its preid; write preid="{preid}"')
