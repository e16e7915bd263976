"""Feature specs: round trip through TOML and JSON forms, and errors that name what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weiml.errors import ConfigError
from weiml.features import (
    Categorical,
    Continuous,
    Cross,
    CrossGroups,
    FeatureSpec,
    Sequence,
    SparseBinary,
    SparseContinuous,
    Text,
)
from weiml.features.transforms import Chain, Fill, TargetMean, Together, Transform

SPEC = FeatureSpec(
    features=(
        Categorical("user_id"),
        Continuous("age", transform="log1p", buckets=4),
        Continuous("rate"),
        SparseBinary("genres"),
        Text("title", max_tokens=3),
        SparseContinuous("tfidf", values="weights"),
        Sequence("history", length=5, keep="first", ids_of="user_id"),
    ),
    crosses=(Cross("user_x_genre", of=("user_id", "genres")),),
    cross_groups=(CrossGroups("old", groups=(("age",), ("genres", "title"))),),
)

OLD = ("old.age_x_genres", "old.age_x_title")


def test_slots_and_dense_keep_the_order_of_the_spec() -> None:
    assert SPEC.slots == (
        "user_id",
        "age",
        "genres",
        "title",
        "tfidf",
        "history",
        "user_x_genre",
        *OLD,
    )
    assert SPEC.dense == ("age", "rate")


def test_round_trip_through_json() -> None:
    assert FeatureSpec.from_mapping(json.loads(json.dumps(SPEC.to_mapping()))) == SPEC


def test_reads_toml(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(
        """
        group = "reader"
        [[features]]
        name = "reader"
        type = "categorical"
        [[features]]
        name = "age"
        type = "continuous"
        buckets = 3
        [[crosses]]
        name = "both"
        of = ["reader", "age"]
        [[cross_groups]]
        name = "g"
        groups = [["reader"], ["age"]]
        """
    )
    spec = FeatureSpec.from_toml(file)
    assert spec.slots == ("reader", "age", "both", "g.reader_x_age")
    assert spec.group == "reader"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[features]]\nname = "a"\ntype = "catgorical"', "did you mean 'categorical'"),
        ('[[features]]\nname = "a"\ntype = "text"\nmax_token = 3', "did you mean 'max_tokens'"),
        ('[[features]]\nname = "a"\ntype = "continuous"\nbuckets = 1', "at least 2, got 1"),
        ('[[features]]\nname = "a"\ntype = "continuous"\nbuckets = "x"', "buckets must be int"),
        ("features = [3]", r"features\[0\] must be a table"),
        ("features = []", "at least one feature"),
        ("labl = 'x'\nfeatures = []", "did you mean 'label'"),
        ("features = [", "not valid TOML"),
        (
            '[[features]]\nname = "a"\ntype = "text"\n[[cross_groups]]\nname = "g"\ngruops = 1',
            "did",
        ),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        FeatureSpec.from_toml(file)
    assert str(file) in str(caught.value)


def test_missing_file_and_bad_names() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        FeatureSpec.from_toml("nowhere.toml")
    with pytest.raises(ConfigError, match="must differ.*'a'"):
        FeatureSpec(features=(Categorical("a"), Text("a")))
    with pytest.raises(ConfigError, match="'genre' is not a feature with a slot; did you mean"):
        FeatureSpec(
            features=(Categorical("a"), SparseBinary("genres")),
            crosses=(Cross("c", of=("a", "genre")),),
        )
    with pytest.raises(ConfigError, match="'x' is not a feature with a slot"):
        FeatureSpec(
            features=(Categorical("a"), Continuous("x")), crosses=(Cross("c", of=("a", "x")),)
        )


@pytest.mark.parametrize(
    "leak",
    [
        TargetMean(("item",), fold_by="user"),
        Chain(Fill("x", value=0.0), TargetMean(("item",))),
        Together(Fill("x", value=0.0), Chain(TargetMean(("item",)))),
    ],
)
def test_means_of_the_label_are_refused_as_transforms(leak: Transform) -> None:
    features = (Continuous("item_mean"),)
    with pytest.raises(ConfigError, match="fit_transform_out_of_fold"):
        FeatureSpec(features=features, transforms=(Fill("y", value=0.0), leak))
    tree = {
        "features": [{"type": "continuous", "name": "item_mean"}],
        "transforms": [leak.to_mapping()],
    }
    with pytest.raises(ConfigError, match=r"feed\.toml.*out_of_fold"):
        FeatureSpec.from_mapping(tree, where="feed.toml")


def test_several_labels_have_names_and_a_short_form() -> None:
    several = FeatureSpec(features=(Categorical("a"),), labels=("click", "buy"))
    assert several.label_names == ("click", "buy")
    assert several.label == "click"
    assert FeatureSpec.from_mapping(several.to_mapping()) == several
    one = FeatureSpec(features=(Categorical("a"),), label="click")
    assert one.label_names == ("click",)
    assert "labels" not in one.to_mapping()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"labels": ("click", "click")}, "names that differ"),
        ({"labels": ("click", "")}, "names that differ"),
        ({"labels": ("click", "buy"), "label": "buy"}, "leave label out"),
    ],
)
def test_labels_that_do_not_fit(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureSpec(features=(Categorical("a"),), **knobs)
