from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

from weiml.search import Float, SearchConfig, Space
from weiml.search.journal import Journal
from weiml.search.result import TrialRecord
from weiml.search.searcher import FINAL, JournalSearcher

SPACE = Space({"x": Float(low=0.0, high=1.0)})


def report(step: int, value: float, **more: Any) -> dict[str, Any]:
    """A trial's report in the flat form that Tune hands on."""
    return {"step": step, "value": value, "metrics/loss": value, "config/x": 1.0, **more}


def test_ends_are_told_apart(tmp_path: Path) -> None:
    finished: list[TrialRecord] = []
    config = SearchConfig(folder=tmp_path, name="s", metric="loss")
    with Journal(config, SPACE) as journal:
        searcher = JournalSearcher(journal, finished.append)
        for trial in "abcdef":
            point = searcher.suggest(trial)
            SPACE.check(point["params"])

        searcher.on_trial_result("a", report(1, 0.9))
        searcher.on_trial_result("a", report(2, 0.5, **{FINAL: True}))
        searcher.on_trial_complete("a", report(2, 0.5, **{FINAL: True}))

        searcher.on_trial_result("b", report(1, 0.8))
        searcher.on_trial_complete("b", report(2, 0.7))  # stopped: step 2 is seen only here

        searcher.on_trial_complete("c", error=True)
        searcher.on_trial_complete("d", {"failed": "ValueError: bad", FINAL: True})
        searcher.on_trial_complete("e", report(1, float("nan"), **{FINAL: True}))
        searcher.on_trial_complete("f")
        searcher.on_trial_complete("f")  # twice: ignored
        searcher.on_trial_complete("stranger", report(1, 0.0, **{FINAL: True}))

    assert [(record.number, record.state.value) for record in finished] == [
        (0, "complete"),
        (1, "pruned"),
        (2, "failed"),
        (3, "failed"),
        (4, "failed"),
        (5, "failed"),
    ]
    assert (finished[0].value, dict(finished[0].steps)) == (0.5, {1: 0.9})
    assert dict(finished[0].metrics) == {"loss": 0.5}
    assert (finished[1].value, dict(finished[1].steps)) == (0.7, {1: 0.8, 2: 0.7})
    assert [record.reason for record in finished[2:5]] == [
        "its worker process died",
        "ValueError: bad",
        "loss is nan",
    ]


def test_tune_may_save_it(tmp_path: Path) -> None:
    with Journal(SearchConfig(folder=tmp_path, name="s", metric="loss"), SPACE) as journal:
        unpicklable = threading.Lock()
        searcher = JournalSearcher(journal, lambda record: unpicklable.release())
        assert isinstance(pickle.loads(pickle.dumps(searcher)), JournalSearcher)
        searcher.save_to_dir(str(tmp_path), "session")
        searcher.restore_from_dir(str(tmp_path))
        assert searcher.suggest("a")["number"] == 0
