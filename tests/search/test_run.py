from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from weiml.errors import ClusterError, WeimlError
from weiml.search import (
    AshaConfig,
    Float,
    Int,
    SearchConfig,
    SearchResult,
    Space,
    TrialState,
    search,
)
from weiml.search.objectives import Bowl

SPACE = Space({"x": Float(low=-1.0, high=1.0, default=0.9), "k": Int(low=0, high=9)})
Report = Callable[[int, Mapping[str, float]], None]


def config(folder: Path, **knobs: Any) -> SearchConfig:
    return SearchConfig(**{"folder": folder, "name": "s", "metric": "loss", "trials": 4, **knobs})


@pytest.mark.usefixtures("ray_session")
class TestOnRay:
    def test_searches_resumes_and_keeps_to_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        handler = signal.getsignal(signal.SIGINT)
        lines: list[tuple[str, int | None, int | None]] = []

        def progress(text: str, *, done: int | None = None, total: int | None = None) -> None:
            lines.append((text, done, total))

        first = search(Bowl(), SPACE, config(tmp_path), progress)
        assert [(done, total) for _, done, total in lines] == [(n, 4) for n in (0, 1, 2, 3, 4)]
        assert all(text.startswith("trial ") for text, _, _ in lines[1:])
        assert (first.num_new, len(first.trials)) == (4, 4)
        assert first.best_value == min(
            t.params["x"] ** 2 + t.params["k"] ** 2 for t in first.trials
        )
        assert first.trials[0].params["x"] == 0.9

        again = search(Bowl(), SPACE, config(tmp_path))
        assert (again.num_new, again.trials) == (0, first.trials)
        more = search(Bowl(), SPACE, config(tmp_path, trials=6), progress)
        assert (more.num_new, more.trials[:4]) == (2, first.trials)
        assert lines[5][0] == "4 trials done before, 2 to run, 2 at a time"

        assert list(home.iterdir()) == []
        assert signal.getsignal(signal.SIGINT) is handler
        assert os.environ.get("RAY_CHDIR_TO_TRIAL_DIR") is None

    def test_trials_run_side_by_side_in_other_processes(self, tmp_path: Path) -> None:
        meeting = tmp_path / "meeting"
        meeting.mkdir()

        def meet(params: Mapping[str, Any], report: Report) -> dict[str, float]:
            (meeting / str(os.getpid())).touch()
            deadline = time.monotonic() + 60
            while len(list(meeting.iterdir())) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            return {"loss": float(params["x"]), "met": float(len(list(meeting.iterdir())))}

        result = search(meet, SPACE, config(tmp_path, trials=2))
        assert [trial.metrics["met"] for trial in result.trials] == [2.0, 2.0]
        assert str(os.getpid()) not in {path.name for path in meeting.iterdir()}

    def test_failures_are_kept_apart(self, tmp_path: Path) -> None:
        def fragile(params: Mapping[str, Any], report: Report) -> dict[str, float]:
            if params["k"] % 3 == 0:
                raise ValueError(f"k = {params['k']}")
            if params["k"] % 3 == 1:
                return {"loss": float("nan")}
            return {"loss": float(params["k"])}

        space = Space({"k": Int(low=0, high=9)})
        result = search(fragile, space, config(tmp_path, trials=10, concurrency=1))
        for trial in result.trials:
            kind = trial.params["k"] % 3
            assert trial.state is (TrialState.COMPLETE if kind == 2 else TrialState.FAILED)
            assert (
                trial.reason
                == ["ValueError: k = " + str(trial.params["k"]), "loss is nan", ""][kind]
            )
        assert {trial.params["k"] % 3 for trial in result.trials} == {0, 1, 2}

    @pytest.mark.slow
    def test_a_dead_worker_fails_its_trial_only(self, tmp_path: Path) -> None:
        def mortal(params: Mapping[str, Any], report: Report) -> dict[str, float]:
            if params["x"] == 0.9:
                os._exit(1)
            return {"loss": params["x"]}

        result = search(mortal, SPACE, config(tmp_path, trials=2, concurrency=1))
        assert [t.state for t in result.trials] == [TrialState.FAILED, TrialState.COMPLETE]
        assert result.trials[0].reason == "its worker process died"

    def test_all_failing_says_why(self, tmp_path: Path) -> None:
        def broken(params: Mapping[str, Any], report: Report) -> dict[str, float]:
            raise RuntimeError("no such table")

        with pytest.raises(
            WeimlError, match=r"none of the 2 trials .* RuntimeError: no such table"
        ):
            search(broken, SPACE, config(tmp_path, trials=2))

    def test_halving_stops_and_says_so(self, tmp_path: Path) -> None:
        asha = AshaConfig(max_steps=4, reduction=2)
        result = search(Bowl(steps=4), SPACE, config(tmp_path, trials=8, concurrency=1, asha=asha))
        pruned = [trial for trial in result.trials if trial.state is TrialState.PRUNED]
        assert pruned
        for trial in pruned:
            last = max(trial.steps)
            assert last < 4
            assert trial.value == trial.steps[last]
            assert trial.value > result.best_value
        assert result.best.state is TrialState.COMPLETE
        assert list(result.best.steps) == [1, 2, 3, 4]

    def test_too_few_cores(self, tmp_path: Path) -> None:
        with pytest.raises(ClusterError, match="cpus_per_trial = 64 cores, but Ray has 2"):
            search(Bowl(), SPACE, config(tmp_path, cpus_per_trial=64))


