"""A Keras model whose parameters are one flat vector outside; inside, TensorFlow's variables.

Both passes are compiled once, for any number of examples. It knows Keras, no tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from weiml.errors import ConfigError, DataError
from weiml.models.deep.contract import Arrays
from weiml.models.deep.shape import InputShape
from weiml.models.keras.optimizers import FlatOptimizer
from weiml.models.keras.runtime import Frameworks

__all__ = ["KerasNetwork", "input_shapes"]

_SEED_STATE = "seed_generator_state"


def input_shapes(shape: InputShape, *, linear: bool) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return (shape of one example, dtype) of each input of a network."""
    wide: dict[str, tuple[tuple[int, ...], str]] = {"flat": ((shape.num_inputs,), "float32")}
    if linear:
        wide["linear"] = ((), "float32")
    if shape.sequences:
        each = (len(shape.sequences), shape.max_length)
        wide["sequences"] = ((*each, shape.row_dim), "float32")
        wide["mask"] = (each, "bool")
    return wide


class KerasNetwork:
    """A Keras model, its gradient and the optimizer that moves its variables.

    Args:
        frameworks: TensorFlow and Keras.
        module: maps a dict of inputs to logits (B,) or (B, T).
        inputs: of `input_shapes`.
        optimizer: moves the trained variables as one vector.
        draws: what the seeds of dropout and the like are set from; of the worker.
        device: "cpu", "cuda" or "cuda:1".
    """

    def __init__(
        self,
        frameworks: Frameworks,
        module: Any,
        inputs: Mapping[str, tuple[tuple[int, ...], str]],
        *,
        optimizer: FlatOptimizer,
        draws: int,
        device: str = "cpu",
    ) -> None:
        self._tf = tf = frameworks.tf
        self.module = module
        self.inputs = dict(inputs)
        self._device = _device(tf, device)
        self._optimizer = optimizer
        with tf.device(self._device):
            example = {n: tf.zeros((1, *s), dtype) for n, (s, dtype) in self.inputs.items()}
            found = module(example, training=False)  # makes the variables of lazy layers
        if found.shape.rank not in (1, 2):
            raise ConfigError(
                f"a Keras network must return logits (B,) or (B, T), got {tuple(found.shape)}"
            )
        self._trained = list(module.trainable_variables)
        kept = [v for v in module.non_trainable_variables if _SEED_STATE not in v.path]
        self._kept = [v for v in kept if v.dtype in ("float32", "bfloat16", "float16")]
        self._seeds = [v for v in module.non_trainable_variables if _SEED_STATE in v.path]
        for place, state in enumerate(self._seeds):
            state.assign(np.array([(draws + 7919 * place) % (1 << 31), 0], state.dtype))
        sizes = [int(np.prod(v.shape)) for v in self._trained]
        self._gradient = np.zeros(sum(sizes), np.float32)
        self._size = self._gradient.size + sum(int(np.prod(v.shape)) for v in self._kept)
        self._compile()

    def _compile(self) -> None:
        tf = self._tf
        signature = {
            name: tf.TensorSpec((None, *shape), dtype)
            for name, (shape, dtype) in self.inputs.items()
        }

        def scored(inputs: Any) -> Any:
            return tf.cast(self.module(inputs, training=False), tf.float32)

        def learned(inputs: Any) -> Any:
            logits = tf.cast(self.module(inputs, training=True), tf.float32)
            further = self.module.losses  # regularizers, and what layers add
            total = tf.add_n([tf.cast(x, tf.float32) for x in further]) if further else None
            return (logits, tf.constant(0.0) if total is None else total)

        def flattened(gradients: Any) -> Any:
            return tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)

        self._scored = tf.function(scored, input_signature=[signature])
        self._learned = tf.function(learned, input_signature=[signature])
        self._flattened = tf.function(flattened) if self._trained else None

    def logits(self, arrays: Arrays) -> np.ndarray:
        """Return float32 (B,) or (B, T); nothing is learned."""
        with self._tf.device(self._device):
            return np.asarray(self._scored(self._tensors_of(arrays)).numpy())

    def forward(self, arrays: Arrays, *, training: bool) -> tuple[np.ndarray, Any]:
        """Return logits float32 (B,) or (B, T), and what `backward` takes."""
        tf = self._tf
        with tf.device(self._device), tf.GradientTape(persistent=False) as tape:
            inputs = self._tensors_of(arrays)
            tape.watch([x for x in inputs.values() if x.dtype.is_floating])
            if training:
                logits, further = self._learned(inputs)
            else:
                logits, further = self._scored(inputs), None
        return np.asarray(logits.numpy()), (tape, inputs, logits, further)

    def backward(
        self, passed: Any, gradients: np.ndarray, weight: float
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return the gradients of flat, linear and sequences; the variables' are added up.

        Args:
            passed: of `forward`.
            gradients: of the sum of losses by the logits.
            weight: what the losses that layers add count: the sum of the examples' weights, so
                that they stand beside the mean loss as Keras has it.
        """
        tf = self._tf
        tape, inputs, logits, further = passed
        watched = {name: x for name, x in inputs.items() if x.dtype.is_floating}
        targets, outer = [logits], [tf.constant(gradients)]
        if further is not None:
            targets.append(further)
            outer.append(tf.constant(weight, tf.float32))
        with tf.device(self._device):
            own, by_input = tape.gradient(
                targets,
                (self._sources(), watched),
                output_gradients=outer,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            if self._flattened is not None:
                self._gradient += self._flattened([tf.convert_to_tensor(g) for g in own]).numpy()
        found = {name: np.array(gradient) for name, gradient in by_input.items()}
        return found["flat"], found.get("linear"), found.get("sequences")

    def gradient(self) -> np.ndarray:
        """Return the gradients of all backward passes since the last `apply`, float32 (P,)."""
        return self._gradient

    def apply(self, gradient: np.ndarray) -> None:
        """Take one step along a gradient float32 (P,), and forget those of backward passes."""
        if self._trained:
            vector = _joined(self._trained)
            self._optimizer.step(vector, gradient)
            _spread(vector, self._trained)
        self.forget()

    def forget(self) -> None:
        """Forget the gradients of backward passes."""
        self._gradient[:] = 0

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate for good."""
        self._optimizer.scale_lr(factor)

    def schedule_lr(self, factor: float) -> None:
        """Set the factor on the learning rate that holds until the next call."""
        self._optimizer.schedule_lr(factor)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return copies of trained variables, then of what else is kept, by place and name.

        Keras's own names differ from one model of a process to the next.
        """
        variables = [*self._trained, *self._kept]
        return {
            f"{place:03d}_{v.name}": np.array(v.numpy(), np.float32)
            for place, v in enumerate(variables)
        }

    def set_vector(self, vector: np.ndarray) -> None:
        """Set all that `tensors` gives from one float32 vector.

        Raises:
            DataError: it is of another length.
        """
        if vector.shape != (self._size,):
            raise DataError(f"the network has {self._size} parameters, got an array {vector.shape}")
        _spread(np.asarray(vector, np.float32), [*self._trained, *self._kept])

    def state(self) -> dict[str, np.ndarray]:
        """Return what the optimizer remembers."""
        return self._optimizer.state()

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `state` gave."""
        self._optimizer.set_state(state)

    def generator_state(self) -> np.ndarray:
        """Return the states of what training draws from: int64 (n, 2)."""
        states = [np.array(v.numpy(), np.int64) for v in self._seeds]
        return np.stack(states) if states else np.empty((0, 2), np.int64)

    def set_generator_state(self, state: np.ndarray) -> None:
        """Set what `generator_state` gave."""
        for variable, own in zip(self._seeds, np.asarray(state), strict=True):
            variable.assign(own.astype(variable.dtype))

    def _sources(self) -> list[Any]:
        return [variable.value for variable in self._trained]

    def _tensors_of(self, arrays: Arrays) -> dict[str, Any]:
        given = arrays._asdict()
        return {
            name: self._tf.convert_to_tensor(given[name], dtype)
            for name, (_, dtype) in self.inputs.items()
        }


def _device(tf: Any, device: str) -> str:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return "/CPU:0"
    place = int(number or 0)
    if len(tf.config.list_physical_devices("GPU")) <= place:
        raise ConfigError(f"device {device!r}: TensorFlow sees no such GPU here; set device to cpu")
    return f"/GPU:{place}"


def _joined(variables: list[Any]) -> np.ndarray:
    return np.concatenate([v.numpy().reshape(-1) for v in variables]).astype(np.float32)


def _spread(vector: np.ndarray, variables: list[Any]) -> None:
    at = 0
    for variable in variables:
        size = int(np.prod(variable.shape))
        variable.assign(vector[at : at + size].reshape(variable.shape))
        at += size
