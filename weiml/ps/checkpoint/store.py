"""A store: a folder of full and delta checkpoints, whose names sort by time.

One group writes to a store at a time; anybody may read it meanwhile. Knows no clock: it is told.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.chain import Chain, Checkpoint, open_checkpoint
from weiml.ps.checkpoint.export import export_parquet
from weiml.ps.checkpoint.listing import CheckpointInfo, kept_ids
from weiml.ps.checkpoint.manifest import MANIFEST
from weiml.ps.checkpoint.storage import Folder
from weiml.ps.checkpoint.writer import PART_BYTES, CheckpointWriter

__all__ = ["CheckpointStore", "Skipped"]

T = TypeVar("T")
_MILLISECOND = datetime.timedelta(milliseconds=1)
_STAMP = "%Y%m%dT%H%M%S"
_ID = re.compile(r"\d{8}T\d{6}\.\d{3}Z-(full|delta)")


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that was passed over."""

    id: str
    why: str


class CheckpointStore:
    """The checkpoints below a path or URL.

    Its methods raise ParameterServerError, which names the checkpoint or file.
    """

    def __init__(self, root: str | Path) -> None:
        self.folder = Folder.at(root)

    # Looking

    def list(self) -> tuple[CheckpointInfo, ...]:
        """Return all checkpoints, oldest first, damaged ones too.

        One that is being written on an object store, or was left half-written there, counts as
        damaged; locally it is not seen. Folders of other names are not looked at.
        """
        infos: dict[str, CheckpointInfo] = {}
        for name in self._names():
            infos[name] = self._info(name, infos)
        return tuple(infos.values())

    def _names(self) -> tuple[str, ...]:
        return tuple(name for name in self.folder.folders() if _ID.fullmatch(name))

    def _info(self, name: str, before: Mapping[str, CheckpointInfo]) -> CheckpointInfo:
        try:
            checkpoint = Checkpoint.open(self.folder / name)
            checkpoint.check_sizes()
        except ParameterServerError as error:
            return CheckpointInfo(id=name, damage=str(error))
        manifest = checkpoint.manifest
        damage = None
        if manifest.parent is not None:
            # A parent's name sorts before its deltas'.
            parent = before.get(manifest.parent)
            if parent is None or parent.damage is not None:
                damage = f"it goes on from {manifest.parent}, which is missing or damaged"
        return CheckpointInfo(
            id=name,
            kind=manifest.kind,
            time_s=manifest.time_s,
            parent=manifest.parent,
            sequence=sum(manifest.sequences),
            num_shards=manifest.num_shards,
            rows=manifest.rows,
            bytes=manifest.size,
            damage=damage,
        )

    def latest(self) -> CheckpointInfo | None:
        """Return the newest that can be used as far as manifests and sizes tell."""
        return next((info for info in reversed(self.list()) if info.damage is None), None)

    def open(self, id: str) -> Chain:
        """Return a checkpoint with those it goes on from; their files are verified when read."""
        self._check_id(id)
        return open_checkpoint((self.folder / id).place)

    def verify(self, id: str) -> None:
        """Check every file of a checkpoint, and of those it goes on from, by its checksum."""
        self.open(id).verify()

    def open_latest(
        self,
        *,
        verify: bool = True,
        before_s: float | None = None,
        excluding: Collection[str] = (),
    ) -> tuple[Chain, tuple[Skipped, ...]]:
        """Return the newest intact checkpoint, and the newer ones that were skipped, newest first.

        Args:
            verify: check every file by its checksum, otherwise by its size only.
            before_s: consider only those taken at this time (seconds since 1970) or before.
            excluding: ids not to consider.

        Raises:
            ParameterServerError: there is none; the message says what was skipped and why.
        """

        def check(chain: Chain) -> Chain:
            for checkpoint in chain.checkpoints:
                place = checkpoint.folder.place
                if place not in known:
                    known[place] = _error_of(
                        checkpoint.verify if verify else checkpoint.check_sizes
                    )
                error = known[place]
                if error is not None:
                    raise error
            return chain

        known: dict[str, ParameterServerError | None] = {}
        return self._first(check, before_s, excluding)

    def restore(
        self, load: Callable[[Chain], T], *, before_s: float | None = None
    ) -> tuple[T, tuple[Skipped, ...]]:
        """Call `load` with the newest checkpoint, or the one before if that proves damaged, ….

        So that files are verified while they are loaded, and not read twice.

        Returns:
            What `load` returned, and what was skipped, newest first.

        Raises:
            ParameterServerError: no checkpoint is intact, or `load` failed on an intact one.
        """

        def attempt(chain: Chain) -> T:
            try:
                return load(chain)
            except Exception as error:
                chain.verify()  # raises if the checkpoint is to blame
                raise _LoadError(error) from None

        try:
            return self._first(attempt, before_s)
        except _LoadError as error:
            raise error.error from None

    def _first(
        self, use: Callable[[Chain], T], before_s: float | None, excluding: Collection[str] = ()
    ) -> tuple[T, tuple[Skipped, ...]]:
        skipped: tuple[Skipped, ...] = ()
        for name in reversed(self._names()):
            if name in excluding:
                continue
            try:
                chain = self.open(name)
                if before_s is not None and chain.newest.time_s > before_s:
                    continue
                return use(chain), skipped
            except ParameterServerError as error:
                skipped += (Skipped(name, str(error)),)
        when = "" if before_s is None else f" of {_stamp(_utc(before_s))} or before"
        reasons = "".join(f"\n  {skip.id}: {skip.why}" for skip in skipped)
        raise ParameterServerError(
            f"there is no intact checkpoint{when} below {self.folder}"
            + (f"; skipped:{reasons}" if skipped else "")
        )

    def export(
        self, id: str, place: str | Path, *, columns: Literal["weights", "state"] = "weights"
    ) -> None:
        """Write a checkpoint's tables as Parquet; see `export_parquet`."""
        export_parquet(self.open(id), place, columns=columns)

    # Writing

    def writer(
        self,
        *,
        num_buckets: int,
        time_s: float,
        parent: str | None = None,
        about: Mapping[str, Any] | None = None,
        part_bytes: int = PART_BYTES,
    ) -> CheckpointWriter:
        """Begin the next checkpoint: a full one, or a delta to the checkpoint called `parent`.

        `time_s` is now, in seconds since 1970. If a checkpoint is there from later than that, the
        new one's time is a millisecond after it: the order of names is the order of writing.
        """
        base = None
        if parent is not None:
            self._check_id(parent)
            base = Checkpoint.open(self.folder / parent).manifest
        moment = _utc(time_s)
        stamp = _stamp(moment)
        last = max((name.partition("-")[0] for name in self._names()), default="")
        if stamp <= last:
            moment = _parsed(last) + _MILLISECOND
            stamp = _stamp(moment)
        return CheckpointWriter(
            (self.folder / f"{stamp}-{'full' if base is None else 'delta'}").place,
            num_buckets=num_buckets,
            time_s=moment.timestamp(),
            parent=base,
            about=about,
            part_bytes=part_bytes,
        )

    def remove_unfinished(self) -> tuple[str, ...]:
        """Remove what writers that did not live to commit or abort left; return the names.

        Not while a checkpoint is being written.
        """
        left = self.folder.hidden_folders()
        left += [n for n in self._names() if not (self.folder / n).exists(MANIFEST)]
        for name in left:
            (self.folder / name).remove()
        return tuple(left)

    def retain(self, fulls: int, *, in_use: Collection[str] = ()) -> tuple[str, ...]:
        """Keep the last `fulls` full checkpoints with their deltas, remove what is older.

        The newest checkpoint and those of `in_use` are kept with all that they go on from. Damaged
        ones newer than the oldest full one kept stay, to be looked into.

        Returns:
            The ids removed, newest first.
        """
        if fulls < 1:
            raise ParameterServerError(f"retain must keep 1 or more full checkpoints, got {fulls}")
        infos = self.list()
        kept = kept_ids(infos, fulls, in_use)
        # Deltas go before what they go on from: whatever is left is whole at any moment.
        removed = tuple(info.id for info in reversed(infos) if info.id not in kept)
        for name in removed:
            self._remove(name)
        return removed

    def _remove(self, name: str) -> None:
        folder = self.folder / name
        if folder.is_local:
            gone = folder.hidden()
            folder.rename(gone)
            gone.remove()
            return
        if folder.exists(MANIFEST):
            folder.remove_file(MANIFEST)
        folder.remove()

    def _check_id(self, id: str) -> None:
        if not id or "/" in id or id.startswith("."):
            raise ParameterServerError(
                f"{id!r} is no checkpoint of {self.folder}; `list` shows what there is"
            )


class _LoadError(Exception):
    """Loading failed although the checkpoint is intact."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _error_of(check: Callable[[], None]) -> ParameterServerError | None:
    try:
        check()
    except ParameterServerError as error:
        return error
    return None


def _utc(time_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC)


def _stamp(moment: datetime.datetime) -> str:
    return f"{moment.strftime(_STAMP)}.{moment.microsecond // 1000:03d}Z"


def _parsed(stamp: str) -> datetime.datetime:
    moment = datetime.datetime.strptime(stamp, f"{_STAMP}.%fZ")
    return moment.replace(tzinfo=datetime.UTC)