PROGRAM = """
    import sys
    from pathlib import Path
    import ray
    from weiml.cluster import join_ray
    from weiml.search import Float, SearchConfig, Space, search
    from weiml.search.objectives import Bowl

    if __name__ == "__main__":
        folder, step_s, trials = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
        join_ray(sys.argv[4])
        result = search(
            Bowl(steps=1, step_s=step_s),
            Space({"x": Float(low=-1.0, high=1.0)}),
            SearchConfig(
                folder=folder, name="s", metric="loss", trials=trials, seed=5, concurrency=1
            ),
            lambda text, done=None, total=None: print(text, flush=True),
        )
        result.save(folder)
        ray.shutdown()
"""


def start(program: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output


@pytest.fixture(scope="module")
def unbroken(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """What the program finds when nothing stops it."""
    space = Space({"x": Float(low=-1.0, high=1.0)})
    folder = tmp_path_factory.mktemp("unbroken")
    return search(Bowl(steps=1), space, config(folder, trials=6, seed=5, concurrency=1))


@pytest.mark.process
@pytest.mark.parametrize(
    "blow", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_search_goes_on_where_it_was(
    tmp_path: Path, blow: signal.Signals, unbroken: SearchResult
) -> None:
    """Stopped amid trial 3; the second attempt ends with the trials of an unbroken search."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    address = ray.get_runtime_context().gcs_address
    killed = start(program, tmp_path / "broken", 0.5, 6, address)
    assert killed.stdout is not None
    for start_of_line in ("0 trials done", "trial 0", "trial 1", "trial 2"):
        assert killed.stdout.readline().startswith(start_of_line)
    journal = tmp_path / "broken" / "s" / "journal.log"
    deadline = time.monotonic() + 30
    while _running(journal) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(blow)
    assert killed.wait(60) != 0

    output = finish(start(program, tmp_path / "broken", 0.0, 6, address))
    broken = json.loads((tmp_path / "broken" / "trials.json").read_text())
    assert "3 trials done before, 3 to run" in output
    assert broken["num_new"] == 3
    points = [trial["params"]["x"] for trial in broken["trials"]]
    assert points == [trial.params["x"] for trial in unbroken.trials]
    assert len(set(points)) == 6
    assert [trial["number"] for trial in broken["trials"]] == [0, 1, 2, 4, 5, 6]


def _running(journal: Path) -> int:
    """Trials begun and not ended, read from the log: creations less final states."""
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    begun = sum(entry["op_code"] == 4 for entry in entries)
    ended = sum(entry["op_code"] == 6 and entry["state"] in (1, 2, 3) for entry in entries)
    return int(begun - ended)
