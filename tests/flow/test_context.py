from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weiml.errors import FlowError
from weiml.flow import FlowBuilder
from weiml.flow.context import RunScope, StepContext, plain_value


def make_context(folder: Path | None = None) -> StepContext:
    builder = FlowBuilder("f", seed=5)
    builder.node("a").process("s", "test.number")
    flow = builder.build()
    node = flow.nodes[0]
    return StepContext(
        flow=flow, node=node, step=node.steps[0], params={}, scratch_dir=Path("x"), folder=folder
    )


def test_only_outputs_have_an_output_folder(tmp_path: Path) -> None:
    assert make_context(tmp_path).output_dir == tmp_path
    with pytest.raises(FlowError, match=r"only an <output> has an output_dir"):
        _ = make_context().output_dir


def test_contexts_know_their_seed_and_logger() -> None:
    context = make_context()
    assert context.seed == 5
    assert context.log.name == "weiml.flow.f.a.s"
    context.progress("shows nothing unless it is told how", 1, 2)


def test_reports_are_json() -> None:
    context = make_context()
    context.report("metrics", {"auc": np.float32(0.5), "bad": float("nan"), "curve": np.arange(3)})
    context.report("path", Path("a") / "b")
    assert context.reports == {
        "metrics": {"auc": 0.5, "bad": None, "curve": [0, 1, 2]},
        "path": "a/b",
    }
    with pytest.raises(FlowError, match="reports 'x': .*write anything else to output_dir"):
        context.report("x", object())


def test_numpy_values_become_plain() -> None:
    assert plain_value((np.int64(1), np.bool_(True), [np.float64(np.inf)])) == [1, True, [None]]


def test_a_scope_closes_the_last_first_and_all() -> None:
    scope, closed = RunScope(), []

    def fails() -> None:
        closed.append("second")
        raise RuntimeError("stuck")

    scope.at_exit(lambda: closed.append("first"))
    scope.at_exit(fails)
    scope.at_exit(lambda: closed.append("third"))
    with pytest.raises(RuntimeError, match="stuck"):
        scope.close()
    assert closed == ["third", "second", "first"]
    scope.close()
    assert len(closed) == 3
