"""Run a named parameter server in a Ray cluster until SIGTERM or Ctrl-C.

python -m actors.parameter_server --shards 2 --name feed --address auto --save-to runs/end
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from weiml.cluster import ray_running
from weiml.errors import ConfigError, ParameterServerError, WeimlError
from weiml.ps import ParameterServer

Show = Callable[[dict[str, Any]], None]


class State(enum.Enum):
    """Where a watched group is in its life."""

    SERVING = "serving"
    SAVING = "saving"
    CLOSING = "closing"
    CLOSED = "closed"


class Watch:
    """Follows a group from its start to its end; `step` does one thing and moves on."""

    def __init__(
        self,
        ps: ParameterServer,
        stop: threading.Event,
        show: Show,
        *,
        save_to: str | None,
        interval_s: float,
    ) -> None:
        self.state = State.SERVING
        self._ps = ps
        self._stop = stop
        self._show = show
        self._save_to = save_to
        self._interval_s = interval_s

    def step(self) -> State:
        """Look at the group, or end it in order: save, then close."""
        if self.state is State.SERVING:
            self._show({"state": self.state.value, **self._ps.status()})
            if self._stop.wait(self._interval_s):
                self.state = State.SAVING if self._save_to else State.CLOSING
        elif self.state is State.SAVING:
            assert self._save_to is not None
            self._ps.save(self._save_to)
            self._show({"state": self.state.value, "path": self._save_to, **self._ps.status()})
            self.state = State.CLOSING
        elif self.state is State.CLOSING:
            self._ps.close()
            self.state = State.CLOSED
            self._show({"state": self.state.value, "name": self._ps.config.name})
        return self.state


def main(
    shards: Annotated[int, typer.Option(help="Server processes.")] = 2,
    workers: Annotated[int, typer.Option(help="Workers in the clock.")] = 1,
    staleness: Annotated[str, typer.Option(help="0 (BSP), a number (SSP) or none (ASP).")] = "0",
    name: Annotated[str, typer.Option(help="What others connect to.")] = "weiml-ps",
    address: Annotated[
        str,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster: HOST:PORT, auto, or local."),
    ] = "local",
    save_to: Annotated[
        str | None, typer.Option(help="Write a checkpoint here at the end; must not exist yet.")
    ] = None,
    load_from: Annotated[str | None, typer.Option(help="Start from this checkpoint.")] = None,
    interval_s: Annotated[float, typer.Option(help="Seconds between looks at the group.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a look.")] = False,
) -> None:
    """Start a parameter server, watch it, and end it cleanly on SIGTERM or Ctrl-C."""
    stop = threading.Event()
    try:
        if save_to and os.path.exists(save_to):
            raise ParameterServerError(f"--save-to {save_to} exists already; give another path")
        bound = _staleness(staleness)
        with (
            ray_running(address),
            _signals(stop),  # after Ray's start, which sets a handler of its own
            _shown(as_json) as show,
            _group(shards, workers, bound, name) as ps,
        ):
            if load_from:
                ps.load(load_from)
            show({"state": "started", "name": name, "ray_address": _ray_address()})
            watch = Watch(ps, stop, show, save_to=save_to, interval_s=interval_s)
            while watch.step() is not State.CLOSED:
                continue
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _group(shards: int, workers: int, staleness: int | None, name: str) -> ParameterServer:
    from weiml.ps import RayParameterServer  # not above: it imports Ray

    return RayParameterServer.create(shards, workers, staleness, name)


def _ray_address() -> str:
    """Return what others give to ``ray.init(address=...)`` to reach the group."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _staleness(text: str) -> int | None:
    if text.lower() in ("none", "asp"):
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--staleness must be a number or none, got {text!r}") from None


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C ask for the end instead of breaking off what is under way."""
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown(as_json: bool) -> Iterator[Show]:
    """Give the way to show a status: JSON lines, a live line, or a line when something moved."""
    if as_json:
        yield lambda status: print(json.dumps(status), flush=True)
        return
    console = Console()
    seen: list[str] = []
    started = time.monotonic()

    def line(status: dict[str, Any]) -> str:
        if "ray_address" in status:
            return f"{status['name']}: {status['state']} in the Ray cluster {status['ray_address']}"
        if "rows" not in status:
            return f"{status['name']}: {status['state']}"
        clocks = " ".join(f"{worker}:{tick}" for worker, tick in status["clocks"].items())
        return (
            f"{status['name']}: {status['state']} · shards {status['num_shards']} · "
            f"{status['rows']:,} rows · {status['bytes'] / 2**20:,.1f} MiB · "
            f"{status['pulls']:,} pulls · {status['pushes']:,} pushes · "
            f"sequence {status['sequence']:,} · clocks {clocks}"
        )

    if console.is_terminal:
        with console.status("starting") as live:

            def update(status: dict[str, Any]) -> None:
                if status["state"] == State.SERVING.value:
                    live.update(f"{line(status)} · up {time.monotonic() - started:,.0f} s")
                else:  # worth keeping above the live line
                    console.print(line(status), highlight=False, soft_wrap=True)

            yield update
        return

    def moved(status: dict[str, Any]) -> None:
        text = line(status)
        if seen[-1:] != [text]:
            seen[:] = [text]
            console.print(text, highlight=False, soft_wrap=True)

    yield moved


if __name__ == "__main__":
    typer.run(main)
