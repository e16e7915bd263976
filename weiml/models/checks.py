"""What every model must do, as one call: `check_model`, for models here and for those of users.

    check_model(DNNConfig(hidden=(16, 8)))

It trains small models on generated examples and raises AssertionError with the first promise of
`weiml.models.Model` that is not kept.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from weiml.errors import DataError
from weiml.features import Batch
from weiml.models.base import Columns, Model, Rows, StepResult, build_model, pulled
from weiml.models.folder import save_model
from weiml.models.predictor import Predictor
from weiml.models.registry import ModelConfig, model_class, model_config
from weiml.ps import Client, Cut, EmbeddedParameterServer, ParameterServer, unique_keys

if TYPE_CHECKING:
    from weiml.models.image.config import ImageConfig

__all__ = ["CHECKS", "check_model", "example_batch", "example_images", "examples_for"]

SLOTS = ("user", "item", "tags", "history")
DENSE = ("age", "price")
_BATCHES = 40
_SIZE = 256


def example_batch(count: int, seed: int = 0, *, values: bool = False) -> Batch:
    """Return generated examples with two labels: a click, and whether it was followed by a buy.

    A click depends on the user, the item, their product, the price and whether the item is like one
    of the history, whose keys are items'. Tags are 0 to 3 keys, the history 0 to 5.
    """
    rng = np.random.default_rng(seed)
    user = rng.integers(1, 31, count)
    item = rng.integers(1, 21, count)
    lengths = np.ones((count, len(SLOTS)), np.int64)
    lengths[:, 2], lengths[:, 3] = rng.integers(0, 4, count), rng.integers(0, 6, count)
    offsets = np.concatenate([[0], np.cumsum(lengths.reshape(-1))]).astype(np.int32)
    slot = np.repeat(np.tile(np.arange(len(SLOTS)), count), lengths.reshape(-1))
    keys = np.empty(offsets[-1], np.uint64)
    keys[slot == 0], keys[slot == 1] = user + 1000, item + 2000
    keys[slot == 2] = rng.integers(3000, 3010, np.sum(slot == 2))
    past = rng.integers(1, 21, np.sum(slot == 3))
    keys[slot == 3] = past + 2000
    owner = np.repeat(np.arange(count), lengths[:, 3])
    alike = np.bincount(owner, past % 3 == item[owner] % 3, minlength=count) > 0
    dense = rng.standard_normal((count, len(DENSE))).astype(np.float32)
    logit = np.sin(user * 1.7) + np.cos(item * 2.3) + 0.8 * dense[:, 1] + 0.8 * alike - 0.3
    logit += np.sin(user * 1.1) * np.cos(item * 0.7)
    click = rng.random(count) < 1 / (1 + np.exp(-logit))
    buy = click & (rng.random(count) < 1 / (1 + np.exp(-np.cos(item * 1.3))))
    return Batch(
        labels=np.column_stack([click, buy]).astype(np.float32),
        weights=rng.uniform(0.5, 1.5, count).astype(np.float32),
        dense=dense,
        keys=keys,
        values=rng.uniform(0.5, 2, len(keys)).astype(np.float32) if values else None,
        offsets=offsets,
        groups=user.astype(np.uint64),
        items=item.astype(np.uint64),
        times=np.arange(count, dtype=np.int64),
        slots=SLOTS,
        dense_names=DENSE,
    )


def example_images(config: ImageConfig, count: int, seed: int = 0) -> Batch:
    """Return generated images of `config`'s form, one bright line each, whose place is the class.

    The line of class k of K is row k · height / K; it moves to the right by any number of pixels,
    under noise.
    """
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(config.classes), count)
    pixels = rng.integers(0, 100, (count, config.height, config.width, config.channels))
    row = label * config.height // len(config.classes)
    start = rng.integers(0, max(config.width // 2, 1), count)
    across = (np.arange(config.width) >= start[:, None])[:, :, None]
    pixels[np.arange(count), row] = np.where(across, 200, pixels[np.arange(count), row])
    return Batch(
        labels=label.astype(np.float32)[:, None],
        weights=rng.uniform(0.5, 1.5, count).astype(np.float32),
        dense=pixels.reshape(count, -1).astype(np.float32),
        keys=np.empty(0, np.uint64),
        offsets=np.zeros(1, np.int32),
        groups=np.zeros(count, np.uint64),
        items=np.arange(count, dtype=np.uint64),
        times=np.arange(count, dtype=np.int64),
        slots=(),
        dense_names=tuple(f"pixel_{i}" for i in range(config.num_pixels)),
    )


def examples_for(config: ModelConfig, count: int, seed: int = 0, *, values: bool = False) -> Batch:
    """Return generated examples that a model of this configuration can learn from."""
    if model_class(config.name).scores_kind == "classes":
        from weiml.models.image.config import ImageConfig

        assert isinstance(config, ImageConfig), "classes are checked on images"
        return example_images(config, count, seed)
    return example_batch(count, seed, values=values)


class Trained(NamedTuple):
    """A model, the client that it was trained by, and the mean loss of each step."""

    model: Model
    server: ParameterServer
    client: Client
    losses: list[float]

    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B, T) by the rows as they are now."""
        rows = {}
        for name, keys in self.model.keys(batch).items():
            distinct, positions = unique_keys(keys)
            weights = pulled(self.client, self.client.pull(name, distinct))
            rows[name] = Rows(weights, positions)
        return self.model.scores(batch, rows)

    def step(self, batch: Batch) -> StepResult:
        """Take one step alone."""
        step = self.model.step(self.client, batch)
        try:
            gradient = next(step)
            while True:
                gradient = step.send(gradient)
        except StopIteration as stop:
            self.client.wait(self.client.tick())
            result: StepResult = stop.value
            return result

    def weights(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return (keys, weights) of each table, by key."""
        tables = self.server.client().delta(Cut.zero()).tables
        orders = {name: np.argsort(keys) for name, (keys, _) in tables.items()}
        return {name: (k[orders[name]], w[orders[name]]) for name, (k, w) in tables.items()}


def trained(
    config: ModelConfig,
    batches: list[Batch],
    *,
    seed: int = 3,
    server: ParameterServer | None = None,
) -> Trained:
    """Train a new model, a step a batch, on a server of its own."""
    columns = Columns.of(examples_for(config, 1) if not batches else batches[0])
    model = build_model(config.name, config, columns, seed=seed)
    server = server or EmbeddedParameterServer()
    for table in model.tables():
        server.create_table(table)
    made = Trained(model, server, server.client(0), [])
    for batch in batches:
        result = made.step(batch)
        made.losses.append(result.loss / result.weight)
    return made


def check_it_learns(config: ModelConfig) -> None:
    """The loss falls, with values and without."""
    for values in (False, True):
        batches = [examples_for(config, _SIZE, seed, values=values) for seed in range(_BATCHES)]
        losses = trained(config, batches * 2).losses
        first, last = float(np.mean(losses[:5])), float(np.mean(losses[-5:]))
        assert last < first - 0.02, f"the loss went from {first:.4f} to {last:.4f} only"
        if not batches[0].slots:
            break  # no key has a value


def check_scores_are_probabilities(config: ModelConfig) -> None:
    """One column a task, float32, between 0 and 1."""
    made = trained(config, [examples_for(config, _SIZE)])
    scores = made.score(examples_for(config, 50, 1))
    assert scores.shape == (50, len(made.model.tasks)), scores.shape
    assert scores.dtype == np.float32, scores.dtype
    assert ((scores >= 0) & (scores <= 1)).all(), "scores outside [0, 1]"
    assert 0 <= made.model.main_task < len(made.model.tasks)


def check_equal_seeds_give_equal_bits(config: ModelConfig) -> None:
    """Everything that is drawn comes from the seed."""
    batches = [examples_for(config, 64, seed) for seed in range(4)]
    first, second = trained(config, batches), trained(config, batches)
    assert first.losses == second.losses, "equal seeds gave different losses"
    _assert_equal(first, second)
    other = trained(config, batches, seed=4)
    drawn = any(table.init_scale for table in first.model.tables()) or len(
        first.model.dense_vector()
    )
    assert not drawn or other.losses != first.losses, "the seed changes nothing"


def check_scores_do_not_depend_on_the_batch(config: ModelConfig) -> None:
    """An example alone, among others and in another order scores the same."""
    made = trained(config, [examples_for(config, _SIZE, seed) for seed in range(8)])
    batch = examples_for(config, _SIZE)
    together = made.score(batch)
    alone = np.concatenate([made.score(batch.slice(i, i + 1)) for i in range(20)])
    np.testing.assert_allclose(alone, together[:20], atol=2e-6)
    order = np.random.default_rng(0).permutation(_SIZE)
    np.testing.assert_allclose(made.score(batch.take(order)), together[order], atol=2e-6)


def check_examples_without_weight_change_nothing(config: ModelConfig) -> None:
    """A step over weights of 0 moves no score, and its loss is 0."""
    made = trained(config, [examples_for(config, 64)])
    batch = examples_for(config, 64, 1)
    before = made.score(batch)
    batch.weights[:] = 0
    assert made.step(batch).loss == 0, "a step without weight has a loss"
    np.testing.assert_allclose(made.score(batch), before, atol=1e-6)


def check_the_dense_part_travels_as_one_vector(config: ModelConfig) -> None:
    """Another model with the vector and the state goes on the same way."""
    batches = [examples_for(config, 64, seed) for seed in range(3)]
    first = trained(config, batches)
    other = build_model(config.name, config, first.model.columns, seed=99)
    other.set_dense_vector(first.model.dense_vector())
    other.set_dense_state(first.model.dense_state())
    for name, tensor in first.model.dense_tensors().items():
        np.testing.assert_array_equal(other.dense_tensors()[name], tensor)
    for name, memory in first.model.dense_state().items():
        np.testing.assert_array_equal(other.dense_state()[name], memory)
    try:
        other.set_dense_vector(np.zeros(len(first.model.dense_vector()) + 1, np.float32))
    except DataError:
        return
    raise AssertionError("a dense vector of another length was taken")


def check_training_resumes_to_the_bit(config: ModelConfig) -> None:
    """Three steps, all state moved to a new model and server, three more: as six in one."""
    batches = [examples_for(config, 64, seed) for seed in range(6)]
    whole = trained(config, batches)
    half = trained(config, batches[:3])
    with tempfile.TemporaryDirectory() as folder:
        half.server.save(f"{folder}/server")
        other = trained(config, [])
        other.server.load(f"{folder}/server")
    other.model.set_dense_vector(half.model.dense_vector())
    other.model.set_dense_state(half.model.dense_state())
    other.model.set_worker_state(half.model.worker_state())
    results = [other.step(batch) for batch in batches[3:]]
    losses = [result.loss / result.weight for result in results]
    assert losses == whole.losses[3:], "the resumed steps saw other losses"
    _assert_equal(whole, other)


def check_what_is_served_is_what_was_trained(config: ModelConfig) -> None:
    """Saved and loaded, a model scores as on the server, and its folder is safe to read."""
    made = trained(config, [examples_for(config, _SIZE, seed) for seed in range(4)])
    batch = examples_for(config, 100, 9)
    with tempfile.TemporaryDirectory() as folder:
        saved = save_model(Path(folder) / "model", made.model, made.server)
        predictor = Predictor.load(saved.path)
        served = predictor.score_tasks(batch)
    known = _known_examples(made, batch)
    np.testing.assert_allclose(served[known], made.score(batch)[known], atol=1e-6)
    np.testing.assert_array_equal(predictor.score(batch), served[:, made.model.main_task])


def check_unseen_and_expired_keys_count_as_nothing(config: ModelConfig) -> None:
    """New keys, deleted keys and empty slots give finite scores, and are learned again."""
    made = trained(config, [examples_for(config, _SIZE, seed) for seed in range(3)])
    batch = examples_for(config, 64, 5)
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor.load(save_model(Path(folder) / "m", made.model, made.server).path)
    unseen = replace(batch, keys=batch.keys + np.uint64(1 << 40))
    assert np.isfinite(predictor.score_tasks(unseen)).all(), "unseen keys"
    for name, keys in made.model.keys(batch).items():
        made.client.wait(made.client.delete(name, np.unique(keys)))
    assert np.isfinite(made.score(batch)).all(), "deleted keys"
    assert np.isfinite(made.step(batch).loss), "a step on deleted keys"
    assert np.isfinite(made.step(_without_keys(batch)).loss), "empty slots"
    assert np.isfinite(made.score(_without_keys(batch))).all(), "empty slots"


def check_other_columns_are_refused(config: ModelConfig) -> None:
    """Batches with other columns are an error that names both."""
    made = trained(config, [])
    batch = examples_for(config, 4)
    other = replace(batch, dense_names=(*batch.dense_names[:-1], "cost"))
    try:
        made.model.prepare(other)
    except DataError:
        return
    raise AssertionError("a batch with other columns was taken")


def check_the_configuration_is_plain_data(config: ModelConfig) -> None:
    """It goes to JSON and back, and to other processes."""
    made = trained(config, [])
    assert model_config(made.model.config_mapping()) == config
    assert pickle.loads(pickle.dumps(config)) == config


CHECKS: Mapping[str, Callable[[ModelConfig], None]] = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}
"""All checks by name."""


def check_model(config: ModelConfig) -> None:
    """Run all checks on a model of this configuration; use a small one, it trains dozens of steps.

    If the model reads sequences, they must be ``("history",)``; see `example_batch`. If its scores
    are those of classes, it must be an image model; see `example_images`.

    Raises:
        AssertionError: the model breaks its contract; the message names the check.
    """
    for name, check in CHECKS.items():
        try:
            check(config)
        except Exception as error:
            raise AssertionError(f"model {config.name!r}, check {name!r}: {error}") from error


def _assert_equal(first: Trained, second: Trained) -> None:
    np.testing.assert_array_equal(first.model.dense_vector(), second.model.dense_vector())
    theirs = second.weights()
    for name, (keys, weights) in first.weights().items():
        np.testing.assert_array_equal(keys, theirs[name][0])
        np.testing.assert_array_equal(weights, theirs[name][1])


def _known_examples(made: Trained, batch: Batch) -> np.ndarray:
    """Return which examples have keys with rows only: the server gives new ones initial values."""
    found = np.ones(len(batch), bool)
    if not made.model.tables():
        return found
    tables = made.weights()
    cell = np.repeat(np.arange(len(batch)), np.diff(batch.offsets[:: len(batch.slots)]))
    keys, _ = tables[made.model.tables()[0].name]
    np.logical_and.at(found, cell, np.isin(batch.keys, keys))
    return found


def _without_keys(batch: Batch) -> Batch:
    return replace(
        batch,
        keys=np.empty(0, np.uint64),
        offsets=np.zeros_like(batch.offsets),
        values=None if batch.values is None else np.empty(0, np.float32),
    )
