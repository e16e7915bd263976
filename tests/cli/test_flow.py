"""``weiml flow``: a flow whose steps lie in the folder that the command runs in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weiml.cli import app

STEPS = '''
"""Steps of a test."""
from pathlib import Path
from weiml.flow import step

@step("clitest.double")
def double(context, value: int) -> int:
    return 2 * value

@step("clitest.write")
def write(context, value: int) -> None:
    (context.output_dir / "value.txt").write_text(str(value))
    context.report("value", value)
'''
FLOW = """
<flow name="doubling" steps="cli_test_steps">
  <param name="start" value="3"/>
  <node id="double" engine="python" preid="-1">
    <input name="twice" class="clitest.double"><value>${start}</value></input>
    <output name="result" class="clitest.write" dependency="twice"/>
  </node>
</flow>
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "cli_test_steps.py").write_text(STEPS)
    (tmp_path / "flow.xml").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("cli_test_steps", None)


def ask(*arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_run_writes_outputs_and_the_next_run_takes_them(place: Path) -> None:
    first = ask("flow", "run", "flow.xml")
    node = first["nodes"]["double"]
    assert (first["state"], node["state"]) == ("succeeded", "succeeded")
    assert node["reports"] == {"value": 6}
    assert Path(node["outputs"]["result"], "value.txt").read_text() == "6"
    assert Path(node["outputs"]["result"]).is_relative_to(place / "runs")
    assert ask("flow", "run", "flow.xml")["nodes"]["double"]["state"] == "cached"
    forced = ask("flow", "run", "flow.xml", "--force", "double")
    assert forced["nodes"]["double"]["state"] == "succeeded"


def test_set_changes_a_parameter(place: Path) -> None:
    said = ask("flow", "run", "flow.xml", "--set", "start=10", "--runs-dir", "elsewhere")
    assert said["nodes"]["double"]["reports"] == {"value": 20}
    assert (place / "elsewhere").is_dir()


def test_show_lists_nodes_and_draws_them(place: Path) -> None:
    shown = ask("flow", "show", "flow.xml", "--svg", "flow.svg")
    assert [node["id"] for node in shown["nodes"]] == ["double"]
    assert "<svg" in (place / "flow.svg").read_text()
    text = CliRunner().invoke(app, ["flow", "show", "flow.xml"]).stdout
    assert "double  python  -      twice result" in text
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</flow>", "", "flow.xml:"),
        ('engine="python"', 'engine="pyton"', "did you mean 'python'"),
        ("clitest.double", "clitest.dubble", "did you mean 'clitest.double'"),
        ("${start}", "${begin}", "start"),
        ("${start}", "three", "value"),
    ],
)
@pytest.mark.parametrize("command", ["run", "show"])
def test_a_wrong_flow_is_one_line_with_file_and_line(
    place: Path, command: str, old: str, new: str, message: str
) -> None:
    (place / "flow.xml").write_text(FLOW.replace(old, new))
    done = CliRunner().invoke(app, ["flow", command, "flow.xml"])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert "flow.xml:" in done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["start", "=3"])
def test_a_malformed_setting_is_shown(place: Path, text: str) -> None:
    done = CliRunner().invoke(app, ["flow", "run", "flow.xml", "--set", text])
    assert (done.exit_code, done.stderr) == (2, f"error: --set takes name=value, got '{text}'\n")
