"""Checkpoints of FTRL rows beside the disk's own rates, and pulls while one is taken.

A full checkpoint and a 1 % delta against plain sequential writes of as many bytes, loading against
plain reads, all of them flushed to or fetched from the disk; loading also against reads into memory
of the content's size, touched for the first time, as a loader's memory is. Of plain reads, one file
after the other through the system's cache and past it with a thread a shard, the faster counts. Two
shards, each in a thread of its own, work at the same time, as they do in their processes. 50
million rows, or ``--rows N``; the temporary folder (``TMPDIR``) must lie on the disk in question.
"""

from __future__ import annotations

import argparse
import functools
import mmap
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.harness import Case, run
from weiml.ps import FTRL, TableConfig
from weiml.ps.base import GroupConfig
from weiml.ps.checkpoint import Chain, CheckpointStore, Manifest
from weiml.ps.partition import Partition
from weiml.ps.shard.content import ShardContent
from weiml.ps.shard.parts import read_content
from weiml.ps.shard.shard import Shard

ROWS, QUICK_ROWS = 50_000_000, 2_000_000
PULL_ROWS, QUICK_PULL_ROWS = 10_000_000, 1_000_000
PULLED = 4096
PIECE = 4 << 20
BLOCK = 1 << 12
BATCH = 1 << 18
TABLE = TableConfig("wide", optimizer=FTRL())
CONFIG = GroupConfig(num_shards=2, num_workers=1)
PARTITION = Partition(CONFIG.num_shards, CONFIG.num_buckets)
REGIME = "{rows:,} FTRL rows of 16 bytes with their key, two shards as threads, turn about"
Shards = list[Shard]
T = TypeVar("T")


def filled(rows: int, rng: np.random.Generator) -> Shards:
    """Return shards with a table of that many rows."""
    shards = [Shard(CONFIG, index) for index in range(CONFIG.num_shards)]
    for shard in shards:
        shard.create_table(TABLE)
    for start in range(0, rows, BATCH):
        change(shards, rng.integers(0, 2**64, min(BATCH, rows - start), dtype=np.uint64))
    return shards


def change(shards: Shards, keys: np.ndarray) -> None:
    """Write rows of `keys` as an update would."""
    split = PARTITION.split(keys)
    for shard in shards:
        own = split.keys[split.part(shard.index)]
        payload = np.repeat(own.astype(np.uint32), 2).reshape(-1, 2)
        shard.sequence += 1
        shard.tables["wide"].import_rows(own, payload, shard.sequence)


def at_once(work: Callable[[Shard], T], shards: Shards) -> list[T]:
    """Return the results of `work` on each shard, each in a thread."""
    with ThreadPoolExecutor(len(shards)) as pool:
        return list(pool.map(work, shards))


