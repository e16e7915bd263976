"""Batch solvers on the parameter server beside scikit-learn's, on a9a or data of its shape.

    python -m benchmarks.solvers [--quick] [--a9a FOLDER] [--report FOLDER]

a9a is of the LIBSVM set: 32,561 examples of 14 one-hot attributes, 123 columns; the folder holds
a9a_123d_train.libsvm and a9a_123d_test.dummy. Values of `Case` are inverse gaps and rates, so that
more is better.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.harness import Case, interleaved, run
from weiml.data import BatchDataset, write_batches
from weiml.features import Batch
from weiml.ps.embedded import EmbeddedTransport
from weiml.train.solvers import BatchSolver, SolverConfig, SolverResult, StopConfig

__all__ = ["cases", "main"]

BAR = 1e-7  # relative gap of the objective
FOLDER = "WEIML_A9A"


class Data(NamedTuple):
    """A training and a test set as matrices, and the training set on disk."""

    name: str
    x: sp.csr_matrix
    y: np.ndarray
    test_x: sp.csr_matrix
    test_y: np.ndarray
    dataset: BatchDataset

    def objective(self, w: np.ndarray, l1: float, l2: float) -> float:
        """Return the float64 objective of (bias, weights)."""
        margins = self.x @ w[1:] + w[0]
        loss = (np.logaddexp(0, margins) - self.y * margins).sum()
        return float(loss + l1 * np.abs(w[1:]).sum() + l2 / 2 * w[1:] @ w[1:])


def batch_of(x: sp.csr_matrix, y: np.ndarray) -> Batch:
    """Return a matrix of ones as a batch of one slot; keys are columns + 1."""
    n = x.shape[0]
    zeros = np.zeros(n, np.uint64)
    return Batch(
        labels=y.astype(np.float32)[:, None],
        weights=np.ones(n, np.float32),
        dense=np.zeros((n, 0), np.float32),
        keys=(x.indices + 1).astype(np.uint64),
        offsets=x.indptr.astype(np.int32),
        groups=zeros,
        items=zeros,
        times=np.zeros(n, np.int64),
        slots=("columns",),
        dense_names=(),
    )


def generated(examples: int, seed: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return one-hot attributes of a9a's shape and labels that depend on them."""
    rng = np.random.default_rng(seed)
    sizes = [5, 8, 5, 16, 5, 7, 14, 6, 5, 2, 2, 2, 5, 41]
    starts = np.cumsum([0, *sizes])
    shares = [np.random.default_rng(s).dirichlet(np.ones(size)) for s, size in enumerate(sizes)]
    columns = np.stack(
        [
            start + rng.choice(size, examples, p=share)
            for start, size, share in zip(starts, sizes, shares, strict=False)
        ],
        axis=1,
    )
    weights = np.random.default_rng(99).normal(size=starts[-1])
    logits = weights[columns].sum(axis=1) - 2
    y = (rng.random(examples) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    indptr = np.arange(0, columns.size + 1, columns.shape[1])
    flat = np.sort(columns, axis=1).reshape(-1)
    x = sp.csr_matrix((np.ones(flat.size), flat, indptr), shape=(examples, starts[-1]))
    return x, y


def load(folder: Path | None, quick: bool, at: Path) -> Data:
    """Return a9a from a folder, or what is generated in its stead."""
    if folder is None:
        count = 4_000 if quick else 32_561
        (x, y), (test_x, test_y), name = generated(count, 1), generated(count // 2, 2), "generated"
    else:
        x, y, test_x, test_y = _read(folder)
        name = "a9a"
    return Data(name, x, y, test_x, test_y, write_batches([batch_of(x, y)], at / "train"))


def _read(folder: Path) -> tuple[Any, ...]:
    x, y = load_svmlight_file(str(folder / "a9a_123d_train.libsvm"), n_features=123)
    lines = (folder / "a9a_123d_test.dummy").read_text(encoding="ascii").split("\n")
    rows = [line.split() for line in lines if line]  # label, then columns from 0 on
    columns = [np.array(row[1:], np.int32) for row in rows]
    indptr = np.cumsum([0, *(len(row) for row in columns)])
    flat = np.concatenate(columns)
    test_x = sp.csr_matrix((np.ones(flat.size), flat, indptr), shape=(len(rows), 123))
    test_y = np.array([row[0] == "+1" for row in rows], np.float64)
    matrix = sp.csr_matrix(x)
    matrix.indices = matrix.indices.astype(np.int32)  # the only ones that scikit-learn takes
    matrix.indptr = matrix.indptr.astype(np.int32)
    return matrix, (y > 0).astype(np.float64), test_x, test_y


def polished(data: Data, w: np.ndarray, l1: float, l2: float) -> np.ndarray:
    """Return the float64 optimum, by Newton steps from a peer's (bias, weights) on.

    Its support is the peer's at first; weights that change their sign leave it, and the one that
    violates the optimality conditions most enters it, until none does.
    """
    design = np.asarray(sp.hstack([np.ones((data.x.shape[0], 1)), data.x]).todense())
    v, free = w.copy(), np.arange(w.size) == 0
    for _ in range(100):
        kept = free | (v != 0)
        signs = np.where(free, 0.0, np.sign(v))
        v = _newton(design, data.y, v, kept, l1 * signs, np.where(free, 0.0, l2))
        turned = kept & ~free & (np.sign(v) != signs) if l1 else np.zeros(w.size, bool)
        v[turned] = 0.0
        gradient = design.T @ (1 / (1 + np.exp(-(design @ v))) - data.y) + l2 * np.where(free, 0, v)
        excess = np.where((v != 0) | free, 0.0, np.abs(gradient) - l1)
        worst = int(np.argmax(excess))
        if not turned.any() and excess[worst] <= 1e-8:
            return v
        if excess[worst] > 1e-8:
            v[worst] = -1e-6 * np.sign(gradient[worst])
    raise RuntimeError("no optimum of the reference was found")


def _newton(
    design: np.ndarray,
    y: np.ndarray,
    start: np.ndarray,
    kept: np.ndarray,
    lasso: np.ndarray,
    ridge: np.ndarray,
) -> np.ndarray:
    """Return where the gradient of the weights in `kept` is zero; the others are zero."""
    part, v = design[:, kept], start[kept].copy()
    for _ in range(8):
        p = 1 / (1 + np.exp(-(part @ v)))
        gradient = part.T @ (p - y) + ridge[kept] * v + lasso[kept]
        hessian = (part.T * (p * (1 - p))) @ part + np.diag(ridge[kept])
        v -= np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0]
    out = np.zeros(start.size)
    out[kept] = v
    return out


def sklearn_fit(data: Data, l1: float, l2: float, tol: float) -> np.ndarray:
    """Return scikit-learn's (bias, weights)."""
    model = LogisticRegression(
        C=1 / (l1 + l2),
        l1_ratio=l1 / (l1 + l2),
        solver="saga" if l1 else "lbfgs",
        tol=tol,
        max_iter=1_000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data.x, data.y)
    return np.append(model.intercept_, model.coef_[0])


def fit(data: Data, l1: float, l2: float, **fields: Any) -> SolverResult:
    """Run the solver of this library."""
    return BatchSolver(SolverConfig(l1=l1, l2=l2, **fields)).fit(data.dataset)


def whole(data: Data, result: SolverResult) -> np.ndarray:
    """Return a result's (bias, weights), float64, by column."""
    out = np.zeros(data.x.shape[1] + 1)
    out[0] = result.weights[0]
    out[result.keys[1:].astype(np.int64)] = result.weights[1:]
    return out


@contextmanager
def counted_bytes() -> Iterator[dict[str, int]]:
    """Count what the driver and the workers exchange with embedded shards, as it is pickled."""
    counts = {"driver": 0, "workers": 0}
    send: Callable[..., Any] = EmbeddedTransport.send

    def counting(self: EmbeddedTransport, shard: int, verb: str, *arguments: Any) -> Any:
        answer = send(self, shard, verb, *arguments)
        # Whole vectors are the workers' alone: the driver reads none before the end.
        words = {value for value in _flat(arguments) if isinstance(value, str)}
        who = "workers" if "assign" in words or "pull" in verb else "driver"
        counts[who] += len(pickle.dumps(arguments)) + len(pickle.dumps(answer.value()))
        return answer

    EmbeddedTransport.send = counting  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        EmbeddedTransport.send = send  # type: ignore[method-assign]


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def quality_case(data: Data, name: str, l1: float, l2: float, tol: float) -> Case:
    """Compare objective, support and AUC with the float64 optimum."""
    peer = sklearn_fit(data, l1, l2, tol)
    optimum = polished(data, peer, l1, l2)
    best = data.objective(optimum, l1, l2)
    result = fit(data, l1, l2)
    mine = whole(data, result)
    gap = max(abs(data.objective(mine, l1, l2) / best - 1), 1e-16)
    peer_gap = max(data.objective(peer, l1, l2) / best - 1, 1e-16)
    auc = roc_auc_score(data.test_y, data.test_x @ mine[1:] + mine[0])
    peer_auc = roc_auc_score(data.test_y, data.test_x @ optimum[1:] + optimum[0])
    differ = int(((mine[1:] != 0) != (optimum[1:] != 0)).sum())
    last = result.iterations[-1]
    return Case(
        case=f"{data.name}: {name}, inverse relative gap of the objective",
        value=1 / gap,
        unit="1 / gap",
        peer=f"scikit-learn, tol {tol:g}",
        peer_value=1 / peer_gap,
        goal=f"gap to the float64 optimum at most {BAR:g}, equal support",
        holds=gap <= BAR and differ == 0,
        quality=f"gap {gap:.1e} (peer {peer_gap:.1e}); weights other than 0: "
        f"{np.count_nonzero(mine[1:])} of {mine.size - 1}, {differ} of another support; test AUC "
        f"{auc:.6f} (optimum {peer_auc:.6f}); {last.iteration} iterations, {last.evaluations} "
        f"evaluations, stopped by {result.reason.name}",
        regime=f"{data.x.shape[0]:,} examples, l1 {l1:g}, l2 {l2:g}, one worker in process",
        n=1,
    )


def speed_case(data: Data, name: str, l1: float, l2: float, rounds: int) -> Case:
    """Compare seconds at tolerances that leave gaps below 1e-7; `quality` tells both objectives."""
    stop = StopConfig(gradient_tolerance=1e-6, objective_tolerance=1e-9)
    tol = 1e-5 if l1 else 1e-6
    found: dict[str, float] = {}

    def ours() -> None:
        found["ours"] = data.objective(whole(data, fit(data, l1, l2, stop=stop)), l1, l2)

    def theirs() -> None:
        found["peer"] = data.objective(sklearn_fit(data, l1, l2, tol), l1, l2)

    seconds = interleaved({"ours": ours, "peer": theirs}, rounds)
    return Case(
        case=f"{data.name}: {name}, fits an hour",
        value=3600 / seconds["ours"],
        unit="fits/h",
        peer=f"scikit-learn {'saga' if l1 else 'lbfgs'}, tol {tol:g}",
        peer_value=3600 / seconds["peer"],
        goal="no bar",
        holds=True,
        quality=f"objective {found['ours']:.6f} beside {found['peer']:.6f}",
        regime=f"reading included; load {os.getloadavg()[0]:.1f}",
        n=rounds,
    )


def traffic_case(data: Data) -> Case:
    """Count the bytes between driver and servers an iteration, beside those of whole vectors."""
    length, shards, history = 1_000_000, 2, 10
    few = StopConfig(max_iterations=15, gradient_tolerance=0.0, objective_tolerance=0.0)
    begin = time.perf_counter()
    with counted_bytes() as counts:
        result = fit(data, 0.0, 1.0, stop=few, num_shards=shards)
    last = result.iterations[-1]
    driver = counts["driver"] / last.iteration
    # A driver that holds the vectors pulls the gradient and pushes the weights each evaluation.
    plain = 2 * 4 * length * last.evaluations / last.iteration
    return Case(
        case=f"{data.name}: bytes between driver and servers an iteration, inverse",
        value=1 / driver,
        unit="1 / bytes",
        peer=f"a driver with the vectors itself, at {length:,} weights",
        peer_value=1 / plain,
        goal="fewer than whole vectors at a million weights",
        holds=driver < plain,
        quality=f"{driver:,.0f} bytes an iteration, whatever the length, beside {plain:,.0f}; "
        f"workers {counts['workers'] / last.iteration:,.0f} at {result.weights.size} weights",
        regime=f"{shards} shards, history {history}, pickled arguments and answers, "
        f"{time.perf_counter() - begin:.1f} s",
        n=1,
    )


def cases(quick: bool) -> Iterator[Case]:
    given = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="weiml-solvers-") as folder:
        data = load(Path(given) if given else None, quick, Path(folder))
        yield quality_case(data, "L-BFGS", 0.0, 1.0, 1e-12)
        # Without l2 the columns of an attribute, which sum to 1, leave the optimum open.
        yield quality_case(data, "OWL-QN", 10.0, 1.0, 1e-6)
        yield speed_case(data, "L-BFGS", 0.0, 1.0, 1 if quick else 2)
        yield speed_case(data, "OWL-QN", 10.0, 1.0, 1 if quick else 2)
        yield traffic_case(data)


def main() -> None:
    """Take ``--a9a FOLDER`` from the command line, then run as every benchmark does."""
    if "--a9a" in sys.argv:
        at = sys.argv.index("--a9a")
        if at + 1 == len(sys.argv):
            sys.exit("--a9a needs a folder")
        os.environ[FOLDER] = sys.argv[at + 1]
        del sys.argv[at : at + 2]
    run("solvers", cases)


if __name__ == "__main__":
    main()
