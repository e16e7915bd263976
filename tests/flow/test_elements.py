from __future__ import annotations

import pytest

from weiml.errors import FlowError
from weiml.flow.elements import parse_elements


def test_elements_know_their_lines() -> None:
    root = parse_elements(b'<a>\n  <b x="1">text</b>\n\n  <c/>\n</a>', "f.xml")
    assert [str(child.position) for child in root.children] == ["f.xml:2", "f.xml:4"]
    assert root.children[0].attributes == {"x": "1"}
    assert root.children[0].text == "text"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f.xml: the file is empty"),
        (b"  \n ", "f.xml: the file is empty"),
        (b"<a>\n<b>\n</a>", "f.xml:3: not well-formed XML, column 3: mismatched tag"),
        (b"<a", "f.xml:1: not well-formed"),
        (b"plain", "f.xml:1: not well-formed"),
        (b"<a>\xff</a>", "f.xml:1: not well-formed"),
    ],
)
def test_what_is_not_xml_is_an_error_with_its_line(content: bytes, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        parse_elements(content, "f.xml")


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><a/>',
    ],
)
def test_entities_and_document_types_are_refused(content: bytes) -> None:
    with pytest.raises(FlowError, match="not allowed in a flow"):
        parse_elements(content, "f.xml")
