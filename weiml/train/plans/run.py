"""Running a plan: each stage once, in its order, from where the last run stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.config import to_mapping
from weiml.data import BatchDataset, ProgressCallback
from weiml.features import FeatureEncoder
from weiml.files import written_aside
from weiml.models import Predictor
from weiml.train.checkpoints import FREE_KNOBS
from weiml.train.plans import stages as work
from weiml.train.plans.config import Plan
from weiml.train.plans.data import PlanData, check_apart
from weiml.train.plans.identity import code_digest, folder_identity
from weiml.train.plans.store import Stage, StageStore

__all__ = ["PlanResult", "run_plan"]

_FREE = FREE_KNOBS - {"epochs"}  # an epoch more is another model
_TREES_FREE = ("transport", "cpus_per_worker", "timeout_s", "progress_rounds")


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """A plan that has run."""

    folder: Path
    """Where its stages are."""
    stages: tuple[Stage, ...]
    """In their order, cached ones too."""
    model: Path
    """Folder of the calibrated model."""
    before: dict[str, float]
    """Metrics of the test without the calibration; NAME_se are standard errors."""
    after: dict[str, float]
    """With it: of what is served."""
    metrics: tuple[str, ...]
    """Those that `text` tells."""

    @property
    def ran(self) -> tuple[str, ...]:
        """Names of the stages that ran this time."""
        return tuple(stage.name for stage in self.stages if not stage.cached)

    @property
    def cached(self) -> tuple[str, ...]:
        """Names of the stages that were there already."""
        return tuple(stage.name for stage in self.stages if stage.cached)

    def stage(self, name: str) -> Stage:
        """Return a stage by its name.

        Raises:
            KeyError: the plan has none of that name.
        """
        return {stage.name: stage for stage in self.stages}[name]

    def predictor(self) -> Predictor:
        """Load the calibrated model."""
        return Predictor.load(self.model)

    def to_mapping(self) -> dict[str, Any]:
        """Return all of it fit for JSON."""
        stages = [
            {
                "name": stage.name,
                "key": stage.key,
                "folder": str(stage.folder),
                "cached": stage.cached,
                "seconds": stage.seconds,
            }
            for stage in self.stages
        ]
        tested = {"before": self.before, "after": self.after}
        return {"model": str(self.model), "stages": stages, "test": tested}

    def text(self) -> str:
        """Return a table of the stages, and one of the test."""
        lines = [f"{'stage':<22}{'':<10}{'seconds':>9}"]
        for stage in self.stages:
            how = "cached" if stage.cached else "resumed" if stage.resumed else "ran"
            lines.append(f"{stage.name:<22}{how:<10}{stage.seconds:>9.1f}")
        lines += ["", f"{'test':<22}{'before calibration':>22}{'after':>22}"]
        for name in self.metrics:
            if name in self.before:
                sides = [_estimate(side, name) for side in (self.before, self.after)]
                lines.append(f"{name:<22}{sides[0]:>22}{sides[1]:>22}")
        return "\n".join([*lines, "", f"model: {self.model}"])


def run_plan(
    plan: Plan, folder: str | Path, *, progress: ProgressCallback | None = None
) -> PlanResult:
    """Run what of a plan is not in `folder` yet, and return all of it.

    Stages: ``split`` (where one set is split), ``encoder``, ``batches-PART``, ``trees``,
    ``network``, ``calibration``, ``test``. Each one's folder is named by the digest of its inputs,
    its configuration and the library's code, so that a stage runs if and only if something that
    it depends on is new. A run that was broken off, however that was, goes on where it stopped;
    trees and network from their last checkpoints. Knobs that change no bit (transport, shards,
    time-outs) make nothing run again.

    Args:
        plan: what to do.
        folder: where stages are kept; several plans may share one, one process at a time.
        progress: called as ``progress(text, done, total)``.

    Raises:
        ConfigError: something of the plan does not fit the data.
        DataError: examples are missing or damaged, or another process runs in `folder`.
        WeimlError: a stage failed; those before it are kept.
    """
    with StageStore(folder, progress) as store:
        run = _Run(plan, store)
        result = run.go()
        with written_aside(store.root / "result.json") as aside:
            aside.write_text(json.dumps(result.to_mapping(), indent=1) + "\n", encoding="utf-8")
    return result


class _Run:
    def __init__(self, plan: Plan, store: StageStore) -> None:
        self.plan = plan
        self.store = store

    def go(self) -> PlanResult:
        """Go through the stages."""
        plan = self.plan
        sets = self._encoded() if plan.features is not None else self._given()
        trees = self._trees(sets)
        network = self._network(sets, trees)
        calibrated = self._calibration(sets, network)
        tested = self._test(sets, network, calibrated)
        return PlanResult(
            folder=self.store.root,
            stages=tuple(self.store.stages),
            model=calibrated.folder / work.MODEL,
            before=tested.about["before"],
            after=tested.about["after"],
            metrics=plan.test.metrics,
        )

    def _stage(
        self, name: str, made_of: dict[str, Any], make: Callable[[Path, Path], dict[str, Any]]
    ) -> Stage:
        return self.store.stage(name, {"code": code_digest(), **made_of}, make)

    def _given(self) -> dict[str, _Set]:
        """Return the data sets of batches that the plan names."""
        found = {}
        for part in self.plan.data.parts:
            folder = "".join(self.plan.data.paths(part)[:1])
            found[part] = _Set(Path(folder), folder_identity(folder))
            BatchDataset.open(folder)
        check_apart({part: [made.key] for part, made in found.items()})
        return found

    def _encoded(self) -> dict[str, _Set]:
        """Split, fit the encoder, and write each part as batches."""
        spec, config = self.plan.features, self.plan.data
        assert spec is not None
        data = PlanData(config, spec, self.store.tell)
        identities = {part: data.identity(part) for part in config.parts}
        starts: list[int] = []
        if data.is_split and config.split == "time":
            same = {**identities["test"], "part": ""}
            split = self._stage("split", same, lambda *_: {"starts": data.starts()})
            starts = split.about["starts"]
        encoder = self._stage(
            "encoder",
            {"train": identities["train"], "spec": spec.to_mapping()},
            lambda folder, _: work.fit_encoder(data.examples("train", starts), spec, folder),
        )
        file = encoder.folder / work.ENCODER

        def write(part: str) -> _Set:
            stage = self._stage(
                f"batches-{part}",
                {"examples": identities[part], "encoder": encoder.key},
                lambda folder, _: work.encode(
                    data.examples(part, starts), FeatureEncoder.load(file), part, folder
                ),
            )
            return _Set(stage.folder / work.BATCHES, stage.key)

        return {part: write(part) for part in config.parts}

    def _trees(self, sets: dict[str, _Set]) -> Stage | None:
        config = self.plan.trees
        if config is None:
            return None
        knobs = {k: v for k, v in to_mapping(config).items() if k not in _TREES_FREE}
        return self._stage(
            "trees",
            {"config": knobs, **_learned_from(sets)},
            lambda folder, left: work.grow_trees(config, *_opened(sets), folder, left, self.store),
        )

    def _network(self, sets: dict[str, _Set], trees: Stage | None) -> Stage:
        config = self.plan.network
        knobs = {k: v for k, v in to_mapping(config).items() if k not in _FREE}
        grown = None if trees is None else trees.folder / work.TREES
        return self._stage(
            "network",
            {"config": knobs, "trees": trees and trees.key, **_learned_from(sets)},
            lambda folder, left: work.train_network(
                config, *_opened(sets), grown, folder, left, self.store
            ),
        )

    def _calibration(self, sets: dict[str, _Set], network: Stage) -> Stage:
        chosen, examples = self.plan.calibration, sets["calibration"]
        return self._stage(
            "calibration",
            {"config": to_mapping(chosen), "network": network.key, "examples": examples.key},
            lambda folder, _: work.calibrate(
                chosen, network.folder / work.MODEL, examples.open(), folder
            ),
        )

    def _test(self, sets: dict[str, _Set], network: Stage, calibrated: Stage) -> Stage:
        return self._stage(
            "test",
            {"model": calibrated.key, "examples": sets["test"].key},
            lambda folder, _: work.test_model(
                network.folder / work.MODEL,
                calibrated.folder / work.MODEL,
                sets["test"].open(),
                folder,
            ),
        )


@dataclass(frozen=True)
class _Set:
    """A data set of batches, and what its contents follow from."""

    folder: Path
    key: str

    def open(self) -> BatchDataset:
        return BatchDataset.open(self.folder)


def _learned_from(sets: dict[str, _Set]) -> dict[str, str | None]:
    return {part: sets[part].key if part in sets else None for part in ("train", "validation")}


def _opened(sets: dict[str, _Set]) -> tuple[BatchDataset, BatchDataset | None]:
    validation = sets["validation"].open() if "validation" in sets else None
    return sets["train"].open(), validation


def _estimate(metrics: dict[str, float], name: str) -> str:
    error = metrics.get(f"{name}_se")
    value = f"{metrics.get(name, float('nan')):.4f}"
    return value if error is None else f"{value} ± {error:.4f}"
