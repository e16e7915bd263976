"""What a step owes when the next one fails, and whom a push that is refused late is laid to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.models.conftest import make_batch
from weiml.data import BatchDataset, write_batches
from weiml.errors import DataError, DivergedError
from weiml.group import LocalGroup
from weiml.models import Columns, build_model
from weiml.models.deep import SparseModel
from weiml.models.registry import model_config
from weiml.ps import EmbeddedParameterServer
from weiml.train import worker as work

MODEL = model_config({"name": "wide_deep", "hidden": [8], "embedding_dim": 4})


class Bench(NamedTuple):
    """A worker and its server, in this process."""

    server: EmbeddedParameterServer
    group: LocalGroup

    def start(self, source: BatchDataset) -> None:
        columns = Columns(slots=source.slots, dense_names=source.dense_names)
        for table in build_model(MODEL.name, MODEL, columns).tables():
            self.server.create_table(table)
        spec = work.WorkerSpec(
            model_config=MODEL,
            columns=columns,
            seed=3,
            batch_size=100,
            source=source,
            server=self.server,
            shuffled=False,
        )
        self.group.execute(work.start_worker, spec)
        self.group.execute(work.start_epoch, 0)

    def run(self, *counts: int) -> list[Any]:
        return [chunk for count in counts for chunk in self.group.run(work.run_steps, count)]

    @property
    def rows(self) -> dict[str, Any]:
        return self.server.client().delta(0).tables

    @property
    def steps(self) -> int:
        """How many steps the server has seen the end of."""
        return int(self.server.status()["global_step"])


@pytest.fixture(params=[True, False], ids=["aside", "at once"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(work.WorkerSpec, "sends_aside", property(lambda _: request.param))
    with EmbeddedParameterServer(staleness=1) as server:
        yield Bench(server, LocalGroup(1))


def test_chunks_of_steps_change_no_bit(bench: Bench, tmp_path: Path) -> None:
    data = write_batches([make_batch(1000, 1)], tmp_path / "set")
    bench.start(data)
    parts = bench.run(1, 2, 4, 99)
    with EmbeddedParameterServer(staleness=1) as server:
        whole = Bench(server, LocalGroup(1))
        whole.start(data)
        (at_once,) = whole.run(99)
        for name, (keys, rows) in whole.rows.items():
            np.testing.assert_array_equal(bench.rows[name][0], keys)
            np.testing.assert_array_equal(bench.rows[name][1], rows)
    assert np.concatenate([part.numbers for part in parts]).tolist() == list(range(1, 11))
    assert sum(part.steps for part in parts) == at_once.steps == 10
    assert parts[-1].epoch_loss == at_once.epoch_loss


def test_the_step_before_one_that_fails_reaches_the_servers(bench: Bench, tmp_path: Path) -> None:
    batch = make_batch(500, 1)
    dense = batch.dense.copy()
    dense[250, 1] = np.nan
    bench.start(write_batches([replace(batch, dense=dense)], tmp_path / "broken"))
    with pytest.raises(DataError, match="step 3: dense column"):
        bench.run(5)
    assert bench.steps == 2
    with EmbeddedParameterServer(staleness=1) as server:
        good = Bench(server, LocalGroup(1))
        good.start(write_batches([batch.slice(0, 200)], tmp_path / "good"))
        good.run(5)
        for name, (keys, rows) in good.rows.items():
            np.testing.assert_array_equal(bench.rows[name][0], keys)
            np.testing.assert_array_equal(bench.rows[name][1], rows)


def test_a_push_that_is_refused_is_laid_to_its_own_step(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, calls = SparseModel._embedding_gradients, []

    def overflows(self: SparseModel, learned: Any) -> np.ndarray:
        calls.append(1)
        return find(self, learned) * np.float32(np.inf if len(calls) == 2 else 1)

    monkeypatch.setattr(SparseModel, "_embedding_gradients", overflows)
    bench.start(write_batches([make_batch(500, 1)], tmp_path / "set"))
    with pytest.raises(DivergedError, match=r"step 2: .* rows 100 to 199"):
        bench.run(5)
    assert bench.steps == 1
