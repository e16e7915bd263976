"""Plans as files: sections, paths, overrides, and errors that name the knob."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.train.plans.conftest import FEATURES
from weiml.errors import ConfigError
from weiml.models.calibration import Isotonic, Platt
from weiml.train.plans import Plan

DATA = {"files": "views.parquet"}


def test_the_example_file_is_read(root: Path) -> None:
    plan = Plan.from_toml(root / "configs/plans/clicks.toml")
    assert plan.features is not None
    assert len(plan.features.transforms) == 13
    assert plan.calibration == Isotonic(num_bins=25)
    overrides = ["network.epochs=7", "calibration=platt"]
    other = Plan.from_toml(root / "configs/plans/clicks.toml", overrides)
    assert other.network.epochs == 7
    assert other.calibration == Platt()


def test_paths_are_below_the_file(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        '[data]\ntrain = "a.parquet"\ncalibration = ["b.parquet", "s3://store/c"]\n'
        'test = "/t.parquet"\n[features]\nspec = "spec.toml"\n'
    )
    (tmp_path / "spec.toml").write_text('[[features]]\nname = "x"\ntype = "categorical"\n')
    data = Plan.from_toml(tmp_path / "plan.toml").data
    assert data.paths("train") == (str(tmp_path / "a.parquet"),)
    assert data.paths("calibration") == (str(tmp_path / "b.parquet"), "s3://store/c")
    assert data.paths("test") == ("/t.parquet",)
    assert data.parts == ("train", "calibration", "test")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "missing key 'data'"),
        ({"data": {}}, "data must name one of dataset, files, or the parts.*got none of them"),
        ({"data": {**DATA, "test": "t"}}, "got files, test"),
        ({"data": {"train": "a", "test": "b"}}, "data has train, test, but no calibration"),
        ({"data": {**DATA, "shares": {"train": 0.9}}}, "shares must sum to 1"),
        ({"data": {**DATA, "keep_negatives": 0}}, "keep_negatives must be above 0"),
        ({"data": {**DATA, "by": ["a", "b"]}}, "by must name one time column"),
        ({"data": DATA, "features": None}, "without .features. data must name a data set"),
        ({"data": DATA, "netwerk": {}}, "unknown key 'netwerk'; did you mean 'network'"),
        ({"data": DATA, "calibration": "isotonik"}, "did you mean 'isotonic'"),
        ({"data": DATA, "calibration": {"name": "isotonic", "bin": 3}}, "unknown key 'bin'"),
        ({"data": DATA, "test": {"metrics": ["acu"]}}, "did you mean 'auc'"),
        ({"data": DATA, "trees": {}}, "for network.model = 'gbdt_lr', got 'lr'"),
        ({"data": DATA, "network": {"model": "gbdt_lr"}}, "takes its trees of one place"),
        ({"data": DATA, "features": {"spec": "a", "label": "b"}}, "the path of one as `spec`"),
    ],
)
def test_what_does_not_fit_is_named(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan.from_mapping({"features": FEATURES, **tree})
