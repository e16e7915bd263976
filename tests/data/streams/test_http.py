from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from weiml.data.streams import EventReceiver, GrowingFiles, ReceiverConfig
from weiml.data.streams.event_log import EventLog
from weiml.errors import ClusterError, ConfigError, DataError

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[EventReceiver]:
    config = ReceiverConfig(max_body_bytes=4000, max_event_bytes=1000, max_log_bytes=20_000)
    with EventReceiver(tmp_path, config) as running:
        yield running


def logged(folder: Path) -> list[Any]:
    with GrowingFiles(folder, sequence=True) as source:
        raw = source.poll(100_000, 0.0)
        return [json.loads(raw.value(i)) for i in range(len(raw))]


def test_all_forms_of_events_are_kept_in_order(receiver: EventReceiver, tmp_path: Path) -> None:
    url = f"{receiver.url}/events"
    bodies: list[Any] = [{"n": 1}, [{"n": 2}, {"n": 3}], {"events": [{"n": 4}]}, []]
    counts = [httpx.post(url, json=body).json() for body in bodies]
    assert counts == [{"accepted": n} for n in (1, 2, 1, 0)]
    told = httpx.post(url, content=b'{"n":5}\r\n\n{"n": 6}', headers=LINES).json()
    assert told == {"accepted": 2}
    assert [event["n"] for event in logged(tmp_path)] == [1, 2, 3, 4, 5, 6]
    health = httpx.get(f"{receiver.url}/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"{", {}, 400, "not JSON"),
        (b"3", {}, 400, "no JSON object"),
        (b'[{"n":1},2]', {}, 400, "event 2"),
        (b'{"n":1}\n{"n":', LINES, 400, "line 2"),
        (b'{"n":1}\n[]', LINES, 400, "line 2"),
        (b'{"n":NaN}', {}, 400, "NaN"),
        (b'{"n":1e999}', {}, 400, "1e999 is larger"),
        (b'{"n":-1e999}', LINES, 400, "line 1"),
        (b'\xef\xbb\xbf{"n":1}', LINES, 400, "BOM"),
        (b'\xef\xbb\xbf{"n":1}', {}, 400, "BOM"),
        ('{"n":1}'.encode("utf-16-be"), LINES, 400, "line 1"),
        ('{"n":1}'.encode("utf-16"), {}, 400, "utf-8"),
        (b'{"n":"\xff"}', LINES, 400, "utf-8"),
        (b"[" * 3000, {}, 400, "not JSON"),
        (b'{"n":"' + b"x" * 1000 + b'"}', {}, 400, "max_event_bytes = 1000"),
        (b'{"n":"' + b"x" * 5000 + b'"}', {}, 413, "max_body_bytes = 4000"),
    ],
)
def test_a_request_is_taken_as_a_whole_or_not(
    receiver: EventReceiver,
    tmp_path: Path,
    body: bytes,
    headers: dict[str, str],
    status: int,
    text: str,
) -> None:
    answer = httpx.post(f"{receiver.url}/events", content=body, headers=headers)
    assert answer.status_code == status
    assert text in answer.json()["error"]
    assert logged(tmp_path) == []


def test_a_body_of_unknown_length_is_bounded(receiver: EventReceiver) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    assert httpx.post(f"{receiver.url}/events", content=parts()).status_code == 413


def test_a_full_log_pushes_back_until_its_reader_has_deleted(tmp_path: Path) -> None:
    config = ReceiverConfig(max_file_bytes=500, max_log_bytes=3000, retry_after_s=2)
    with EventReceiver(tmp_path, config) as receiver:
        url, sent = f"{receiver.url}/events", 0
        until = time.monotonic() + 20
        while (answer := httpx.post(url, json={"n": sent, "x": "x" * 100})).status_code == 200:
            sent += 1
            assert time.monotonic() < until
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "2"
        assert httpx.get(f"{receiver.url}/healthz").json()["status"] in ("ok", "full")
        with GrowingFiles(tmp_path, sequence=True, delete_read=True) as source:
            assert len(source.poll(10_000, 0.0)) == sent
            source.saved(source.position(), source.position())
        while httpx.post(url, json={"n": sent}).status_code != 200:
            assert time.monotonic() < until


