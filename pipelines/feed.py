"""Feed ranking from raw ratings to a ranked feed: the steps ``feed.*`` and the flow's launcher.

Run it with ``python -m pipelines.feed``; the flow itself is configs/flows/feed.xml.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weiml.config import load_config
from weiml.data import (
    SPLITS,
    FeatureView,
    HistoryConfig,
    HistoryState,
    Profiles,
    cut_blocks,
    describe_events,
    split_by_time,
    write_batches,
)
from weiml.errors import ConfigError, DataError, WeimlError
from weiml.features import Batch, FeatureEncoder, FeatureSpec, count_collisions
from weiml.flow import FlowResult, StepContext, step
from weiml.report import Feed as RankedFeed

ROOT = Path(__file__).resolve().parent.parent
# What --quick sets.
QUICK = {"epochs": "1", "trials": "2", "replay_events": "1000"}
ZIP_DIGITS = 3  # the region; the full code is nearly a name
COLUMNS = (
    *("user_id", "item_id", "timestamp", "rating", "label", "split"),
    *("age", "gender", "occupation", "zip_code", "title", "release_year", "genres"),
    *("user_count", "user_rate", "user_mean", "item_count", "item_rate", "item_mean"),
    *("user_genre_count", "user_genre_rate", "hour", "weekday"),
)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What the steps of the features node hand on: raw examples in time order, and profiles."""

    table: pa.Table  # one row an event, the columns of COLUMNS
    users: Profiles
    items: Profiles
    history: HistoryConfig

    def split(self, name: str) -> pa.Table:
        """Return the examples of one split, in time order."""
        return self.table.filter(pc.equal(self.table["split"], name))


@dataclass(frozen=True, kw_only=True)
class EncodedFeed:
    """The same examples as columnar batches, with the encoder fitted on the training split."""

    encoder: FeatureEncoder
    batches: Mapping[str, list[Batch]]


@step("feed.examples")
def make_examples(
    context: StepContext,
    folder: Path,
    *,
    threshold: float = 4.0,
    strength: float = 10.0,
    prior_rate: float = 0.5,
    prior_mean: float = 3.5,
    validation_share: float = 0.1,
    test_share: float = 0.1,
) -> Feed:
    """Join ratings with profiles, label and split them by time, and add what was known before each.

    Args:
        context: of a node on the engine ``ray_data``.
        folder: ratings.parquet, users.parquet and items.parquet.
        threshold: ratings from here on are positive.
        strength: how many events the priors are worth, see HistoryConfig.
        prior_rate: rate of positives assumed without history.
        prior_mean: mean rating assumed without history.
        validation_share: share of events, before the test period, for validation.
        test_share: share of events, the last ones, for the test.

    Raises:
        DataError: a file or column is missing, there are too few events, or rows got lost.
    """
    history = HistoryConfig(
        threshold=threshold, strength=strength, prior_rate=prior_rate, prior_mean=prior_mean
    )
    users, items = _profiles(folder)
    ratings = _read(folder / "ratings.parquet", ("user_id", "item_id", "rating", "timestamp"))
    ratings = ratings.sort_by([(n, "ascending") for n in ("timestamp", "user_id", "item_id")])
    split = split_by_time(ratings["timestamp"].to_numpy(), validation_share, test_share)
    context.progress(f"history of {ratings.num_rows:,} events")
    num_blocks = context.session.num_blocks
    table = describe_events(ratings, users, items, history, num_blocks=num_blocks)
    table = table.append_column("split", pa.array(split).cast(pa.string())).select(COLUMNS)
    context.report("rows", table.num_rows)
    context.report("positives", int(pc.sum(table["label"]).as_py()))
    context.report("rows_by_split", {name: int((split == name).sum()) for name in SPLITS})
    context.report("users", len(pc.unique(table["user_id"])))
    context.report("items", len(pc.unique(table["item_id"])))
    return Feed(table=table, users=users, items=items, history=history)


