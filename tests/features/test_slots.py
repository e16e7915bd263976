"""Tokens of Text: those of the transform, and for ASCII those that they have always been."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.features import FeatureEncoder, FeatureSpec, KeyNames, Text
from weiml.features.slots import text_slot, tokenize
from weiml.features.transforms import Tokens
from weiml.hashing import TypeTag, hash_key

ascii_texts = st.lists(st.one_of(st.none(), st.text(st.characters(max_codepoint=127))), max_size=6)
texts = st.lists(st.one_of(st.none(), st.text("aÉé\u0301ﬁ²Ⅳ٣北京々 -_Ａß", max_size=8)), max_size=6)


@given(ascii_texts, st.integers(1, 4))
def test_tokens_of_ascii_are_runs_of_letters_and_digits(
    values: list[str | None], most: int
) -> None:
    expected = [re.findall(r"[a-z0-9]+", (text or "").lower())[:most] for text in values]
    slot = text_slot("t", pa.array([*values, "x"], pa.string()).slice(0, len(values)), most)
    assert slot.lengths is not None
    assert slot.lengths.tolist() == [len(tokens) for tokens in expected]
    ids = [hash_key("t", token, TypeTag.TEXT) for tokens in expected for token in tokens]
    assert slot.keys.tolist() == ids


@given(texts, st.integers(1, 4))
def test_tokens_are_those_of_the_transform(values: list[str | None], most: int) -> None:
    column = pa.array(values, pa.string())
    table = pa.table({"t": column})
    lists = Tokens("t", han="words").fit(table).apply(table)["t"].to_pylist() if values else []
    words, lengths = tokenize("t", column, most)
    cut = [(tokens or [])[:most] for tokens in lists]
    assert lengths.tolist() == [len(tokens) for tokens in cut]
    assert words.to_pylist() == [token for tokens in cut for token in tokens]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_forms_of_unicode_have_the_same_keys(form: str) -> None:
    spec = FeatureSpec(features=(Text("t"),))
    table = pa.table({"t": [unicodedata.normalize(form, "Cafés à l'Été, 北京")]})  # type: ignore[arg-type]
    batch = FeatureEncoder(spec).encode(table, labels=False)
    expected = ["cafés", "à", "l", "été", "北京"]
    assert batch.keys.tolist() == [hash_key("t", word, TypeTag.TEXT) for word in expected]
    names = KeyNames()
    names.add(spec, table)
    assert sorted(names.to_table()["value"].to_pylist()) == sorted(expected)


def test_text_that_is_no_utf8_is_told() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xffa")]
    )
    with pytest.raises(DataError, match="column 't' cannot be cut into tokens"):
        tokenize("t", broken, 3)