def alternating(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median seconds of contestants, which time themselves and clean up after that."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        order = list(contestants)
        for name in reversed(order) if turn % 2 else order:
            seconds[name].append(contestants[name]())
    return {name: statistics.median(times) for name, times in seconds.items()}


def write(shards: Shards, store: CheckpointStore, parent: str | None) -> tuple[Manifest, float]:
    """Take a checkpoint; return its manifest and the seconds."""
    writer = store.writer(num_buckets=CONFIG.num_buckets, time_s=time.time(), parent=parent)
    begin = time.perf_counter()
    with writer:
        records = at_once(lambda shard: shard.save(writer.spec), shards)
        manifest = writer.commit([record for record in records if record is not None])
    return manifest, time.perf_counter() - begin


def write_and_remove(shards: Shards, store: CheckpointStore, parent: str | None) -> float:
    manifest, seconds = write(shards, store, parent)
    (store.folder / manifest.id).remove()
    os.sync()
    return seconds


def write_plainly(folder: Path, size: int) -> float:
    """Write that many bytes to one file in large pieces, and flush it."""
    piece = memoryview(np.random.default_rng(1).bytes(PIECE))
    file = folder / "plain"
    begin = time.perf_counter()
    with open(file, "wb", buffering=0) as target:
        for start in range(0, size, PIECE):
            target.write(piece[: size - start])
        os.fsync(target.fileno())
    seconds = time.perf_counter() - begin
    file.unlink()
    os.sync()
    return seconds


def load(shards: Shards, chain: Chain, check: Callable[[ShardContent], None]) -> float:
    """Read the shards' content from files that are not in memory."""
    forget(Path(chain.place))
    begin = time.perf_counter()
    contents = at_once(lambda shard: read_content(shard, chain), shards)
    seconds = time.perf_counter() - begin
    for content in contents:
        check(content)
    return seconds


def read_plainly(folder: Path) -> float:
    """Read the same files one after the other in large pieces."""
    forget(folder)
    piece = bytearray(PIECE)
    begin = time.perf_counter()
    for file in sorted(folder.rglob("*.arrow")):
        with open(file, "rb", buffering=0) as source:
            while source.readinto(piece):
                pass
    return time.perf_counter() - begin


def read_to_new_memory(folder: Path) -> float:
    """Read the same files one after the other into memory of their size, touched for the first."""
    forget(folder)
    files = sorted(folder.rglob("*.arrow"))
    size = sum(file.stat().st_size for file in files)
    begin = time.perf_counter()
    content = new_memory(size)
    at = 0
    for file in files:
        with open(file, "rb", buffering=0) as source:
            while count := source.readinto(content[at : at + PIECE]):
                at += count
    seconds = time.perf_counter() - begin
    assert at == size
    return seconds


def read_directly(folder: Path, *, keep: bool) -> float:
    """Read the same files past the system's cache in large pieces, a thread a shard.

    With `keep` into memory of their size, touched for the first.
    """
    forget(folder)
    shards = sorted(path for path in folder.iterdir() if path.is_dir())
    begin = time.perf_counter()
    with ThreadPoolExecutor(len(shards)) as pool:
        contents = list(pool.map(lambda shard: read_shard_directly(shard, keep=keep), shards))
    seconds = time.perf_counter() - begin
    assert len(contents) == CONFIG.num_shards
    return seconds


def read_shard_directly(folder: Path, *, keep: bool) -> memoryview:
    files = sorted(folder.rglob("*.arrow"))
    sizes = [file.stat().st_size for file in files]
    room = [-(-size // BLOCK) * BLOCK for size in sizes]
    content = new_memory(sum(room) if keep else PIECE)
    start = 0
    for file, size, taken in zip(files, sizes, room, strict=True):
        handle = os.open(file, os.O_RDONLY | os.O_DIRECT)
        at = 0
        while at < size:
            at += os.preadv(handle, [content[start + at :][:PIECE] if keep else content], at)
        os.close(handle)
        assert at == size
        start += taken
    return content


def can_read_directly(folder: Path) -> bool:
    """Whether the file system can do without the system's cache."""
    try:
        for shard in folder.glob("shard-*"):
            read_shard_directly(shard, keep=False)
    except (OSError, AttributeError):
        return False
    return True


def new_memory(size: int) -> memoryview:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def forget(folder: Path) -> None:
    """Have the system drop what it remembers of the files, so that they come from the disk."""
    for file in folder.rglob("*.arrow"):
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def cases(quick: bool, rows: int | None = None) -> Iterator[Case]:
    """Full, delta, loading, then pulls."""
    count = rows or (QUICK_ROWS if quick else ROWS)
    rounds = 3 if quick else 5
    with tempfile.TemporaryDirectory() as name:
        yield from storage_cases(Path(name), count, rounds)
        shutil.rmtree(name)
        os.sync()  # what the disk has left to do for the cases before is not the pulls' concern
        pull_rows = min(count, QUICK_PULL_ROWS if quick else PULL_ROWS)
        yield pull_case(Path(name), pull_rows, rounds)


def storage_cases(folder: Path, rows: int, rounds: int) -> Iterator[Case]:
    """Compare with the disk."""
    rng = np.random.default_rng(1)
    shards = filled(rows, rng)
    store = CheckpointStore(folder / "store")
    full, _ = write(shards, store, None)
    chain = store.open(full.id)
    seconds = alternating(
        {
            "ours": lambda: write_and_remove(shards, store, None),
            "plain": lambda: write_plainly(folder, full.size),
        },
        rounds,
    )
    flushed, cold = "of as many bytes, flushed", "of as many bytes, not in memory"
    case = rate_case("full checkpoint", full, seconds, f"sequential write {flushed}", rows, rounds)

    every = np.arange(CONFIG.num_buckets)
    known = [shard.tables["wide"].scan(every) for shard in shards]

    def check(content: ShardContent) -> None:
        keys, payload = content.tables["wide"].scan(every)
        assert np.array_equal(keys, known[content.index][0])
        assert np.array_equal(payload, known[content.index][1])

    load(shards, chain, check)
    yield case

    place = Path(chain.place)
    direct = can_read_directly(place)
    for name, tail, plainly, keep in (
        ("loading the full one", "", read_plainly, False),
        # What any loader does at least: its content lies in memory afterwards.
        (
            "loading the full one, peer to new memory",
            ", to memory of their size",
            read_to_new_memory,
            True,
        ),
    ):
        readers = {f"sequential read {cold}{tail}": functools.partial(plainly, place)}
        if direct:
            peer = f"direct read, a thread a shard, {cold}{tail}"
            readers[peer] = functools.partial(read_directly, place, keep=keep)
        seconds = alternating({"ours": lambda: load(shards, chain, check), **readers}, rounds)
        peer = min(readers, key=seconds.__getitem__)
        seconds["plain"] = seconds[peer]
        others = "".join(
            f"; {other}: {full.size / 1e6 / seconds[other]:,.0f} MB/s"
            for other in readers
            if other != peer
        )
        yield rate_case(name, full, seconds, peer, rows, rounds, others)

    keys = np.concatenate([keys for keys, _ in known])
    change(shards, rng.choice(keys, rows // 100, replace=False))
    known = [shard.tables["wide"].scan(every) for shard in shards]
    delta, _ = write(shards, store, full.id)
    assert delta.rows == rows // 100
    load(shards, store.open(delta.id), check)
    often = 2 * rounds + 1
    seconds = alternating(
        {
            "ours": lambda: write_and_remove(shards, store, full.id),
            "plain": lambda: write_plainly(folder, delta.size),
        },
        often,
    )
    yield rate_case("1 % delta", delta, seconds, f"sequential write {flushed}", rows, often)


def rate_case(
    name: str,
    manifest: Manifest,
    seconds: Mapping[str, float],
    peer: str,
    rows: int,
    rounds: int,
    others: str = "",
) -> Case:
    size = manifest.size
    return Case(
        case=name,
        value=size / 1e6 / seconds["ours"],
        unit="MB/s",
        peer=peer,
        peer_value=size / 1e6 / seconds["plain"],
        goal=f"at least half the disk's {'read' if 'read' in peer else 'write'} rate",
        holds=seconds["plain"] / seconds["ours"] >= 0.5,
        quality=f"{manifest.rows:,} rows, {size / 1e6:,.1f} MB in {seconds['ours']:.3f} s; "
        f"every row equal after loading{others}",
        regime=REGIME.format(rows=rows),
        n=rounds,
    )


def pull_case(folder: Path, rows: int, rounds: int) -> Case:
    """Compare pulls of a Ray group at rest with pulls while it saves."""
    from weiml.cluster import start_ray
    from weiml.ps import RayParameterServer

    start_ray(num_cpus=2, object_store_bytes=512 << 20)
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 2**64, rows, dtype=np.uint64)
    with RayParameterServer.create(1, 1, None, "checkpoint-benchmark") as ps:
        ps.create_table(TABLE)
        client = ps.client()
        for start in range(0, rows, BATCH):
            batch = keys[start : start + BATCH]
            client.wait(client.push("wide", batch, np.ones((len(batch), 1), np.float32)))

        def pulls(end: float | threading.Thread) -> list[float]:
            """Pull until a time, or the end of a thread; return each pull's seconds."""
            times = []
            while (
                end.is_alive() if isinstance(end, threading.Thread) else time.perf_counter() < end
            ):
                batch = rng.choice(keys, PULLED)
                begin = time.perf_counter()
                client.wait(client.pull("wide", batch))
                times.append(time.perf_counter() - begin)
            return times

        idle: list[float] = []
        saving: list[float] = []
        for turn in range(rounds + 1):
            end = time.perf_counter() + 1.0
            rest = pulls(end)
            path = folder / f"pulled-{turn}"
            save = threading.Thread(target=ps.save, args=(str(path),))
            save.start()
            busy = pulls(save)
            save.join()
            shutil.rmtree(path)
            if turn:  # the first compiles and warms up
                idle += rest
                saving += busy
    at_rest, meanwhile = (float(np.percentile(times, 99)) for times in (idle, saving))
    return Case(
        case="pull during a full checkpoint, 99th percentile",
        value=1 / meanwhile,
        unit="pulls/s",
        peer="the same group at rest",
        peer_value=1 / at_rest,
        goal="at most 3 times as slow",
        holds=meanwhile <= 3 * at_rest,
        quality=f"{1e3 * meanwhile:.1f} ms against {1e3 * at_rest:.1f} ms, medians "
        f"{1e3 * statistics.median(saving):.1f} and {1e3 * statistics.median(idle):.1f} ms; "
        f"{len(saving)} and {len(idle)} pulls",
        regime=f"{rows:,} rows in one Ray shard, {PULLED} uniform keys a pull, one at a time",
        n=rounds,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int)
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    run("checkpoint", functools.partial(cases, rows=own.rows))


if __name__ == "__main__":
    main()
