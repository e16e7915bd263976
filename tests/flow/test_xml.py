from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import FlowError
from weiml.flow.graph import Flow, Node, Param, Step, StepKind
from weiml.flow.json_form import from_json, to_json
from weiml.flow.xml import from_xml, read_xml, to_xml

FEED = """\
<flow name="feed" steps="pipelines.feed weiml.flow.data_steps" seed="7">
  <!-- what the search may try -->
  <param name="trials" value="8"/>
  <node id="features" engine="ray_data" preid="-1" retries="2" timeout_s="600">
    <option name="num_blocks">4</option>
    <input name="ratings" class="data.fetch"><dataset>movielens-100k</dataset></input>
    <output name="train" class="feed.write" dependency="ratings">
      <part>train</part>
      <columns>a</columns>
      <columns>b</columns>
    </output>
  </node>
  <node id="search" engine="tune" preid="features" cache="false" backoff_s="0.5">
    <process name="s" class="search.run" dependency="features.train"><n>${trials}</n></process>
  </node>
</flow>
"""


def test_a_flow_is_read_as_written() -> None:
    flow = from_xml(FEED, source="feed.xml")
    features, search = flow.nodes
    assert (flow.name, flow.seed) == ("feed", 7)
    assert flow.steps == ("pipelines.feed", "weiml.flow.data_steps")
    assert (features.retries, features.timeout_s, features.upstream) == (2, 600.0, ())
    assert (search.cache, search.backoff_s, search.upstream) == (False, 0.5, ("features",))
    assert features.options == (Param.of("num_blocks", 4),)
    assert features.steps[1].params == (Param.of("part", "train"), Param.of("columns", ["a", "b"]))
    assert str(features.steps[1].position) == "feed.xml:7"
    assert str(features.steps[1].params[0].position) == "feed.xml:8"


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))).map(str.strip)


def params(texts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Param, ...]]:
    return st.dictionaries(NAMES, texts, max_size=3).map(
        lambda d: tuple(Param.of(name, text) for name, text in d.items())
    )


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    ids = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    nodes: list[Node] = []
    for i, id in enumerate(ids):
        upstream = tuple(other for other in ids[:i] if draw(st.booleans()))
        dotted = [
            f"{node.id}.{out}" for node in nodes if node.id in upstream for out in node.outputs
        ]
        names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
        steps = tuple(
            Step(
                name=name,
                kind=draw(st.sampled_from(StepKind)),
                cls=draw(NAMES),
                dependencies=tuple(d for d in [*names[:j], *dotted] if draw(st.booleans())),
                params=draw(params(TEXTS)),
            )
            for j, name in enumerate(names)
        )
        nodes.append(
            Node(
                id=id,
                engine=draw(NAMES),
                upstream=upstream,
                steps=steps,
                options=draw(params(TEXTS)),
                cache=draw(st.booleans()),
                retries=draw(st.integers(0, 5)),
                backoff_s=draw(st.floats(0, 100)),
                timeout_s=draw(st.none() | st.floats(0.1, 1e6)),
            )
        )
    return Flow(
        name=draw(NAMES),
        nodes=tuple(nodes),
        params=draw(params(TEXTS)),
        steps=tuple(draw(st.lists(NAMES, max_size=2))),
        seed=draw(st.integers(0, 2**31)),
    )


@given(flows())
def test_xml_json_and_graph_are_three_views_of_one_thing(flow: Flow) -> None:
    assert from_xml(to_xml(flow)) == flow
    assert from_json(to_json(flow)) == flow
    assert to_xml(from_json(to_json(from_xml(to_xml(flow))))) == to_xml(flow)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<flow name=", "<flo name=", "f.xml:1: "),
        ('engine="ray_data" ', "", 'f.xml:4: <node> needs engine="…"'),
        ('retries="2"', 'retry="2"', "f.xml:4: <node> has no attribute 'retry'; did you mean"),
        ('retries="2"', 'retries="two"', "f.xml:4: retries of <node> must be a whole number"),
        ('timeout_s="600"', 'timeout_s="-1"', "f.xml:4: node 'features': timeout_s must be above"),
        ("<input name", "<inptu name", "f.xml:6: "),
        ('class="data.fetch"', "", "f.xml:6: <input> needs class"),
        ("<dataset>movielens-100k</dataset>", "movielens-100k", "f.xml:6: stray text"),
        ("<part>train</part>", "<part><x/></part>", "f.xml:8: <x> cannot stand in <part>"),
        ('preid="features"', 'preid="feature"', "f.xml:13: .*did you mean 'features'"),
        ('preid="-1"', 'preid="search"', "the nodes form a cycle"),
        (
            'id="search"',
            'id="features"',
            "f.xml:13: flow 'feed' already has a node 'features' at f",
        ),
        ('name="train"', 'name="ratings"', "f.xml:7: node 'features' already has a step"),
        ('name="trials" value="8"', 'name="trials"', 'f.xml:3: <param> needs value="…"'),
        ('dependency="ratings"', 'dependency="rating"', "f.xml:7: .*did you mean 'ratings'"),
    ],
)
def test_errors_have_file_and_line(old: str, new: str, message: str) -> None:
    content = FEED.replace(old, new, 1)
    assert content != FEED
    with pytest.raises(FlowError, match=message) as caught:
        from_xml(
            content.replace("</flow>", "</flo>") if "<flo " in content else content, source="f.xml"
        )
    assert str(caught.value).startswith("f.xml:")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="cannot be read"):
        read_xml(tmp_path / "none.xml")