@step("feed.encode")
def encode_examples(
    context: StepContext,
    feed: Feed,
    *,
    spec: Path,
    local_rows: int = 500_000,
) -> EncodedFeed:
    """Fit the encoder on the training split and encode all splits to columnar batches.

    Args:
        context: of a node on the engine ``ray_data``.
        feed: raw examples.
        spec: the feature spec, a TOML file.
        local_rows: splits up to this size are encoded here, at a million rows in a few seconds;
            larger ones by Ray Data, whose start alone takes as long. The result is the same.

    Raises:
        ConfigError: the feature spec is wrong.
        DataError: a column of the spec is missing, or rows got lost.
    """
    train = feed.split("train")
    encoder = FeatureEncoder(FeatureSpec.from_toml(spec)).fit(train)
    batches, rows = {}, 0
    for done, name in enumerate(SPLITS):
        context.progress(f"encoding {name}", done, len(SPLITS))
        table = feed.split(name)
        if table.num_rows <= local_rows:
            batches[name] = [encoder.encode(table)]
        else:
            batches[name] = _encode_blocks(encoder, cut_blocks(table, context.session.num_blocks))
        rows += sum(batch.num_examples for batch in batches[name])
    if rows != feed.table.num_rows:
        raise DataError(f"encoding made {rows} examples of {feed.table.num_rows} rows")
    names = encoder.key_names(feed.table)
    keys = [batch.keys for parts in batches.values() for batch in parts]
    context.report("keys", int(sum(part.size for part in keys)))
    context.report("distinct_keys", int(np.unique(np.concatenate(keys)).size))
    context.report("collisions", count_collisions(names))
    return EncodedFeed(encoder=encoder, batches=batches)


@step("feed.write")
def write_split(
    context: StepContext, encoded: EncodedFeed, *, split: Literal["train", "validation", "test"]
) -> None:
    """Write one split's batches as a dataset folder."""
    write_batches(encoded.batches[split], context.output_dir, encoder=encoded.encoder)


@step("feed.write_encoder")
def write_encoder(context: StepContext, encoded: EncodedFeed) -> None:
    """Write the fitted encoder as encoder.json."""
    encoded.encoder.save(context.output_dir / "encoder.json")


@step("feed.write_keys")
def write_keys(context: StepContext, feed: Feed, encoded: EncodedFeed) -> None:
    """Write keys.parquet: which feature and value each key stands for."""
    pq.write_table(encoded.encoder.key_names(feed.table), context.output_dir / "keys.parquet")


@step("feed.write_examples")
def write_examples(context: StepContext, feed: Feed) -> None:
    """Write examples.parquet: the raw rows in time order, for replay and report."""
    pq.write_table(feed.table, context.output_dir / "examples.parquet", compression="zstd")


@step("feed.write_view")
def write_view(context: StepContext, feed: Feed) -> None:
    """Write the feature view that serving starts with: all that was before the test period."""
    view = FeatureView(feed.users, feed.items, HistoryState(feed.history))
    view.observe(feed.table.filter(pc.not_equal(feed.table["split"], "test")))
    view.save(context.output_dir)


def _profiles(folder: Path) -> tuple[Profiles, Profiles]:
    names = ("user_id", "age", "gender", "occupation", "zip_code")
    users = _read(folder / "users.parquet", names)
    region = pc.utf8_slice_codeunits(users["zip_code"], 0, ZIP_DIGITS)
    users = users.set_column(users.column_names.index("zip_code"), "zip_code", region)
    items = _read(folder / "items.parquet", ("item_id", "title", "release_year", "genres"))
    return Profiles(users, "user_id"), Profiles(items, "item_id")


