from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.conftest import Recorder, Run
from weiml.errors import DataError, FlowError
from weiml.flow import (
    FlowBuilder,
    Node,
    NodeContext,
    State,
    StepContext,
    load_result,
    register_engine,
    run_flow,
    step,
)
from weiml.flow.engines.base import Engine
from weiml.flow.ledger import Ledger
from weiml.flow.result import LEDGER


class Log:
    events: ClassVar[list[str]] = []
    failures: int = 0
    error: type[Exception] = RuntimeError


@register_engine
class LoggingEngine(Engine):
    """Remembers when sessions were opened and closed."""

    name = "test.logging"

    def open(self, node: Node, context: NodeContext) -> str:
        Log.events.append(f"open {node.id}")
        context.scope.at_exit(lambda: Log.events.append("scope closed"))
        return f"session of {node.id}"

    def close(self, session: str) -> None:
        Log.events.append(f"close {session}")


@step("test.flaky")
def flaky(context: StepContext) -> int:
    Log.events.append(f"step {context.session}")
    if Log.failures > 0:
        Log.failures -= 1
        raise Log.error("not yet")
    return 7


@step("test.silent_output")
def silent_output(context: StepContext) -> None:
    """Writes nothing."""


@step("test.exit")
def leave(context: StepContext) -> None:
    raise SystemExit(3)


@step("test.history")
def history(context: StepContext) -> None:
    assert context.history is not None
    context.report("before", sorted(context.history.nodes))


@pytest.fixture(autouse=True)
def clean_log() -> None:
    Log.events, Log.failures, Log.error = [], 0, RuntimeError


def chain(*, value: int = 1, extra: int = 0, cache: bool = True) -> FlowBuilder:
    """a writes `value`, b adds `extra` to it, c reads what b wrote."""
    flow = FlowBuilder("chain").param("value", value)
    flow.node("a", cache=cache).process("n", "test.number", value="${value}").output(
        "out", "test.write", dependency="n"
    )
    flow.node("b", preid="a").input("r", "test.read", dependency="a.out").process(
        "sum", "test.add", dependency="r", extra=extra
    ).output("out", "test.write", dependency="sum")
    flow.node("c", preid="b").process("r", "test.read", dependency="b.out").process(
        "sum", "test.add", dependency="r"
    )
    return flow


def test_nodes_run_and_their_outputs_are_found(run: Run) -> None:
    result, recorder = run(chain(extra=2).build())
    assert recorder.ran == ["a", "b", "c"]
    assert recorder.reasons == dict.fromkeys("abc", "first run")
    assert (result.artifact("b.out") / "value.txt").read_text() == "3"
    assert result.reports == {"a": {}, "b": {"total": 3}, "c": {"total": 3}}
    assert result.state is State.SUCCEEDED
    assert json.loads(json.dumps(result.to_mapping()))["nodes"]["b"]["reports"] == {"total": 3}


def test_a_second_run_is_all_from_the_cache(run: Run) -> None:
    first, _ = run(chain().build())
    second, recorder = run(chain().build())
    assert recorder.ran == []
    assert recorder.finished == ["a", "b", "c"]
    assert {node.state for node in second.nodes.values()} == {State.CACHED}
    assert second.reports == first.reports
    assert second.artifact("b.out") == first.artifact("b.out")


def test_a_changed_parameter_runs_its_node_and_what_it_changes(run: Run) -> None:
    run(chain().build())
    _, recorder = run(chain(extra=5).build())
    assert recorder.ran == ["b", "c"]
    assert recorder.reasons["b"] == "param sum.extra: 0 → 5"
    assert recorder.reasons["c"] == "upstream b.out changed"
    _, recorder = run(chain(extra=5).build(), params={"value": 3})
    assert recorder.reasons["a"] == "param n.value: 1 → 3"
    _, recorder = run(chain().build())
    assert recorder.ran == []  # older results are still there


