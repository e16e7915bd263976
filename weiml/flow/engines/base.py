"""The contract of an engine, and the registry of engines.

An engine gives a node's steps what they run on: a Ray, a parameter server, threads of torch, a
process. It knows nothing of caching, retries or where outputs are committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, ClassVar, TypeVar

from weiml.config import nearest
from weiml.errors import FlowError
from weiml.flow.context import NodeContext, StepContext
from weiml.flow.graph import Node, Position
from weiml.flow.signature import convert
from weiml.flow.steps import StepFunction

__all__ = ["Engine", "find_engine", "list_engines", "register_engine"]


class Engine(ABC):
    """Runs the steps of a node.

    One attempt of a node calls, from one thread: ``open`` once, ``run_step`` for each step in
    order, and ``close`` once with what ``open`` returned — also after an error, a timeout or
    Ctrl-C. If ``open`` itself fails it must leave nothing behind. An engine object keeps no state
    of its own between calls; state belongs to the session.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    """Names and types of the ``<option>`` elements that a node on this engine may have."""
    distributions: ClassVar[tuple[str, ...]] = ()
    """Python distributions whose versions are part of the cache key, such as ``("ray",)``."""
    cacheable: ClassVar[bool] = True
    """False when what a node does here does not outlast it, such as serving requests."""

    @abstractmethod
    def open(self, node: Node, context: NodeContext) -> Any:
        """Return the session that the node's steps see as ``context.session``.

        Raises:
            ClusterError: something that the engine needs cannot be reached.
            FlowError: something that it needs is not installed.
        """

    def run_step(
        self,
        session: Any,
        function: StepFunction,
        context: StepContext,
        values: Sequence[Any],
    ) -> Any:
        """Call the step's function and return its value; override to run it elsewhere."""
        return function.function(context, *values, **context.params)

    @abstractmethod
    def close(self, session: Any) -> None:
        """Release all that ``open`` and the steps took through the session."""

    def bind_options(self, node: Node) -> dict[str, Any]:
        """Convert the node's options to the types declared in `options`.

        Raises:
            FlowError: an option is unknown or does not fit; with file and line.
        """
        bound = {}
        for option in node.options:
            place = f"{option.position}: option {option.name!r} of node {node.id!r}"
            if option.name not in self.options:
                known = nearest(option.name, self.options)
                raise FlowError(f"{place} is unknown to the engine {self.name!r}{known}")
            try:
                bound[option.name] = convert(option.values, self.options[option.name])
            except ValueError as error:
                raise FlowError(f"{place} {error}") from None
        return bound

    def versions(self) -> dict[str, str]:
        """Installed versions of `distributions`; "none" for what is not installed."""
        found = {}
        for name in self.distributions:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "none"
        return found


E = TypeVar("E", bound="Engine | type[Engine]")

_ENGINES: dict[str, Engine] = {}


def register_engine(engine: E) -> E:
    """Register an engine, or a class of engines made without arguments; usable as a decorator.

    Raises:
        FlowError: another class has the name.
    """
    instance = engine() if isinstance(engine, type) else engine
    known = _ENGINES.get(instance.name)
    if known is not None and type(known).__qualname__ != type(instance).__qualname__:
        raise FlowError(
            f"engine {instance.name!r} is already {type(known).__module__}."
            f"{type(known).__qualname__}; give {type(instance).__qualname__} another name"
        )
    _ENGINES[instance.name] = instance
    return engine


def find_engine(name: str, position: Position | None = None) -> Engine:
    """Return the engine `name`; FlowError naming the nearest one when there is none."""
    if name not in _ENGINES:
        raise FlowError(
            f"{position or Position()}: unknown engine {name!r}{nearest(name, _ENGINES)}; if a "
            'module registers it, list the module in the flow\'s steps="…"'
        )
    return _ENGINES[name]


def list_engines() -> dict[str, Engine]:
    """All registered engines by name."""
    return dict(sorted(_ENGINES.items()))
