"""``weiml ps top``: a group at work, looked at again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import JsonOption, speaking
from weiml.cli.ps.connection import AddressOption, connected
from weiml.cluster import ray_running
from weiml.errors import ConfigError, ParameterServerError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Looks", "top", "watch"]

Status = dict[str, Any]


def top(
    name: Annotated[
        str | None, typer.Argument(help="A group's name; may be left out if only one runs.")
    ] = None,
    interval_s: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Two looks, one picture, and out.")] = False,
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Watch shards, rates, latencies, clocks, skew and hot keys, until Ctrl-C.

    Without a terminal, and with --json, it is as with --once. Latencies are in milliseconds, of the
    time since the last look and without the network: p50 / p99.

    Example: weiml ps top feed
    """
    with speaking(json) as out, ray_running(address):
        if interval_s <= 0:
            raise ConfigError(f"--interval-s must be above 0, got {interval_s:g}")
        from rich.console import Console

        from weiml.cli.ps.view import picture

        with connected(name or _only_group(), address) as server:
            looks = Looks(server.status)
            screen = Console(file=out.stdout)
            if not (once or json) and screen.is_terminal:
                with contextlib.suppress(KeyboardInterrupt):
                    watch(looks, screen, lambda: time.sleep(interval_s))
                return
            time.sleep(interval_s)
            status, rates = looks.again()
            if json:
                out.result({"name": status["name"], **rates, "status": status}, "")
            else:
                screen.print(picture(status, rates))


class Looks:
    """A group's status, looked at again and again, and what happened between two looks."""

    def __init__(
        self, status: Callable[[], Status], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._status = status
        self._clock = clock
        self._before = status()
        self._at = clock()

    def again(self) -> tuple[Status, dict[str, Any]]:
        """Return the status now, and the rates `between` the last look and this one."""
        from weiml.ps.metrics.rates import between

        now, at = self._status(), self._clock()
        rates = between(self._before, now, max(at - self._at, 1e-3))
        self._before, self._at = now, at
        return now, rates


def watch(looks: Looks, screen: Console, wait: Callable[[], None]) -> None:
    """Show a picture that moves, for as long as `wait` comes back."""
    from rich.live import Live

    from weiml.cli.ps.view import picture

    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(*looks.again()), refresh=True)
            wait()


def _only_group() -> str:
    from weiml.ps import list_groups

    names = list_groups()
    if not names:
        raise ParameterServerError("no parameter server runs in this Ray cluster")
    if len(names) > 1:
        raise ConfigError(f"several groups run, name one of them: {', '.join(names)}")
    return names[0]
