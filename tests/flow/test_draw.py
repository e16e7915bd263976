from __future__ import annotations

import re
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from tests.flow.conftest import Run
from weiml.errors import FlowError
from weiml.flow import FlowBuilder, load_result
from weiml.flow.draw import to_svg


def flow_of(count: int) -> FlowBuilder:
    flow = FlowBuilder("drawn")
    for i in range(count):
        node = flow.node(f"node_{i}", preid=[f"node_{j}" for j in range(i) if (i * j) % 3 == 1])
        node.input("in", "test.number").process("sum", "test.add", dependency="in")
        node.output("out", "test.write", dependency="sum")
    return flow


def texts(svg: str) -> list[str]:
    """The texts to be seen, without the hints that show under the mouse."""
    found = fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()) for element in found]


def test_a_picture_names_nodes_engines_and_steps_and_needs_nothing_else() -> None:
    svg = to_svg(flow_of(10).build())
    shown = texts(svg)
    for i in range(10):
        assert f"node_{i}" in shown
    assert shown.count("python") == 10
    assert sum(text.startswith("sum") and "test.add" in text for text in shown) == 10
    assert "succeeded" not in svg
    assert "pending" not in svg
    links = re.findall(r"(?:href|src|url)\s*[=(]", svg)
    assert links == []


def test_a_run_shows_states_and_times(run: Run) -> None:
    flow = flow_of(3).build()
    first, _ = run(flow)
    shown = " ".join(texts(to_svg(flow, first)))
    assert shown.count("succeeded ·") == 3
    assert re.search(r"\d ms", shown)
    again, _ = run(flow)
    shown = " ".join(texts(to_svg(flow, again)))
    assert len(re.findall(r"cached · \d+ ms when computed", shown)) == 3


def test_a_failed_run_shows_the_error_and_what_was_not_reached(run: Run, tmp_path: Path) -> None:
    builder = FlowBuilder("f")
    builder.node("bad").process("s", "test.fail", message="a < b & c")
    builder.node("after", preid="bad").process("s", "test.number")
    with pytest.raises(FlowError):
        run(builder.build())
    svg = to_svg(builder.build(), load_result(tmp_path / "runs"))
    assert "RuntimeError: a &lt; b &amp; c" in svg
    shown = texts(svg)
    assert any(text.startswith("failed ·") for text in shown)
    assert any(text.startswith("skipped") for text in shown)


def test_long_names_are_cut() -> None:
    builder = FlowBuilder("f")
    builder.node("n" * 60, engine="tensorflow").process("s" * 60, "test.number")
    shown = texts(to_svg(builder.build()))
    assert any(text.startswith("nnnn") and text.endswith("…") for text in shown)
    assert any(text.startswith("ssss") and "…" in text for text in shown)
