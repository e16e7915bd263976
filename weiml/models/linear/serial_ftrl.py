"""The serial FTRL pass of logistic regression, in place on rows wherever they lie.

It knows addresses of rows (z, n), not whether they are a shard's own or a worker's copies. Every
process must compute the same bits: fast-math stays off, and each example sees all that the ones
before it left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numba
import numpy as np

from weiml.ps.kernels import ftrl_step, ftrl_weight
from weiml.ps.rows.memory import address_of, load_f32, prefetch, store_f32

__all__ = ["OthersShare", "ftrl_pass", "joint_differences", "row_addresses", "settling_count"]

_ONE = np.float32(1)
_ZERO = np.float32(0)
_ROW_BYTES = 8
_SETTLING = 240.0  # alpha times how often one of two or more workers sees a row until it settles
_FEWEST = 30.0


def row_addresses(state: np.ndarray) -> np.ndarray:
    """Return the addresses int64 (rows,) of a worker's rows float32 (rows, 2), kept alive by it."""
    return address_of(state) + _ROW_BYTES * np.arange(len(state), dtype=np.int64)


# Division by zero must not raise: the check is a branch, which would keep loops from being
# vectorised. (beta = l2 = 0 is refused by the optimizer's configuration.)
@numba.njit(cache=True, nogil=True, error_model="numpy")
def ftrl_pass(
    own: np.ndarray,
    rows: np.ndarray,
    positions: np.ndarray,
    dense: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
    labels: np.ndarray,
    example_weights: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
    hinge: bool = False,
) -> float:
    """Train serially over a batch, in place; return the sum of weighted losses.

    `own` int64 (1 + D,) are the addresses of the bias' row and of those of the columns of `dense`
    (B, D); `rows` int64 (m,) those of the batch's distinct keys. Example b has the bias with value
    1, the dense columns, then ``rows[positions[j]]`` with ``values[j]`` (None: 1) for j from
    ``starts[b]`` to ``starts[b + 1]``, in this order.

    Each example is predicted with what the ones before it left, so the loss is progressive. For
    a row with value x: ``g = (p - y) x``, then the step of `weiml.ps.kernels.ftrl_step`. A row that
    occurs twice in an example steps twice.

    The loss is the log-loss; with `hinge` it is ``max(0, 1 - t m)``, with ``t = 2 y - 1`` and the
    margin m in the place of log-odds, and g is ``-t x`` where that is above 0, and else 0.
    """
    longest = own.size
    for b in range(labels.size):
        longest = max(longest, own.size + starts[b + 1] - starts[b])
    # Rows are gathered, worked on side by side in vectors, and scattered.
    at = np.empty(longest, np.int64)
    later = np.empty(longest, np.int64)  # addresses of the next example
    at[: own.size] = own
    later[: own.size] = own
    for j in range(starts[0], starts[min(1, labels.size)]):
        later[own.size + j - starts[0]] = rows[positions[j]]
    x = np.ones(longest, np.float32)
    z = np.empty(longest, np.float32)
    n = np.empty(longest, np.float32)
    w = np.empty(longest, np.float32)
    new_z = np.empty(longest, np.float32)
    new_n = np.empty(longest, np.float32)
    loss = 0.0
    for b in range(labels.size):
        first = starts[b]
        keys = starts[b + 1] - first
        count = own.size + keys
        at, later = later, at
        if b + 1 < labels.size:
            start = starts[b + 1]
            for j in range(starts[b + 2] - start):
                address = rows[positions[start + j]]
                prefetch(address)
                later[own.size + j] = address
        for d in range(dense.shape[1]):
            x[1 + d] = dense[b, d]
        if values is not None:
            for j in range(keys):
                x[own.size + j] = values[first + j]
        for j in range(count):
            z[j] = load_f32(at[j])
            n[j] = load_f32(at[j] + 4)
        for j in range(count):
            w[j] = ftrl_weight(z[j], n[j], alpha, beta, l1, l2)
        logit = _ZERO
        for j in range(count):
            logit += w[j] * x[j]
        y = labels[b]
        if hinge:
            t = y + y - _ONE
            short = _ONE - t * logit
            if short <= _ZERO:  # far enough on its side: nothing to learn
                continue
            loss += example_weights[b] * short
            slope = -t * example_weights[b]
        else:
            e = math.exp(-abs(logit))
            p = _ONE / (_ONE + e) if logit >= _ZERO else e / (_ONE + e)
            # log(1 + exp(x)) - y x, written so that neither term overflows.
            loss += example_weights[b] * (max(logit, _ZERO) - y * logit + math.log1p(e))
            slope = (p - y) * example_weights[b]
        for j in range(count):
            new_z[j], new_n[j] = ftrl_step(z[j], n[j], w[j], slope * x[j], alpha)
        for j in range(count):
            here_z = load_f32(at[j])
            here_n = load_f32(at[j] + 4)
            if here_z != z[j] or here_n != n[j]:  # the example had this row before
                here_z, here_n = ftrl_step(here_z, here_n, w[j], slope * x[j], alpha)
                store_f32(at[j], here_z)
                store_f32(at[j] + 4, here_n)
            else:
                store_f32(at[j], new_z[j])
                store_f32(at[j] + 4, new_n[j])
    return loss


