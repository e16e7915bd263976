"""Checkpoints: atomic, checksummed folders of Arrow files on any file system.

`CheckpointWriter` (one folder) and `CheckpointStore` (a folder of them) are the coordinator's side,
`write_shard` and `Chain` the shards'. docs/checkpoints.md describes the files.
"""

from __future__ import annotations

from weiml.ps.checkpoint.chain import Chain, Checkpoint, open_checkpoint
from weiml.ps.checkpoint.export import export_parquet
from weiml.ps.checkpoint.listing import CheckpointInfo
from weiml.ps.checkpoint.manifest import FileEntry, Manifest, ShardEntry
from weiml.ps.checkpoint.parts import (
    Extras,
    Rows,
    RowsChunk,
    ShardPart,
    ShardRecord,
    TablePart,
    VectorSlices,
)
from weiml.ps.checkpoint.shard_writer import write_shard
from weiml.ps.checkpoint.storage import Folder
from weiml.ps.checkpoint.store import CheckpointStore, Skipped
from weiml.ps.checkpoint.writer import CheckpointSpec, CheckpointWriter, write_checkpoint

__all__ = [
    "Chain",
    "Checkpoint",
    "CheckpointInfo",
    "CheckpointSpec",
    "CheckpointStore",
    "CheckpointWriter",
    "Extras",
    "FileEntry",
    "Folder",
    "Manifest",
    "Rows",
    "RowsChunk",
    "ShardEntry",
    "ShardPart",
    "ShardRecord",
    "Skipped",
    "TablePart",
    "VectorSlices",
    "export_parquet",
    "open_checkpoint",
    "write_checkpoint",
    "write_shard",
]
