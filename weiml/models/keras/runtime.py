"""TensorFlow and Keras as one process loads them: once, when the first model is made."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import random
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from weiml.errors import ConfigError

__all__ = ["Frameworks", "building", "load_frameworks"]

_log = logging.getLogger(__name__)
_lock = threading.RLock()


class Frameworks(NamedTuple):
    """The two modules."""

    tf: Any
    keras: Any


def load_frameworks(threads: int) -> Frameworks:
    """Return TensorFlow and Keras; the first call of a process sets TensorFlow's threads.

    TensorFlow takes its number of threads once. A later call for another number is logged, and
    computes with the first. Thread-safe.

    Raises:
        ConfigError: they are not installed, or Keras runs on another backend.
    """
    with _lock:
        for module in ("tensorflow", "keras"):
            if importlib.util.find_spec(module) is None:
                raise ConfigError(
                    f"models of Keras need {module}, which is not installed; run: "
                    'pip install "weiml[tensorflow]"'
                )
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras
        import tensorflow as tf

        if keras.backend.backend() != "tensorflow":
            raise ConfigError(
                f"Keras runs on {keras.backend.backend()!r} here, weiml's models need its backend "
                "tensorflow: set KERAS_BACKEND=tensorflow before Keras is imported"
            )
        _set_threads(tf, threads)
        return Frameworks(tf, keras)


def _set_threads(tf: Any, threads: int) -> None:
    """Ask for `threads`; operations run one after the other, so that equal runs round alike."""
    threading_of = tf.config.threading
    try:
        threading_of.set_intra_op_parallelism_threads(threads)
        threading_of.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow has started
        have = threading_of.get_intra_op_parallelism_threads()
        if have != threads:
            _log.warning(
                "TensorFlow computes with threads=%d in this process already (0: as it likes), "
                "threads=%d comes too late",
                have,
                threads,
            )


@contextlib.contextmanager
def building(frameworks: Frameworks, seed: int, precision: str) -> Iterator[None]:
    """Layers made inside draw from `seed` and compute in `precision`; one thread at a time.

    Keras seeds its layers from Python's generator and takes the precision from a global policy;
    both are put back.
    """
    policies = frameworks.keras.config
    with _lock:
        drawn, policy = random.getstate(), policies.dtype_policy()
        random.seed(seed)
        policies.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
        try:
            yield
        finally:
            random.setstate(drawn)
            policies.set_dtype_policy(policy)