def settling_count(alpha: float, num_workers: int) -> float:
    """Return h of `joint_differences`: measured (docs/models/lr.md), not derived."""
    return max(_SETTLING / (alpha * num_workers**1.5), _FEWEST)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def joint_differences(
    before: np.ndarray,
    after: np.ndarray,
    counts: np.ndarray,
    others: np.ndarray,
    settling: np.float32,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> np.ndarray:
    """Return what one of several workers adds to rows (z, n) that all of them train at once.

    `before` and `after` float32 (m, 2) are the worker's rows at the start and the end of a batch in
    which row i occurs c = ``counts[i]`` (m,) times, while others change it r = ``others[i]``
    float32 (m,) times as much as this worker does. The servers add what all push; where each of W
    workers has brought a weight nearly to where it belongs, plain differences together bring it
    W - 1 times as far beyond, which for W > 2 diverges. So a row is pushed as one that s others
    change alike, with h = `settling`:

        s = r (c - 1) / (c - 1 + h)
        Δz = (z' - w' (sqrt(n + (1 + s) Δn) - sqrt(n')) / α - z) / (1 + s)

    s is 0 for keys that occur once, nearly r for those in every example of a large batch. Of these
    the weight that the worker came to is kept at the n that all reach together, and each brings one
    part in ``1 + s`` of the way. Where the weight stays 0 (l1), nothing can be overshot, and n is
    the sum of all squared gradients: these are pushed as they changed.
    """
    out = np.empty_like(before)
    for i in range(len(before)):
        z, n = before[i, 0], before[i, 1]
        new_z, new_n = after[i, 0], after[i, 1]
        out[i, 1] = new_n - n
        w = ftrl_weight(new_z, new_n, alpha, beta, l1, l2)
        repeats = max(np.float32(counts[i]) - _ONE, _ZERO)
        parts = _ONE + others[i] * repeats / (repeats + settling)
        if w == _ZERO and ftrl_weight(z, n, alpha, beta, l1, l2) == _ZERO:
            parts = _ONE
        joint_n = n + parts * (new_n - n)
        drift = w * (math.sqrt(joint_n) - math.sqrt(new_n)) / alpha
        out[i, 0] = (new_z - drift - z) / parts
    return out


class OthersShare:
    """How much other workers change the rows that a worker has often, beside what it changes.

    Judged by n, the sum of squared gradients: what a row has more than the worker left it with came
    from others. Of rows seen for the first time it is taken that all workers have them alike.
    """

    def __init__(self, num_workers: int) -> None:
        self._alike = np.float32(num_workers - 1)
        self._keys = np.empty(0, np.uint64)
        self._left = np.empty(0, np.float32)  # n when the worker last had the row
        self._own = np.empty(0, np.float32)  # how much of it was its own last step
        self._share = np.empty(0, np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return what it knows, for `of`."""
        return {
            "alike": np.array([self._alike]),
            "keys": self._keys,
            "left": self._left,
            "own": self._own,
            "share": self._share,
        }

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Return what gave this `state`."""
        others = cls(round(float(state["alike"][0])) + 1)
        others._keys, others._left = state["keys"], state["left"]
        others._own, others._share = state["own"], state["share"]
        return others

    def observe(self, keys: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return r of `joint_differences` for distinct keys uint64 (k,): float32 (k,).

        `before` and `after` float32 (k, 2) are the rows at the start and the end of the step.
        """
        share = np.full(keys.size, self._alike)
        if self._keys.size and keys.size:
            at = np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)
            known = (self._keys[at] == keys) & (self._own[at] > 0)
            at = at[known]
            # Without a common clock others' steps come now none, now two at a time.
            seen = (before[known, 1] - self._left[at]) / self._own[at]
            seen = np.clip(seen, 0, 2 * self._alike)
            share[known] = np.minimum((self._share[at] + seen) / 2, self._alike)
        order = np.argsort(keys)
        self._keys, self._share = keys[order], share[order]
        self._left = after[order, 1]
        self._own = self._left - before[order, 1]
        return share
