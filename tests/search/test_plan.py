from __future__ import annotations

from pathlib import Path

import pytest

from weiml.errors import ConfigError
from weiml.search import Bowl, Float, TrainValidation, load_plan

PLAN = """
objective = "bowl"
[search]
metric = "loss"
trials = 5
asha = {max_steps = 4}
[options]
steps = 4
[space.x]
type = "float"
low = 0.0
high = 1.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


def test_reads_all_parts(file: Path, tmp_path: Path) -> None:
    plan = load_plan(file, ["search.trials=7", "options.centre=0.5"])
    assert plan.parameters.parameters == {"x": Float(low=0.0, high=1.0)}
    assert plan.make_objective(steps=None) == Bowl(steps=4, centre=0.5)
    assert plan.make_objective(steps=2) == Bowl(steps=2, centre=0.5)
    config = plan.make_config(folder=tmp_path, name="a", seed=3, concurrency=None)
    assert (config.trials, config.seed, config.concurrency) == (7, 3, None)
    assert config.asha is not None
    assert config.asha.max_steps == 4
    assert config.home == tmp_path.resolve() / "a"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trails=3", "did you mean 'trials'"),
        ("search.mode=least", "mode must be one of"),
        ("search.trials=0", "trials must be at least 1"),
        ("space.x.high=-1.0", "low must be less than high"),
        ("objetive=bowl", "did you mean 'objective'"),
    ],
)
def test_refuses_with_the_file_in_the_message(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"plan\.toml.*{message}"):
        load_plan(file, [override])


def test_the_shipped_search_fits_the_shipped_model(root: Path, tmp_path: Path) -> None:
    plan = load_plan(root / "configs/search/feed.toml")
    made = plan.make_objective(
        train=tmp_path, validation=tmp_path, config=root / "configs/models/wide_deep.toml"
    )
    assert isinstance(made, TrainValidation)
    plan.parameters.check(plan.parameters.defaults())
    tuned = made.configuration(plan.parameters.defaults())
    assert tuned == made.configuration({}), "the first trial must be the shipped model"
    assert plan.make_config(folder=tmp_path, name="x").trials >= 8
