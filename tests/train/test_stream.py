"""One pass: in place where it can be, by workers elsewhere, and the server holds the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.conftest import make_batch
from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.data import write_batches
from weiml.errors import ConfigError, DataError
from weiml.models import Predictor
from weiml.ps import EmbeddedParameterServer, ParameterServer
from weiml.train import StreamResult, StreamTrainer, TrainConfig, make_server

SMALL = {"hidden": [16, 8], "embedding_dim": 4}


def config(model: Any = "lr", **values: Any) -> TrainConfig:
    table = {"name": model, **SMALL} if model == "wide_deep" else model
    fields = {"model": table, "batch_size": 128, "seed": 5, "threads": 1}
    return from_mapping(TrainConfig, fields | {"cpus_per_worker": 0.5} | values)


def weights(server: ParameterServer) -> dict[int, list[float]]:
    keys, rows = server.client().delta(server.cut.zero()).tables["linear"]
    return dict(zip(keys.tolist(), rows.tolist(), strict=True))


def test_it_learns_and_serves(sets: Sets, tmp_path: Path) -> None:
    seen: list[StreamResult] = []
    settings = config(progress_steps=5)
    with make_server(settings) as server:
        trainer = StreamTrainer(settings, server)
        result = trainer.fit(sets.train, progress=seen.append)
        more = trainer.fit(sets.train)
        saved = trainer.save(tmp_path / "model", about={"loss": result.loss})
    assert [told.examples for told in seen] == [640, 1280, 1920, 2000]
    assert (result.examples, result.loss) == (seen[-1].examples, seen[-1].loss)
    assert result.examples_per_second > 0
    assert result.weight == pytest.approx(sets.train.read().weights.sum(), rel=1e-6)
    assert more.loss < result.loss < 0.69
    batch = sets.validation.read()
    scores = Predictor.load(saved.path).score(batch)
    assert np.corrcoef(scores, batch.labels[:, 0])[0, 1] > 0.2


def test_any_batches_will_do_in_place(sets: Sets) -> None:
    with EmbeddedParameterServer() as one, EmbeddedParameterServer(2) as two:
        result = StreamTrainer(config(), one).fit(sets.train)
        again = StreamTrainer(config(), two).fit(sets.train.iter_batches(333))
        assert weights(one) == weights(two)
    assert again.loss == pytest.approx(result.loss, rel=1e-12)


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_two_shards_and_workers_on_ray_equal_two_logical_workers(
    model: str, sets: Sets, ray_session: None
) -> None:
    found = []
    for transport in ("ray", "embedded"):
        settings = config(model, transport=transport, num_shards=2, num_workers=2)
        with make_server(settings) as server:
            trainer = StreamTrainer(settings, server)
            result = trainer.fit(sets.train)
            assert trainer.model is not None
            rows = server.client().delta(server.cut.zero()).tables
            found.append((result.loss, trainer.model.dense_vector(), rows))
    (loss, dense, rows), (other_loss, other_dense, other_rows) = found
    assert loss == other_loss
    np.testing.assert_array_equal(dense, other_dense)
    assert rows.keys() == other_rows.keys()
    for name, (keys, values) in rows.items():
        other_keys, other_values = other_rows[name]
        ours, theirs = np.argsort(keys), np.argsort(other_keys)
        np.testing.assert_array_equal(keys[ours], other_keys[theirs])
        np.testing.assert_array_equal(values[ours], other_values[theirs])


def test_a_dense_part_goes_on_where_it_was(sets: Sets) -> None:
    with EmbeddedParameterServer() as server:
        trainer = StreamTrainer(config("wide_deep"), server)
        first = trainer.fit(sets.train)
        assert trainer.model is not None
        assert trainer.model.dense_state()["step"] == 16
        second = trainer.fit(sets.train)
        assert trainer.model.dense_state()["step"] == 32
    assert second.loss < first.loss


def test_wrong_use_is_named(sets: Sets, tmp_path: Path) -> None:
    with EmbeddedParameterServer() as server:
        trainer = StreamTrainer(config(), server)
        with pytest.raises(ConfigError, match="call fit first"):
            trainer.save(tmp_path / "model")
        with pytest.raises(DataError, match="no batch to learn from"):
            trainer.fit([])
        empty = write_batches([make_batch(0)], tmp_path / "empty")
        with pytest.raises(DataError, match="there are no examples in .*empty"):
            trainer.fit(empty)
        with pytest.raises(ConfigError, match="'wide_deep' need a BatchDataset.*got list"):
            StreamTrainer(config("wide_deep"), server).fit([make_batch(3)])
        with pytest.raises(ConfigError, match="num_workers = 1 in its clock, the training 2"):
            StreamTrainer(config(num_workers=2), server)


def test_many_workers_with_large_batches_do_not_diverge(tmp_path: Path) -> None:
    # The bias and two columns are in every example; each worker alone brings them to their place.
    examples = write_batches([make_batch(4096, seed) for seed in range(8)], tmp_path / "examples")
    table = {"name": "lr", "optimizer": {"alpha": 0.3}}
    loss = {}
    for workers in (1, 4):
        settings = config(table, batch_size=2048, num_workers=workers)
        with make_server(settings) as server:
            loss[workers] = StreamTrainer(settings, server).fit(examples).loss
    assert loss[4] < 1.02 * loss[1]  # 1.05 with plain sums of differences, and growing


def test_growing_first_batches_train_on_every_example(sets: Sets) -> None:
    settings = config(num_workers=2, first_batch_size=8, progress_steps=3)
    with make_server(settings) as server:
        assert StreamTrainer(settings, server).fit(sets.train).examples == 2000
    with pytest.raises(ConfigError, match=r"first_batch_size.*0"):
        config(first_batch_size=0)
