"""Configuration round-trips, refuses what it does not know and says where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.config import (
    from_mapping,
    lay_over,
    load_config,
    nearest,
    parse_overrides,
    to_mapping,
)
from weiml.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    alpha: float = 0.1
    kind: Literal["ftrl", "sgd"] = "ftrl"

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ConfigError(f"alpha must be above 0, got {self.alpha}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    epochs: int
    name: str = "run"
    shuffle: bool = True
    layers: tuple[int, ...] = (8, 4)
    betas: tuple[float, float] = (0.9, 0.999)
    limit: int | None = None
    staleness: int | Literal["asp"] = 0
    folder: Path = Path("runs")
    optimizer: Optimizer = Optimizer()
    extra: dict[str, float] = dataclasses.field(default_factory=dict)


numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-9, max_value=1e9)
words = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
trainings = st.builds(
    Training,
    epochs=st.integers(),
    name=st.text(),
    shuffle=st.booleans(),
    layers=st.lists(st.integers()).map(tuple),
    betas=st.tuples(numbers, numbers),
    limit=st.none() | st.integers(),
    folder=words.map(Path),
    optimizer=st.builds(Optimizer, alpha=positive, kind=st.sampled_from(["ftrl", "sgd"])),
    extra=st.dictionaries(words, numbers),
)


@given(trainings)
def test_to_mapping_and_from_mapping_are_inverse(training: Training) -> None:
    assert from_mapping(Training, to_mapping(training)) == training


@given(trainings)
def test_a_mapping_survives_json(training: Training) -> None:
    tree = json.loads(json.dumps(to_mapping(training)))
    assert from_mapping(Training, tree) == training


@given(words.filter(lambda word: word not in {f.name for f in dataclasses.fields(Training)}))
def test_an_unknown_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        from_mapping(Training, {"epochs": 1, key: 2})


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"feed\.toml: unknown key 'epoch'; did you mean 'epochs'"
    ):
        from_mapping(Training, {"epoch": 1}, where="feed.toml")


def test_an_unknown_key_below_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"config: optimizer: unknown key 'alfa'.*'alpha'"):
        from_mapping(Training, {"epochs": 1, "optimizer": {"alfa": 1.0}})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "missing key 'epochs'"),
        ({"epochs": "3"}, "epochs must be int, got '3'"),
        ({"epochs": True}, "epochs must be int, got True"),
        ({"epochs": 1.5}, "epochs must be int, got 1.5"),
        ({"epochs": 1, "shuffle": 1}, "shuffle must be bool, got 1"),
        ({"epochs": 1, "layers": [8, "x"]}, r"layers\[1\] must be int, got 'x'"),
        ({"epochs": 1, "betas": [0.9]}, "betas must have 2 entries, got 1"),
        ({"epochs": 1, "staleness": "aps"}, "must be int.*; or .*did you mean 'asp'"),
        ({"epochs": 1, "limit": "none"}, "limit must be int, got 'none'"),
        ({"epochs": 1, "optimizer": {"kind": "ftlr"}}, "must be one of .*did you mean 'ftrl'"),
        ({"epochs": 1, "optimizer": {"alpha": -1}}, "alpha must be above 0, got -1"),
        ({"epochs": 1, "optimizer": 3}, "optimizer must be Optimizer, got 3"),
        ({"epochs": 1, "extra": [1]}, "extra must be a table"),
    ],
)
def test_a_wrong_value_is_named(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Training, mapping)


def test_an_int_is_taken_where_a_float_is_wanted() -> None:
    alpha = from_mapping(Optimizer, {"alpha": 2}).alpha
    assert alpha == 2.0
    assert isinstance(alpha, float)


def test_overrides_are_toml_values_or_text() -> None:
    tree = parse_overrides(["a.b=3", "a.c=[1, 2]", "name=plain words", "on=true", 'q="3"'])
    assert tree == {"a": {"b": 3, "c": [1, 2]}, "name": "plain words", "on": True, "q": "3"}


@pytest.mark.parametrize("override", ["epochs", "=3", "a..b=1", ".=1"])
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="not of the form a.b=value"):
        parse_overrides([override])


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="goes below a value"):
        parse_overrides(["a=1", "a.b=2"])


def test_a_file_is_read_with_overrides_on_top(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('epochs = 2\nlayers = [4]\n[optimizer]\nkind = "sgd"\nalpha = 1\n')
    training = load_config(Training, file, ["epochs=5", "optimizer.alpha=0.5"])
    assert training.epochs == 5
    assert training.layers == (4,)
    assert training.optimizer == Optimizer(alpha=0.5, kind="sgd")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml does not exist"):
        load_config(Training, tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_malformed_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        load_config(Training, file)


def test_nearest_names_the_closest_or_all_or_none() -> None:
    assert nearest("genre", ["genres", "title"]) == "; did you mean 'genres'?"
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
    assert nearest("zzz", []) == "; none are known"


def test_only_dataclasses_are_configurations() -> None:
    with pytest.raises(TypeError, match="not a dataclass"):
        from_mapping(int, {})
    with pytest.raises(TypeError, match="not a dataclass"):
        to_mapping(3)


def test_a_table_of_another_name_takes_the_place_of_what_was_there() -> None:
    base = {"model": {"name": "lr", "optimizer": {"alpha": 0.1}}, "epochs": 2}
    assert lay_over(base, {"model": {"name": "dnn", "dropout": 0.1}}) == {
        "model": {"name": "dnn", "dropout": 0.1},
        "epochs": 2,
    }
    same = lay_over(base, {"model": {"name": "lr", "crosses": []}})
    assert same["model"] == {"name": "lr", "optimizer": {"alpha": 0.1}, "crosses": []}
    assert lay_over(base, {"model": {"crosses": []}})["model"]["optimizer"] == {"alpha": 0.1}
