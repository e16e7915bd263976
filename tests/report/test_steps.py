from __future__ import annotations

import json
from pathlib import Path

import pytest

from weiml.errors import FlowError
from weiml.flow import StepContext, from_xml, run_flow, step

FLOW = """<flow name="small" steps="weiml.report.steps" seed="3">
  <param name="dataset" value="toy"/>
  <node id="work" engine="python">
    <output name="model" class="test.report.history"/>
  </node>
  <node id="report" engine="python" cache="false" preid="work">
    <process name="data" class="report.gather" dependency="work.model"/>
    <output name="report" class="report.html" dependency="data"/>
    <output name="numbers" class="report.numbers" dependency="data"/>
  </node>
</flow>"""


@step("test.report.history")
def write_history(context: StepContext) -> None:
    """Write what a training writes."""
    rows = [{"epoch": 1, "train_loss": 0.5, "validation_log_loss": 0.6, "validation_auc": 0.7}]
    tree = {"history": rows, "curve": [{"examples": 10, "loss": 0.7}], "best_epoch": 1}
    (context.output_dir / "history.json").write_text(json.dumps(tree))
    context.report("rows", 1234)


def test_a_report_at_the_end_of_a_flow(tmp_path: Path) -> None:
    result = run_flow(from_xml(FLOW), tmp_path / "runs")
    folder = result.artifact("report.report")
    page = (folder / "report.html").read_text()
    assert "Flow small on toy" in page
    assert "1,234" in page
    assert "flow small, run small-1" in page, "the drawing of the flow, with the run so far"
    numbers = json.loads((result.artifact("report.numbers") / "numbers.json").read_text())
    assert numbers == json.loads((folder / "numbers.json").read_text())
    assert [node["id"] for node in numbers["nodes"]] == ["work"]
    assert numbers["learning"][0]["name"] == "work"
    assert numbers["facts"]["Run"]["seed"] == 3

    again = run_flow(from_xml(FLOW), tmp_path / "runs")
    numbers = json.loads((again.artifact("report.numbers") / "numbers.json").read_text())
    assert numbers["nodes"][0]["state"] == "cached"


def test_the_page_needs_gathered_data(tmp_path: Path) -> None:
    text = FLOW.replace(
        'class="report.html" dependency="data"', 'class="report.html" dependency="work.model"'
    )
    with pytest.raises(FlowError, match=r"takes what report\.gather gives, got PosixPath"):
        run_flow(from_xml(text), tmp_path / "runs")
