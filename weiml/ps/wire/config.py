"""What a client may do to make its requests smaller. Knows names and bounds, no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from weiml.errors import ConfigError

__all__ = ["Codec", "KeyCoding", "WireConfig"]

Codec: TypeAlias = Literal["float32", "float16", "bfloat16", "float8", "int8"]
"""How numbers travel; see `weiml.ps.wire.codecs`."""
KeyCoding: TypeAlias = Literal["plain", "packed"]

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WireConfig:
    """How one client's rows and keys travel. By default as they are, so that nothing is rounded.

    The first thing to try on a slow network is ``WireConfig(pull="bfloat16", push="bfloat16",
    keys="packed", key_cache_mib=64, omit_new=True)``; docs/ps-tuning.md has what each knob does to
    bytes and quality.
    """

    pull: Codec = "float32"
    """Of pulled rows. State, whose numbers must stay apart in size, travels as bfloat16 where int8
    or float8 is asked for. float16 ends at 65,504, which a state's sums can pass: larger ones
    arrive as that; bfloat16 has float32's range."""
    omit_new: bool = False
    """Leave rows that do not exist yet out of a pull's answer: the client makes them as the shard
    would, bit by bit. Costs the shard a second look for each row."""
    push: Codec = "float32"
    """Of pushed gradients. Differences of state and Σg², which must keep their sign in sum, travel
    as float8 where int8 is asked for. What rounding leaves out is added to the key's next push."""
    push_fraction: float = 1.0
    """Share of a push's rows that are sent, the largest by norm; above 0. The others are kept and
    added to the key's next push, and go out on `Client.flush` and `Client.finish`."""
    feedback_rows: int = 1 << 20
    """Rows per table of which a client remembers what was not sent. When there are more, those not
    pushed for longest leave: a row held back by `push_fraction` is sent, a rest of rounding is
    dropped. 0: rests of rounding are not kept at all."""
    keys: KeyCoding = "plain"
    """packed: a key that the shard has had from this client before travels as a number, in one or
    two bytes instead of eight."""
    dictionary_keys: int = 1 << 22
    """Of packed keys: how many a client numbers per shard before it begins anew. Costs the shard 8
    bytes each and the client 22 to 43."""
    key_cache_mib: float = 0.0
    """Key lists that a client believes each shard to remember, so that 16 bytes stand for a list
    sent again, as by the push that follows a pull; 0 sends every list."""
    max_outstanding: int = 64
    """Writes that a client may have under way, and reads; the next one waits for the oldest. Bounds
    the memory of client and shards, and so slows a client down to what its shards take."""

    def __post_init__(self) -> None:
        for knob in ("pull", "push"):
            _check_choice(knob, getattr(self, knob), get_args(Codec))
        _check_choice("keys", self.keys, get_args(KeyCoding))
        if not 0 < self.push_fraction <= 1:
            raise ConfigError(
                f"push_fraction must be above 0 and at most 1, got {self.push_fraction!r}"
            )
        if self.feedback_rows < 0:
            raise ConfigError(f"feedback_rows must be 0 or more, got {self.feedback_rows}")
        if self.push_fraction < 1 and self.feedback_rows == 0:
            raise ConfigError(
                f"push_fraction = {self.push_fraction:g} needs feedback_rows above 0: the rows not "
                f"sent have to be kept somewhere"
            )
        if not 1 <= self.dictionary_keys < 2**31:
            raise ConfigError(f"dictionary_keys must be 1 … 2³¹-1, got {self.dictionary_keys}")
        if self.max_outstanding < 1:
            raise ConfigError(f"max_outstanding must be 1 or more, got {self.max_outstanding}")
        if not self.key_cache_mib >= 0:
            raise ConfigError(f"key_cache_mib must be 0 or more, got {self.key_cache_mib!r}")

    @property
    def key_cache_bytes(self) -> int:
        """`key_cache_mib` in bytes."""
        return int(self.key_cache_mib * _MIB)

    @property
    def compresses(self) -> bool:
        """Whether pushed rows are rounded or held back, so that a `Compressor` is needed."""
        return self.push != "float32" or self.push_fraction < 1

    @property
    def codes_keys(self) -> bool:
        """Whether key lists travel otherwise than as they are, so that a `KeySender` is needed."""
        return self.keys == "packed" or self.key_cache_mib > 0

    def pull_codec(self, what: Literal["weights", "training", "state"]) -> Codec:
        """Return how pulled rows travel."""
        return "bfloat16" if what == "state" and self.pull in ("int8", "float8") else self.pull

    def push_codec(self, what: Literal["gradients", "differences", "squares", "counts"]) -> Codec:
        """Return how one part of a push travels."""
        return "float8" if what != "gradients" and self.push == "int8" else self.push


def _check_choice(knob: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{knob} must be one of {', '.join(choices)}; got {value!r}")