def test_equal_contents_stop_a_change_from_spreading(run: Run) -> None:
    run(chain(value=1, extra=4).build())
    _, recorder = run(chain(value=2, extra=3).build())
    assert recorder.ran == ["a", "b"]  # b writes 5 as before, so c does not run


def test_outputs_that_are_gone_or_damaged_are_made_again(run: Run) -> None:
    result, _ = run(chain().build())
    file = result.artifact("a.out") / "value.txt"
    file.write_text("damaged")
    _, recorder = run(chain().build())
    assert recorder.ran == ["a"]
    assert "changed in size" in recorder.reasons["a"]
    result, _ = run(chain().build())
    (result.artifact("a.out") / "value.txt").unlink()
    result, recorder = run(chain().build())
    assert "is gone" in recorder.reasons["a"]
    assert (result.artifact("a.out") / "value.txt").read_text() == "1"


def test_nodes_can_be_forced(run: Run) -> None:
    run(chain().build())
    _, recorder = run(chain().build(), force=["b"])
    assert (recorder.ran, recorder.reasons["b"]) == (["b"], "forced")
    _, recorder = run(chain().build(), force=True)
    assert recorder.ran == ["a", "b", "c"]
    with pytest.raises(FlowError, match="no node 'd'"):
        run(chain().build(), force=["d"])


def test_a_node_without_cache_always_runs_but_equal_outputs_do_not_spread(run: Run) -> None:
    for _ in range(2):
        _, recorder = run(chain(cache=False).build())
        assert recorder.reasons["a"] == 'cache="false"'
    assert recorder.ran == ["a"]


def test_what_waits_for_a_node_without_cache_runs_with_it(run: Run) -> None:
    flow = FlowBuilder("f")
    flow.node("a", cache=False).process("n", "test.number")
    flow.node("b", preid="a").process("n", "test.number")
    for _ in range(2):
        _, recorder = run(flow.build())
        assert recorder.ran == ["a", "b"]


def test_changed_code_runs_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "changing_steps.py"
    text = (
        "from weiml.flow import step\n\n\n@step('test.changing')\ndef changing(context):\n"
        "    return 1\n"
    )
    file.write_text(text)
    flow = FlowBuilder("f", steps=["changing_steps"])
    flow.node("a").process("s", "test.changing")
    run(flow.build())
    file.write_text(text.replace("return 1", "# the same\n    return 1"))
    assert run(flow.build())[1].ran == []
    file.write_text(text.replace("return 1", "return 2222"))
    _, recorder = run(flow.build())
    assert recorder.reasons == {"a": "source changing_steps changed"}


def flaky_flow(**fields: Any) -> FlowBuilder:
    flow = FlowBuilder("flaky")
    flow.node("a", engine="test.logging", backoff_s=0.001, **fields).process("s", "test.flaky")
    flow.node("b", preid="a").process("n", "test.number")
    return flow


def test_an_attempt_that_fails_is_tried_again(run: Run, tmp_path: Path) -> None:
    Log.failures = 2
    result, _ = run(flaky_flow(retries=2).build())
    once = ["open a", "step session of a", "close session of a"]
    assert Log.events == [*once * 3, *["scope closed"] * 3]
    assert result.nodes["a"].attempts == 3
    with Ledger(tmp_path / "runs" / LEDGER) as ledger:
        assert ledger.run_nodes(1)[0]["state"] == "succeeded"


def test_a_failure_names_place_node_and_step_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    Log.failures = 9
    with pytest.raises(
        FlowError,
        match=r"test_runner.py:\d+: node 'a', step 's' \(class 'test.flaky'\) failed: "
        r"RuntimeError: not yet",
    ) as caught:
        run(flaky_flow(retries=1).build())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert Log.events.count("close session of a") == 2
    assert Log.events[-1] == "scope closed"
    result = load_result(tmp_path / "runs")
    assert result.state is State.FAILED
    assert {id: node.state for id, node in result.nodes.items()} == {
        "a": State.FAILED,
        "b": State.SKIPPED,
    }
    assert "not yet" in result.nodes["a"].error
    with pytest.raises(FlowError, match="no output 'a.x'"):
        result.artifact("a.x")
    assert not (tmp_path / "runs" / "artifacts").exists()
    assert list((tmp_path / "runs" / "attempts").iterdir()) == []


