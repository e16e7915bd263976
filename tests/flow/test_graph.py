from __future__ import annotations

from typing import Any

import pytest

from weiml.errors import FlowError
from weiml.flow.graph import Flow, Node, Param, Position, Step, StepKind, to_text


def make_step(name: str, *dependencies: str, kind: StepKind = StepKind.PROCESS) -> Step:
    return Step(name=name, kind=kind, cls="test.add", dependencies=dependencies)


def make_node(id: str, *steps: Step, **fields: Any) -> Node:
    return Node(id=id, engine="python", steps=steps or (make_step("s"),), **fields)


def test_positions_do_not_count_when_graphs_are_compared() -> None:
    here, there = Position(source="a.xml", line=1), Position(source="b.xml", line=9)
    assert Param.of("x", 1, here) == Param.of("x", 1, there)


def test_nodes_and_steps_are_ordered() -> None:
    node = make_node("b", make_step("y", "x"), make_step("x"), upstream=("a",))
    flow = Flow(name="f", nodes=(node, make_node("a")))
    assert [n.id for n in flow.order] == ["a", "b"]
    assert [s.name for s in node.order] == ["x", "y"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (3, "3"), (0.5, "0.5"), ("x", "x"), ((1, 2), "1,2")],
)
def test_python_values_become_texts(value: object, text: str) -> None:
    assert to_text(value) == text


def test_other_values_are_refused() -> None:
    with pytest.raises(FlowError, match="parameters are texts"):
        Param.of("x", object())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_node("1st"), "node name '1st' must be letters"),
        (lambda: make_step("a.b"), "step name 'a.b' must be letters"),
        (lambda: Node(id="a", engine="python"), "has no step"),
        (lambda: make_node("a", retries=-1), "retries and backoff_s must be at least 0, got -1"),
        (
            lambda: make_node("a", backoff_s=float("nan")),
            "backoff_s must be at least 0, got 0 and nan",
        ),
        (lambda: make_node("a", timeout_s=0.0), "timeout_s must be above 0, got 0.0"),
        (lambda: make_node("a", timeout_s=float("nan")), "timeout_s must be above 0, got nan"),
        (lambda: make_node("a", make_step("x"), make_step("x")), "already has a step 'x'"),
        (lambda: make_node("a", make_step("x", "yy"), make_step("y")), "did you mean 'y'"),
        (lambda: make_node("a", make_step("x", "y"), make_step("y", "x")), "form a cycle"),
        (lambda: Flow(name="f", nodes=()), "has no node"),
        (lambda: Flow(name="f", nodes=(make_node("a"), make_node("a"))), "already has a node 'a'"),
        (lambda: Flow(name="f", nodes=(make_node("a", upstream=("zz",)),)), "no such node"),
        (lambda: Flow(name="f", nodes=(make_node("a", upstream=("a",)),)), "form a cycle"),
    ],
)
def test_what_is_not_well_formed_cannot_be_built(make: Any, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        make()


def dotted(dependency: str, upstream: tuple[str, ...]) -> Flow:
    train = make_node("train", make_step("model", kind=StepKind.OUTPUT), make_step("other"))
    test = make_node("test", make_step("s", dependency), upstream=upstream)
    return Flow(name="f", nodes=(train, test))


@pytest.mark.parametrize(
    ("dependency", "upstream", "message"),
    [
        ("trian.model", ("train",), "no node 'trian'; did you mean 'train'"),
        ("train.modle", ("train",), "no output 'modle'; did you mean 'model'"),
        ("train.other", ("train",), "no output 'other'"),
        ("train.model", (), 'write preid="train"'),
    ],
)
def test_dotted_dependencies_are_outputs_of_upstream_nodes(
    dependency: str, upstream: tuple[str, ...], message: str
) -> None:
    assert dotted("train.model", ("train",)).node("test").upstream == ("train",)
    with pytest.raises(FlowError, match=message):
        dotted(dependency, upstream)


def test_an_unknown_node_is_named_with_the_nearest() -> None:
    with pytest.raises(FlowError, match="did you mean 'train'"):
        dotted("train.model", ("train",)).node("trane")