def test_a_token_is_needed_where_others_can_come(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token"):
        ReceiverConfig(host="0.0.0.0")
    with EventReceiver(tmp_path, ReceiverConfig(token="secret")) as receiver:
        url = f"{receiver.url}/events"
        assert httpx.post(url, json={"n": 1}).status_code == 401
        wrong = {b"Authorization": "Bearer sécret".encode()}
        assert httpx.post(url, json={"n": 1}, headers=wrong).status_code == 401
        right = {"Authorization": "Bearer secret"}
        assert httpx.post(url, json={"n": 1}, headers=right).status_code == 200
        assert httpx.get(f"{receiver.url}/healthz").status_code == 200


def test_many_clients_at_once(tmp_path: Path) -> None:
    with EventReceiver(tmp_path) as receiver:

        def post(client: int) -> None:
            with httpx.Client() as http:
                for n in range(20):
                    answer = http.post(f"{receiver.url}/events", json={"client": client, "n": n})
                    assert answer.status_code == 200

        threads = [threading.Thread(target=post, args=(client,)) for client in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events = logged(tmp_path)
    assert len(events) == 160
    for client in range(8):
        assert [e["n"] for e in events if e["client"] == client] == list(range(20))


def test_a_port_and_a_folder_have_one_receiver(receiver: EventReceiver, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another event log"):
        EventReceiver(tmp_path).start()
    port = int(receiver.url.rsplit(":", 1)[1])
    with pytest.raises(ClusterError, match="choose another port"):
        EventReceiver(tmp_path / "other", ReceiverConfig(port=port)).start()


def test_half_a_line_of_a_crash_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "events-00000007.jsonl").write_bytes(b'{"n":1}\n{"n":')
    log = EventLog(tmp_path)
    log.append(b'{"n":2}\n').result(10)
    log.close()
    log.close()
    assert (tmp_path / "events-00000008.jsonl").exists()
    assert [event["n"] for event in logged(tmp_path)] == [1, 2]
    with pytest.raises(DataError, match="closed"):
        log.append(b"{}\n")


def test_a_disk_that_fails_is_told_and_what_follows_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path, fsync="second")
    with pytest.raises(DataError, match="newline"):
        log.append(b"{}")
    log.append(b'{"n":1}\n').result(10)

    def full(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    assert log._file is not None
    log._file.write(b'{"n":')
    monkeypatch.setattr(log, "_file", _Failing(log._file, full))
    with pytest.raises(DataError, match="No space left"):
        log.append(b'{"n":2}\n').result(10)
    assert "No space left" in str(log.error)
    log.append(b'{"n":3}\n').result(10)
    assert log.error is None
    log.close()
    assert [event["n"] for event in logged(tmp_path)] == [1, 3]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_writer_that_was_waited_for_no_more_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    held, real = threading.Event(), log._write

    def hold(data: bytes) -> None:
        held.wait(20)
        real(data)

    monkeypatch.setattr(log, "_write", hold)
    first = log.append(b'{"n":1}\n')
    wait_for(first.running)
    given_up, last = log.append(b'{"n":2}\n'), log.append(b'{"n":3}\n')
    assert given_up.cancel()
    held.set()
    first.result(10)
    last.result(10)
    assert (log.pending_bytes, log.error) == (0, None)
    log.close()
    assert [event["n"] for event in logged(tmp_path)] == [1, 3]


def test_a_disk_that_fails_while_nothing_comes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path, fsync="second")
    log.append(b'{"n":1}\n').result(10)

    def fail() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(log, "_sync_if_due", fail)
    wait_for(lambda: log.error is not None)
    assert "Input/output error" in str(log.error)
    monkeypatch.undo()
    log.append(b'{"n":2}\n').result(10)
    assert log.error is None
    log.close()


def test_a_writer_that_ends_fails_all_that_waits_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventReceiver(tmp_path) as receiver:
        log = receiver._log
        assert log is not None
        held = threading.Event()

        def end(data: bytes) -> None:
            held.wait(20)
            raise SystemExit("no more")

        monkeypatch.setattr(log, "_write", end)
        first = log.append(b"{}\n")
        wait_for(first.running)
        second = log.append(b"{}\n")
        held.set()
        for future in (first, second):
            with pytest.raises(DataError, match="no more"):
                future.result(10)
        log._thread.join(10)
        answer = httpx.post(f"{receiver.url}/events", json={"n": 1})
        assert (answer.status_code, "no more" in answer.json()["error"]) == (503, True)
        health = httpx.get(f"{receiver.url}/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "failing")
    EventLog(tmp_path).close()  # the folder is free again


def test_streams_without_a_receiver_load_no_web_server() -> None:
    code = "import sys, weiml.data.streams; print({'uvicorn', 'starlette'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


class _Failing:
    """A file whose writes fail."""

    def __init__(self, file: Any, write: Any) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_the_receiver_is_closed_with_its_socket(tmp_path: Path) -> None:
    receiver = EventReceiver(tmp_path).start()
    port = int(receiver.url.rsplit(":", 1)[1])
    receiver.stop()
    receiver.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
