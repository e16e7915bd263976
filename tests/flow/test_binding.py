from __future__ import annotations

from pathlib import Path

import pytest

from weiml.errors import FlowError
from weiml.flow import bind_flow, from_xml, load_flow, to_json

FLOW = """\
<flow name="f">
  <param name="n" value="2"/>
  <node id="a" engine="torch">
    <option name="threads">${n}</option>
    <process name="x" class="test.number"><value>${n}</value></process>
    <output name="y" class="test.write" dependency="x"/>
  </node>
</flow>
"""


def test_binding_converts_and_orders() -> None:
    node = bind_flow(from_xml(FLOW), {"n": 1}).nodes[0]
    assert node.options == {"threads": 1}
    assert [(item.step.name, item.params) for item in node.steps] == [
        ("x", {"value": 1}),
        ("y", {}),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('engine="torch"', 'engine="trch"', "f.xml:3: unknown engine 'trch'; did you mean 'torch'"),
        ("threads", "thread", "f.xml:4: option 'thread' .*did you mean 'threads'"),
        ("${n}</option>", "x</option>", "f.xml:4: option 'threads' .* must be a whole number"),
        ("test.number", "test.nmber", "f.xml:5: unknown step class .*did you mean 'test.number'"),
        ("<value>${n}</value>", "<value>a</value>", "f.xml:5: parameter 'value' .* whole number"),
        ("<value>${n}</value>", "<val>3</val>", "f.xml:5: .* did you mean 'value'"),
        (' dependency="x"', "", "f.xml:6: .* needs the parameter 'value'"),
        ('<flow name="f"', '<flow name="f" steps="no.such"', "f.xml:1: there is no module"),
    ],
)
def test_what_is_not_registered_is_an_error_before_anything_runs(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(FlowError, match=message):
        bind_flow(from_xml(FLOW.replace(old, new, 1), source="f.xml"))


def test_flows_are_loaded_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "f.xml").write_text(FLOW)
    (tmp_path / "f.json").write_text(to_json(from_xml(FLOW)))
    assert load_flow(tmp_path / "f.xml") == load_flow(tmp_path / "f.json")
    with pytest.raises(FlowError, match=r"\.xml or a \.json"):
        load_flow(tmp_path / "f.yaml")
    with pytest.raises(FlowError, match="cannot be read"):
        load_flow(tmp_path / "none.json")
