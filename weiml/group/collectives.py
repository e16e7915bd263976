"""What a worker may ask of all workers together, and what each request means: the arithmetic.

The functions here are the reference: every transport gives their bits. They know no transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError, DataError

__all__ = [
    "AllGather",
    "AllReduce",
    "Barrier",
    "Broadcast",
    "Compression",
    "Handle",
    "ReduceOp",
    "Request",
    "Start",
    "answer_of",
    "as_request",
    "check_choice",
    "check_root",
    "describe",
    "rank_ordered_mean",
    "reduce_in_rank_order",
]

Array = Any
"""A numpy array or a torch tensor; what comes back is of the same kind, on the same device."""

ReduceOp = Literal["mean", "sum", "max"]

Compression = Literal["none", "bfloat16", "float16"]
"""How float32 numbers travel in an all-reduce. Compressed, each worker's numbers are rounded to
two bytes, added up in float32 in rank order, and the result is rounded once more for its way back.
bfloat16 keeps the range of float32 with 8 significant bits; float16 has 11 and ends at 65504:
beyond it is infinity."""

_REDUCED = ("float16", "float32", "float64", "int32", "int64")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ConfigError, with the nearest known word, unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(
            f"{name} must be one of {choices}, got {value!r}{nearest(str(value), choices)}"
        )


@dataclass(frozen=True)
class AllReduce:
    """Give every worker the mean, sum or maximum over all workers, element by element.

    Args:
        arrays: one array, or a list of them that travels together; of equal shapes and dtypes
            (float16, float32, float64, int32 or int64; a mean is of floats) everywhere.
        op: see `ReduceOp`.
        compression: see `Compression`; None: as the group is configured, where the array is
            float32.
    """

    arrays: Array | Sequence[Array]
    op: ReduceOp = "mean"
    compression: Compression | None = None

    def __post_init__(self) -> None:
        """Check the words and the dtypes."""
        check_choice("op", self.op, get_args(ReduceOp))
        if self.compression is not None:
            check_choice("compression", self.compression, get_args(Compression))
        for array in self.listed:
            _check_dtype(array, self.op, self.compression)

    @property
    def single(self) -> bool:
        """Whether one array was given rather than a list."""
        return not isinstance(self.arrays, (list, tuple))

    @property
    def listed(self) -> list[Array]:
        """The arrays as a list; numbers of numpy as arrays of no dimension."""
        arrays = [self.arrays] if self.single else self.arrays
        return [np.asarray(a) if isinstance(a, np.generic) else a for a in arrays]

    @property
    def name(self) -> str:
        """The request in a word, for messages."""
        return f"a {self.op}" if self.op != "max" else "a maximum"


@dataclass(frozen=True)
class AllGather:
    """Give every worker the list of all workers' arrays in rank order; equal shapes, any dtype."""

    array: Array
    name: str = field(default="an all-gather", init=False)


@dataclass(frozen=True)
class Broadcast:
    """Give every worker the array of worker `root`; the others say by theirs which shape comes."""

    array: Array
    root: int = 0
    name: str = field(default="a broadcast", init=False)


@dataclass(frozen=True)
class Barrier:
    """Wait until every worker is here; gives None."""

    name: str = field(default="a barrier", init=False)


Request = AllReduce | AllGather | Broadcast | Barrier


@dataclass(frozen=True)
class Start:
    """Begin a request and go on computing; gives a `Handle` to yield when the answer is needed.

    The arrays are copied: they may be changed as soon as the handle is there.
    """

    request: Request | Array


@dataclass(frozen=True)
class Handle:
    """Stands for a request under way; yield it once to wait for its answer."""

    number: int


def _check_dtype(array: Array, op: ReduceOp, compression: Compression | None) -> None:
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype not in _REDUCED:
        raise DataError(f"all-reduce takes arrays of {', '.join(_REDUCED)}, got {dtype}")
    if op == "mean" and dtype.startswith("int"):
        raise DataError(f"a mean is of floating-point numbers, got {dtype}; ask for op='sum'")
    if compression not in (None, "none") and dtype != "float32":
        raise DataError(f"compression={compression!r} takes float32 arrays, got {dtype}")


