"""The Keras model on the same batches. TensorFlow runs in a process of its own: it is heavy."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.keras_wide_deep import KerasWideDeep, KerasWideDeepConfig, pad

BatchOf = Callable[..., Batch]

PROGRAM = """
import json, pickle, sys
import numpy as np
from weiml.errors import DataError
from weiml.models import Columns, auc, log_loss
from weiml.models.keras_wide_deep import KerasWideDeep, KerasWideDeepConfig

folder, file = sys.argv[1:]
batches = pickle.loads(open(file, "rb").read())
train, validation = batches[:-1], batches[-1]
config = KerasWideDeepConfig(num_buckets=997, hidden=(16, 8), epochs=4, lr=0.01)
model = KerasWideDeep(config, Columns.of(validation))
history = model.fit(lambda epoch: train, validation)
scores = model.score(validation)
model.save(folder)
again = KerasWideDeep.load(folder).score(validation)
other = KerasWideDeep(config, Columns(slots=("user",), dense_names=()))
try:
    other.score(validation)
    refused = False
except DataError:
    refused = True
best = min(entry["validation_log_loss"] for entry in history)
print(json.dumps({
    "history": history,
    "auc": auc(validation.labels, scores),
    "best_kept": abs(log_loss(validation.labels, scores) - best) < 1e-6,
    "equal": bool(np.array_equal(scores, again)),
    "refused": refused,
}))
"""


def test_columns_are_padded(batch_of: BatchOf) -> None:
    batch = batch_of(40, values=True)
    config = KerasWideDeepConfig(num_buckets=101, keys_per_slot=2)
    inputs = pad(batch, config)
    assert batch.values is not None
    for b in range(40):
        for s in range(3):
            own = range(*batch.offsets[3 * b + s : 3 * b + s + 2])[:2]
            columns = slice(2 * s, 2 * s + len(own))
            assert inputs.buckets[b, columns].tolist() == [int(batch.keys[j]) % 101 for j in own]
            expected = [batch.values[j] / len(own) for j in own]
            np.testing.assert_allclose(inputs.shares[b, columns], expected, rtol=1e-6)
            assert not inputs.shares[b, 2 * s + len(own) : 2 * s + 2].any()
    np.testing.assert_array_equal(inputs.dense, batch.dense)


@pytest.mark.slow
@pytest.mark.process
def test_it_learns_keeps_the_best_epoch_and_loads_again(
    batch_of: BatchOf, tmp_path: Path, root: Path
) -> None:
    for module in ("tensorflow", "keras"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    batches = [batch_of(256, seed) for seed in range(16)] + [batch_of(1000, 99)]
    file = tmp_path / "batches"
    file.write_bytes(pickle.dumps(batches))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(file)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["auc"] > 0.65
    assert told["history"][-1]["train_loss"] < told["history"][0]["train_loss"]
    assert told["best_kept"]
    assert told["equal"]
    assert told["refused"]


def test_wrong_values_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_buckets"):
        KerasWideDeepConfig(num_buckets=0)
    with pytest.raises(ConfigError, match="lr"):
        KerasWideDeepConfig(lr=0)
    with pytest.raises(DataError, match="not a Keras model"):
        KerasWideDeep.load(tmp_path)
