from __future__ import annotations

import json
import multiprocessing
import random
from pathlib import Path
from typing import Any

import pytest

from weiml.errors import ConfigError
from weiml.search import Choice, Float, Int, SearchConfig, Space, TrialState
from weiml.search.journal import Journal

SPACE = Space(
    {"x": Float(low=-1.0, high=1.0), "k": Int(low=1, high=9), "h": Choice(values=((1, 2), (3,)))}
)


def config(folder: Path, **knobs: Any) -> SearchConfig:
    return SearchConfig(**{"folder": folder, "name": "s", "metric": "loss", "seed": 3, **knobs})


def loss(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + params["k"] + len(params["h"]))


def run(journal: Journal, trials: int) -> list[dict[str, Any]]:
    asked = []
    for _ in range(trials):
        number, params = journal.ask()
        journal.complete(number, {"loss": loss(params)})
        asked.append(params)
    return asked


def test_remembers_and_ranks(tmp_path: Path) -> None:
    with Journal(config(tmp_path), SPACE) as journal:
        asked = run(journal, 6)
    with Journal(config(tmp_path), SPACE) as journal:
        records = journal.records()
        best = journal.best()
    assert [dict(record.params) for record in records] == asked
    assert [record.value for record in records] == [loss(params) for params in asked]
    assert best is not None
    assert best.value == min(map(loss, asked))
    for params in asked:
        SPACE.check(params)


def test_a_resumed_search_draws_what_an_unbroken_one_draws(tmp_path: Path) -> None:
    with Journal(config(tmp_path / "whole"), SPACE) as journal:
        whole = run(journal, 9)
    parts = []
    for size in (2, 3, 4):
        with Journal(config(tmp_path / "parts"), SPACE) as journal:
            parts += run(journal, size)
    assert parts == whole
    with Journal(config(tmp_path / "other", seed=4), SPACE) as journal:
        assert run(journal, 3) != whole[:3]


def test_orphans_fail_and_are_tried_again(tmp_path: Path) -> None:
    with Journal(config(tmp_path), SPACE) as journal:
        run(journal, 1)
        lost = [journal.ask() for _ in range(2)]
    with Journal(config(tmp_path), SPACE) as journal:
        assert journal.num_finished == 1
        again = run(journal, 2)
        assert again == [params for _, params in lost]
        assert journal.num_finished == 3
        fresh = run(journal, 1)[0]
        assert fresh not in again
    text = (tmp_path / "s" / "journal.log").read_text()
    assert text.count('"retry_of"') == 2
    with Journal(config(tmp_path), SPACE) as journal:
        assert [record.number for record in journal.records()] == [0, 3, 4, 5]


@pytest.mark.parametrize("default", [None, 0.25])
def test_wherever_it_is_cut_off_a_search_goes_on_to_the_same_trials(
    tmp_path: Path, default: float | None
) -> None:
    space = Space({"x": Float(low=-1.0, high=1.0, default=default), "k": Int(low=1, high=9)})
    with Journal(config(tmp_path / "whole"), space) as journal:
        for _ in range(5):
            number, params = journal.ask()
            journal.complete(number, {"loss": params["x"] ** 2 + params["k"]})
        whole = [record.params for record in journal.records()]
    lines = (tmp_path / "whole" / "s" / "journal.log").read_text().splitlines(keepends=True)
    begin = next(at for at, line in enumerate(lines) if json.loads(line)["op_code"] == 4)
    for cut in range(begin + 1, len(lines)):
        home = tmp_path / f"cut{cut}" / "s"
        home.mkdir(parents=True)
        (home / "journal.log").write_text("".join(lines[:cut]))
        with Journal(config(home.parent), space) as journal:
            while journal.num_finished < 5:
                number, params = journal.ask()
                journal.complete(number, {"loss": params["x"] ** 2 + params["k"]})
            assert [record.params for record in journal.records()] == whole, lines[cut - 1]


