from __future__ import annotations

import json
from pathlib import Path

import pytest

from weiml.errors import FlowError
from weiml.flow import Flow, StepContext, from_xml, run_flow, step
from weiml.search import SearchResult
from weiml.search.engine import TuneEngine

PLAN = """
objective = "train.validation"
[search]
trials = 3
[options.base]
model = "lr"
epochs = 1
batch_size = 200
[space."model.optimizer.alpha"]
type = "float"
low = 1e-4
high = 1e-1
log = true
"""


@step("test.search.link")
def link(context: StepContext, *, target: str) -> None:
    """Make an artifact of a folder that exists."""
    for file in Path(target).iterdir():
        (context.output_dir / file.name).write_bytes(file.read_bytes())


def flow(tmp_path: Path, data: tuple[Path, Path], more: str = "") -> Flow:
    text = f"""<flow name="hunt" steps="weiml.search.engine weiml.search.steps" seed="4">
      <node id="features" engine="python">
        <output name="train" class="test.search.link"><target>{data[0]}</target></output>
        <output name="validation" class="test.search.link"><target>{data[1]}</target></output>
      </node>
      <node id="search" engine="tune" preid="features">
        <option name="concurrency">1</option>
        <output name="result" class="search.run"
                dependency="features.train,features.validation">
          <config>{tmp_path / "plan.toml"}</config>{more}
        </output>
      </node>
    </flow>"""
    return from_xml(text)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.setenv("WEIML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.usefixtures("ray_session")
def test_a_search_in_a_flow(tmp_path: Path, data: tuple[Path, Path], home: Path) -> None:
    result = run_flow(flow(tmp_path, data), tmp_path / "runs")
    folder = result.artifact("search.result")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("best.json", "journal.log", "trials.json")
    ]
    found = SearchResult.load(folder)
    best = json.loads((folder / "best.json").read_text())
    assert len(found.trials) == 3
    assert (
        best["config"]["model"]["optimizer"]["alpha"] == found.best_params["model.optimizer.alpha"]
    )
    reports = result.reports["search"]
    assert reports["best_value"] == found.best_value
    assert reports["trials"] == {"complete": 3}
    assert list((home / "searches").iterdir()) == []

    more = run_flow(flow(tmp_path, data, "<trials>2</trials>"), tmp_path / "runs")
    assert len(SearchResult.load(more.artifact("search.result")).trials) == 2


@pytest.mark.usefixtures("ray_session")
def test_a_retry_goes_on(
    tmp_path: Path, data: tuple[Path, Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step dies after its search; the next run of the flow runs no trial again."""

    def die(self: SearchResult, *args: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(SearchResult, "save", die)
        with pytest.raises(FlowError, match="disk full"):
            run_flow(flow(tmp_path, data), tmp_path / "runs")
    assert len(list((home / "searches").iterdir())) == 1
    result = run_flow(flow(tmp_path, data), tmp_path / "runs")
    assert result.reports["search"]["new_trials"] == 0
    assert result.reports["search"]["trials"] == {"complete": 3}


def test_engine_takes_its_option_only() -> None:
    assert TuneEngine.name == "tune"
    assert dict(TuneEngine.options) == {"concurrency": int}
    assert "optuna" in TuneEngine().versions()
