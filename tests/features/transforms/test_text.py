"""Text to tokens: forms of Unicode, Chinese, other tokenizers, errors."""

from __future__ import annotations

import pickle
import unicodedata
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import CharNGrams, Tokens, Transform, register_tokenizer
from weiml.features.transforms.text import TOKENIZERS, normalised


def cut(transform: Transform, *texts: str | None) -> list[list[str] | None]:
    table = pa.table({"t": pa.array(texts, pa.string())})
    made: list[list[str] | None] = transform.fit(table).apply(table).column("t").to_pylist()
    return made


def test_words() -> None:
    assert cut(Tokens("t"), "Red SHOES, size-42!", "", None, " ,.") == [
        ["red", "shoes", "size", "42"],
        [],
        None,
        [],
    ]


def test_forms_of_unicode_meet() -> None:
    composed, apart = "Café ÉTÉ", unicodedata.normalize("NFD", "Café ÉTÉ")
    assert composed != apart
    assert cut(Tokens("t"), composed, apart) == [["café", "été"]] * 2
    assert cut(Tokens("t"), "Ｆｕｌｌ　Ｗｉｄｔｈ ﬁne ①") == [["full", "width", "fine", "1"]]
    assert cut(Tokens("t"), "हिन्दी 한국어") == [["हिन्दी", "한국어"]]


def test_chinese_becomes_characters_and_pairs() -> None:
    title = "手机壳 iPhone15保护"
    assert cut(Tokens("t"), title) == [
        ["手", "手机", "机", "机壳", "壳", "iphone15", "保", "保护", "护"]
    ]
    assert cut(Tokens("t", han="characters"), title) == [["手", "机", "壳", "iphone15", "保", "护"]]
    assert cut(Tokens("t", han="words"), title) == [["手机壳", "iphone15保护"]]


def test_neighbouring_words() -> None:
    assert cut(Tokens("t", ngrams=3), "a b c 中 d") == [
        ["a", "a b", "a b c", "b", "b c", "c", "中", "d"]
    ]


def test_characters() -> None:
    assert cut(CharNGrams("t"), "Shoe a é中x") == [
        ["sh", "sho", "ho", "hoe", "oe", "é中", "é中x", "中x"]
    ]
    assert cut(CharNGrams("t", least=1, most=1), "ab, c") == [["a", "b", "c"]]


@given(st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=6))
def test_normal_forms_are_pythons(texts: list[str | None]) -> None:
    def expected(text: str) -> str:
        # Arrow lowers each character by itself, without Python's special cases.
        form = unicodedata.normalize("NFKC", text)
        return "".join(c.lower() if len(c.lower()) == 1 else c for c in form)

    made = normalised(pa.array(texts, pa.string()), "t").to_pylist()
    for text, found in zip(texts, made, strict=True):
        if text is None:
            assert found is None
        elif not any(unicodedata.category(c)[0] in "CL" and ord(c) > 0x24F for c in text):
            assert found == expected(text)


@pytest.fixture
def by_comma() -> Iterator[str]:
    def tokenizer(text: pa.Array) -> pa.Array:
        return pa.array([None if s is None else s.split(",") for s in text.to_pylist()])

    register_tokenizer("by_comma", tokenizer)
    yield "by_comma"
    del TOKENIZERS["by_comma"]


def test_another_tokenizer_by_name(by_comma: str) -> None:
    tokens = Tokens("t", tokenizer=by_comma)
    assert cut(pickle.loads(pickle.dumps(tokens)), "A b,c", None) == [["a b", "c"], None]
    with pytest.raises(ConfigError, match="ngrams and han"):
        Tokens("t", tokenizer=by_comma, ngrams=2)


def test_wrong_options_are_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'unicode'"):
        Tokens("t", tokenizer="unicod")
    with pytest.raises(ConfigError, match="ngrams"):
        Tokens("t", ngrams=0)
    with pytest.raises(ConfigError, match="least"):
        CharNGrams("t", least=3, most=2)


def test_broken_utf8_is_told() -> None:
    data, offsets = np.array([0xE4, 0xB8, 0xFF], np.uint8), np.array([0, 3], np.int32)
    text = pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data))
    with pytest.raises(DataError, match="'t' cannot be cut"):
        Tokens("t").fit(pa.table({"t": text})).apply(pa.table({"t": text}))
