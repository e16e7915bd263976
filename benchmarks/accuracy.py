"""What models reach on held-out examples: areas under the curve, mean and deviation over seeds.

    python -m benchmarks.accuracy [--quick] [--only adult] [--seeds 3] [--rows 400000]

Adult in the official split; MovieLens-100k split at random; and
Meituan-Dianping's ladder (logistic regression < a network < Wide & Deep < Wide & Deep with crosses
in both parts) on a feed, MovieLens by time, and on generated clicks whose crosses are known. The
recipes are in configs/models; the spaces in which they were found, in configs/search.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from benchmarks.harness import Case, run
from pipelines import census, clicks, feed_features, movielens
from weiml.cli.pipeline import Tables
from weiml.data import BatchDataset, Examples, FileSource
from weiml.data.datasets import BestScores, fetch
from weiml.features import Cross, FeatureSpec
from weiml.models import DNNConfig, Scorer, WideDeepConfig
from weiml.models.trees import GBDTConfig, GBDTTrainer
from weiml.train import Recipe, TrainConfig, Trainer, evaluate_model, load_recipe

MODELS = Path(__file__).resolve().parent.parent / "configs/models"
KNOWN_CROSSES = (  # of the generated clicks, weiml.data.datasets.clicks
    ("C6", "C17"),
    ("C9", "C14"),
    ("C2", "C23"),
    ("C5", "C22"),
    ("C7", "C20"),
    ("C10", "C17"),
)
CATEGORIES = [
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
]
NUMBERS = ["age", "education_num", "hours_per_week", "capital_gain", "capital_loss"]

Parts = Mapping[str, BatchDataset]


@dataclass(frozen=True)
class Reached:
    """The test AUC of each seed, and the mean log-loss."""

    aucs: tuple[float, ...]
    log_loss: float

    @property
    def auc(self) -> float:
        """Their mean."""
        return statistics.fmean(self.aucs)

    @property
    def spread(self) -> float:
        """Their standard deviation, 0 of one."""
        return statistics.stdev(self.aucs) if len(self.aucs) > 1 else 0.0

    def __str__(self) -> str:
        each = ", ".join(f"{auc:.4f}" for auc in self.aucs)
        return f"AUC {self.auc:.4f} ± {self.spread:.4f} ({each}), log-loss {self.log_loss:.4f}"


def trained(recipe: Recipe, parts: Parts, seed: int) -> Scorer:
    """Train by a recipe with a seed; without a part validation, for the recipe's epochs."""
    validation = parts.get("validation")
    if isinstance(recipe, GBDTConfig):
        return GBDTTrainer(replace(recipe, seed=seed)).fit(parts["train"], validation).model
    assert isinstance(recipe, TrainConfig)
    local = replace(recipe, seed=seed, transport="embedded", num_shards=1, progress_steps=10**6)
    return Trainer(local).fit(parts["train"], validation).predictor()


def reached(recipe: Recipe, parts: Callable[[int], Parts], seeds: int) -> Reached:
    """Train with each seed and score on the test."""
    found = []
    for seed in range(seeds):
        made = parts(seed)
        found.append(evaluate_model(trained(recipe, made, seed), made["test"])[0])
    loss = statistics.fmean(metrics["log_loss"] for metrics in found)
    return Reached(tuple(metrics["auc"] for metrics in found), loss)


def tables_of(dataset: str) -> Tables:
    """Return how to read a data set's tables."""
    folder = fetch(dataset)

    def tables(name: str) -> Examples:
        return FileSource(str(folder / f"{name}.parquet")).read().using(engine="local")

    return tables


def written(examples: Mapping[str, Examples], spec: FeatureSpec, folder: Path) -> Parts:
    """Write parts as batches, by an encoder fitted on train."""
    encoder = examples["train"].fit_encoder(spec)
    return {name: part.write_batches(folder / name, encoder) for name, part in examples.items()}


def case(name: str, ours: Reached, peer: str, theirs: float, bar: float, regime: str) -> Case:
    """Return the line of a model with a bar."""
    return Case(
        case=name,
        value=ours.auc,
        unit="test AUC",
        peer=peer,
        peer_value=theirs,
        goal=f"≥ {bar:.3f}",
        holds=ours.auc >= bar,
        quality=str(ours),
        regime=regime,
        n=len(ours.aucs),
    )


def adult(seeds: int, folder: Path) -> Iterator[Case]:
    """Logistic regression, Wide & Deep and trees in Adult's official split."""
    tables = tables_of("adult")
    parts = written(census.prepare(tables), FeatureSpec.from_toml(census.SPEC), folder)
    raw = tables("examples").to_table()
    categories = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES), (StandardScaler(), NUMBERS)
    )
    codes = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), CATEGORIES),
        ("passthrough", NUMBERS),
    )
    peers: dict[str, Any] = {
        "scikit-learn's logistic regression": make_pipeline(
            categories, LogisticRegression(max_iter=2000)
        ),
        "scikit-learn's histogram boosting": make_pipeline(
            codes, HistGradientBoostingClassifier(random_state=0)
        ),
    }
    scores = {name: _sklearn(peer, raw) for name, peer in peers.items()}
    regime = "official split, a tenth of the training rows for early stopping"
    linear, trees = scores.items()
    for name, file, bar, peer in (
        ("logistic regression", "census_lr", 0.905, linear),
        ("Wide & Deep", "census_wide_deep", 0.915, linear),
        ("boosted trees", "gbdt", 0.927, trees),
    ):
        ours = reached(load_recipe(MODELS / f"{file}.toml"), lambda _: parts, seeds)
        yield case(f"Adult, {name}", ours, *peer, bar, regime)


