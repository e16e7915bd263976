"""Feature ids: one documented 64-bit hash, the same for every way a value can arrive.

The id of value ``v`` of feature ``f`` of type ``t`` is ::

    XXH64(utf8(v), seed = XXH64(utf8(f), seed = tag of t))

with the tags of `TypeTag`, so that a feature whose type changes shares no id with what it was.
Integers are written in decimal and booleans as ``true`` or ``false``, so that the integer 5 of a
JSON request, the text ``5`` of a CSV file and an Arrow column of any integer type all give the same
id. A float that is a whole number counts as that integer; others have no id (see `hash_values`). A
missing value has an id of its own. Id 0 means "empty" in tables and is never given out.

XXH64 is Yann Collet's xxHash, 64-bit form (xxHash fast digest algorithm, specification 0.2).
"""

from __future__ import annotations

from weiml.hashing.columns import hash_values, text_form
from weiml.hashing.ids import TypeTag, feature_seed, hash_key, missing_id, padding_id, text_id
from weiml.hashing.mixing import cross_keys, cross_prefix, cross_with, mix64, unmix64
from weiml.hashing.xxh64 import xxh64

__all__ = [
    "TypeTag",
    "cross_keys",
    "cross_prefix",
    "cross_with",
    "feature_seed",
    "hash_key",
    "hash_values",
    "missing_id",
    "mix64",
    "padding_id",
    "text_form",
    "text_id",
    "unmix64",
    "xxh64",
]
