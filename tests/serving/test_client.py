"""The client against a server that is not one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from weiml.errors import ClusterError, RequestError
from weiml.serving import Client, InferResult
from weiml.serving.engine import free_port


@pytest.fixture
def answers() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """A server that gives these (status, body) answers, the last one first."""
    waiting: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = waiting.pop()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", waiting
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_server_is_said() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, model="m") as client, pytest.raises(ClusterError, match=f"answer from {url}"):
        client.rank(1, [2])


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, b'{"error": "bad tensor"}', RequestError, "answered 400: bad tensor"),
        (503, b"Request dropped", ClusterError, "answered 503: Request dropped"),
        (500, b"[]", ClusterError, r"answered 500: \[\]"),
    ],
)
def test_refusals_carry_the_servers_words(
    answers: tuple[str, list[tuple[int, bytes]]],
    status: int,
    body: bytes,
    kind: type[Exception],
    message: str,
) -> None:
    url, waiting = answers
    waiting.append((status, body))
    with Client(url, model="m") as client, pytest.raises(kind, match=message):
        client.score(1, [2])


def test_rows_are_one_a_candidate(answers: tuple[str, list[tuple[int, bytes]]]) -> None:
    url, waiting = answers
    waiting.append(
        (
            200,
            b'{"model_name": "m", "model_version": "v.1", "outputs": ['
            b'{"name": "item_id", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},'
            b'{"name": "score", "datatype": "FP64", "shape": [2], "data": [0.75, 0.5]}]}',
        )
    )
    with Client(url, model="m") as client:
        result: InferResult = client.rank("u", ["a", "b"])
    assert result.model_version == "v.1"
    assert result.rows() == [{"item_id": "a", "score": 0.75}, {"item_id": "b", "score": 0.5}]