def _sklearn(model: Any, table: pa.Table) -> float:
    frame = table.to_pandas()
    frame[CATEGORIES] = frame[CATEGORIES].fillna("?")
    train, test = (frame[frame["split"] == part] for part in ("train", "test"))
    model.fit(train, train["label"])
    return float(roc_auc_score(test["label"], model.predict_proba(test)[:, 1]))


def movielens_random(seeds: int, folder: Path) -> Iterator[Case]:
    """Logistic regression and the best deep model on MovieLens-100k, split at random."""
    tables = tables_of("movielens-100k")
    spec = FeatureSpec.from_toml(movielens.SPEC)
    halves = movielens.prepare(tables)
    halves = {"train": halves["refit"], "test": halves["test"]}
    parts = written(halves, spec, folder)
    ids = OneHotEncoder(handle_unknown="ignore")
    x = {name: part.to_table().to_pandas() for name, part in halves.items()}
    columns = ["user_id", "item_id"]
    model = LogisticRegression(C=1.0, max_iter=300)
    model.fit(ids.fit_transform(x["train"][columns]), x["train"]["label"])
    logits = model.decision_function(ids.transform(x["test"][columns]))
    theirs = float(roc_auc_score(x["test"]["label"], logits))
    peer = ("scikit-learn's logistic regression on users and films", theirs)
    regime = "80/20 at random; knobs and epochs chosen on a tenth of the 80; seeds are the model's"
    for name, file, bar in (
        ("logistic regression", "movielens_lr", 0.775),
        ("DeepFM", "movielens_deepfm", 0.800),
    ):
        ours = reached(load_recipe(MODELS / f"{file}.toml"), lambda _: parts, seeds)
        yield case(f"MovieLens-100k, {name}", ours, *peer, bar, regime)


def ladder(
    name: str,
    parts: Parts,
    linear: TrainConfig,
    how: TrainConfig,
    crosses: tuple[Cross, ...],
    seeds: int,
    about: str,
) -> Iterator[Case]:
    """Compare each rung with the one below: a linear recipe, then networks by one recipe."""
    wide = how.model_config
    assert isinstance(wide, WideDeepConfig)
    shared = {key: getattr(wide, key) for key in DNNConfig.__dataclass_fields__ if key != "name"}
    rungs = {
        "logistic regression": linear,
        "network": replace(how, model=DNNConfig(**shared)),
        "Wide & Deep": replace(how, model=wide),
        "Wide & Deep with crosses": replace(how, model=replace(wide, crosses=crosses)),
    }
    below: tuple[str, Reached] | None = None
    for rung, recipe in rungs.items():
        ours = reached(recipe, lambda _: parts, seeds)
        if below is not None:
            peer, theirs = below
            spread = math.hypot(ours.spread, theirs.spread)
            yield Case(
                case=f"ladder on {name}, {rung}",
                value=ours.auc,
                unit="test AUC",
                peer=peer,
                peer_value=theirs.auc,
                goal="above the rung below by more than both deviations",
                holds=ours.auc - theirs.auc > spread,
                quality=f"{ours}; below {theirs}",
                regime=about,
                n=seeds,
            )
        below = rung, ours


def feed_ladder(seeds: int, folder: Path) -> Iterator[Case]:
    """Climb on MovieLens as a feed."""
    spec = FeatureSpec.from_toml(feed_features.SPEC)
    examples = feed_features.prepare(tables_of("movielens-100k"))
    parts = written(examples, replace(spec, crosses=()), folder)
    linear, how = _recipe("lr"), _recipe("wide_deep")
    yield from ladder(
        "a feed (MovieLens by time)",
        parts,
        linear,
        how,
        spec.crosses,
        seeds,
        "80/10/10 by time: most users of the test are new",
    )


def clicks_ladder(seeds: int, rows: int, folder: Path) -> Iterator[Case]:
    """Climb on generated clicks."""
    dataset = f"synthetic-criteo:rows={rows}"
    tables = tables_of(dataset)
    parts = written(clicks.prepare(tables), FeatureSpec.from_toml(clicks.SPEC), folder)
    best = BestScores()
    table = pq.read_table(fetch(dataset) / "examples.parquet", columns=["probability"])
    best.add(table["probability"].to_numpy()[-parts["test"].num_examples :])
    linear, how = _recipe("clicks_lr"), _recipe("clicks_wide_deep")
    yield from ladder(
        "generated clicks",
        parts,
        linear,
        how,
        tuple(Cross(name=f"{a}_x_{b}", of=(a, b)) for a, b in KNOWN_CROSSES),
        seeds,
        f"{rows:,} examples, 80/10/10 by time; six known crosses; the best AUC that any model can "
        f"reach is {best.auc:.4f}",
    )


def _recipe(name: str) -> TrainConfig:
    recipe = load_recipe(MODELS / f"{name}.toml")
    assert isinstance(recipe, TrainConfig)
    return recipe


def cases(quick: bool, only: str, seeds: int, rows: int) -> Iterator[Case]:
    """Run all parts, or the one named."""
    seeds = min(seeds, 2) if quick else seeds
    rows = min(rows, 50_000) if quick else rows
    parts: dict[str, Callable[[Path], Iterator[Case]]] = {
        "adult": lambda folder: adult(seeds, folder),
        "clicks": lambda folder: clicks_ladder(seeds, rows, folder),
        "feed": lambda folder: feed_ladder(seeds, folder),
        "movielens": lambda folder: movielens_random(seeds, folder),
    }
    if only not in ("", *parts):
        raise SystemExit(f"--only must be one of {', '.join(parts)}, got {only!r}")
    if quick and not only:
        del parts["movielens"]
    for name, measure in parts.items():
        if only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                yield from measure(Path(folder))


def main() -> None:
    """Run the benchmark."""
    run("accuracy", cases, only="", seeds=3, rows=400_000)


if __name__ == "__main__":
    main()