def _read(path: Path, names: Sequence[str]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; got {table.column_names}")
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows")
    return table.select(list(names))


def _encode_blocks(encoder: FeatureEncoder, blocks: list[pa.Table]) -> list[Batch]:
    import ray.data

    data = ray.data.from_arrow(blocks)
    data = data.map_batches(partial(_encode, encoder), batch_format="pyarrow", batch_size=None)
    return [Batch.from_arrow(table) for table in ray.get(data.to_arrow_refs())]


def _encode(encoder: FeatureEncoder, rows: pa.Table) -> pa.Table:
    return encoder.encode(rows).to_arrow()


def run(arguments: argparse.Namespace) -> None:
    """Run the feed flow, from raw ratings to a report; the last line names the numbers as JSON."""
    from weiml.flow import load_flow, run_flow
    from weiml.report import ReportData, print_report

    flow = load_flow(arguments.flow)
    known = {param.name for param in flow.params}
    chosen: dict[str, object] = {"dataset": arguments.dataset}
    chosen["registry"] = str(arguments.runs / "registry")
    chosen |= QUICK if arguments.quick else {}
    chosen = {name: value for name, value in chosen.items() if name in known}
    chosen |= _overrides(arguments.set)
    if arguments.keep:
        _stop_kept(arguments.runs)
    result = run_flow(flow, arguments.runs, params=chosen)
    numbers = result.artifact("report.numbers") / "numbers.json"
    report = ReportData.load(numbers)
    print_report(report)
    if arguments.keep:
        _keep(result, report.feeds[0], arguments.runs)
    print(f"\nfeatures: {result.artifact('features.train').parent}")
    print(f"report: {result.artifact('report.report') / 'report.html'}")
    print(f"numbers: {numbers}")


def _stop_kept(runs: Path) -> None:
    """End the endpoint that an earlier run left up: it has the port that ours will want."""
    from weiml.serving import stop_background

    if stop_background(runs / "endpoint"):
        print(f"stopped the endpoint that {runs} had left up", file=sys.stderr)


def _keep(result: FlowResult, feed: RankedFeed, runs: Path) -> None:
    """Serve the registered model from a process of its own, and say how to ask and stop it."""
    from weiml.serving import ServingConfig, start_background
    from weiml.serving.steps import resolve_model

    model = resolve_model(result.artifact("registry.version"))
    view = result.artifact("features.view")
    named = [f"models.feed={json.dumps(str(model))}", f"view={json.dumps(str(view))}"]
    config = load_config(ServingConfig, ROOT / "configs/serving/feed.toml", named)
    print("\nstarting the endpoint", file=sys.stderr)
    state = start_background(config, runs / "endpoint")
    user, items = feed.user["user_id"], [item.item_id for item in feed.items[:5]]
    feeds = result.artifact("serving.feeds") / "feeds.json"
    when = json.loads(feeds.read_text(encoding="utf-8"))["timestamp"]
    tool = Path(sys.executable).with_name("weiml")
    print(f"\nthe endpoint stays up at {state['url']} (pid {state['pid']}); ask it with")
    print(f"  {tool} predict {user} {' '.join(items)} --url {state['url']} --timestamp {when}")
    print(f"  curl {state['url']}/v2/models/feed")
    print(f"and stop it with\n  {tool} serve --stop --folder {runs / 'endpoint'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 for errors, told in one line, and 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.feed", description=run.__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs and cache")
    parser.add_argument("--dataset", default="movielens-100k", help="a name of `weiml data ls`")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the flow; may be given again",
    )
    parser.add_argument("--quick", action="store_true", help="fewer epochs and trials")
    parser.add_argument("--keep", action="store_true", help="leave an endpoint up at the end")
    parser.add_argument(
        "--flow",
        type=Path,
        default=ROOT / "configs/flows/feed.xml",
        help="the flow; configs/flows/feed.xml by default",
    )
    try:
        run(parser.parse_args(argv))
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _overrides(texts: Sequence[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set takes NAME=VALUE, got {text!r}")
        values[name.strip()] = value
    return values


if __name__ == "__main__":
    sys.exit(main())
