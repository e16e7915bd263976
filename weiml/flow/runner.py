"""Running a flow: node after node, each from the cache or by attempts until one commits.

Nodes run one at a time in the calling thread; parallel work is the engines'.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weiml.errors import ConfigError, DataError, FlowError
from weiml.flow.attempt import ATTEMPTS, Attempt
from weiml.flow.binding import BoundFlow, BoundNode, bind_flow, load_flow
from weiml.flow.cache import UpstreamDigests, cache_key, explain, key_components, uncacheable
from weiml.flow.context import RunScope
from weiml.flow.graph import Flow
from weiml.flow.interrupts import shielded, terminable
from weiml.flow.json_form import to_json
from weiml.flow.ledger import Ledger, State
from weiml.flow.lock import RunsLock
from weiml.flow.manifest import MANIFEST, Manifest
from weiml.flow.progress import ProgressMode, Reporter, open_reporter
from weiml.flow.result import LEDGER, FlowResult, NodeResult

__all__ = ["run_flow"]

_USELESS_TO_RETRY = (ConfigError, DataError)  # the same input fails the same way


def run_flow(
    flow: Flow | str | Path,
    runs_dir: str | Path = "runs",
    *,
    params: Mapping[str, object] | None = None,
    force: bool | Collection[str] = False,
    progress: ProgressMode | Reporter = "auto",
) -> FlowResult:
    """Run a flow; nodes whose key was computed before are taken from the cache.

    Args:
        flow: a flow, or the path of its file.
        runs_dir: where outputs, ledger and cache lie; one run at a time.
        params: values for the flow's parameters.
        force: run all nodes, or those named, although they are cached.
        progress: "auto", "rich", "plain", "none", or a Reporter.

    Raises:
        FlowError: the flow is not valid (before anything runs), `runs_dir` is in use, or a node
            failed; the message names file, line, node and step.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; the node is CANCELLED, sessions are
            closed.
    """
    loaded = flow if isinstance(flow, Flow) else load_flow(flow)
    bound = bind_flow(loaded, params)
    forced = _forced(bound.flow, force)
    root = _make_root(Path(runs_dir).resolve())
    with ExitStack() as stack:
        stack.enter_context(RunsLock(root, bound.flow.name))
        ledger = stack.enter_context(Ledger(root / LEDGER))
        _clean_up_after_the_dead(ledger, root)
        stack.enter_context(terminable())
        reporter = open_reporter(progress)
        stack.callback(reporter.close)
        scope = RunScope()
        stack.callback(_close_scope, scope)
        return _FlowRun(
            bound=bound, root=root, ledger=ledger, reporter=reporter, scope=scope, forced=forced
        ).execute()


def _make_root(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlowError(
            f"runs_dir {root} cannot be used as a folder ({error.strerror}); name another"
        ) from None
    return root


def _forced(flow: Flow, force: bool | Collection[str]) -> frozenset[str]:
    if isinstance(force, bool):
        return frozenset(node.id for node in flow.nodes) if force else frozenset()
    names = [force] if isinstance(force, str) else force
    return frozenset(flow.node(id).id for id in names)


def _clean_up_after_the_dead(ledger: Ledger, root: Path) -> None:
    """Close entries of runs that died, and remove what they were writing; needs the lock."""
    ledger.recover(lambda folder: (root / folder / MANIFEST).is_file())
    shutil.rmtree(root / ATTEMPTS, ignore_errors=True)


def _close_scope(scope: RunScope) -> None:
    with shielded():
        scope.close()


@dataclass(kw_only=True)
class _FlowRun:
    """The run in progress."""

    bound: BoundFlow
    root: Path
    ledger: Ledger
    reporter: Reporter
    scope: RunScope
    forced: frozenset[str]
    results: dict[str, NodeResult] = field(default_factory=dict)
    digests: dict[str, UpstreamDigests] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    def execute(self) -> FlowResult:
        flow = self.bound.flow
        self._run = self.ledger.start_run(flow.name, to_json(flow), [n.id for n in flow.order])
        state = State.FAILED
        try:
            self.reporter.start(flow)
            for bound in self.bound.nodes:
                self._run_node(bound)
            state = State.SUCCEEDED
        except (KeyboardInterrupt, SystemExit):
            state = State.CANCELLED
            raise
        finally:
            with shielded():
                self.ledger.finish_run(self._run, state)
        return self._result(state)

    def _result(self, state: State) -> FlowResult:
        return FlowResult(
            flow=self.bound.flow,
            run=self._name,
            state=state,
            seconds=time.monotonic() - self._started,
            nodes=dict(self.results),
        )

    @property
    def _name(self) -> str:
        return f"{self.bound.flow.name}-{self._run}"

    def _run_node(self, bound: BoundNode) -> None:
        node = bound.node
        components = key_components(bound, self.bound.flow, self.digests)
        key = cache_key(components)
        reason = self._take_cached(bound, key, components)
        if reason is None:
            return
        self.reporter.node_started(node, reason)
        started = time.monotonic()
        for number in range(1, node.retries + 2):
            attempt = self.ledger.start_attempt(
                self._run, node.id, key=key, components=components, reason=reason
            )
            try:
                manifest, folder = self._attempt(bound, attempt, key, components).run()
            except Exception as error:
                self._fail(bound, attempt, number, error, time.monotonic() - started)
            except BaseException as error:
                self._cancel(bound, attempt, error, time.monotonic() - started)
                raise
            else:
                seconds = time.monotonic() - started
                fields = {"seconds": seconds, "reason": reason, "attempts": number}
                self._finish(bound, manifest, folder, State.SUCCEEDED, **fields)
                return

    def _take_cached(self, bound: BoundNode, key: str, components: Mapping[str, str]) -> str | None:
        """Use earlier outputs if there are any; else say why the node must run."""
        node, flow = bound.node, self.bound.flow
        if node.id in self.forced:
            return "forced"
        never = uncacheable(bound, components)
        if never is not None:
            return never
        reason = ""
        for attempt, relative in self.ledger.committed(flow.name, node.id, key):
            folder = self.root / relative
            try:
                manifest = Manifest.read(folder)
                damage = manifest.damage(folder)
            except FlowError as error:
                damage = str(error)
            reason = reason or damage or ""
            if damage is None:
                self.ledger.use_cached(self._run, node.id, attempt, "unchanged")
                self._finish(bound, manifest, folder, State.CACHED, reason="unchanged")
                return None
        return reason or explain(components, self.ledger.last_components(flow.name, node.id))

    def _attempt(
        self, bound: BoundNode, number: int, key: str, components: Mapping[str, str]
    ) -> Attempt:
        return Attempt(
            bound=bound,
            flow=self.bound.flow,
            run_name=self._name,
            number=number,
            key=key,
            components=components,
            root=self.root,
            ledger=self.ledger,
            scope=self.scope,
            reporter=self.reporter,
            history=self._result(State.RUNNING),
        )

    def _finish(
        self, bound: BoundNode, manifest: Manifest, folder: Path, state: State, **fields: Any
    ) -> None:
        id = bound.node.id
        result = NodeResult.of(manifest, folder, state=state, engine=bound.node.engine, **fields)
        self.results[id] = result
        always = uncacheable(bound, manifest.components) is not None
        self.digests[id] = UpstreamDigests(
            identity=f"attempt {manifest.attempt}" if always else manifest.key,
            outputs={name: manifest.output_digest(name) for name in manifest.outputs},
        )
        self.reporter.node_finished(bound.node, result)

    def _fail(
        self, bound: BoundNode, attempt: int, number: int, error: Exception, seconds: float
    ) -> None:
        """Enter a failed attempt; pause if there is another one, raise if not."""
        node = bound.node
        self.ledger.end_attempt(attempt, State.FAILED, str(error))
        if number <= node.retries and not isinstance(error.__cause__, _USELESS_TO_RETRY):
            pause_s = node.backoff_s * 2 ** (number - 1) * random.uniform(0.75, 1.25)
            self.reporter.node_retried(node, str(error), pause_s)
            try:
                time.sleep(pause_s)
            except BaseException:
                self.ledger.end_node(self._run, node.id, State.CANCELLED)
                raise
            return
        self._end(bound, State.FAILED, error, seconds)
        raise error

    def _cancel(self, bound: BoundNode, attempt: int, error: BaseException, seconds: float) -> None:
        with shielded():
            if self.ledger.is_committed(attempt):
                return  # the signal came during the commit: the node is done, the run is not
            self.ledger.end_attempt(attempt, State.CANCELLED, type(error).__name__)
            self._end(bound, State.CANCELLED, error, seconds)

    def _end(self, bound: BoundNode, state: State, error: BaseException, seconds: float) -> None:
        node = bound.node
        self.ledger.end_node(self._run, node.id, state)
        result = NodeResult(
            id=node.id, engine=node.engine, state=state, seconds=seconds, error=str(error)
        )
        self.reporter.node_finished(node, result)
