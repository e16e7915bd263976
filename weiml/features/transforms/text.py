"""Text to lists of tokens: words, n-grams of words, n-grams of characters; Chinese included."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import ConfigError, DataError
from weiml.features.transforms.columns import column, is_text, require
from weiml.features.transforms.derived import FittedDerived, OneColumn, Stateless
from weiml.features.transforms.ngrams import char_ngrams, code_classes, unsettled, word_ngrams
from weiml.features.transforms.registry import register

__all__ = ["TOKENIZERS", "CharNGrams", "Tokens", "normalised", "register_tokenizer"]

Tokenizer = Callable[[pa.Array], pa.Array]
"""From an array of normalised strings to one of lists of strings, row by row."""

TOKENIZERS: dict[str, Tokenizer] = {}


def register_tokenizer(name: str, tokenizer: Tokenizer) -> None:
    """Make a tokenizer known by a name that `Tokens` can take.

    Whoever loads a fitted `Tokens` with that name must have registered it too.
    """
    TOKENIZERS[name] = tokenizer


def normalised(values: pa.Array, name: str) -> pa.Array:
    """Return strings in Unicode's form NFKC, lower-cased; `name` is the column's, for errors.

    Raises:
        DataError: a string is not valid UTF-8, or all together are longer than 2³¹ bytes.
    """
    try:
        text = values.cast(pa.string())
        if pc.all(pc.string_is_ascii(text), min_count=0).as_py():
            return pc.ascii_lower(text)
        return pc.utf8_lower(_nfkc(text))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"column {name!r} cannot be cut into tokens: {error}") from None


def _nfkc(text: pa.Array) -> pa.Array:
    """Return strings in the form NFKC. Most are in it as they are; Python sees to the others.

    Arrow's own utf8_normalize takes characters apart and does not put them together again.
    """
    chosen = pa.array(unsettled(text))
    others = [unicodedata.normalize("NFKC", s) for s in text.filter(chosen).to_pylist()]
    return pc.replace_with_mask(text, chosen, pa.array(others, pa.string())) if others else text


@dataclass(frozen=True)
class _TextTransform(Stateless, OneColumn):
    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of lists of strings."""
        kind = self.kind(schema)
        require(is_text(kind), self.column, self.name, "strings", kind)
        return (pa.field(self.target, pa.list_(pa.string())),)

    def cut(self, text: pa.Array) -> pa.Array:
        raise AssertionError("a subclass has it")


@dataclass(frozen=True, eq=False)
class FittedText(FittedDerived):
    """Lists of tokens."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the lists."""
        assert isinstance(self.of, _TextTransform)
        text = normalised(column(table, self.of.column), self.of.column)
        return (self.of.cut(text),)


@register("tokens")
@dataclass(frozen=True)
class Tokens(_TextTransform):
    """Cuts text into words: runs of letters, digits and their marks, in NFKC and lower case.

    Runs of Han characters, which write no spaces, become single characters and, by default, pairs
    of neighbouring ones, which is what a search engine does without a dictionary. Missing text
    gives null.
    """

    ngrams: int = field(default=1, kw_only=True)
    """Also give up to so many neighbouring words as one token, joined by a space."""
    han: Literal["bigrams", "characters", "words"] = field(default="bigrams", kw_only=True)
    """Han characters: each and each two; each; or in runs, like letters."""
    tokenizer: str = field(default="unicode", kw_only=True)
    """Another one from `register_tokenizer`, which then cuts in place of the rules above."""

    fitted_type = FittedText

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.ngrams <= 16:
            raise ConfigError(f"Tokens({self.column!r}): ngrams must be 1 to 16, got {self.ngrams}")
        if self.tokenizer != "unicode" and self.tokenizer not in TOKENIZERS:
            known = nearest(self.tokenizer, ["unicode", *TOKENIZERS])
            raise ConfigError(
                f"Tokens({self.column!r}): no tokenizer {self.tokenizer!r} is registered{known}"
            )
        if self.tokenizer != "unicode" and (self.ngrams, self.han) != (1, "bigrams"):
            raise ConfigError(
                f"Tokens({self.column!r}): ngrams and han are for the tokenizer 'unicode', got "
                f"tokenizer = {self.tokenizer!r}"
            )

    def cut(self, text: pa.Array) -> pa.Array:
        """Return the tokens of normalised text."""
        if self.tokenizer != "unicode":
            return TOKENIZERS[self.tokenizer](text).cast(pa.list_(pa.string()))
        return word_ngrams(
            text,
            classes=code_classes(self.han != "words"),
            most=self.ngrams,
            han_bigrams=self.han == "bigrams",
        )


@register("char_ngrams")
@dataclass(frozen=True)
class CharNGrams(_TextTransform):
    """Cuts text into all runs of `least` to `most` characters within words, NFKC and lower case.

    They are alike for words that are written alike, misspelt ones too.
    """

    least: int = field(default=2, kw_only=True)
    most: int = field(default=3, kw_only=True)

    fitted_type = FittedText

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.least <= self.most <= 16:
            raise ConfigError(
                f"CharNGrams({self.column!r}): 1 <= least <= most <= 16 must hold, got "
                f"least = {self.least}, most = {self.most}"
            )

    def cut(self, text: pa.Array) -> pa.Array:
        """Return the n-grams of normalised text."""
        return char_ngrams(text, classes=code_classes(False), least=self.least, most=self.most)
