"""The servable: equal to offline scoring, features from client or view, mistakes named."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from weiml.data import FeatureView
from weiml.errors import ConfigError, DataError, RequestError
from weiml.models import Predictor
from weiml.models.onnx import export_onnx
from weiml.ps import Cut, Delta
from weiml.serving import InferRequest, Limits, Servable, Tensor

NOW = 900_000_000


@pytest.fixture
def servable(feed: Any) -> Servable:
    return Servable.load(feed.models, feed.view)


def request(user: Any = 7, items: Any = (1, 2, 3), **more: Any) -> InferRequest:
    inputs = {"user_id": Tensor.of("user_id", [user]), "item_id": Tensor.of("item_id", items)}
    inputs["timestamp"] = Tensor.of("timestamp", [NOW])
    parameters = more.pop("parameters", {})
    outputs = more.pop("outputs", None)
    for name, value in more.items():
        inputs[name] = value if isinstance(value, Tensor) else Tensor.of(name, value)
    return InferRequest(inputs=inputs, parameters=parameters, outputs=outputs)


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_scores_equal_the_offline_predictor(servable: Servable, feed: Any, model: str) -> None:
    predictor = Predictor.load(feed.models[model])
    rows = FeatureView.load(feed.view).rows(7, list(range(1, 41)), NOW)
    offline = predictor.score(predictor.encoder.encode(rows, labels=False))
    scored = servable.score(model, 7, list(range(1, 41)), NOW)
    np.testing.assert_array_equal(scored.scores, offline)
    assert scored.version == predictor.version
    assert len(np.unique(scored.scores)) > 20
    version, (tensor,) = servable.infer(model, request(items=list(range(1, 41))))
    np.testing.assert_array_equal(tensor.data, offline)
    assert (version, tensor.name, tensor.datatype) == (predictor.version, "score", "FP32")


def test_rank_gives_the_best_first_with_titles(servable: Servable, feed: Any) -> None:
    items = list(range(1, 31))
    scored = servable.score("lr", 7, items, NOW)
    ranked = servable.rank("lr", 7, items, NOW, top_k=5)
    assert ranked.scores.tolist() == sorted(scored.scores.tolist(), reverse=True)[:5]
    by_item = dict(zip(items, scored.scores.tolist(), strict=True))
    assert [by_item[item] for item in ranked.item_ids.tolist()] == ranked.scores.tolist()
    view = FeatureView.load(feed.view)
    titles = view.rows(7, ranked.item_ids.tolist(), NOW)["title"].to_pylist()
    assert ranked.titles is not None
    assert ranked.titles.tolist() == titles
    _, outputs = servable.infer("lr", request(items=items, parameters={"top_k": 5}))
    assert {t.name: t.data.tolist() for t in outputs} == {
        "item_id": ranked.item_ids.tolist(),
        "score": ranked.scores.tolist(),
        "title": titles,
    }


def test_rank_keeps_the_order_of_equal_scores(servable: Servable) -> None:
    ranked = servable.rank("lr", 7, [5, 5, 5], NOW)
    assert len(set(ranked.scores.tolist())) == 1
    ranked = servable.rank("lr", 7, [9001, 9003, 9002], NOW)  # unknown items: nothing tells them
    assert ranked.item_ids.tolist() == [9001, 9003, 9002]


def test_sent_features_override_what_the_view_knows(servable: Servable, feed: Any) -> None:
    predictor = Predictor.load(feed.models["lr"])
    rows = FeatureView.load(feed.view).rows(7, [1, 2, 3], NOW)

    def replaced(name: str, column: pa.Array) -> list[float]:
        at = rows.column_names.index(name)
        batch = predictor.encoder.encode(rows.set_column(at, name, column), labels=False)
        scores: list[float] = predictor.score(batch).tolist()
        return scores

    plain = replaced("age", rows["age"])
    cases: list[tuple[str, Any, pa.Array]] = [
        ("user_rate", [0.9], pa.array([0.9] * 3)),
        ("item_rate", [0.1, 0.5, 0.9], pa.array([0.1, 0.5, 0.9])),
        ("gender", ["F"], pa.array(["F"] * 3)),
        ("title", ["A", "B C", ""], pa.array(["A", "B C", ""])),
        ("hour", [3], pa.array([3] * 3)),
        (
            "genres",
            [["Drama", "War"], ["Comedy", ""], ["", ""]],
            pa.array([["Drama", "War"], ["Comedy"], []]),
        ),
    ]
    changed = 0
    for name, sent, column in cases:
        _, (tensor,) = servable.infer("lr", request(**{name: sent}))
        assert tensor.data.tolist() == replaced(name, column), name
        changed += tensor.data.tolist() != plain
    assert changed >= 5


def test_a_client_may_send_everything(feed: Any) -> None:
    servable = Servable.load(feed.models, None)
    row = feed.test.slice(5, 1)
    predictor = Predictor.load(feed.models["lr"])
    expected = predictor.score(predictor.encoder.encode(row, labels=False)).tolist()
    features = {
        feature.name: row[feature.name].to_pylist()
        for feature in predictor.encoder.spec.features
        if feature.name not in ("user_id", "item_id")
    }
    user, item = row["user_id"][0].as_py(), row["item_id"][0].as_py()
    _, (tensor,) = servable.infer("lr", request(user, [item], **features))
    assert tensor.data.tolist() == expected
    del features["gender"], features["age"]
    with pytest.raises(RequestError, match="send inputs age, gender"):
        servable.infer("lr", request(user, [item], **features))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": []}, "'item_id' must have shape [N] with N of 1 or more, got [0]"),
        ({"items": [1.5]}, "'item_id' must hold integers or BYTES"),
        ({"items": list(range(101))}, "101 candidates are more than limits.max_candidates = 100"),
        ({"user": "seven"}, "user_id must hold int32"),
        ({"user": 2**40}, "user_id must hold int32"),
        ({"agee": [1.0]}, "the model has no input 'agee'; did you mean 'age'"),
        ({"age": [1.0, 2.0]}, "'age' must have shape [1] or [3] (Continuous feature), got [2]"),
        ({"age": ["old"]}, "'age' must be a number (Continuous feature), got BYTES"),
        ({"gender": [1.5]}, "'gender' must be BYTES or an integer"),
        ({"title": [1]}, "'title' must be BYTES (Text feature), got INT64"),
        ({"genres": ["Drama"]}, "'genres' must have shape [1, K] or [3, K] (SparseBinary"),
        ({"genres": [[True]]}, "'genres' must be BYTES or an integer (SparseBinary"),
        ({"user_count": [-3.0]}, "transform log1p needs numbers above -1"),
        ({"timestamp": [1.5]}, "'timestamp' must hold one integer"),
        ({"timestamp": [1, 2]}, "'timestamp' must hold one integer"),
        ({"timestamp": ["now"]}, "'timestamp' must hold whole seconds"),
        ({"timestamp": np.array([2**63], np.uint64)}, "timestamp"),
        ({"outputs": ("scores",)}, "no output 'scores'; did you mean 'score'"),
        ({"parameters": {"topk": 3}}, "unknown parameter 'topk'; did you mean 'top_k'"),
        ({"parameters": {"top_k": 0}}, "'top_k' must be an integer of at least 1, got 0"),
        ({"parameters": {"top_k": True}}, "'top_k' must be an integer of at least 1, got True"),
        ({"parameters": {"rank": "yes"}}, "'rank' must be true or false, got 'yes'"),
    ],
)
def test_mistakes_are_named(feed: Any, changes: dict[str, Any], message: str) -> None:
    servable = Servable.load(feed.models, feed.view, limits=Limits(max_candidates=100))
    with pytest.raises(RequestError) as error:
        servable.infer("lr", request(**changes))
    assert message in str(error.value)


def test_missing_inputs_and_models_are_named(servable: Servable) -> None:
    with pytest.raises(RequestError, match=r"input 'user_id' of shape \[1\] is missing"):
        servable.infer("lr", InferRequest(inputs={}))
    with pytest.raises(RequestError, match="no model 'wide'; did you mean 'wide_deep'"):
        servable.score("wide", 1, [1])
    with pytest.raises(ConfigError, match="at least one model"):
        Servable({}, None)


def test_loading_names_what_is_missing(feed: Any, tmp_path: Any) -> None:
    with pytest.raises(DataError, match="not a model folder"):
        Servable.load(tmp_path, feed.view)
    with pytest.raises(DataError, match="does not hold a feature view"):
        Servable.load(feed.models, tmp_path)
    alone = Servable.load(feed.models["lr"], feed.view)
    assert alone.models == ("lr",)


def test_a_delta_changes_one_model_and_its_version(servable: Servable) -> None:
    before = {name: servable.score(name, 7, [1, 2, 3], NOW) for name in servable.models}
    predictor = servable._scorers["lr"]
    assert isinstance(predictor, Predictor)
    (table,) = predictor.model.tables()
    keys = np.unique(predictor.model.keys(_batch(servable, [1, 2, 3]))[table.name])
    rows = {table.name: (keys, np.full((len(keys), table.dim), 0.5, np.float32))}
    servable.apply_delta("lr", Delta(since=Cut.zero(), cut=Cut((99,)), tables=rows, vectors={}))
    after = {name: servable.score(name, 7, [1, 2, 3], NOW) for name in servable.models}
    assert after["lr"].version.endswith(".99")
    assert after["lr"].version != before["lr"].version
    assert (after["lr"].scores > before["lr"].scores).all()
    assert after["wide_deep"].version == before["wide_deep"].version
    np.testing.assert_array_equal(after["wide_deep"].scores, before["wide_deep"].scores)


def test_a_model_without_rows_takes_no_delta() -> None:
    class Trees:
        name = "gbdt"

    servable = Servable({"trees": Trees()}, None)  # type: ignore[dict-item]
    with pytest.raises(RequestError, match=r"'trees' \(gbdt\) takes no deltas"):
        servable.apply_delta("trees", Delta(since=Cut.zero(), cut=Cut((1,)), tables={}, vectors={}))


def _batch(servable: Servable, items: list[int]) -> Any:
    assert servable._view is not None
    rows = servable._view.rows(7, items, NOW)
    return servable._scorers["lr"].encoder.encode(rows, labels=False)


def test_observed_events_move_history_features(servable: Servable, feed: Any) -> None:
    events = {"user_id": [7] * 20, "item_id": [1] * 20, "timestamp": [NOW - 9] * 20}
    events["rating"] = [5] * 20
    before = servable.score("lr", 7, [1], NOW).scores[0]
    servable.check_events(events)
    servable.observe(events)
    after = servable.score("lr", 7, [1], NOW).scores[0]
    assert after != before
    view = FeatureView.load(feed.view)
    table = pa.table(events)
    kinds = [pa.int32(), pa.int32(), pa.int64(), pa.float32()]
    view.observe(table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True)))))
    predictor = Predictor.load(feed.models["lr"])
    batch = predictor.encoder.encode(view.rows(7, [1], NOW), labels=False)
    assert after == predictor.score(batch)[0]


def test_events_that_do_not_fit_are_refused(servable: Servable, feed: Any) -> None:
    good = {"user_id": [7], "item_id": [1], "timestamp": [NOW], "rating": [5]}
    for name, values in (("user_id", ["x"]), ("item_id", [2**40]), ("rating", ["5"])):
        with pytest.raises(RequestError, match=f"events: '{name}' must hold"):
            servable.check_events({**good, name: values})
    with pytest.raises(RequestError, match="no feature view"):
        Servable.load(feed.models, None).check_events(good)


def test_describe_and_warm_up(servable: Servable) -> None:
    servable.warm_up()
    tree = servable.describe("wide_deep")
    assert tree["versions"] == [servable.version("wide_deep")]
    inputs = {entry["name"]: entry for entry in tree["inputs"]}
    assert inputs["item_id"]["shape"] == [-1]
    assert inputs["genres"] == {"name": "genres", "datatype": "BYTES", "shape": [-1, -1]}
    assert inputs["age"]["datatype"] == "FP64"
    assert [entry["name"] for entry in tree["outputs"]] == ["score", "item_id", "title"]


def test_timestamp_defaults_to_now(servable: Servable) -> None:
    now = int(time.time())
    scores = [servable.score("lr", 7, [1], now + offset).scores[0] for offset in (0, 1, 2)]
    assert servable.score("lr", 7, [1]).scores[0] in scores


def test_a_network_in_onnx_is_served_as_the_model_it_was_exported_of(
    feed: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    export_onnx(feed.models["wide_deep"], tmp_path / "onnx")
    models = {"torch": feed.models["wide_deep"], "onnx": str(tmp_path / "onnx")}
    servable = Servable.load(models, feed.view)
    user = feed.test["user_id"][0].as_py()
    items = sorted(set(feed.test["item_id"].to_pylist()))[:20]
    torch, onnx = (servable.score(name, user, items, 10**9) for name in ("torch", "onnx"))
    np.testing.assert_allclose(onnx.scores, torch.scores, atol=1e-5)
    assert onnx.scores.std() > 0
    assert onnx.version.partition(".")[2] == torch.version.partition(".")[2]
    ranked = servable.rank("onnx", user, items, 10**9, top_k=3)
    assert ranked.scores[0] == onnx.scores.max()
