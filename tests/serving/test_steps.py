"""Registration, ranking and replay as nodes of a flow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from weiml.errors import ClusterError, DataError, FlowError
from weiml.flow import Flow, StepContext, from_xml, run_flow, step
from weiml.models import Predictor
from weiml.serving import ModelRegistry, deploy
from weiml.serving.engine import free_port
from weiml.serving.steps import resolve_model


@step("test.serve.path")
def path_of(context: StepContext, *, path: str) -> Path:
    """Return a path as a value."""
    return Path(path)


def flow(feed: Any, tmp_path: Path) -> Flow:
    inputs = f"""
        <input name="view" class="test.serve.path"><path>{feed.view}</path></input>
        <input name="examples" class="test.serve.path"><path>{feed.examples}</path></input>"""
    text = f"""<flow name="feed" steps="weiml.serving.engine weiml.serving.steps" seed="4">
      <node id="registered" engine="python">
        <input name="model" class="test.serve.path"><path>{feed.models["lr"]}</path></input>
        <input name="metrics" class="test.serve.path"><path>{tmp_path}</path></input>
        <output name="version" class="serve.register" dependency="model,metrics">
          <registry>{tmp_path / "registry"}</registry>
        </output>
      </node>
      <node id="served" engine="serve" preid="registered">{inputs}
        <output name="feeds" class="serve.rank" dependency="registered.version,view,examples">
          <users>3</users><top_k>4</top_k>
        </output>
        <output name="online" class="serve.replay" dependency="registered.version,view,examples">
          <max_events>300</max_events><chunk_size>150</chunk_size>
        </output>
      </node>
    </flow>"""
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"auc": 0.7, "name": "lr"}}))
    return from_xml(text)


@pytest.mark.usefixtures("no_endpoint")
def test_a_model_is_registered_served_and_taught(
    feed: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run_flow(flow(feed, tmp_path), tmp_path / "runs")

    version = json.loads((result.artifact("registered.version") / "version.json").read_text())
    known = ModelRegistry(tmp_path / "registry").get("feed", "champion")
    assert (version["version"], known.version) == (1, 1)
    assert known.metrics == {"test.auc": 0.7}
    assert resolve_model(result.artifact("registered.version")) == known.folder

    feeds = json.loads((result.artifact("served.feeds") / "feeds.json").read_text())
    reports = result.reports["served"]
    assert feeds["max_difference"] <= 1e-5
    assert feeds["model_version"] == Predictor.load(known.folder).version
    assert reports["feeds"] == feeds["feeds"]
    assert len(feeds["feeds"]) == 3
    examples = pq.read_table(feed.examples)
    for ranked in feeds["feeds"]:
        seen = {
            row["item_id"]
            for row in examples.slice(0, 3000).to_pylist()
            if row["user_id"] == ranked["user_id"]
        }
        assert ranked["seen"] >= len(seen) > 0
        assert ranked["candidates"] + len(seen) == 80
        assert not seen & {item["item_id"] for item in ranked["items"]}
        scores = [item["score"] for item in ranked["items"]]
        assert len(scores) == 4
        assert scores == sorted(scores, reverse=True)
        assert all(item["title"] for item in ranked["items"])

    online = json.loads((result.artifact("served.online") / "replay.json").read_text())
    assert online["num_events"] == reports["num_events"] == 300
    assert reports["versions"] == 2
    # The steps shared one endpoint, so a chosen free port and its replicas were still there.
    assert feeds["url"].startswith("http://127.0.0.1:")
    assert len(online["replicas"]) == reports["replicas"] >= 1
    captured = capfd.readouterr()
    assert "raylet" not in captured.out + captured.err


def test_the_metrics_of_a_selection_are_logged(feed: Any, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(feed.models["lr"], model)
    candidates = [
        {"version": "a.1", "metrics": {"auc": 0.7}},
        {"version": "b.1", "metrics": {"auc": 0.8, "log_loss": 0.5}},
    ]
    text = json.dumps({"metric": "auc", "selected": "b.1", "candidates": candidates})
    (model / "selection.json").write_text(text)
    flow = from_xml(f"""<flow name="register" steps="weiml.serving.steps">
      <node id="registered" engine="python">
        <input name="model" class="test.serve.path"><path>{model}</path></input>
        <output name="version" class="serve.register" dependency="model">
          <registry>{tmp_path / "registry"}</registry><name>shop</name><alias>live</alias>
        </output>
      </node>
    </flow>""")
    run_flow(flow, tmp_path / "runs")
    run_flow(flow, tmp_path / "runs")  # from the cache: what the registry got is no reason to run
    (version,) = ModelRegistry(tmp_path / "registry").versions("shop")
    assert version.aliases == ("live",)
    assert version.metrics == {"validation.auc": 0.8, "validation.log_loss": 0.5}
    assert version.params == {"model": "lr", "version": Predictor.load(model).version}


@pytest.mark.usefixtures("no_endpoint")
def test_a_model_that_does_not_load_fails_the_endpoint(feed: Any, tmp_path: Path) -> None:
    import ray

    damaged = tmp_path / "model"
    shutil.copytree(feed.models["lr"], damaged)
    (damaged / "encoder.json").write_text("{}")
    with pytest.raises(ClusterError, match=r"do not come up: .*encoder.json is damaged"):
        deploy(feed.config(models={"lr": str(damaged)}, port=free_port()))
    for name, namespace in (("SERVE_CONTROLLER_ACTOR", "serve"), ("weiml-hub", "weiml")):
        with pytest.raises(ValueError, match="Failed to look up actor"):
            ray.get_actor(name, namespace=namespace)


def test_the_wrong_engine_is_said(feed: Any, tmp_path: Path) -> None:
    text = f"""<flow name="feed" steps="weiml.serving.engine weiml.serving.steps">
      <node id="served" engine="python">
        <input name="model" class="test.serve.path"><path>{feed.models["lr"]}</path></input>
        <output name="feeds" class="serve.rank" dependency="model,model,model"/>
      </node>
    </flow>"""
    with pytest.raises(FlowError, match="step 'feeds' needs engine=\"serve\", node 'served'"):
        run_flow(from_xml(text), tmp_path / "runs")


def test_what_is_no_model_or_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a saved model nor a registered version"):
        resolve_model(tmp_path)
    tree = {"name": "feed", "version": 3, "folder": "/nowhere", "registry": "/no"}
    (tmp_path / "version.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="feed version 3 is no longer in /no: register it again"):
        resolve_model(tmp_path)
