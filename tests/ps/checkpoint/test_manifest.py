"""Manifests come back as they were, and what is not one, or of another version, is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.ps.checkpoint.state import TABLES
from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.manifest import FileEntry, Manifest, ShardEntry


def manifest() -> Manifest:
    files = (
        FileEntry(
            path="shard-00000/rows-wide-00000.arrow",
            kind="rows",
            name="wide",
            shard=0,
            rows=5,
            bytes=999,
            xxh64="0123456789abcdef",
            buckets=(3, 9),
        ),
        FileEntry(
            path="v", kind="vector", name="v", shard=1, rows=4, bytes=9, xxh64="", ranges=((0, 4),)
        ),
        FileEntry(
            path="e",
            kind="extra",
            name="wide",
            shard=1,
            rows=4,
            bytes=7,
            xxh64="",
            array="bits",
            dtype="<u2",
            shape=(2, 2),
        ),
    )
    return Manifest(
        id="x-full",
        kind="delta",
        time_s=1.25,
        parent="w-full",
        parent_checksum="ab",
        num_buckets=64,
        shards=(
            ShardEntry(index=0, sequence=7, base=3, buckets=((0, 10), (20, 64)), control={"a": 1}),
            ShardEntry(index=1, sequence=9, base=5, buckets=((10, 20),)),
        ),
        table_mappings=tuple(config.to_mapping() for config in TABLES),
        vectors={"v": 4},
        about={"group": "ü"},
        files=files,
    )


def test_a_manifest_comes_back_equal() -> None:
    before = manifest()
    after = Manifest.from_json(before.to_json(), "m")
    assert after.files == before.files
    assert after.shards == before.shards
    assert after.tables == TABLES
    assert after.checksum == before.checksum
    assert (after.sequences, after.rows, after.size) == ((7, 9), 5, 1015)
    assert after.shards[1].held.tolist() == list(range(10, 20))
    assert replace(after, table_mappings=()) == replace(before, table_mappings=())


def test_keys_that_are_numbers_do_not_spoil_the_checksum() -> None:
    numbers: dict[Any, Any] = {n: n for n in range(12)}
    before = replace(manifest(), about=numbers)
    after = Manifest.from_json(before.to_json(), "m")
    assert after.about == {str(n): n for n in range(12)}


def test_a_manifest_is_sent_without_what_was_made_of_it() -> None:
    before = manifest()
    plain = pickle.dumps(before)
    before.to_json()
    assert before.tables == TABLES
    assert len(pickle.dumps(before)) == len(plain)
    after = pickle.loads(pickle.dumps(before))
    assert after == before
    assert (after.tables, after.checksum) == (before.tables, before.checksum)


def test_every_damaged_byte_is_found(rng: np.random.Generator) -> None:
    good = manifest().to_json()
    for place in rng.integers(0, len(good), 300):
        bad = bytearray(good)
        bad[place] ^= 0x11
        with pytest.raises(ParameterServerError, match="m is damaged"):
            Manifest.from_json(bytes(bad), "m")
    for bad_bytes in (b"", good[:-2], good + b"x", b"[]", b"\xff"):
        with pytest.raises(ParameterServerError, match="m is damaged"):
            Manifest.from_json(bad_bytes, "m")


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_refused(version: int) -> None:
    body: dict[str, Any] = json.loads(manifest().to_json()) | {"version": version}
    del body["checksum"]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    content = json.dumps({**body, "checksum": digest}).encode()
    with pytest.raises(ParameterServerError, match=f"version {version}; this release reads"):
        Manifest.from_json(content, "m")