def as_request(given: Any) -> Request:
    """Return what was yielded as a request; a bare array asks for its mean."""
    if isinstance(given, AllReduce | AllGather | Broadcast | Barrier):
        return given
    if hasattr(given, "dtype") or isinstance(given, (list, tuple)):
        return AllReduce(given)
    raise ConfigError(
        f"a worker yielded {type(given).__name__}; yield an array, a list of arrays, None, or one "
        "of AllReduce, AllGather, Broadcast, Barrier, Start and the handle that Start gave"
    )


def describe(request: Request) -> str:
    """Return what must be equal on all workers: the kind of request, shapes and dtypes."""
    if isinstance(request, Barrier):
        return request.name
    if isinstance(request, AllReduce):
        words = [_shape(array) for array in request.listed]
        rounded = f", compression {request.compression}" if request.compression else ""
        shown = ", ".join(words[:4]) + (f", … {len(words)} arrays" if len(words) > 4 else "")
        return f"{request.name} of {shown}{rounded}"
    root = f" from worker {request.root}" if isinstance(request, Broadcast) else ""
    return f"{request.name} of {_shape(request.array)}{root}"


def _shape(array: Array) -> str:
    dtype = str(array.dtype).removeprefix("torch.")
    return f"{dtype}{list(array.shape)}"


def rank_ordered_mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of equal-shaped arrays, summed in rank order so that every transport rounds alike."""
    return reduce_in_rank_order(arrays, "mean")


def reduce_in_rank_order(
    arrays: Sequence[np.ndarray], op: ReduceOp, compression: Compression = "none"
) -> np.ndarray:
    """Return the reduction of equal-shaped arrays, of their dtype: (…(a₀ + a₁) + …) + aₙ₋₁ [/ n].

    With one array nothing travels, so nothing is rounded.
    """
    if len(arrays) == 1:
        return np.array(arrays[0], copy=True)
    sent = [_rounded(array, compression) for array in arrays]
    total = np.array(sent[0], copy=True)
    for array in sent[1:]:
        if op == "max":
            np.maximum(total, array, out=total)
        else:
            total += array
    if op == "mean":
        total /= total.dtype.type(len(arrays))
    return _rounded(total, compression)


def _rounded(array: np.ndarray, compression: Compression) -> np.ndarray:
    if compression == "none" or array.dtype != np.float32:
        return array
    import torch

    # From torch, as on every transport: numpy has no bfloat16.
    half = torch.from_numpy(np.ascontiguousarray(array)).to(getattr(torch, compression))
    return np.asarray(half.to(torch.float32).numpy()).reshape(array.shape)


def answer_of(requests: Sequence[Request], compression: Compression = "none") -> list[Any]:
    """Return what each worker gets, given all workers' equal requests in rank order.

    Every worker gets arrays of its own. `compression` holds where the request leaves it open.
    """
    first, ranks = requests[0], range(len(requests))
    if isinstance(first, Barrier):
        return [None for _ in ranks]
    if isinstance(first, AllGather):
        arrays = [_numpy(request.array) for request in requests]  # type: ignore[union-attr]
        return [[_like(array.copy(), first.array) for array in arrays] for _ in ranks]
    if isinstance(first, Broadcast):
        check_root(first.root, len(requests))
        root = _numpy(requests[first.root].array)  # type: ignore[union-attr]
        return [_like(root.copy(), first.array) for _ in ranks]
    how = first.compression or compression
    columns = zip(*(request.listed for request in requests), strict=True)  # type: ignore[union-attr]
    means = [_reduced(column, first.op, how) for column in columns]
    copies = [[array.copy() for array in means] for _ in ranks]
    given = [
        [_like(array, old) for array, old in zip(mine, first.listed, strict=True)]
        for mine in copies
    ]
    return [mine[0] for mine in given] if first.single else list(given)


def _reduced(column: Sequence[Array], op: ReduceOp, how: Compression) -> np.ndarray:
    return reduce_in_rank_order([_numpy(array) for array in column], op, how)


def _numpy(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else np.asarray(array.detach().cpu().numpy())


def _like(array: np.ndarray, model: Array) -> Array:
    if isinstance(model, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(model.device)


def check_root(root: int, num_workers: int) -> None:
    """Raise ConfigError unless `root` is a rank."""
    if not 0 <= root < num_workers:
        raise ConfigError(f"Broadcast's root must be in 0 … {num_workers - 1}, got {root}")
