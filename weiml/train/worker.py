"""What runs on each worker: its part of the batches through its copy of the model.

Several things go on at once: a thread reads batches and makes them ready, the rows of the next
batch are on their way from the servers, and the batch whose rows are here is trained on; with loose
clocks on Ray, what the batch before taught is sent meanwhile (`weiml.train.outbox`).

These functions run by `weiml.group.Group`, unchanged in this process and in Ray actors. They know
no driver and no validation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np

from weiml.data import BatchSource, read_ahead
from weiml.errors import GradientError, ParameterServerError
from weiml.group import Collective, Start, WorkerContext
from weiml.models import (
    DENSE_VECTOR,
    Columns,
    Fetch,
    Model,
    ModelConfig,
    Prepared,
    Span,
    StepResult,
    build_model,
    pulled,
)
from weiml.ps import Client, EmbeddedParameterServer, ParameterServer, Ticket
from weiml.ps.wire import WireConfig
from weiml.train.guard import LossGuard, whereabouts
from weiml.train.inputs import check_inputs, growing
from weiml.train.outbox import Blame, Outbox
from weiml.train.schedules import Constant, Schedule

__all__ = [
    "ChunkResult",
    "WorkerSpec",
    "dense_part",
    "finish",
    "restore_worker",
    "run_steps",
    "save_worker",
    "start_epoch",
    "start_worker",
]

_GUARD = "guard"
_TOTALS = "totals"


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to begin; travels to its process."""

    model_config: ModelConfig
    columns: Columns
    seed: int
    batch_size: int
    source: BatchSource
    """The training set."""
    server: ParameterServer
    wire: WireConfig = field(default_factory=WireConfig)
    shuffled: bool = True
    """Whether each epoch has an order of its own, or that of the source."""
    dense: tuple[np.ndarray, dict[str, np.ndarray]] | None = None
    """What `dense_part` gave, to go on from; None: as the seed says."""
    first_batch_size: int | None = None
    """See `TrainConfig`, as for what follows."""
    accumulate: int = 1
    threads: int = 1
    lr_schedule: Schedule = field(default_factory=Constant)
    total_steps: int = 1
    """Of all epochs; what the schedule stretches over."""
    dense_on_servers: bool = False
    """Whether the dense part is the server's vector `DENSE_VECTOR`."""
    explosion: float = 0.0
    traced: bool = False
    """Whether the moments of stages are kept."""

    @property
    def sends_aside(self) -> bool:
        """Whether a step's pushes may go while the next one is computed.

        Not under BSP, where the next step's rows wait for them; not in one process, whose shards
        would take the processor from the products; not where the dense part follows them.
        """
        loose = self.server.config.staleness != 0
        here = isinstance(self.server, EmbeddedParameterServer)
        return loose and not here and not self.dense_on_servers


class ChunkResult(NamedTuple):
    """What a worker did in a few steps."""

    steps: int
    examples: int
    weight: float
    loss: float
    """Sum of weighted losses."""
    epoch_weight: float
    """Of the epoch so far, as for the loss: sums whose bits no cut into chunks changes."""
    epoch_loss: float
    seconds: dict[str, float]
    """Where the time went: read (waiting for the thread that reads), pull (waiting for rows), mend,
    compute, push, reduce (waiting for the mean of the dense gradients), tick (waiting for the
    servers to have it all); and beside them, in the thread that reads, prepare. What the outbox
    sends is counted too, beside compute: then they are more than the seconds that went by."""
    spans: list[Span]
    """The moments of all that, if they are kept."""
    numbers: np.ndarray
    """int64 (steps,): each step's number among those of all workers; see `Client.tick`."""


@dataclass
class _Worker:
    spec: WorkerSpec
    model: Model
    client: Client
    batches: Iterator[Prepared]
    guard: LossGuard
    outbox: Outbox
    ahead: Fetch | None = None
    """The next batch, its rows asked for."""
    epoch: int = 0
    steps: int = 0
    """Taken in the epoch."""
    steps_before: int = 0
    """Taken in the epochs before."""
    examples: int = 0
    """Seen in the epoch."""
    losses: tuple[float, ...] = ()
    """Validation losses of the epochs before."""
    totals: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """Weight and loss of the epoch so far."""


