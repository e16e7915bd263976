from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.search import Choice, Float, Int, Space


def spaces() -> st.SearchStrategy[Space]:
    bounds = st.tuples(st.integers(1, 50), st.integers(51, 99))
    parameters = st.one_of(
        st.builds(
            lambda b, log: Float(low=float(b[0]), high=float(b[1]), log=log), bounds, st.booleans()
        ),
        st.builds(
            lambda b, log: Int(low=b[0], high=b[1], log=log, default=b[0]), bounds, st.booleans()
        ),
        st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True).map(
            lambda values: Choice(values=tuple(values))
        ),
    )
    return st.dictionaries(st.sampled_from("abcdef"), parameters, min_size=1).map(Space)


@given(spaces())
def test_mapping_round_trip(space: Space) -> None:
    assert Space.from_mapping(space.to_mapping()) == space


def test_reads_toml(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        '[space]\n"a.lr" = {type = "float", low = 1e-4, high = 1e-1, log = true, default = 1e-2}\n'
        '"a.hidden" = {type = "choice", values = [[256, 128], [64]]}\n'
        'n = {type = "int", low = 1, high = 3}\n'
    )
    space = Space.from_toml(file)
    assert list(space) == ["a.lr", "a.hidden", "n"]
    assert space.parameters["a.hidden"] == Choice(values=((256, 128), (64,)))
    assert space.defaults() == {"a.lr": 1e-2}
    assert Space.nested({"a.lr": 1, "a.hidden": 2, "n": 3}) == {"a": {"lr": 1, "hidden": 2}, "n": 3}


def test_choice_keeps_types_apart() -> None:
    choice = Choice(values=(2.5, True, 3, "1", [1]))
    decoded = [choice.decode(choice.encode(value)) for value in choice.values]
    assert [type(value) for value in decoded] == [float, bool, int, str, tuple]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"x": {"type": "flaot", "low": 0.0, "high": 1.0}}, "did you mean 'float'"),
        ({"x": {"type": "float", "low": 0.0}}, "missing key 'high'"),
        ({"x": {"type": "float", "low": 0.0, "hihg": 1.0}}, "did you mean 'high'"),
        ({"x": {"type": "float", "low": 1.0, "high": 1.0}}, "low must be less than high"),
        ({"x": {"type": "float", "low": 0.0, "high": 1.0, "log": True}}, "above 0"),
        ({"x": {"type": "float", "low": 0.0, "high": float("inf")}}, "finite"),
        ({"x": {"type": "int", "low": 1, "high": 2.5}}, "high must be int"),
        ({"x": {"type": "int", "low": 1, "high": 3, "default": 4}}, "default must lie"),
        ({"x": {"type": "choice", "values": []}}, "at least one choice"),
        ({"x": {"type": "choice", "values": ["a", "a"]}}, "more than once"),
        ({"x": {"type": "choice", "values": [1, True]}}, "more than once"),
        ({"x": {"type": "choice", "values": [{"a": 1}]}}, "booleans, numbers, texts or lists"),
        ({"x": 3}, "must be a table with type"),
        ({"x y": {"type": "int", "low": 1, "high": 3}}, "not a dotted path"),
        (
            {
                "a": {"type": "int", "low": 1, "high": 3},
                "a.b": {"type": "int", "low": 1, "high": 3},
            },
            "lies inside parameter 'a'",
        ),
        ({}, "empty"),
    ],
)
def test_refuses(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Space.from_mapping(table, where="here")


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    with pytest.raises(ConfigError, match=r"x\.toml does not exist"):
        Space.from_toml(file)
    file.write_text("[space")
    with pytest.raises(ConfigError, match=r"x\.toml is not valid TOML"):
        Space.from_toml(file)
    file.write_text("a = 1")
    with pytest.raises(ConfigError, match=r"no \[space\] table"):
        Space.from_toml(file)


def test_check_names_what_is_wrong() -> None:
    space = Space({"x": Float(low=0.0, high=1.0), "k": Int(low=1, high=3)})
    space.check({"x": 0.5, "k": 3})
    for params, message in [
        ({"x": 0.5, "kk": 3}, "unknown parameter 'kk'"),
        ({"x": 1.5, "k": 3}, "x = 1.5 is outside"),
        ({"x": 0.5, "k": True}, "k = True is outside"),
        ({"x": 0.5}, "without a value: k"),
    ]:
        with pytest.raises(ConfigError, match=message):
            space.check(params)
