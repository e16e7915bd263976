"""Building a flow in Python; positions in errors are the lines of the program that builds it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from weiml.flow.graph import Flow, Node, Param, Position, Step, StepKind

__all__ = ["FlowBuilder", "NodeBuilder"]


def _caller() -> Position:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return Position(source=frame.f_code.co_filename, line=frame.f_lineno)


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    parts = names.split(",") if isinstance(names, str) else names
    return tuple(name.strip() for name in parts if name.strip())


class NodeBuilder:
    """Adds steps to one node; each method returns the builder, so that calls can be chained."""

    def __init__(self, node: dict[str, object]) -> None:
        self._node = node
        self._steps: list[Step] = []

    def input(
        self, name: str, cls: str, dependency: str | Iterable[str] = (), **params: object
    ) -> NodeBuilder:
        """Add an input step; `params` become the step's parameters."""
        return self._add(StepKind.INPUT, name, cls, dependency, params)

    def process(
        self, name: str, cls: str, dependency: str | Iterable[str] = (), **params: object
    ) -> NodeBuilder:
        """Add a process step."""
        return self._add(StepKind.PROCESS, name, cls, dependency, params)

    def output(
        self, name: str, cls: str, dependency: str | Iterable[str] = (), **params: object
    ) -> NodeBuilder:
        """Add an output step."""
        return self._add(StepKind.OUTPUT, name, cls, dependency, params)

    def _add(
        self,
        kind: StepKind,
        name: str,
        cls: str,
        dependency: str | Iterable[str],
        params: dict[str, object],
    ) -> NodeBuilder:
        position = _caller()
        given = {key: value for key, value in params.items() if value is not None}
        step = Step(
            name=name,
            kind=kind,
            cls=cls,
            dependencies=_names(dependency),
            params=tuple(Param.of(key, value, position) for key, value in given.items()),
            position=position,
        )
        self._steps.append(step)
        return self

    def build(self) -> Node:
        """Return the node."""
        return Node(steps=tuple(self._steps), **self._node)  # type: ignore[arg-type]


class FlowBuilder:
    """Collects nodes.

    Example:
        >>> flow = FlowBuilder("hello")
        >>> _ = flow.node("copy", engine="shell").output("file", "shell.run", command="true")
        >>> [node.id for node in flow.build().nodes]
        ['copy']
    """

    def __init__(self, name: str, *, steps: Iterable[str] = (), seed: int = 0) -> None:
        self._name = name
        self._modules = tuple(steps)
        self._seed = seed
        self._params: list[Param] = []
        self._nodes: list[NodeBuilder] = []
        self._position = _caller()

    def param(self, name: str, value: object) -> FlowBuilder:
        """Add a parameter of the flow with its default."""
        self._params.append(Param.of(name, value, _caller()))
        return self

    def node(
        self,
        id: str,
        *,
        engine: str = "python",
        preid: str | Iterable[str] = (),
        cache: bool = True,
        retries: int = 0,
        backoff_s: float = 1.0,
        timeout_s: float | None = None,
        **options: object,
    ) -> NodeBuilder:
        """Add a node; `options` are the engine's."""
        position = _caller()
        builder = NodeBuilder(
            {
                "id": id,
                "engine": engine,
                "upstream": _names(preid),
                "cache": cache,
                "retries": retries,
                "backoff_s": backoff_s,
                "timeout_s": timeout_s,
                "options": tuple(Param.of(k, v, position) for k, v in options.items()),
                "position": position,
            }
        )
        self._nodes.append(builder)
        return builder

    def build(self) -> Flow:
        """Return the flow.

        Raises:
            FlowError: names, dependencies or the graph are wrong.
        """
        return Flow(
            name=self._name,
            steps=self._modules,
            seed=self._seed,
            params=tuple(self._params),
            nodes=tuple(builder.build() for builder in self._nodes),
            position=self._position,
        )
