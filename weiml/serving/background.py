"""An endpoint as a process of its own: in the foreground until a signal, or in the background."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from weiml.config import from_mapping, to_mapping
from weiml.errors import ClusterError, WeimlError
from weiml.serving.app import check_port, deploy
from weiml.serving.config import ServingConfig
from weiml.serving.processes import descendants, is_running, started_at, wait_gone

__all__ = ["background_status", "main", "serve_forever", "start_background", "stop_background"]

_STATE = "endpoint.json"
_LOG = "endpoint.log"
_CONFIG = "config.json"
_MAIN = "from weiml.serving.background import main; main()"
_POLL_S = 0.1


def serve_forever(
    config: ServingConfig, *, on_ready: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then end everything; main thread only.

    Args:
        config: what to serve.
        on_ready: called once with pid, url and models when the endpoint answers.

    Raises:
        ConfigError: a folder is missing.
        ClusterError: the port is taken, or the replicas do not come up.
    """
    asked, started = threading.Event(), threading.Event()
    with _stopping(asked, started):
        endpoint = deploy(config)
        try:
            started.set()
            if on_ready is not None:
                on_ready({"pid": os.getpid(), "url": config.url, "models": dict(config.models)})
            while not asked.wait(1.0):  # a wait without end would keep Python from its signals
                continue
        finally:
            endpoint.shutdown()


def start_background(config: ServingConfig, folder: str | Path) -> dict[str, Any]:
    """Start an endpoint that outlives this process; returns its state when it answers.

    `folder` holds its configuration, log and state; `stop_background(folder)` ends it.

    Raises:
        ConfigError: a model's folder is missing.
        ClusterError: one runs already from this folder, the port is taken, or it does not come up.
    """
    place = Path(folder).resolve()
    running = background_status(place)
    if running is not None:
        raise ClusterError(
            f"an endpoint runs already from {place} (pid {running['pid']}, {running['url']}): stop "
            "it first, or use another folder"
        )
    config.check_folders()
    check_port(config.host, config.port)
    place.mkdir(parents=True, exist_ok=True)
    absolute = _absolute(config)
    (place / _CONFIG).write_text(json.dumps(to_mapping(absolute), indent=1), encoding="utf-8")
    with (place / _LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, place / _CONFIG, place / _STATE],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in this terminal is not for the endpoint
            env=_environment(),
        )
    try:
        return _wait_ready(process, place, config)
    except BaseException:
        _end([process.pid, *descendants(process.pid)], process, config.stop_timeout_s)
        raise


def background_status(folder: str | Path) -> dict[str, Any] | None:
    """Return the state of the endpoint started from `folder`, None if none runs.

    Keys: pid, url, models, log, config, and ready: whether it answers now.
    """
    place = Path(folder).resolve()
    try:
        state = json.loads((place / _STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not is_running(state["pid"]) or started_at(state["pid"]) != state["started_at"]:
        return None  # it died without a word, or its number is another process's now
    return {**state, "ready": _answers(state["url"])}


def stop_background(folder: str | Path, *, timeout_s: float = 60.0) -> bool:
    """End the endpoint started from `folder`, all of its processes; False if none runs.

    Raises:
        ClusterError: processes were still there after `timeout_s` and had to be killed.
    """
    place = Path(folder).resolve()
    state = background_status(place)
    if state is None:
        (place / _STATE).unlink(missing_ok=True)
        return False
    pids = [state["pid"], *descendants(state["pid"])]
    os.kill(state["pid"], signal.SIGTERM)
    left = wait_gone(pids, timeout_s)
    (place / _STATE).unlink(missing_ok=True)
    if left:
        _kill(left)
        raise ClusterError(
            f"processes {left} of the endpoint did not end within {timeout_s:g} s and were killed; "
            f"see {place / _LOG}"
        )
    return True


def main() -> None:
    """Run one endpoint as `start_background` asks for; arguments: CONFIG.json STATE.json."""
    config_file, state_file = map(Path, sys.argv[1:3])
    tree = json.loads(config_file.read_text(encoding="utf-8"))
    config = from_mapping(ServingConfig, tree, where=str(config_file))

    def tell(state: dict[str, Any]) -> None:
        state |= {"log": str(state_file.with_name(_LOG)), "config": str(config_file)}
        state["started_at"] = started_at(os.getpid())
        aside = state_file.with_suffix(".writing")
        aside.write_text(json.dumps(state, indent=1), encoding="utf-8")
        aside.replace(state_file)

    try:
        serve_forever(config, on_ready=tell)
    except WeimlError as error:
        sys.exit(f"error: {error}")
    finally:
        state_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _stopping(asked: threading.Event, started: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM ask for the end.

    What would go on for long is interrupted: the start by any of them, all else by SIGINT or by
    the second one.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        interrupts = asked.is_set() or number == signal.SIGINT or not started.is_set()
        asked.set()
        if interrupts:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        if not asked.is_set():
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_ready(
    process: subprocess.Popen[bytes], place: Path, config: ServingConfig
) -> dict[str, Any]:
    deadline = time.monotonic() + config.start_timeout_s
    while True:
        status = background_status(place)
        if status is not None and status["ready"]:
            return status
        code = process.poll()
        if code is not None:
            raise ClusterError(f"the endpoint ended with status {code}: {_last_line(place / _LOG)}")
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the endpoint does not answer after start_timeout_s = {config.start_timeout_s:g}; "
                f"see {place / _LOG}"
            )
        time.sleep(_POLL_S)


def _end(pids: list[int], process: subprocess.Popen[bytes], timeout_s: float) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
    _kill(wait_gone(pids, 5.0))


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _absolute(config: ServingConfig) -> ServingConfig:
    """Return the configuration with folders that do not depend on where it is read."""
    tree = to_mapping(config)
    tree["models"] = {name: str(Path(f).resolve()) for name, f in config.models.items()}
    tree["view"] = None if config.view is None else str(Path(config.view).resolve())
    return from_mapping(ServingConfig, tree)


def _environment() -> dict[str, str]:
    """Let the process find this weiml, also when it is not installed but run from a checkout."""
    import weiml

    home = str(Path(weiml.__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    # RAY_ADDRESS is left out: the endpoint outlives the Ray of whoever starts it.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return environment | {"PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home}


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
