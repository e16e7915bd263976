"""Fewer bytes on the wire: rounded rows, rows held back, key lists that travel once.

Read `config` for the knobs, `codecs` for rows, `feedback` for what a push leaves out, `key_lists`
for keys. Nothing here knows a shard or a network: a client and a shard call it.
"""

from __future__ import annotations

from weiml.ps.wire.codecs import Encoded, decode, encode
from weiml.ps.wire.config import Codec, WireConfig
from weiml.ps.wire.feedback import Compressor, EncodedPush
from weiml.ps.wire.key_lists import (
    KeyListCache,
    KeyMessage,
    KeyReceiver,
    KeySender,
    Sent,
    signature,
)
from weiml.ps.wire.some_rows import SomeRows

__all__ = [
    "Codec",
    "Compressor",
    "Encoded",
    "EncodedPush",
    "KeyListCache",
    "KeyMessage",
    "KeyReceiver",
    "KeySender",
    "Sent",
    "SomeRows",
    "WireConfig",
    "decode",
    "encode",
    "signature",
]
