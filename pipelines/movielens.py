"""MovieLens-100k split at random: will this user like this film, given all their other ratings?

Run it with ``python -m pipelines.movielens``; what becomes of each column stands in
configs/features/movielens.toml. A fifth of the ratings is the test, the rest train and validation;
once a recipe is chosen, ``refit`` is all of that rest to train on. Papers split these data so; to
rank a feed, split by time as `pipelines.feed` does, for here what a user does later is known.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.cli.pipeline import Tables, run_pipeline
from weiml.data import Examples

SPEC = Path(__file__).resolve().parent.parent / "configs/features/movielens.toml"
LIKED = 4.0
"""Ratings from here on are positive."""
SHRINKAGE = 5.0
"""How many ratings the mean over all is worth in a user's and a film's mean."""
FOLDS = 10
SEED = 0  # of the split and of the folds


def prepare(tables: Tables) -> Mapping[str, Examples]:
    """Hold a random fifth back for the test, and describe each rating by the known others."""
    ratings = (
        tables("ratings").join(tables("users"), on="user_id").join(tables("items"), on="item_id")
    )
    table = ratings.to_table().sort_by([("user_id", "ascending"), ("item_id", "ascending")])
    draws = np.random.default_rng(SEED).random(table.num_rows)
    known, train = draws >= 0.2, draws >= 0.28
    parts = {  # rows, and those by which they are described
        "train": (train, train),
        "validation": (known & ~train, train),
        "test": (~known, known),
        "refit": (known, known),
    }
    return {
        name: Examples.of(describe(table, by).filter(pa.array(rows)))
        for name, (rows, by) in parts.items()
    }


def describe(table: pa.Table, known: np.ndarray) -> pa.Table:
    """Add what the ratings in `known` bool (n,) say of each one's user and film.

    A known rating is described by those of other folds only: were it by all but itself, what is
    missing from a user's whole would tell its label.

    ``others`` are the user's other films and ``audience`` the film's other users, each twice its
    number, plus 1 if it was liked; each with a weight of one over the square root of how many
    there are (Koren, "Factorization meets the neighborhood", KDD 2008).
    """
    users, items = (table[name].to_numpy() for name in ("user_id", "item_id"))
    rating = table["rating"].to_numpy().astype(np.float64)
    liked = rating >= LIKED
    fold = np.where(known, np.random.default_rng(SEED).integers(0, FOLDS, len(known)), -1)
    added: dict[str, pa.Array] = {"label": pa.array(liked.astype(np.int8))}
    mean = rating[known].mean()
    for name, list_name, of, others in (
        ("user", "others", users, items),
        ("item", "audience", items, users),
    ):
        offsets, members = _others(of, fold)
        count = np.diff(offsets)
        total = np.add.reduceat(np.append(rating[members], 0.0), offsets[:-1]) * (count > 0)
        added[f"{name}_count"] = pa.array(count)
        added[f"{name}_mean"] = pa.array((total + SHRINKAGE * mean) / (count + SHRINKAGE))
        weight = np.repeat(1 / np.sqrt(np.maximum(count, 1)), count).astype(np.float32)
        tokens = (2 * others + liked)[members]
        for column, entries in ((list_name, tokens), (f"{list_name}_weight", weight)):
            added[column] = pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()), pa.array(entries)
            )
    region = pc.utf8_slice_codeunits(table["zip_code"], 0, 2)  # the full code is nearly a name
    table = table.set_column(table.column_names.index("zip_code"), "region", region)
    for name, column in added.items():
        table = table.append_column(name, column)
    return table


def _others(of: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, row by row, the known rows of its group and of other folds: offsets and rows."""
    known = np.flatnonzero(fold >= 0)
    known = known[np.argsort(of[known], kind="stable")]
    starts = np.searchsorted(of[known], np.arange(of.max() + 2))
    first, length = starts[of], starts[of + 1] - starts[of]
    bounds = np.concatenate([[0], np.cumsum(length)])
    members = known[np.arange(bounds[-1]) - np.repeat(bounds[:-1] - first, length)]
    rows = np.repeat(np.arange(len(of)), length)
    other = fold[members] != fold[rows]
    counts = np.bincount(rows[other], minlength=len(of))
    return np.concatenate([[0], np.cumsum(counts)]), members[other]


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    return run_pipeline(
        prepare, name="pipelines.movielens", dataset="movielens-100k", spec=SPEC, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