def start_worker(context: WorkerContext, spec: WorkerSpec) -> None:
    """Build the worker's model and connect it to the servers."""
    model = build_model(
        spec.model_config.name,
        spec.model_config,
        spec.columns,
        seed=spec.seed,
        rank=context.rank,
        threads=spec.threads,
        device=context.device,
    )
    model.stages.traced = spec.traced
    if spec.dense is not None:
        model.set_dense_vector(spec.dense[0])
        model.set_dense_state(spec.dense[1])
    client = spec.server.client(context.rank, wire=spec.wire)
    context.memory["worker"] = _Worker(
        spec=spec,
        model=model,
        client=client,
        batches=iter(()),
        outbox=Outbox(client, model.stages),
        guard=LossGuard(spec.explosion, spec.batch_size * spec.accumulate),
    )


def start_epoch(
    context: WorkerContext,
    epoch: int,
    *,
    done: int = 0,
    steps: int | None = None,
    steps_before: int = 0,
    losses: tuple[float, ...] = (),
) -> None:
    """Begin the worker's part of an epoch's permutation, behind the `done` steps of it.

    It has `steps` steps, None: as many as there are examples for. `steps_before` were taken in
    earlier epochs, which had validation losses `losses`.
    """
    worker = _worker(context)
    worker.epoch = epoch
    worker.steps = done
    worker.steps_before = steps_before
    worker.losses = losses
    if not done:
        worker.totals = np.zeros(2)
    per_step = worker.spec.accumulate
    last = None if steps is None else steps * per_step
    worker.examples = 0  # the reading thread adds those that it skips
    worker.batches = read_ahead(_prepared(context, worker, done * per_step, last))
    worker.ahead = None


def run_steps(context: WorkerContext, count: int) -> Collective:
    """Take up to `count` steps; all workers have equally many. A `weiml.group.Collective`."""
    worker = _worker(context)
    stages = worker.model.stages
    taken = ChunkResult(0, 0, 0.0, 0.0, 0.0, 0.0, {}, [], np.zeros(0, np.int64))
    tickets: list[Ticket] = []
    for _ in range(count):
        if not _next_is_here(worker):
            break
        try:
            result = yield from _step(context, worker, tickets)
        except Exception:
            with suppress(ParameterServerError):  # of a server that is lost: the first error tells
                tickets += worker.outbox.settle()  # what is whole, as if it had been pushed at once
            raise
        if not worker.outbox.owes:
            with stages.timed("tick"):
                if worker.ahead is None:  # the epoch's end: validation sees what was held back
                    worker.client.flush()
                tickets.append(worker.client.tick())
        # Under BSP the others must tick before this worker may read again.
        yield None
        worker.totals += result.weight, result.loss
        taken = taken._replace(
            steps=taken.steps + 1,
            examples=taken.examples + result.examples,
            weight=taken.weight + result.weight,
            loss=taken.loss + result.loss,
        )
    tickets += worker.outbox.settle()
    with stages.timed("tick"):
        numbers = [worker.client.wait(ticket) for ticket in tickets]
    weight, loss = worker.totals.tolist()
    return taken._replace(
        epoch_weight=weight,
        epoch_loss=loss,
        seconds=stages.take(),
        spans=stages.take_spans(),
        numbers=np.array(numbers, np.int64),
    )


def _next_is_here(worker: _Worker) -> bool:
    """Ask for the next batch unless it was asked for; False at the end of the epoch."""
    worker.ahead = worker.ahead or _fetch(worker, ahead=0)
    return worker.ahead is not None


