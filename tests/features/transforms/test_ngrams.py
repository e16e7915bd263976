"""Tokens against a reference in plain Python, letter by letter."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.features.transforms.ngrams import char_ngrams, code_classes, unsettled, word_ngrams

letters = st.one_of(
    st.sampled_from("ab1 ,_-'中国人々手𠀀é́\u0301\u093f\u0928のン가"), st.characters(codec="utf-8")
)
texts = st.lists(st.one_of(st.none(), st.text(letters, max_size=12)), max_size=8)


def is_han(letter: str) -> bool:
    code = ord(letter)
    ranges = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)]
    return letter in "々〇" or any(a <= code <= b for a, b in ranges)


def units(text: str, han: bool) -> list[tuple[str, str, bool]]:
    """Return (kind, text, whether it follows at once) of words and Han characters."""
    found: list[tuple[str, str, bool]] = []
    before = ""
    for letter in text:
        category = unicodedata.category(letter)[0] if ord(letter) < 0x30000 else "C"
        if is_han(letter):
            kind = "han" if han else "word"
        elif 0x20000 <= ord(letter) < 0xE0000 or ord(letter) >= 0xE0200:
            kind = ""
        elif category in "LN":
            kind = "word"
        else:
            mark = unicodedata.category(letter)[0] == "M"
            kind = "word" if mark and before == "word" else ""
        if kind == "word" and before == "word":
            found[-1] = ("word", found[-1][1] + letter, found[-1][2])
        elif kind:
            found.append((kind, letter, kind == before))
        before = kind
    return found


def reference_words(text: str, most: int, bigrams: bool) -> list[str]:
    found = units(text, han=True)
    tokens = []
    for i, (kind, unit, _) in enumerate(found):
        tokens.append(unit)
        if kind == "han":
            if bigrams and i + 1 < len(found) and found[i + 1][0] == "han" and found[i + 1][2]:
                tokens.append(unit + found[i + 1][1])
            continue
        for n in range(2, most + 1):
            some = found[i : i + n]
            if len(some) < n or any(k != "word" for k, _, _ in some):
                break
            tokens.append(" ".join(u for _, u, _ in some))
    return tokens


def reference_chars(text: str, least: int, most: int) -> list[str]:
    return [
        word[i : i + n]
        for _, word, _ in units(text, han=False)
        for i in range(len(word))
        for n in range(least, most + 1)
        if i + n <= len(word)
    ]


@given(texts, st.integers(1, 3), st.booleans())
def test_words_are_those_of_the_reference(
    texts: list[str | None], most: int, bigrams: bool
) -> None:
    classes = code_classes(True)
    made = word_ngrams(
        pa.array(texts, pa.string()), classes=classes, most=most, han_bigrams=bigrams
    )
    made.validate(full=True)
    expected = [None if t is None else reference_words(t, most, bigrams) for t in texts]
    assert made.to_pylist() == expected


@given(texts, st.integers(1, 3), st.integers(0, 2))
def test_characters_are_those_of_the_reference(
    texts: list[str | None], least: int, more: int
) -> None:
    array = pa.array([None, "before", *texts], pa.string()).slice(2)
    made = char_ngrams(array, classes=code_classes(False), least=least, most=least + more)
    made.validate(full=True)
    expected = [None if t is None else reference_chars(t, least, least + more) for t in texts]
    assert made.to_pylist() == expected


@pytest.mark.parametrize("most", [1, 2, 3])
def test_many_texts_of_few_letters(most: int, rng: np.random.Generator) -> None:
    few = list("ab1 ,-中国々𠀀é가ン\u0301\u093f")
    texts = ["".join(rng.choice(few, rng.integers(0, 9))) for _ in range(2000)]
    array = pa.array(texts)
    words = word_ngrams(array, classes=code_classes(True), most=most, han_bigrams=True)
    assert words.to_pylist() == [reference_words(t, most, True) for t in texts]
    chars = char_ngrams(array, classes=code_classes(False), least=1, most=most)
    assert chars.to_pylist() == [reference_chars(t, 1, most) for t in texts]


@given(st.lists(st.text(letters, max_size=12), max_size=8))
def test_texts_taken_for_settled_are(texts: list[str]) -> None:
    flags = unsettled(pa.array(texts, pa.string()))
    for text, flag in zip(texts, flags, strict=True):
        assert flag or unicodedata.is_normalized("NFKC", text)


@pytest.mark.parametrize("text", ["plain", "手机", "é", "日本", "ж"])
def test_plain_texts_are_settled(text: str) -> None:
    assert not unsettled(pa.array([text]))[0]


def test_broken_utf8_breaks_nothing(rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 4000).astype(np.uint8)
    offsets = np.sort(rng.integers(0, 4000, 201)).astype(np.int32)
    text = pa.StringArray.from_buffers(200, pa.py_buffer(offsets), pa.py_buffer(data))
    assert len(word_ngrams(text, classes=code_classes(True), most=2, han_bigrams=True)) == 200
    assert len(char_ngrams(text, classes=code_classes(False), least=1, most=3)) == 200
