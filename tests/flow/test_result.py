from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.conftest import Run
from weiml.errors import FlowError
from weiml.flow import FlowBuilder, State, load_result


def one_node() -> FlowBuilder:
    flow = FlowBuilder("my-flow")
    flow.node("a").process("n", "test.add", extra=3).output("out", "test.write", dependency="n")
    return flow


def test_runs_are_read_back(run: Run, tmp_path: Path) -> None:
    made, _ = run(one_node().build())
    again, _ = run(one_node().build())
    for loaded, state in [
        (load_result(tmp_path / "runs", run=made.run), State.SUCCEEDED),
        (load_result(tmp_path / "runs", flow="my-flow"), State.CACHED),
        (load_result(tmp_path / "runs"), State.CACHED),
    ]:
        assert loaded.nodes["a"].state is state
        assert loaded.flow == made.flow
        assert loaded.reports == {"a": {"total": 3}}
        assert loaded.artifact("a.out") == made.artifact("a.out")
        assert set(loaded.nodes["a"].step_seconds) == {"n", "out"}
    assert (made.run, again.run) == ("my-flow-1", "my-flow-2")


def test_a_run_that_is_not_there_is_an_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="there is no run in"):
        load_result(tmp_path / "runs")
    run(one_node().build())
    for missing in ({"flow": "other"}, {"run": "my-flow-9"}, {"run": "nonsense"}):
        with pytest.raises(FlowError, match="there is no run"):
            load_result(tmp_path / "runs", **missing)


def test_unknown_outputs_are_named_with_the_nearest(run: Run) -> None:
    result, _ = run(one_node().build())
    with pytest.raises(FlowError, match="no output 'a.oot'; did you mean 'a.out'"):
        result.artifact("a.oot")
