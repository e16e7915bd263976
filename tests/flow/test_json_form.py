from __future__ import annotations

import json
from typing import Any

import pytest

from weiml.errors import FlowError
from weiml.flow.json_form import from_json

TREE: dict[str, Any] = {
    "name": "f",
    "nodes": [
        {
            "id": "a",
            "engine": "python",
            "steps": [
                {"name": "s", "kind": "process", "class": "c", "params": {"x": 3, "y": ["a", "b"]}}
            ],
        }
    ],
}


def test_defaults_may_be_left_out() -> None:
    flow = from_json(json.dumps(TREE))
    assert flow.nodes[0].cache
    assert [param.values for param in flow.nodes[0].steps[0].params] == [("3",), ("a", "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.json:1: not valid JSON, column 1"),
        ('{"name": "f",\n}', "f.json:2: not valid JSON"),
        ("[]", "f.json: expected an object"),
        (json.dumps({**TREE, "node": []}), "f.json: unknown key 'node'; did you mean 'nodes'"),
        (json.dumps({"nodes": []}), "f.json: 'name' is missing"),
        (json.dumps({**TREE, "seed": "x"}), "f.json: 'seed' has the wrong type, got 'x'"),
        (json.dumps({**TREE, "seed": True}), "f.json: 'seed' has the wrong type"),
    ],
)
def test_errors_say_where(text: str, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        from_json(text, source="f.json")


def test_errors_inside_say_which_step() -> None:
    text = json.dumps(TREE).replace('"process"', '"proces"')
    with pytest.raises(FlowError, match=r"f.json nodes\[0\] steps\[0\]: .*did you mean 'process'"):
        from_json(text, source="f.json")
