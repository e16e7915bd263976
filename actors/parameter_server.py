"""Run a named parameter server in a Ray cluster until its work is done, SIGTERM or Ctrl-C.

python -m actors.parameter_server --shards 2 --name feed --address auto --checkpoint-root runs/feed
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from weiml.cluster import ray_running
from weiml.config import from_mapping, parse_overrides
from weiml.errors import ConfigError, ParameterServerError, WeimlError
from weiml.ps import GroupConfig, ParameterServer

Show = Callable[[dict[str, Any]], None]

DEFAULTS = {"num_shards": 2}


class State(enum.Enum):
    """Where a watched group is in its life."""

    SERVING = "serving"
    DONE = "done"
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
        is_there: Callable[[str], bool],
    ) -> None:
        self.state = State.SERVING
        self._ps = ps
        self._stop = stop
        self._show = show
        self._save_to = save_to
        self._interval_s = interval_s
        self._is_there = is_there

    def step(self) -> State:
        """Look at the group, or end it in order: save, then close."""
        if self.state is State.SERVING:
            self._serve()
        elif self.state is State.SAVING:
            assert self._save_to is not None
            self._ps.save(self._save_to)
            self._tell(name=self._ps.config.name, path=self._save_to)
            self.state = State.CLOSING
        elif self.state is State.DONE:
            self._tell(name=self._ps.config.name)
            self.state = State.CLOSING
        elif self.state is State.CLOSING:
            self._ps.close()
            self.state = State.CLOSED
            root = self._ps.config.checkpoint_root
            saved = {} if root is None else {"path": _newest(root)}
            self._tell(name=self._ps.config.name, **saved)
        return self.state

    def _serve(self) -> None:
        try:
            status = self._ps.status()
        except ParameterServerError:
            if self._is_there(self._ps.config.name):
                raise
            self.state = State.DONE  # it has saved and ended by itself
            return
        self._tell(**status)
        if self._stop.wait(self._interval_s):
            self.state = State.SAVING if self._save_to else State.CLOSING

    def _tell(self, **facts: Any) -> None:
        group_state = {"group_state": facts.pop("state")} if "state" in facts else {}
        self._show({"state": self.state.value, **facts, **group_state})


def main(
    config: Annotated[Path | None, typer.Option(help="A GroupConfig as TOML.")] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KNOB=VALUE", help="Any field of GroupConfig."),
    ] = [],  # noqa: B006 - typer reads it, and copies
    shards: Annotated[int | None, typer.Option(help="Server processes; default 2.")] = None,
    workers: Annotated[int | None, typer.Option(help="Workers in the clock; default 1.")] = None,
    staleness: Annotated[
        str | None, typer.Option(help="0 (BSP, the default), a number (SSP) or none (ASP).")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Processes that hold each shard; default 1.")
    ] = None,
    buckets: Annotated[int | None, typer.Option(help="Units of placement; default 1024.")] = None,
    name: Annotated[
        str | None, typer.Option(help="What others connect to; default weiml-ps.")
    ] = None,
    checkpoint_root: Annotated[
        str | None, typer.Option(help="Folder or URL of the checkpoints at intervals and the end.")
    ] = None,
    checkpoint_interval_s: Annotated[
        float | None, typer.Option(help="Seconds between checkpoints; default: only at the end.")
    ] = None,
    end_when_done: Annotated[
        bool, typer.Option("--end-when-done", help="Save and end when all workers have finished.")
    ] = False,
    lease_s: Annotated[
        str | None,
        typer.Option(help="The group saves and ends so long after this program died, or none."),
    ] = None,
    function_module: Annotated[
        list[str], typer.Option(help="A module that registers functions; may be given again.")
    ] = [],  # noqa: B006
    address: Annotated[
        str,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster: HOST:PORT, auto, or local."),
    ] = "local",
    load_from: Annotated[str | None, typer.Option(help="Start from this checkpoint.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Start from the newest one below the root, if any.")
    ] = False,
    save_to: Annotated[
        str | None, typer.Option(help="Write a checkpoint here at the end; must not exist yet.")
    ] = None,
    interval_s: Annotated[float, typer.Option(help="Seconds between looks at the group.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a look.")] = False,
) -> None:
    """Start a parameter server, watch it, and end it in order: on SIGTERM, Ctrl-C or when done."""
    flags = {
        "num_shards": shards,
        "num_workers": workers,
        "staleness": staleness,
        "replicas": replicas,
        "num_buckets": buckets,
        "name": name,
        "checkpoint_root": checkpoint_root,
        "checkpoint_interval_s": checkpoint_interval_s,
        "end_when_done": end_when_done or None,
        "lease_s": lease_s,
        "function_modules": function_module or None,
    }
    stop = threading.Event()
    try:
        group = settings(config, set_, flags)
        source = _source(group, load_from, resume)
        _check_end(group, save_to)
        with (
            ray_running(address),
            _signals(stop),  # after Ray's start, which sets a handler of its own
            _shown(as_json) as show,
            _started(group) as ps,
        ):
            if source:
                ps.load(source)
            show({"state": "started", "name": group.name, "ray_address": _ray_address()})
            if source:
                show({"state": "loaded", "name": group.name, "path": source})
            watch = Watch(
                ps, stop, show, save_to=save_to, interval_s=interval_s, is_there=_is_there
            )
            while watch.step() is not State.CLOSED:
                continue
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def settings(file: Path | None, overrides: list[str], flags: Mapping[str, Any]) -> GroupConfig:
    """Return the group's configuration: defaults, the file, --set and the flags, in that order.

    Raises:
        ConfigError: the file is not TOML, or a knob is unknown or out of its range.
    """
    given = {knob: value for knob, value in flags.items() if value is not None}
    tree = {**DEFAULTS, **_read(file), **parse_overrides(overrides), **given}
    where = "parameter server" if file is None else str(file)
    return from_mapping(GroupConfig, {k: _plain(k, v) for k, v in tree.items()}, where=where)


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--config {file} cannot be read: {error}") from None


def _plain(knob: str, value: Any) -> Any:
    """Turn the words for no bound into None, which TOML lacks, and a flag's text into a number."""
    if knob not in ("staleness", "lease_s", "checkpoint_interval_s", "worker_timeout_s"):
        return value
    if isinstance(value, str):
        if value.lower() in ("none", "asp"):
            return None
        try:
            return int(value) if knob == "staleness" else float(value)
        except ValueError:
            flag = knob.replace("_", "-")
            raise ConfigError(f"--{flag} must be a number or none, got {value!r}") from None
    return value


