"""A cluster in one thread and in its own time: a seed gives the same run, to the last event.

The classes of a Ray group (`Coordinator`, `ShardActor`, `RayTransport`, clients) run as they are,
only Ray is another. Messages take a random time and overtake each other, stamped requests may
arrive twice, and a process can be killed between any two events: what it had not answered is lost,
as is what it had, if the answer was still on its way. Waiting costs no real time.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import pickle
import random
import selectors
import threading
import types
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from weiml.ps import group_checkpoints, rescale
from weiml.ps.client import conversation
from weiml.ps.processes import (
    actors,
    coordinator,
    leases,
    liveness,
    members,
    ray_transport,
    rescale_peers,
    shard_processes,
)
from weiml.ps.shard.shard import READS, WRITES

__all__ = ["Process", "World", "simulated"]

_here: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
_worlds: list[World] = []  # the one that runs now
_FIRST_PID = 1 << 30


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next event."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self.now_s = 0.0
        self._selector: Any
        self._selector.select = self._wait

    def time(self) -> float:
        return self.now_s

    def _wait(self, timeout: float | None) -> list[Any]:
        assert timeout is not None, "everybody waits for ever"
        self.now_s += timeout
        return []


class _Ref:
    """What a call will return; in the arguments of another call it stands for the value."""

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future
        # Nobody has to look at it.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def __await__(self) -> Any:
        return self._value().__await__()

    async def _value(self) -> Any:
        return pickle.loads(await asyncio.shield(self.future))

    def __reduce__(self) -> Any:
        world = _worlds[-1]
        world.refs[id(self)] = self
        return _find_ref, (id(self),)


def _find_ref(number: int) -> _Ref:
    return _worlds[-1].refs[number]


@dataclass(eq=False)
class _Call:
    method: str
    arguments: bytes
    ref: _Ref
    delivered: bool = False


@dataclass(eq=False)
class Process:
    """One process of an actor."""

    actor: Actor
    pid: int
    alive: bool = True
    instance: Any = None
    reconstructed: bool = False
    calls: dict[_Call, None] = field(default_factory=dict)
    """Those whose answer has not arrived, in their order."""
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)


@dataclass(eq=False)
class Actor:
    """An actor: one process after the other where it restarts, else one."""

    number: int
    made: Callable[[], Any]
    name: str
    restarts: bool
    process: Process | None = None
    gone: bool = False
    waiting: list[_Call] = field(default_factory=list)


class _Handle:
    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getattr__(self, method: str) -> Any:
        if method.startswith("__"):
            raise AttributeError(method)
        return types.SimpleNamespace(
            remote=lambda *arguments: _worlds[-1].call(self._actor, method, arguments)
        )

    def __reduce__(self) -> Any:
        return _find_handle, (self._actor.number,)


def _find_handle(number: int) -> _Handle:
    return _Handle(_worlds[-1].actors[number])


class _Agent(threading.Thread):
    """A program beside the processes, such as a worker: a thread that runs only in its turns."""

    def __init__(self, world: World, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._world = world
        self._work = work
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self.done = False
        self.error: BaseException | None = None
        self.value: Any = None

    def turn(self) -> None:
        """From the loop: let it run until it waits for something."""
        self._go.release()
        self._back.acquire()

    def run(self) -> None:
        self._go.acquire()
        try:
            self.value = self._work()
        except BaseException as error:
            self.error = error
        self.done = True
        self._back.release()

    def wait(self, task: asyncio.Task[Any]) -> Any:
        """From the thread: let the world go on until `task` is done."""
        task.add_done_callback(lambda _: self.turn())
        self._back.release()
        self._go.acquire()
        if self._world.closed:
            raise SystemExit
        return task.result()


class World:
    """All processes and all messages between them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names_of = random.Random(seed)  # of clients and files
        self.loop = _Loop()
        self.actors: list[Actor] = []
        self.processes: list[Process] = []
        self.names: dict[str, Actor] = {}
        self.refs: dict[int, _Ref] = {}
        self.closed = False
        self.agents: list[_Agent] = []
        self.trace = 0
        """A hash of all that has arrived where, and when."""

    # Time and chance

    def delay(self) -> float:
        """Return how long a message takes: mostly a millisecond, at times much longer."""
        slow = self.random.random() < 0.05
        return self.random.expovariate(1 / 0.05 if slow else 1 / 0.001)

    def run(self, work: Awaitable[Any], timeout_s: float | None = None) -> Any:
        """Let the world go on until `work` is done; from outside of all processes."""

        async def bounded() -> Any:
            return await asyncio.wait_for(_await(work), timeout_s)

        here = threading.current_thread()
        if isinstance(here, _Agent):
            return here.wait(self.loop.create_task(bounded()))
        return self.loop.run_until_complete(bounded())

    def spawn(self, work: Callable[[], Any]) -> _Agent:
        """Let a program run beside; it has its first turn when the world goes on."""
        agent = _Agent(self, work)
        self.agents.append(agent)
        agent.start()
        self.loop.call_soon(agent.turn)
        return agent

    def join(self, agents: list[_Agent], limit_s: float = 1000.0) -> list[Any]:
        """Let the world go on until programs have ended; return what they did, or raise.

        The first error ends the wait: the others may wait for the one that failed.
        """
        self.until(
            lambda: all(a.done for a in agents) or any(a.error for a in agents),
            "programs to end",
            limit_s,
        )
        for agent in agents:
            if agent.error is not None:
                raise agent.error
        return [agent.value for agent in agents]

    def sleep(self, seconds: float) -> None:
        """Let the world go on for a while."""
        self.run(asyncio.sleep(seconds))

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = 300.0) -> None:
        """Let the world go on until a condition holds."""
        end = self.loop.time() + limit_s
        while not condition():
            assert self.loop.time() < end, f"waited {limit_s:g} s for {what}"
            self.sleep(0.01)

    # Processes

    def start(self, made: Callable[[], Any], name: str, restarts: bool) -> _Handle:
        """Start an actor."""
        if name in self.names:
            raise ValueError(f"the name {name} is taken")
        actor = Actor(len(self.actors), made, name, restarts)
        self.actors.append(actor)
        self.names[name] = actor
        self.loop.call_later(0.5 + self.random.random(), self._begin, actor, False)
        return _Handle(actor)

    def _begin(self, actor: Actor, reconstructed: bool) -> None:
        if actor.gone or self.closed:
            return
        process = Process(actor, _FIRST_PID + len(self.processes), reconstructed=reconstructed)
        self.processes.append(process)
        context = contextvars.copy_context()
        context.run(_here.set, process)
        process.instance = context.run(actor.made)
        actor.process = process
        waiting, actor.waiting = actor.waiting, []
        for call in waiting:
            self._arrive(actor, call)

    def process(self, name: str) -> Process | None:
        """Return the process of that name that runs, if one does."""
        actor = self.names.get(name)
        return actor.process if actor is not None else None

    def kill(self, name: str, *, restarts: bool = True) -> None:
        """Kill what runs under a name: at once, and whatever it was doing."""
        actor = self.names.get(name)
        if actor is not None:
            self._kill(actor, restarts=restarts)

    def _kill(self, actor: Actor, *, restarts: bool) -> None:
        again = actor.restarts and restarts and not actor.gone
        process, actor.process = actor.process, None
        lost, actor.waiting = actor.waiting, []
        if process is not None:
            process.alive = False
            lost += process.calls
            for task in list(process.tasks):
                task.cancel()
        if again:
            actor.waiting = lost
            if process is not None:
                self.loop.call_later(0.5 + self.random.random(), self._begin, actor, True)
            return
        actor.gone = True
        if self.names.get(actor.name) is actor:
            del self.names[actor.name]
        for call in lost:
            self.loop.call_later(0.01 + self.delay(), self._fail, call)

    # Messages

    def call(self, actor: Actor, method: str, arguments: tuple[Any, ...]) -> _Ref:
        """Send a message; what a dead process sends arrives nowhere."""
        ref = _Ref(self.loop.create_future())
        sender = _here.get()
        if sender is not None and not sender.alive:
            return ref
        call = _Call(method, pickle.dumps(arguments), ref)
        self.loop.call_later(self.delay(), self._arrive, actor, call)
        stamped = method == "call" and arguments and arguments[0] in READS | WRITES
        if stamped and self.random.random() < 0.05:
            echo = _Call(method, call.arguments, _Ref(self.loop.create_future()))
            self.loop.call_later(self.delay(), self._arrive, actor, echo)
        return ref

    def _arrive(self, actor: Actor, call: _Call) -> None:
        process = actor.process
        event = f"{self.trace} {self.loop.now_s} {actor.name} {call.method}"
        self.trace = zlib.crc32(event.encode())
        if actor.gone:
            self.loop.call_later(self.delay(), self._fail, call)
        elif process is None:
            actor.waiting.append(call)
        else:
            process.calls[call] = None
            context = contextvars.copy_context()
            context.run(_here.set, process)
            self.loop.create_task(self._serve(process, call), context=context)

    async def _serve(self, process: Process, call: _Call) -> None:
        arguments = list(pickle.loads(call.arguments))
        try:
            for place, value in enumerate(arguments):
                if isinstance(value, _Ref):
                    arguments[place] = await value
            answer = getattr(process.instance, call.method)(*arguments)
            if inspect.isawaitable(answer):
                answer = await answer
            outcome: Any = pickle.dumps(answer)
        except asyncio.CancelledError:
            return
        except _ExitError:
            return
        except Exception as error:
            outcome = RayTaskError(
                call.method, "", error, proctitle="p", pid=1, ip="::1"
            ).as_instanceof_cause()
        self.loop.call_later(self.delay(), self._answer, process, call, outcome)

    def _answer(self, process: Process, call: _Call, outcome: Any) -> None:
        if not process.alive or call not in process.calls:
            return
        del process.calls[call]
        if call.ref.future.done():
            return
        if isinstance(outcome, Exception):
            call.ref.future.set_exception(outcome)
        else:
            call.ref.future.set_result(outcome)

    def _fail(self, call: _Call) -> None:
        if not call.ref.future.done():
            call.ref.future.set_exception(ActorDiedError())

    def close(self) -> None:
        """End all that is left."""
        self.closed = True
        for agent in self.agents:
            if not agent.done:
                agent.turn()
            agent.join()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.set_exception_handler(lambda *_: None)
        self.loop.close()