def _step(context: WorkerContext, worker: _Worker, tickets: list[Ticket]) -> Collective:
    """Take one step over `accumulate` batches, the first of which is on its way.

    What the step before still owes is sent beside this one's products, the next rows are asked for
    behind it, and its tick's ticket is added to `tickets`; this step's own last push may be owed
    likewise.

    Under BSP the pull for the next step waits on the servers for this worker's tick. With looser
    clocks it does not, and misses what this step pushes, as the step's own later batches do under
    any clock; see `Model.push`.
    """
    spec, model = worker.spec, worker.model
    stages = model.stages
    patient = spec.server.config.staleness == 0
    step = worker.steps_before + worker.steps
    model.schedule_dense_lr(spec.lr_schedule.factor(step, spec.total_steps, worker.losses))
    before = _pull_dense(worker)
    worker.steps += 1
    where = f"worker {context.rank}, epoch {worker.epoch + 1}, step {worker.steps}"
    first = worker.examples
    whole = StepResult(0, 0.0, 0.0)
    handle = None

    def blame(error: GradientError, last: int) -> NoReturn:
        worker.guard.diverged(str(error), model, where, _whereabouts(context, worker, first, last))

    for part in range(spec.accumulate):
        fetch = worker.ahead
        if fetch is None:
            break
        last = part == spec.accumulate - 1
        check_inputs(fetch.prepared.batch, f"{spec.source}, {where}")
        earlier = list(fetch.missed)
        look_ahead = partial(_look_ahead, worker, ahead=int(last))
        if worker.outbox.owes:
            with stages.timed("pull"):
                fetch.wait()
            worker.outbox.start(look_ahead)
        else:
            look_ahead()
        result = model.compute(worker.client, fetch)
        tickets += worker.outbox.settle()
        if not np.isfinite(result.loss):  # nothing of it reaches the servers
            worker.examples += whole.examples + result.examples
            _guard(context, worker, result, where, first)
        if before is None and (last or worker.ahead is None):
            handle = yield from _start_mean(model)  # it travels while the rows are pushed
        end = first + whole.examples + result.examples
        _push(worker, patient=patient, last=last, blame=partial(blame, last=end))
        if patient and not last and worker.ahead is not None:
            # The servers hold all pushes of the step until its tick.
            worker.ahead.missed = earlier + worker.ahead.missed
        whole = StepResult(
            whole.examples + result.examples,
            whole.weight + result.weight,
            whole.loss + result.loss,
        )
    worker.examples += whole.examples
    _guard(context, worker, whole, where, first)
    if before is not None:
        _step_on_servers(worker, before, context.num_workers if patient else 1)
    elif handle is not None:
        with stages.timed("reduce"):
            mean = yield handle
        model.apply_dense(mean)
    return whole


def _push(worker: _Worker, *, patient: bool, last: bool, blame: Blame) -> None:
    """Send what a batch taught the rows; of a step's last one it may be left to the outbox."""
    model = worker.model
    aside = last and worker.ahead is not None and worker.spec.sends_aside
    owed = model.take_push() if aside else None
    if owed is not None:
        worker.outbox.put(owed, blame)
        return
    try:
        model.push(worker.client, missed_by=None if last and patient else worker.ahead)
    except GradientError as error:
        blame(error)


def _start_mean(model: Model) -> Collective:
    """Set the mean of the workers' dense gradients on its way; return its handle, if any."""
    gradient = model.dense_gradient()
    if gradient is None:
        return None
    handle = yield Start(gradient)
    return handle


def _step_on_servers(worker: _Worker, before: np.ndarray, workers: int) -> None:
    """Add one of `workers` equal shares of what the worker's dense optimizer does."""
    gradient = worker.model.dense_gradient()
    assert gradient is not None, "a model without a dense part keeps none on the servers"
    worker.model.apply_dense(gradient)
    difference = worker.model.dense_vector() - before
    with worker.model.stages.timed("push"):
        worker.client.push_vector(DENSE_VECTOR, difference / np.float32(workers))


