"""What a step and an engine are given: where they are in the flow, and where to put things."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from weiml.errors import FlowError
from weiml.flow.graph import Flow, Node, Step

if TYPE_CHECKING:
    from weiml.flow.result import FlowResult

__all__ = ["NodeContext", "ProgressCallback", "RunScope", "StepContext", "plain_value"]


class ProgressCallback(Protocol):
    """How far a step is: a short text, and optionally how much of how much."""

    def __call__(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Show it."""


def _silent(text: str, done: float | None = None, total: float | None = None) -> None:
    """Show nothing."""


class RunScope:
    """Things that live as long as the run, such as a Ray that the flow started.

    ``at_exit`` functions run in reverse order when the run ends, however it ends.
    """

    def __init__(self) -> None:
        self._closers: list[Callable[[], None]] = []

    def at_exit(self, function: Callable[[], None]) -> None:
        """Call `function` when the run ends."""
        self._closers.append(function)

    def close(self) -> None:
        """Call what was registered; every function is called, the first error is raised."""
        failure: BaseException | None = None
        while self._closers:
            try:
                self._closers.pop()()
            except BaseException as error:
                failure = failure or error
        if failure is not None:
            raise failure


@dataclass(frozen=True, kw_only=True)
class NodeContext:
    """What an engine's ``open`` is given."""

    flow: Flow
    node: Node
    options: Mapping[str, Any]
    """The node's ``<option>`` texts, converted to the types that the engine declares."""
    scratch_dir: Path
    """A folder for this attempt only; it is gone afterwards."""
    scope: RunScope
    progress: ProgressCallback = _silent

    @property
    def seed(self) -> int:
        """The flow's seed."""
        return self.flow.seed

    @property
    def log(self) -> logging.Logger:
        """The node's logger, ``weiml.flow.FLOW.NODE``."""
        return logging.getLogger(f"weiml.flow.{self.flow.name}.{self.node.id}")


@dataclass(kw_only=True)
class StepContext:
    """What a step function gets as its first argument."""

    flow: Flow
    node: Node
    step: Step
    params: Mapping[str, Any]
    """The step's parameters, converted."""
    session: Any = None
    """What the node's engine opened."""
    scratch_dir: Path
    """A folder for this attempt only; it is gone afterwards."""
    folder: Path | None = None
    """The step's own output folder; None unless it is an output step."""
    work_dir: Path | None = None
    """A folder of this step that outlives an attempt which was interrupted or failed, for what the
    next one can go on from. It belongs to the node's cache key, so that steps find their own only;
    it may not exist yet, and is removed when the node is done."""
    progress: ProgressCallback = _silent
    """Show how far the step is: ``context.progress("epoch 2", done=2, total=5)``."""
    reports: dict[str, Any] = field(default_factory=dict)
    """What the node's steps reported so far."""
    history: FlowResult | None = None
    """The nodes of this run that finished before this one, with their times, for a step that draws
    or reports the run. Not part of the cache key: use it in a node with ``cache="false"``. None on
    engines that run steps in another process."""

    @property
    def output_dir(self) -> Path:
        """The fresh folder that an output step writes its artifact to.

        Raises:
            FlowError: the step is not an output step.
        """
        if self.folder is None:
            raise FlowError(
                f"{self.step.position}: step {self.step.name!r} is a <{self.step.kind.value}>; "
                "only an <output> has an output_dir. Make it one, or use context.scratch_dir"
            )
        return self.folder

    @property
    def seed(self) -> int:
        """The flow's seed."""
        return self.flow.seed

    @property
    def log(self) -> logging.Logger:
        """The step's logger, ``weiml.flow.FLOW.NODE.STEP``."""
        return logging.getLogger(f"weiml.flow.{self.flow.name}.{self.node.id}.{self.step.name}")

    def report(self, name: str, value: object) -> None:
        """Put a number, text, list or mapping into the node's manifest, under "reports".

        It comes back from the cache with the node's outputs. Numbers that JSON does not have (NaN,
        infinities) become null.

        Raises:
            FlowError: the value cannot be written as JSON.
        """
        try:
            self.reports[name] = plain_value(value)
        except TypeError as error:
            raise FlowError(
                f"step {self.step.name!r} of node {self.node.id!r} reports {name!r}: {error}; "
                "report numbers, texts, lists and mappings, and write anything else to output_dir"
            ) from None


def plain_value(value: object) -> Any:
    """Return `value` in JSON's types; numpy scalars and arrays become numbers and lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    for convert in ("tolist", "item"):
        if hasattr(value, convert):
            return plain_value(getattr(value, convert)())
    json.dumps(value)  # says which type it is that JSON does not know
    return value