def test_bad_data_is_not_tried_again(run: Run) -> None:
    Log.failures, Log.error = 9, DataError
    with pytest.raises(FlowError, match="failed: not yet"):
        run(flaky_flow(retries=3).build())
    assert Log.failures == 8


def test_a_signal_during_the_commit_keeps_the_node_and_ends_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def interrupted(*paths: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        rename(*paths)

    monkeypatch.setattr("weiml.flow.attempt.os.rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(chain().build())
    monkeypatch.undo()
    result = load_result(tmp_path / "runs")
    assert result.state is State.CANCELLED
    states = [node.state for node in result.nodes.values()]
    assert states == [State.SUCCEEDED, State.SKIPPED, State.SKIPPED]
    assert run(chain().build())[1].ran == ["b", "c"]


def test_a_folder_of_runs_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FlowError, match="file cannot be used as a folder .*; name another"):
        run_flow(chain().build(), tmp_path / "file")


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        ("test.silent_output", r"wrote nothing; an output step writes .* context.output_dir"),
        ("test.exit", r"it called sys.exit\(3\)"),
        ("test.fail", "RuntimeError: no luck"),
    ],
)
def test_steps_that_go_wrong(cls: str, message: str, run: Run) -> None:
    flow = FlowBuilder("f")
    flow.node("a").output("o", cls)
    with pytest.raises(FlowError, match=message):
        run(flow.build())


def test_a_step_sees_the_run_so_far(run: Run) -> None:
    flow = FlowBuilder("f")
    flow.node("a").process("n", "test.number")
    flow.node("b", preid="a", cache=False).process("h", "test.history")
    assert run(flow.build())[0].reports["b"] == {"before": ["a"]}


@st.composite
def random_flows(draw: st.DrawFn) -> tuple[FlowBuilder, dict[str, int]]:
    """A flow whose nodes add what is upstream of them, and what each should give."""
    size = draw(st.integers(1, 6))
    ids = draw(st.permutations([f"n{i}" for i in range(size)]))
    flow = FlowBuilder("random")
    expected: dict[str, int] = {}
    for i, id in enumerate(ids):
        upstream = [up for up in ids[:i] if draw(st.booleans())]
        extra = draw(st.integers(0, 9))
        node = flow.node(id, preid=upstream)
        for up in upstream:
            node.input(f"from_{up}", "test.read", dependency=f"{up}.out")
        node.process("sum", "test.add", [f"from_{up}" for up in upstream], extra=extra)
        node.output("out", "test.write", dependency="sum")
        expected[id] = extra + sum(expected[up] for up in upstream)
    return flow, expected


@given(random_flows(), st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_flows_commit_each_node_once_in_order(
    made: tuple[FlowBuilder, dict[str, int]], data: st.DataObject
) -> None:
    builder, expected = made
    flow = builder.build()
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder()
        result = run_flow(flow, folder, progress=recorder)
        assert {id: r["total"] for id, r in result.reports.items()} == expected
        for node in flow.nodes:
            assert all(recorder.ran.index(up) < recorder.ran.index(node.id) for up in node.upstream)
        assert sorted(recorder.ran) == sorted(expected)
        assert len(list(Path(folder, "artifacts", "random").glob("*/*"))) == len(expected)
        forced = data.draw(st.sets(st.sampled_from(sorted(expected))))
        again = Recorder()
        run_flow(flow, folder, progress=again, force=forced)
        assert set(again.ran) == forced  # equal outputs, so nothing else runs
