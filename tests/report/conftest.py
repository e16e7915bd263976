from __future__ import annotations

import numpy as np
import pytest

from weiml.models import evaluate_scores
from weiml.report import (
    Curves,
    Evaluation,
    Feed,
    LearningCurve,
    NodeTime,
    RankedItem,
    ReportData,
)

GENRES = ("Drama", "Comedy", "Film-Noir", "Sci-Fi")


def make_evaluation(name: str, kind: str, noise: float, rng: np.random.Generator) -> Evaluation:
    logits = rng.normal(size=4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    scores = 1 / (1 + np.exp(-(logits + noise * rng.normal(size=4000))))
    metrics = evaluate_scores(labels, scores, rng.integers(0, 60, 4000))
    return Evaluation(
        name=name,
        kind="model" if kind == "model" else "baseline",
        metrics=metrics,
        curves=Curves.of(labels, scores),
    )


def make_search(rng: np.random.Generator) -> dict[str, object]:
    trials = []
    for number in range(8):
        lr = float(10 ** rng.uniform(-4, -2))
        trials.append(
            {
                "number": number,
                "state": "failed" if number == 5 else "pruned" if number == 3 else "complete",
                "value": None if number == 5 else 0.59 + abs(np.log10(lr) + 3) / 50,
                "params": {
                    "wide_deep.lr": lr,
                    "wide_deep.hidden": [[64], [256, 128]][number % 2],
                    "batch_size": 256 * (1 + number % 3),
                },
                "metrics": {} if number == 5 else {"auc": 0.73, "log_loss": 0.59},
                "steps": {},
                "seconds": 4.2 + number,
                "reason": "log_loss is nan" if number == 5 else "",
            }
        )
    complete = [trial for trial in trials if trial["state"] == "complete"]
    return {
        "name": "feed",
        "metric": "log_loss",
        "mode": "min",
        "trials": trials,
        "best": min(complete, key=lambda trial: float(str(trial["value"]))),
        "importance": {"wide_deep.lr": 0.8, "batch_size": 0.15, "wide_deep.hidden": 0.05},
        "space": {
            "wide_deep.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "wide_deep.hidden": {"type": "choice", "values": [[64], [256, 128]]},
            "batch_size": {"type": "choice", "values": [256, 512, 768]},
        },
        "num_new": 8,
        "seconds": 31.5,
    }


def make_replay(rng: np.random.Generator) -> dict[str, object]:
    curve = []
    for i in range(40):
        frozen = 0.70 + 0.02 * float(np.exp(-i / 5)) + 0.002 * float(rng.normal())
        curve.append(
            {
                "events": 250 * (i + 1),
                "online_auc": None if i == 0 else frozen + 0.0004 * i,
                "frozen_auc": None if i == 0 else frozen,
                "version": f"1.{i}",
                "freshness_ms": float(rng.gamma(9, 4)),
            }
        )
    metrics = {"auc": 0.716, "gauc": 0.66, "log_loss": 0.60, "calibration_ratio": 1.02}
    return {
        "config": {"chunk_size": 250},
        "num_events": 10000,
        "num_requests": 1290,
        "seconds": 42.0,
        "online": metrics,
        "frozen": {**metrics, "auc": 0.70, "ndcg_at_10": None},
        "curve": curve,
        "freshness_ms": {"p50": 33.0, "p99": 70.0, "max": 81.0},
        "versions": [f"1.{i}" for i in range(40)],
        "replicas": {"a": 1, "b": 2},
        "first_chunk_max_difference": 3e-8,
    }


def make_feed(user: int, rng: np.random.Generator) -> Feed:
    titles = ("Casablanca (1942)", "Alien & Aliens (1986)", "A <script>alert(1)</script> Story")
    return Feed(
        user={"user_id": str(user), "age": 24 + user, "occupation": "technician"},
        seen_genres={"Drama": 43, "Comedy": 20},
        version="3.1200",
        items=tuple(
            RankedItem(
                title=titles[i % 3],
                score=0.95 - 0.03 * i,
                item_id=str(i),
                rating=5.0 if i == 2 else None,
                genres=tuple(rng.choice(GENRES, 2, replace=False).tolist()),
            )
            for i in range(10)
        ),
    )


def make_learning(name: str, start: float) -> LearningCurve:
    return LearningCurve(
        name=name,
        best_epoch=2,
        epochs=tuple(
            {
                "epoch": epoch,
                "examples": 80000,
                "train_loss": start - 0.02 * epoch,
                "validation_log_loss": 0.60 + 0.01 * abs(epoch - 2),
                "validation_auc": 0.74 - 0.01 * abs(epoch - 2),
                "seconds": 3.1,
                "examples_per_second": 26000.0,
            }
            for epoch in (1, 2, 3)
        ),
        steps=tuple(
            {"examples": 2000 * i, "loss": start - 0.0005 * i, "epoch": 1} for i in range(1, 120)
        ),
    )


@pytest.fixture(scope="session")
def data() -> ReportData:
    """A report with every section."""
    rng = np.random.default_rng(7)
    return ReportData(
        title="Feed ranking on movielens-100k",
        facts={
            "Run": {"run": "feed-3", "created": "2026-11-21 22:00 UTC", "seed": 7},
            "Data": {"data set": "movielens-100k", "events": 100000, "users": 943},
            "Machine": {"cores": 2, "python": "3.11.2", "torch": "2.13.0"},
        },
        flow_svg='<svg xmlns="http://www.w3.org/2000/svg"><text>nodes</text></svg>',
        nodes=(
            NodeTime(
                id="features", engine="ray_data", state="cached", seconds=0.0, computed_seconds=9
            ),
            NodeTime(id="train_lr", engine="ps", state="succeeded", seconds=131.0),
        ),
        learning=(make_learning("lr", 0.66), make_learning("wide_deep", 0.64)),
        evaluations=(
            make_evaluation("item popularity", "baseline", 1.6, rng),
            make_evaluation("lr", "model", 0.7, rng),
            make_evaluation("wide_deep", "model", 0.5, rng),
            make_evaluation("user mean + item mean", "baseline", 1.2, rng),
        ),
        search=make_search(rng),
        feeds=tuple(make_feed(user, rng) for user in range(1, 11)),
        replay=make_replay(rng),
    )