def _source(group: GroupConfig, load_from: str | None, resume: bool) -> str | None:
    """Return the checkpoint to start from."""
    if not resume:
        return load_from
    if load_from or group.checkpoint_root is None:
        raise ConfigError("--resume needs a --checkpoint-root and goes without --load-from")
    return _newest(group.checkpoint_root)


def _newest(root: str) -> str | None:
    """Return the place of the newest checkpoint below a root, if there is one."""
    from weiml.ps.checkpoint import CheckpointStore

    store = CheckpointStore(root)
    newest = store.latest() if store.folder.exists() else None
    return None if newest is None else (store.folder / newest.id).place


def _check_end(group: GroupConfig, save_to: str | None) -> None:
    if save_to and os.path.exists(save_to):
        raise ParameterServerError(f"--save-to {save_to} exists already; give another path")
    if save_to and group.end_when_done:
        raise ConfigError(
            "--save-to is for an end that this program brings about; a group with --end-when-done "
            "ends by itself and saves below its --checkpoint-root"
        )


def _started(group: GroupConfig) -> ParameterServer:
    from weiml.ps import RayParameterServer  # not above: it imports Ray

    fields = {field.name: getattr(group, field.name) for field in dataclasses.fields(group)}
    return RayParameterServer.create(**fields)


def _is_there(name: str) -> bool:
    from weiml.ps import list_groups

    return name in list_groups()


def _ray_address() -> str:
    """Return what others give to ``ray.init(address=...)`` to reach the group."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


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


def line(status: Mapping[str, Any]) -> str:
    """Return a look at the group in one line."""
    if "ray_address" in status:
        return f"{status['name']}: {status['state']} in the Ray cluster {status['ray_address']}"
    if "path" in status:
        verb = {"loaded": "", "saving": "to "}.get(status["state"], "saved ")
        return f"{status['name']}: {status['state']} {verb}{status['path']}"
    if "rows" not in status:
        return f"{status['name']}: {status['state']}"
    clocks = " ".join(f"{worker}:{tick}" for worker, tick in status["clocks"].items())
    parts = [
        f"{status['name']}: {status['state']}",
        f"shards {status['num_shards']}{_replication(status)}",
        f"{status['rows']:,} rows",
        f"{status['bytes'] / 2**20:,.1f} MiB",
        f"{status['pulls']:,} pulls",
        f"{status['pushes']:,} pushes",
        f"sequence {status['sequence']:,}",
        f"clocks {clocks}",
    ]
    if status["checkpoint"]:
        parts.append(f"saved {status['checkpoint']}")
    if status["error"]:
        parts.append(f"last error: {status['error']}")
    return " · ".join(parts)


def _replication(status: Mapping[str, Any]) -> str:
    """Return how many processes stand for a shard, and which lack some."""
    words = f" × {status['replicas']}" if status["replicas"] > 1 else ""
    if status["degraded"]:
        words += f" (not yet: shard {', '.join(map(str, status['degraded']))})"
    for what in ("failovers", "restores"):
        if status[what]:
            words += f", {what} {status[what]}"
    return words


if __name__ == "__main__":
    typer.run(main)