def test_defaults_are_tried_first(tmp_path: Path) -> None:
    space = Space(
        {
            "x": Float(low=0.0, high=1.0, default=0.25),
            "h": Choice(values=((1,), (2,)), default=(2,)),
        }
    )
    with Journal(config(tmp_path), space) as journal:
        assert journal.ask()[1] == {"x": 0.25, "h": (2,)}
        assert journal.ask()[1] != {"x": 0.25, "h": (2,)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_fails(tmp_path: Path, value: float) -> None:
    with Journal(config(tmp_path), SPACE) as journal:
        number, _ = journal.ask()
        journal.report(number, 1, value)
        journal.complete(number, {"loss": value, "auc": 0.5})
        record = journal.record(number)
        assert record.state is TrialState.FAILED
        assert record.reason == f"loss is {value}"
        assert record.steps == {}
        assert journal.best() is None
        number, _ = journal.ask()
        journal.complete(number, {"auc": 0.5})
        assert "returned auc, but metric = 'loss'" in journal.record(number).reason
        assert journal.num_finished == 2


def test_pruned_keep_step_and_value_and_never_win(tmp_path: Path) -> None:
    with Journal(config(tmp_path), SPACE) as journal:
        number, _ = journal.ask()
        for step, value in [(1, 0.5), (2, 0.1), (2, 0.7)]:
            journal.report(number, step, value)
        journal.prune(number, {"loss": 0.1})
        run(journal, 1)
        record = journal.records()[0]
        best = journal.best()
    assert (record.state, record.value, dict(record.steps)) == ("pruned", 0.1, {1: 0.5, 2: 0.1})
    assert best is not None
    assert best.number == 1


def test_max_takes_the_greatest(tmp_path: Path) -> None:
    with Journal(config(tmp_path, mode="max"), SPACE) as journal:
        asked = run(journal, 5)
        best = journal.best()
        assert best is not None
        assert best.value == max(map(loss, asked))


def test_importance_finds_the_parameter_that_matters(tmp_path: Path) -> None:
    space = Space({"matters": Float(low=0.0, high=1.0), "idle": Float(low=0.0, high=1.0)})
    with Journal(config(tmp_path, trials=30, startup_trials=30), space) as journal:
        assert journal.importance() == {}
        for _ in range(30):
            number, params = journal.ask()
            journal.complete(number, {"loss": params["matters"] ** 2})
        importance = journal.importance()
    assert sum(importance.values()) == pytest.approx(1.0)
    assert importance["matters"] > 2 * importance["idle"]


def test_a_torn_line_is_cut_and_the_rest_kept(tmp_path: Path) -> None:
    with Journal(config(tmp_path), SPACE) as journal:
        run(journal, 3)
    path = tmp_path / "s" / "journal.log"
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"half a li')
    with Journal(config(tmp_path), SPACE) as journal:
        assert journal.num_finished == 3
        run(journal, 1)
    with Journal(config(tmp_path), SPACE) as journal:
        assert journal.num_finished == 4


def test_a_journal_goes_on_with_its_own_objective_only(tmp_path: Path) -> None:
    with Journal(config(tmp_path), SPACE, {"train": "digest"}):
        pass
    with Journal(config(tmp_path), SPACE, {"train": "digest"}):
        pass
    with pytest.raises(ConfigError, match="begun with objective"):
        Journal(config(tmp_path), SPACE, {"train": "another"})


@pytest.mark.parametrize(
    ("knobs", "space", "message"),
    [
        ({"metric": "auc"}, SPACE, "begun with metric = 'loss'"),
        ({"mode": "max"}, SPACE, "begun with mode = 'min'"),
        ({"seed": 4}, SPACE, "begun with seed = 3"),
        ({}, Space({"x": Float(low=-1.0, high=2.0)}), "begun with space"),
    ],
)
def test_another_search_is_refused(
    tmp_path: Path, knobs: dict[str, Any], space: Space, message: str
) -> None:
    with Journal(config(tmp_path), SPACE) as journal:
        run(journal, 1)
    with pytest.raises(ConfigError, match=message):
        Journal(config(tmp_path, **knobs), space)
    with Journal(config(tmp_path, trials=20), SPACE) as journal:
        assert journal.num_finished == 1


def _hold(folder: str, ready: Any, done: Any) -> None:
    with Journal(config(Path(folder)), SPACE):
        ready.set()
        done.wait(30)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    holder.start()
    try:
        assert ready.wait(30)
        with pytest.raises(ConfigError, match=f"being run by process {holder.pid}"):
            Journal(config(tmp_path), SPACE)
    finally:
        done.set()
        holder.join(30)
    with Journal(config(tmp_path), SPACE) as journal:
        assert journal.num_finished == 0


def test_models_better_than_chance(tmp_path: Path) -> None:
    """At the same budget the sampler's best is, over seeds, nearer to the optimum than chance's."""
    space = Space({"x": Float(low=-1.0, high=1.0), "y": Float(low=-1.0, high=1.0)})
    searched, drawn = [], []
    for seed in range(8):
        chance = random.Random(seed)
        with Journal(config(tmp_path / str(seed), seed=seed, trials=30), space) as journal:
            for _ in range(30):
                number, point = journal.ask()
                journal.complete(number, {"loss": (point["x"] - 0.3) ** 2 + point["y"] ** 2})
            best = journal.best()
            assert best is not None
            searched.append(best.value or 0.0)
        drawn.append(
            min((chance.uniform(-1, 1) - 0.3) ** 2 + chance.uniform(-1, 1) ** 2 for _ in range(30))
        )
    assert sorted(searched)[4] < 0.5 * sorted(drawn)[4]