def dense_part(context: WorkerContext) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Return rank 0's dense vector and dense optimizer's memory; None from the others."""
    if context.rank:
        return None
    model = _worker(context).model
    return model.dense_vector(), model.dense_state()


def save_worker(context: WorkerContext) -> dict[str, np.ndarray]:
    """Return all that this worker's next steps depend on beside the servers, by name."""
    worker = _worker(context)
    model = worker.model
    arrays = {
        "vector": model.dense_vector(),
        _GUARD: worker.guard.state,
        _TOTALS: worker.totals.copy(),
    }
    arrays |= {f"dense/{name}": array for name, array in model.dense_state().items()}
    return arrays | {f"worker/{name}": array for name, array in model.worker_state().items()}


def restore_worker(context: WorkerContext, states: list[dict[str, np.ndarray]]) -> None:
    """Set what `save_worker` gave, a state for each rank."""
    worker = _worker(context)
    state = states[context.rank]
    parts: dict[str, dict[str, np.ndarray]] = {"dense": {}, "worker": {}}
    for name, array in state.items():
        kind, _, rest = name.partition("/")
        if rest:
            parts[kind][rest] = array
    worker.model.set_dense_vector(state["vector"])
    worker.model.set_dense_state(parts["dense"])
    if parts["worker"]:
        worker.model.set_worker_state(parts["worker"])
    worker.guard.state = state[_GUARD]
    worker.totals = state[_TOTALS].copy()


def finish(context: WorkerContext) -> None:
    """Leave the servers' clock."""
    worker = _worker(context)
    worker.outbox.close()
    worker.client.finish()


def _worker(context: WorkerContext) -> _Worker:
    worker = context.memory["worker"]
    assert isinstance(worker, _Worker)
    return worker


def _pull_dense(worker: _Worker) -> np.ndarray | None:
    """Bring the dense part up to date if it is kept on the servers, and return it."""
    if not worker.spec.dense_on_servers:
        return None
    with worker.model.stages.timed("pull"):
        vector = pulled(worker.client, worker.client.pull_vector(DENSE_VECTOR))
    worker.model.set_dense_vector(vector)
    return vector


def _prepared(
    context: WorkerContext, worker: _Worker, skipped: int, last: int | None
) -> Iterator[Prepared]:
    """Read the worker's batches of an epoch from one up to another, and make them ready."""
    spec = worker.spec
    batches = spec.source.iter_batches(
        spec.batch_size,
        seed=spec.seed if spec.shuffled else None,
        epoch=worker.epoch,
        worker=context.rank,
        num_workers=context.num_workers,
    )
    if worker.epoch == 0:
        batches = growing(batches, spec.first_batch_size)
    batches = itertools.islice(batches, last)
    for batch in itertools.islice(batches, skipped):
        worker.examples += len(batch)
    for batch in batches:
        with worker.model.stages.timed("prepare"):
            prepared = worker.model.prepare(batch)
        yield prepared


def _look_ahead(worker: _Worker, *, ahead: int) -> None:
    worker.ahead = _fetch(worker, ahead=ahead)


def _fetch(worker: _Worker, *, ahead: int) -> Fetch | None:
    """Ask for the rows of the next batch, if there is one."""
    with worker.model.stages.timed("read"):
        prepared = next(worker.batches, None)
    if prepared is None:
        return None
    with worker.model.stages.timed("push"):
        return worker.model.fetch(worker.client, prepared, ahead=ahead)


def _guard(
    context: WorkerContext, worker: _Worker, result: StepResult, where: str, first: int
) -> None:
    """Stop if the step diverged whose examples end here and began with `first`."""
    last = worker.examples
    worker.guard.check(
        result, worker.model, where, lambda: _whereabouts(context, worker, first, last)
    )


def _whereabouts(context: WorkerContext, worker: _Worker, first: int, last: int) -> str:
    """Say where the examples from `first` up to `last` of the worker's part are."""
    spec = worker.spec
    return whereabouts(
        spec.source,
        first,
        last,
        batch_size=spec.batch_size,
        seed=spec.seed if spec.shuffled else None,
        epoch=worker.epoch,
        worker=context.rank,
        num_workers=context.num_workers,
    )
