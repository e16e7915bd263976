"""What the tests of Keras models run, in a process of its own; prints one JSON object."""

from __future__ import annotations

import functools
import json
import random
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from weiml.data import write_batches
from weiml.errors import ConfigError, DataError
from weiml.models import (
    Columns,
    Predictor,
    WideDeep,
    WideDeepConfig,
    model_config,
    register_model,
)
from weiml.models.checks import CHECKS, example_batch, trained
from weiml.models.deep import DeepConfig, InputShape
from weiml.models.keras import KerasModel, KerasWideDeep, KerasWideDeepConfig
from weiml.ps import EmbeddedParameterServer
from weiml.train import TrainConfig, Trainer

SMALL = model_config({"name": "keras_wide_deep", "hidden": [16, 8], "lr": 0.01})


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(DeepConfig):
    name: Literal["test_attention"] = "test_attention"


@register_model
class Attention(KerasModel):
    """Two tasks, sequences, dropout, a regularizer and batch statistics: all that can be used."""

    name = "test_attention"
    config_class = AttentionConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("click", "buy")

    def build(self, shape: InputShape) -> Any:
        import keras
        from keras import layers

        inputs = self.inputs()
        mask = keras.ops.cast(inputs["mask"], "float32")[..., None]
        history = keras.ops.sum(inputs["sequences"] * mask, axis=(1, 2))
        x = layers.Concatenate()([inputs["flat"], history])
        x = layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01))(x)
        x = layers.Dropout(0.3)(layers.BatchNormalization()(x))
        return keras.Model(inputs, layers.Dense(2)(x))


def gradients_equal_torchs() -> None:
    """With the same weights both frameworks push the same and give the same dense gradient."""
    batch = example_batch(60, values=True)
    columns = Columns.of(batch)
    shared: dict[str, Any] = {"hidden": (8, 6), "embedding_dim": 4, "init_scale": 0.5}
    keras = KerasWideDeep(KerasWideDeepConfig(**shared), columns)
    torch = WideDeep(WideDeepConfig(**shared), columns)
    tensors = keras.dense_tensors()
    layers = [t.T if t.ndim == 2 else t for t in tensors.values()]
    torch.set_dense_vector(np.concatenate([np.ascontiguousarray(t).reshape(-1) for t in layers]))
    found = []
    for model in (keras, torch):
        with EmbeddedParameterServer() as server:
            for table in model.tables():
                server.create_table(table)
            client = server.client(0)
            fetch = model.fetch(client, model.prepare(batch))
            result = model.compute(client, fetch)
            learned = model._learned
            assert learned is not None
            dense = model.dense_gradient()
            assert dense is not None
            found.append((result.loss, learned.flat, learned.linear, dense))
    (loss, flat, linear, dense), (loss_2, flat_2, linear_2, dense_2) = found
    np.testing.assert_allclose(loss, loss_2, rtol=1e-5)
    np.testing.assert_allclose(flat, flat_2, rtol=1e-3, atol=1e-5)
    assert linear is not None
    assert linear_2 is not None
    np.testing.assert_allclose(linear, linear_2, rtol=1e-3, atol=1e-5)
    at, parts = 0, []
    for tensor in tensors.values():
        part = dense[at : at + tensor.size].reshape(tensor.shape)
        parts.append((part.T if part.ndim == 2 else part).reshape(-1))
        at += tensor.size
    np.testing.assert_allclose(np.concatenate([*parts, dense[-1:]]), dense_2, rtol=1e-3, atol=1e-4)


def any_network_trains() -> None:
    """Sequences, two tasks, dropout by rank, regularizers and batch statistics."""
    config = AttentionConfig(sequences=("history",), max_length=4, lr=0.02, embedding_dim=4)
    for name in ("training_resumes_to_the_bit", "equal_seeds_give_equal_bits"):
        CHECKS[name](config)
    batch = example_batch(64)
    made = trained(config, [batch] * 30)
    assert made.losses[-1] < made.losses[0] - 0.02, made.losses
    names = [name.partition("_")[2] for name in made.model.dense_tensors()]
    assert names[-2:] == ["moving_mean", "moving_variance"], names
    assert made.model.worker_state()["generator"].shape == (1, 2)
    first, other = (
        Attention(config, Columns.of(batch), rank=rank).worker_state()["generator"]
        for rank in (0, 1)
    )
    assert not np.array_equal(first, other)


def python_draws_are_left_alone() -> None:
    """Making a model moves nobody else's generator."""
    state = random.getstate()
    KerasWideDeep(KerasWideDeepConfig(hidden=(4,)), Columns.of(example_batch(1)))
    assert random.getstate() == state


def two_workers_train_and_the_network_is_exported(folder: Path) -> None:
    """The trainer's groups, a saved folder, and both exports with the model's own logits."""
    import keras
    import tensorflow as tf

    batches = [example_batch(200, seed) for seed in range(6)]
    one = [replace(b, labels=np.ascontiguousarray(b.labels[:, :1])) for b in batches]
    settings = TrainConfig(
        model=SMALL, epochs=2, batch_size=100, num_workers=2, threads=1, cpus_per_worker=0.5
    )
    result = Trainer(settings).fit(write_batches(one, folder / "data"))
    result.save(folder / "model")
    predictor = Predictor.load(folder / "model")
    model = predictor.model
    assert isinstance(model, KerasWideDeep)
    arrays = model.arrays(one[0], predictor.rows(one[0]))
    logits = model.logits(one[0], predictor.rows(one[0]))
    given = {"flat": arrays.flat, "linear": arrays.linear}
    saved = tf.saved_model.load(str(model.export_saved_model(folder / "saved")))
    told = saved.serve({name: tf.constant(array) for name, array in given.items()})
    np.testing.assert_allclose(np.asarray(told).reshape(-1), logits, atol=1e-5)
    file = model.export_keras(folder / "network.keras")
    loaded = keras.saving.load_model(file, safe_mode=True)
    np.testing.assert_allclose(np.asarray(loaded(given)).reshape(-1), logits, atol=1e-5)
    with pytest.raises(DataError, match="exists already"):
        model.export_saved_model(folder / "saved")
    with pytest.raises(DataError, match="must end in .keras"):
        model.export_keras(folder / "a.h5")


def a_gpu_that_is_not_there_is_named() -> None:
    """Where TensorFlow sees no GPU."""
    with pytest.raises(ConfigError, match="cuda:7"):
        KerasWideDeep(KerasWideDeepConfig(), Columns.of(example_batch(1)), device="cuda:7")


def main(folder: Path) -> None:
    """Run everything and print what failed."""
    tests: dict[str, Callable[[], None]] = {
        f"check_{name}": functools.partial(check, SMALL) for name, check in CHECKS.items()
    }
    own = (
        gradients_equal_torchs,
        any_network_trains,
        python_draws_are_left_alone,
        a_gpu_that_is_not_there_is_named,
    )
    tests |= {test.__name__: test for test in own}
    tests["two_workers"] = lambda: two_workers_train_and_the_network_is_exported(folder)
    told = {}
    for name, test in tests.items():
        try:
            test()
            told[name] = ""
        except Exception:
            told[name] = traceback.format_exc()
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
