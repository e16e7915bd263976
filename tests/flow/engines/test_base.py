from __future__ import annotations

import pytest

from weiml.errors import FlowError
from weiml.flow import FlowBuilder, Node, NodeContext, list_engines, register_engine
from weiml.flow.engines.base import Engine, find_engine
from weiml.flow.graph import Position


class NoSession(Engine):
    name = "test.base"
    distributions = ("numpy", "no-such-distribution")

    def open(self, node: Node, context: NodeContext) -> None:
        """Nothing."""

    def close(self, session: None) -> None:
        """Nothing."""


class OtherEngine(NoSession):
    """Has the same name."""


def test_engines_are_registered_once_by_name() -> None:
    assert register_engine(NoSession) is NoSession
    assert isinstance(find_engine("test.base"), NoSession)
    register_engine(NoSession())
    with pytest.raises(FlowError, match="engine 'test.base' is already"):
        register_engine(OtherEngine)
    assert {"python", "ray_data", "ps", "torch", "tensorflow", "shell"} <= set(list_engines())


def test_versions_are_those_installed() -> None:
    versions = NoSession().versions()
    assert versions["numpy"][0].isdigit()
    assert versions["no-such-distribution"] == "none"


def test_an_unknown_engine_is_named_with_the_nearest() -> None:
    with pytest.raises(FlowError, match=r"f.xml:3: unknown engine 'pyton'; did you mean 'python'"):
        find_engine("pyton", Position(source="f.xml", line=3))


def test_an_engine_without_options_takes_none() -> None:
    flow = FlowBuilder("f")
    flow.node("a", threads=2).process("s", "test.number")
    with pytest.raises(FlowError, match="option 'threads' of node 'a' is unknown to the engine"):
        find_engine("python").bind_options(flow.build().nodes[0])
