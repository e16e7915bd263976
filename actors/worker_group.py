"""Launch a worker group in a Ray cluster, and see that its collectives work before training on it.

python -m actors.worker_group --workers 2 --check
python -m actors.worker_group --config configs/clusters/worker_group.toml --address auto
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from weiml.cluster import ray_running
from weiml.config import from_mapping, parse_overrides
from weiml.errors import ClusterError, ConfigError, WeimlError
from weiml.group import GangState, Supervisor, WorkerGroup, WorkerGroupConfig, check_group

Show = Callable[[dict[str, Any]], None]

DEFAULTS = {"num_workers": 2}
SIZES = "4K 1M 16M"


class Watch:
    """Follows a group from its start to its end; `step` does one thing and shows it.

    Args:
        supervisor: of the group.
        stop: set when it should end.
        show: takes what there is to show.
        sizes: bytes of the arrays that are reduced, one check each.
        interval_s: between the checks of all sizes.
        once: end after one check of all sizes.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        stop: threading.Event,
        show: Show,
        *,
        sizes: list[int],
        interval_s: float,
        once: bool,
    ) -> None:
        self._supervisor = supervisor
        self._stop = stop
        self._show = show
        self._sizes = sizes
        self._interval_s = interval_s
        self._once = once
        self._shown: WorkerGroup | None = None
        self._next = 0

    def step(self) -> GangState:
        """Start the gang, check it at one size, or replace it; end it when it is time to."""
        supervisor = self._supervisor
        if self._stop.is_set():
            supervisor.close()
        elif supervisor.state is GangState.RUNNING:
            self._check(supervisor.group)
        else:
            supervisor.step()
            self._tell_start()
        if supervisor.state is GangState.BROKEN:
            self._show({"state": "broken", "error": str(supervisor.error)})
        elif supervisor.state is GangState.FAILED:
            assert supervisor.error is not None
            raise supervisor.error
        elif supervisor.state is GangState.CLOSED:
            self._show({"state": "closed", "restarts": supervisor.restarts})
        return supervisor.state

    def _tell_start(self) -> None:
        supervisor = self._supervisor
        if supervisor.state is not GangState.RUNNING or supervisor.group is self._shown:
            return
        self._shown = group = supervisor.group
        self._next = 0
        workers = [worker._asdict() for worker in group.workers]
        facts = {"backend": group.backend, "num_workers": group.num_workers, "workers": workers}
        self._show({"state": "running", "restarts": supervisor.restarts, **facts})

    def _check(self, group: WorkerGroup) -> None:
        try:
            result = check_group(group, self._sizes[self._next])
        except ClusterError as error:
            self._supervisor.failed(error)
            return
        self._show(
            {
                "state": "checked",
                "bytes": result.bytes,
                "seconds": result.seconds,
                "algorithm_bytes_per_second": result.algorithm_bandwidth,
                "bus_bytes_per_second": result.bus_bandwidth,
            }
        )
        self._next = (self._next + 1) % len(self._sizes)
        if self._next == 0 and (self._once or self._stop.wait(self._interval_s)):
            self._stop.set()


def main(
    config: Annotated[Path | None, typer.Option(help="A WorkerGroupConfig as TOML.")] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KNOB=VALUE", help="Any field of WorkerGroupConfig."),
    ] = [],  # noqa: B006 - typer reads it, and copies
    workers: Annotated[int | None, typer.Option(help="Worker processes; default 2.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto (the default), gloo or nccl.")] = None,
    gpus_per_worker: Annotated[
        str | None, typer.Option(help="A number, or auto: one each where there are enough.")
    ] = None,
    interface: Annotated[
        str | None, typer.Option(help="loopback (the default), auto (many machines) or eth0 …")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the collectives once, and end.")
    ] = False,
    size: Annotated[
        list[str], typer.Option(help=f"Bytes to reduce; may be given again; default {SIZES}.")
    ] = [],  # noqa: B006
    address: Annotated[
        str,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster: HOST:PORT, auto, or local."),
    ] = "local",
    interval_s: Annotated[float, typer.Option(help="Seconds between checks.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a look.")] = False,
) -> None:
    """Start a worker group, check its collectives, replace what fails; end on SIGTERM, Ctrl-C."""
    flags = {
        "num_workers": workers,
        "backend": backend,
        "gpus_per_worker": gpus_per_worker,
        "interface": interface,
    }
    stop = threading.Event()
    show = _as_json if as_json else _as_text(Console())
    try:
        group = settings(config, set_, flags)
        sizes = [bytes_of(text) for text in size or SIZES.split()]
        with (
            ray_running(address),
            _signals(stop),  # after Ray's start, which sets a handler of its own
            Supervisor(group, sleep=stop.wait) as supervisor,
        ):
            watch = Watch(supervisor, stop, show, sizes=sizes, interval_s=interval_s, once=check)
            while watch.step() is not GangState.CLOSED:
                continue
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def settings(
    file: Path | None, overrides: list[str], flags: Mapping[str, Any]
) -> WorkerGroupConfig:
    """Return the group's configuration: defaults, the file, --set and the flags, in that order.

    Raises:
        ConfigError: the file is not TOML, or a knob is unknown or out of its range.
    """
    given = {knob: value for knob, value in flags.items() if value is not None}
    if "gpus_per_worker" in given:
        given["gpus_per_worker"] = _gpus(given["gpus_per_worker"])
    tree = {**DEFAULTS, **_read(file), **parse_overrides(overrides), **given}
    where = "worker group" if file is None else str(file)
    return from_mapping(WorkerGroupConfig, tree, where=where)


def bytes_of(text: str) -> int:
    """Return the bytes that a size such as 4096, 4K or 16M stands for.

    Raises:
        ConfigError: it is none, or less than one float32.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    digits, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in units else (text, "")
    if not digits.isdigit() or int(digits) * units.get(unit, 1) < 4:
        raise ConfigError(f"--size must be bytes as 4096, 4K or 16M, at least 4, got {text!r}")
    return int(digits) * units.get(unit, 1)


def _gpus(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--gpus-per-worker must be a number or auto, got {text!r}") from None


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--config {file} cannot be read: {error}") from None


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


def _as_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def _as_text(console: Console) -> Show:
    def show(facts: dict[str, Any]) -> None:
        for text in lines(facts):
            console.print(text, highlight=False, soft_wrap=True)

    return show


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a look at the group in lines."""
    if facts["state"] == "running":
        again = f", restart {facts['restarts']}" if facts["restarts"] else ""
        yield f"running: {facts['num_workers']} workers on {facts['backend']}{again}"
        for worker in facts["workers"]:
            device = f"{worker['device']} {worker['device_name']}".strip()
            place = f"{worker['host']} ({worker['address']}), process {worker['pid']}"
            yield f"  rank {worker['rank']}: {place}, {device}"
    elif facts["state"] == "checked":
        bus = facts["bus_bytes_per_second"] / 1e9
        whole = facts["algorithm_bytes_per_second"] / 1e9
        yield (
            f"checked: all-reduce of {facts['bytes']:,} bytes in {facts['seconds'] * 1e3:,.2f} ms, "
            f"{whole:,.3f} GB/s, {bus:,.3f} GB/s on each link; numbers right"
        )
    elif facts["state"] == "broken":
        yield f"broken: {facts['error']}"
    else:
        yield f"{facts['state']}: {facts['restarts']} restarts"


if __name__ == "__main__":
    typer.run(main)