class _ExitError(Exception):
    pass


async def _await(work: Awaitable[Any]) -> Any:
    return await work


class _Ray:
    """What a group uses of Ray."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.util = types.SimpleNamespace(list_named_actors=self._list)
        self.actor = types.SimpleNamespace(exit_actor=self._exit)

    def is_initialized(self) -> bool:
        return True

    def remote(self, cls: type) -> Any:
        def options(*, name: str, max_restarts: int = 0, **_: Any) -> Any:
            def remote(*arguments: Any) -> _Handle:
                sent = pickle.dumps(arguments)
                return self._world.start(
                    lambda: cls(*pickle.loads(sent)), name, restarts=max_restarts != 0
                )

            return types.SimpleNamespace(remote=remote)

        return types.SimpleNamespace(options=options)

    def get(self, ref: _Ref, timeout: float | None = None) -> Any:
        if timeout == 0 and not ref.future.done():
            raise GetTimeoutError
        try:
            return self._world.run(ref, timeout or None)
        except TimeoutError as error:
            if isinstance(error, RayTaskError):
                raise
            raise GetTimeoutError from None

    def get_actor(self, name: str, namespace: str) -> _Handle:
        if name not in self._world.names:
            raise ValueError(f"no actor {name}")
        return _Handle(self._world.names[name])

    def kill(self, handle: _Handle, no_restart: bool = True) -> None:
        sender = _here.get()
        if sender is None or sender.alive:
            self._world._kill(handle._actor, restarts=not no_restart)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "node", "Alive": True}]

    def get_runtime_context(self) -> Any:
        here = _here.get()
        return types.SimpleNamespace(
            get_node_id=lambda: "node",
            was_current_actor_reconstructed=here is not None and here.reconstructed,
            current_actor=None if here is None else _Handle(here.actor),
        )

    def _list(self, all_namespaces: bool) -> list[dict[str, str]]:
        return [{"name": name, "namespace": actors.NAMESPACE} for name in self._world.names]

    def _exit(self) -> None:
        here = _here.get()
        assert here is not None
        self._world._kill(here.actor, restarts=False)
        raise _ExitError


class _NoExporter:
    def __init__(self, group: str) -> None:
        pass

    async def run(self, look: Any) -> None:
        return None


@contextmanager
def simulated(seed: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Let groups made meanwhile run in a world of their own."""
    world = World(seed)

    def factory(loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        here = (options.get("context") or contextvars.copy_context()).get(_here)
        if here is not None:
            here.tasks[task] = None
            task.add_done_callback(lambda done: here.tasks.pop(done, None))
        return task

    async def inline(work: Callable[..., Any], *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return work(*arguments)

    clock = types.SimpleNamespace(
        monotonic=world.loop.time, time=lambda: 1e9 + world.loop.time(), sleep=world.sleep,
        perf_counter=world.loop.time,
    )  # fmt: skip
    ray = _Ray(world)
    own = os.getpid()

    def pid() -> int:
        here = _here.get()
        return own if here is None else here.pid

    def is_running(pid: int) -> bool:
        return any(process.pid == pid and process.alive for process in world.processes)

    world.loop.set_task_factory(factory)
    _worlds.append(world)
    with monkeypatch.context() as patch:
        for module in (actors, coordinator, leases, liveness, ray_transport, shard_processes):
            patch.setattr(module, "ray", ray)
        for module in (
            actors, conversation, coordinator, group_checkpoints, leases, members, ray_transport,
            rescale, rescale_peers,
        ):  # fmt: skip
            patch.setattr(module, "time", clock)
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=world.names_of.getrandbits(128)))
        patch.setattr(asyncio, "to_thread", inline)
        patch.setattr(os, "getpid", pid)
        for module in (leases, ray_transport):
            patch.setattr(module, "is_running", is_running)
        patch.setattr(actors.ShardActor, "_in_turn", lambda self, work: work())
        patch.setattr(ray_transport, "_keep_alive", lambda *_: None)
        for module in (actors, coordinator):
            patch.setattr(module, "Exporter", _NoExporter)
        try:
            yield world
        finally:
            world.close()
            _worlds.pop()
