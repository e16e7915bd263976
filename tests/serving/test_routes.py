"""The routes without HTTP: every request gets an answer, whatever it holds."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weiml.errors import ClusterError
from weiml.ps import Cut, Delta
from weiml.serving import Follower, Limits, Servable, Tensor, Update
from weiml.serving.protocol import format_request
from weiml.serving.routes import Answer, Routes
from weiml.serving.updates import Events

NOW = 900_000_000
published: list[Events] = []


async def publish(events: Events) -> int:
    published.append(events)
    return 41 + len(published)


@pytest.fixture
def routes(feed: Any) -> Routes:
    published.clear()
    servable = Servable.load(feed.models, feed.view)
    routes = Routes(servable, Follower(servable), publish, replica="r1")
    routes.ready = True
    return routes


def call(routes: Routes, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    answer: Answer = asyncio.run(routes.handle(method, path, body))
    return answer.status, json.loads(answer.body)


def rank(items: list[int], **more: Any) -> bytes:
    inputs = [
        Tensor.of("user_id", [7]),
        Tensor.of("item_id", items),
        Tensor.of("timestamp", [NOW]),
    ]
    return format_request(inputs, **more)


def test_server_and_model_metadata(routes: Routes) -> None:
    status, tree = call(routes, "GET", "/v2")
    assert (status, tree["name"], tree["models"]) == (200, "weiml", ["lr", "wide_deep"])
    assert call(routes, "GET", "/v2/")[0] == 200
    status, tree = call(routes, "GET", "/v2/models/lr")
    assert (status, tree["name"], tree["platform"]) == (200, "lr", "weiml")
    version = tree["versions"][0]
    assert call(routes, "GET", f"/v2/models/lr/versions/{version}")[1] == tree
    snapshot = version.split(".")[0]
    assert call(routes, "GET", f"/v2/models/lr/versions/{snapshot}/ready")[0] == 200


def test_health(routes: Routes) -> None:
    assert call(routes, "GET", "/v2/health/live") == (200, {"live": True})
    assert call(routes, "GET", "/v2/health/ready") == (200, {"ready": True})
    routes.ready = False
    assert call(routes, "GET", "/v2/health/live")[0] == 200
    assert call(routes, "GET", "/v2/health/ready")[0] == 503
    assert call(routes, "GET", "/v2/models/lr/ready")[0] == 503


def test_infer_echoes_id_and_carries_who_scored(routes: Routes) -> None:
    expected = routes.servable.score("lr", 7, [1, 2, 3], NOW)
    status, tree = call(
        routes, "POST", "/v2/models/lr/infer", rank([1, 2, 3], request_id="a-1", outputs=["score"])
    )
    assert status == 200
    assert tree["id"] == "a-1"
    assert tree["model_name"] == "lr"
    assert tree["model_version"] == expected.version
    assert tree["parameters"] == {"sequence": 0, "replica": "r1"}
    (score,) = tree["outputs"]
    assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP32", [3])
    np.testing.assert_array_equal(np.array(score["data"], np.float32), expected.scores)
    path = f"/v2/models/lr/versions/{expected.version}/infer"
    assert call(routes, "POST", path, rank([1]))[0] == 200


def test_stats_count_answers_refusals_and_updates(routes: Routes) -> None:
    for items in ([1], [1, 2, 3]):
        call(routes, "POST", "/v2/models/lr/infer", rank(items))
    assert call(routes, "POST", "/v2/models/lr/infer", b"{}")[0] == 400
    _, tree = call(routes, "GET", "/v2/models/lr/stats")
    assert (tree["requests"], tree["errors"], tree["candidates"]) == (3, 1, 4)
    assert 0 < tree["latency_ms"]["p50"] <= tree["latency_ms"]["p99"]
    assert tree["delivery_ms"] is None
    assert call(routes, "GET", "/v2/models/wide_deep/stats")[1]["requests"] == 0
    follower = routes._follower
    delta = Delta(since=Cut.zero(), cut=Cut((5,)), tables={}, vectors={})
    follower.offer(
        Update(epoch="e", first=1, last=1, deltas={"lr": delta}, published_at=time_before(30))
    )
    _, tree = call(routes, "GET", "/v2/models/lr/stats")
    assert tree["sequence"] == 1
    assert tree["model_version"].endswith(".5")
    assert 30 <= tree["staleness_s"] < 60
    assert 30_000 <= tree["delivery_ms"] < 60_000


def time_before(seconds: float) -> float:
    import time

    return time.time() - seconds


def test_events_go_to_the_hub_checked(routes: Routes) -> None:
    event = {"user_id": 7, "item_id": 1, "timestamp": NOW, "rating": 4.5}
    status, tree = call(routes, "POST", "/v2/events", json.dumps({"events": [event]}).encode())
    assert (status, tree) == (202, {"accepted": 1, "sequence": 42})
    assert published == [{"user_id": [7], "item_id": [1], "timestamp": [NOW], "rating": [4.5]}]
    for wrong, message in [
        ({"events": []}, 'send {"events"'),
        ({"events": [{}]}, "events[0]: 'user_id' is missing"),
        ({"events": [{**event, "ratting": 1}]}, "unknown field 'ratting'; did you mean 'rating'"),
        ({"events": [{**event, "rating": True}]}, "'rating' must be int or float, got True"),
        ({"events": [event, {**event, "user_id": "x"}]}, "'user_id' must hold int32"),
        ({"events": [{**event, "timestamp": 2**70}]}, "'timestamp' does not fit 64 bits"),
        ({"events": [7]}, "events[0] must be an object with user_id"),
    ]:
        status, tree = call(routes, "POST", "/v2/events", json.dumps(wrong).encode())
        assert status == 400
        assert message in tree["error"]
    assert len(published) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/", 404, "no route ''"),
        ("GET", "/v2/model", 404, "no route '/v2/model'"),
        ("GET", "/v2/models/lr/explain", 404, "no route"),
        ("GET", "/v2/models/lrr", 404, "no model 'lrr'; did you mean 'lr'"),
        ("POST", "/v2/models/lr/versions/7/infer", 404, "has no version '7' loaded; it has"),
        ("GET", "/v2/models/lr/infer", 405, "/v2/models/lr/infer takes POST, got GET"),
        ("POST", "/v2/models/lr", 405, "takes GET, got POST"),
        ("POST", "/v2", 405, "takes GET, got POST"),
        ("POST", "/v2/models/lr/infer", 400, "not JSON"),
    ],
)
def test_wrong_requests_say_what_is_wrong(
    routes: Routes, method: str, path: str, status: int, message: str
) -> None:
    got, tree = call(routes, method, path)
    assert got == status
    assert message in tree["error"]


def test_what_is_not_the_clients_fault_is_not_400(
    routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(model: str, request: Any) -> Any:
        raise ClusterError("away")

    monkeypatch.setattr(routes.servable, "infer", gone)
    assert call(routes, "POST", "/v2/models/lr/infer", rank([1])) == (503, {"error": "away"})

    def broken(model: str, request: Any) -> Any:
        raise KeyError("oops")

    monkeypatch.setattr(routes.servable, "infer", broken)
    status, tree = call(routes, "POST", "/v2/models/lr/infer", rank([1]))
    assert status == 500
    assert "internal error" in tree["error"]


def test_limits_apply(feed: Any) -> None:
    servable = Servable.load(feed.models, feed.view, limits=Limits(max_candidates=2))
    routes = Routes(servable, Follower(servable), publish, limits=Limits(max_candidates=2))
    status, tree = call(routes, "POST", "/v2/models/lr/infer", rank([1, 2, 3]))
    assert status == 400
    assert "limits.max_candidates = 2" in tree["error"]


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)
)
inputs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["user_id", "item_id", "timestamp", "age", "genres", "title"]),
        "shape": st.lists(st.integers(0, 3), min_size=1, max_size=2),
        "datatype": st.sampled_from(["INT64", "UINT64", "FP32", "FP64", "BYTES", "BOOL"]),
        "data": st.lists(values, max_size=4) | st.lists(st.integers(1, 9), max_size=3),
    }
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(inputs, max_size=4), st.dictionaries(st.sampled_from(["rank", "top_k"]), values))
def test_no_request_is_an_internal_error(
    routes: Routes, sent: list[dict[str, Any]], parameters: dict[str, Any]
) -> None:
    given_ids = [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
        {"name": "item_id", "shape": [2], "datatype": "INT64", "data": [1, 2]},
    ]
    for tree in ({"inputs": sent}, {"inputs": given_ids + sent, "parameters": parameters}):
        status, answer = call(routes, "POST", "/v2/models/lr/infer", json.dumps(tree).encode())
        assert status in (200, 400), answer
