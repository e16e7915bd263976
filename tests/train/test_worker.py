"""A worker asks for the next batch's rows early, and what it trains does not show it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.conftest import Sets
from weiml.errors import DataError
from weiml.group import LocalGroup
from weiml.models import Columns, LogisticRegressionConfig, build_model
from weiml.ps import Client, EmbeddedParameterServer
from weiml.train import worker as work
from weiml.train.inputs import check_inputs, growing, growing_sizes, steps_of


def train(
    sets: Sets, chunks: list[int], *, workers: int = 1, staleness: int | None = 0
) -> tuple[dict[int, float], list[work.ChunkResult]]:
    """Return the weights after one epoch in order, and what each chunk of steps saw."""
    columns = Columns(slots=sets.train.slots, dense_names=sets.train.dense_names)
    with EmbeddedParameterServer(2, workers, staleness) as server:
        spec = work.WorkerSpec(
            model_config=LogisticRegressionConfig(),
            columns=columns,
            seed=3,
            batch_size=128,
            source=sets.train,
            server=server,
            shuffled=False,
        )
        group = LocalGroup(workers)
        for table in build_model("lr", spec.model_config, columns).tables():
            server.create_table(table)
        group.execute(work.start_worker, spec)
        group.execute(work.start_epoch, 0)
        results = [result for count in chunks for result in group.run(work.run_steps, count)]
        group.execute(work.finish)
        keys, weights = server.client().delta(0).tables["linear"]
        return dict(zip(keys.tolist(), weights[:, 0].tolist(), strict=True)), results


@pytest.mark.parametrize("staleness", [1, None])
def test_a_lone_workers_clock_changes_no_bit(sets: Sets, staleness: int | None) -> None:
    expected, _ = train(sets, [99])
    found, _ = train(sets, [99], staleness=staleness)
    assert found == expected


@pytest.mark.parametrize("workers", [1, 3])
def test_chunks_of_steps_change_no_bit(sets: Sets, workers: int) -> None:
    expected, whole = train(sets, [99], workers=workers)
    found, parts = train(sets, [1, 2, 5, 99], workers=workers)
    assert found == expected
    assert sum(part.steps for part in parts) == sum(one.steps for one in whole)
    assert sum(part.examples for part in parts) == 2000 // workers * workers


def test_the_next_pull_is_sent_before_the_push(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    kind = type(EmbeddedParameterServer().client())

    def noted(name: str) -> Any:
        method = getattr(kind, name)

        def call(client: Client, *arguments: Any, **options: Any) -> Any:
            sent.append((name, options.get("ahead", 0)) if name == "pull" else name)
            return method(client, *arguments, **options)

        return call

    for name in ("pull", "push", "tick"):
        monkeypatch.setattr(kind, name, noted(name))
    train(sets, [3])
    step = [("pull", 1), "push", "tick"]
    assert sent[: 1 + 3 * 3] == [("pull", 0), *step, *step, *step]


def test_stages_are_timed(sets: Sets) -> None:
    _, (result,) = train(sets, [99], staleness=None)
    assert set(result.seconds) == {"read", "prepare", "pull", "mend", "compute", "push", "tick"}
    assert all(seconds > 0 for seconds in result.seconds.values())


@given(st.integers(0, 5000), st.integers(1, 700), st.none() | st.integers(1, 900))
def test_first_batches_grow(examples: int, batch_size: int, first: int | None) -> None:
    sizes = growing_sizes(min(examples, batch_size), first)
    assert sum(sizes) == min(examples, batch_size)
    assert all(b <= 2 * a or a == sizes[0] for a, b in pairwise(sizes))
    if first is None or first >= batch_size:
        assert len(sizes) == 1
    elif examples >= batch_size:
        assert sizes[0] == first
    steps = steps_of(examples, batch_size, first, epoch=0)
    assert steps == -(-examples // batch_size) + (len(sizes) - 1 if examples else 0)
    assert steps_of(examples, batch_size, first, epoch=1) == -(-examples // batch_size)


def test_growing_batches_hold_the_same_examples(sets: Sets) -> None:
    plain = list(sets.train.iter_batches(300))
    grown = list(growing(sets.train.iter_batches(300), 16))
    assert [len(batch) for batch in grown[:6]] == [16, 16, 32, 64, 128, 44]
    assert len(grown) == len(plain) + 5
    labels, again = (np.concatenate([one.labels for one in part]) for part in (plain, grown))
    np.testing.assert_array_equal(again, labels)


def test_values_of_keys_that_are_not_finite_are_named(sets: Sets) -> None:
    batch = sets.train.read().slice(0, 9)
    values = np.ones(batch.keys.size, np.float32)
    check_inputs(replace(batch, values=values), "here")
    S = len(batch.slots)
    values[batch.offsets[4 * S + S - 1]] = np.inf
    with pytest.raises(DataError, match=f"here: slot '{batch.slots[-1]}' holds values that are"):
        check_inputs(replace(batch, values=values), "here")
