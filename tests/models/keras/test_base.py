"""Keras models keep the promises of all models. TensorFlow runs in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weiml.errors import ConfigError
from weiml.models import Columns, build_model

NAMES = (
    "check_it_learns",
    "check_scores_are_probabilities",
    "check_equal_seeds_give_equal_bits",
    "check_scores_do_not_depend_on_the_batch",
    "check_examples_without_weight_change_nothing",
    "check_the_dense_part_travels_as_one_vector",
    "check_training_resumes_to_the_bit",
    "check_what_is_served_is_what_was_trained",
    "check_unseen_and_expired_keys_count_as_nothing",
    "check_other_columns_are_refused",
    "check_the_configuration_is_plain_data",
    "gradients_equal_torchs",
    "any_network_trains",
    "python_draws_are_left_alone",
    "a_gpu_that_is_not_there_is_named",
    "two_workers",
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, str]:
    """Return what failed, by test; the process runs once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.keras.program", str(tmp_path_factory.mktemp("keras"))],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=560,  # seconds of work, on a machine that may be busy
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(NAMES)
    return found


@pytest.mark.timeout(600)
@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs the extra tensorflow"
)
def test_in_a_process_with_tensorflow(name: str, told: dict[str, str]) -> None:
    assert not told[name], told[name]


def test_without_tensorflow_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "weiml.models.keras.runtime.importlib.util.find_spec",
        lambda name, *rest: None if name == "tensorflow" else find(name, *rest),
    )
    columns = Columns(slots=("user",), dense_names=())
    config = {"name": "keras_wide_deep"}
    with pytest.raises(ConfigError, match=r'pip install "weiml\[tensorflow\]"'):
        build_model("keras_wide_deep", config, columns)
