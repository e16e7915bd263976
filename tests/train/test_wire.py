"""A training's wire: rows are rounded and held back on the way, and the model stays as good."""

from __future__ import annotations

from typing import Any

import pytest

from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.models import ModelFolder
from weiml.ps import Cut, EmbeddedParameterServer, ParameterServer
from weiml.train import StreamTrainer, TrainConfig, Trainer, make_server

WIRE: dict[str, Any] = {
    "pull": "int8",
    "push": "int8",
    "push_fraction": 0.5,
    "keys": "packed",
    "key_cache_mib": 1.0,
}


def loss(sets: Sets, model: str, **values: Any) -> float:
    deep = model == "wide_deep"
    fields = {
        "model": {"name": model, **({"hidden": [16, 8], "embedding_dim": 4} if deep else {})},
        "threads": 1,
        "batch_size": 128,
        "num_shards": 2,
        "num_workers": 2,
    }
    settings = from_mapping(TrainConfig, fields | values)
    with make_server(settings) as server:
        return StreamTrainer(settings, server).fit(sets.train).loss


@pytest.mark.parametrize("staleness", [0, "asp"])
@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_workers_use_the_wire_and_learn_as_well(
    sets: Sets, model: str, staleness: int | str
) -> None:
    exact = loss(sets, model, staleness=staleness)
    small = loss(sets, model, staleness=staleness, wire=WIRE)
    assert small != exact
    assert small == pytest.approx(exact, abs=0.02)


def test_a_wire_that_makes_no_sense_is_refused_with_the_configuration() -> None:
    with pytest.raises(ConfigError, match="push_fraction must be above 0"):
        from_mapping(TrainConfig, {"wire": {"push_fraction": 0.0}})


@pytest.mark.parametrize("staleness", [0, "asp"])
def test_validation_sees_all_that_an_epoch_pushed(sets: Sets, staleness: int | str) -> None:
    fields = {
        "model": "lr",
        "epochs": 1,
        "batch_size": 128,
        "num_shards": 2,
        "num_workers": 2,
        "staleness": staleness,
        "wire": {"push_fraction": 0.1},
    }
    settings = from_mapping(TrainConfig, fields)
    with make_server(settings) as server:
        result = Trainer(settings, server=server).fit(sets.train, sets.validation)
        # What workers still held back they have sent by now, after validation.
        trained = rows(server)
    kept = ModelFolder.open(result.folder)
    with EmbeddedParameterServer() as server:
        server.load(str(kept.server_state))
        assert rows(server) == trained


def rows(server: ParameterServer) -> dict[int, float]:
    keys, weights = server.client().delta(Cut.zero()).tables["linear"]
    return dict(zip(keys.tolist(), weights[:, 0].tolist(), strict=True))
