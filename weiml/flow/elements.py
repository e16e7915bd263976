"""XML text to a tree of elements that know their line; entities and document types are refused."""

from __future__ import annotations

import io
import xml.sax
from dataclasses import dataclass, field
from typing import Any
from xml.sax.handler import ContentHandler

import defusedxml
import defusedxml.sax

from weiml.errors import FlowError
from weiml.flow.graph import Position

__all__ = ["Element", "parse_elements"]


@dataclass(kw_only=True)
class Element:
    """An XML element: tag, attributes, children, and the text between them."""

    tag: str
    attributes: dict[str, str]
    position: Position
    children: list[Element] = field(default_factory=list)
    text: str = ""


class _Builder(ContentHandler):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.root: Element | None = None
        self._source = source
        self._open: list[Element] = []
        self._locator: Any = None

    def where(self) -> str:
        """Say which element is open, for the message of an error."""
        if not self._open:
            return ""
        inner = self._open[-1]
        return f"; <{inner.tag}> of line {inner.position.line} is still open"

    def setDocumentLocator(self, locator: Any) -> None:  # noqa: N802 - SAX names it
        self._locator = locator

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 - SAX names it
        position = Position(source=self._source, line=self._locator.getLineNumber())
        element = Element(tag=name, attributes=dict(attrs.items()), position=position)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def endElement(self, name: str) -> None:  # noqa: N802 - SAX names it
        self._open.pop()

    def characters(self, content: str) -> None:
        self._open[-1].text += content


def parse_elements(content: bytes, source: str) -> Element:
    """Parse XML; `source` names it in messages and positions.

    Raises:
        FlowError: the text is empty, is not well-formed XML (with line and column), or declares a
            document type or entities.
    """
    if not content.strip():
        raise FlowError(f'{source}: the file is empty; a flow starts with <flow name="…">')
    builder = _Builder(source)
    try:
        defusedxml.sax.parse(io.BytesIO(content), builder, forbid_dtd=True)
    except xml.sax.SAXParseException as error:
        raise FlowError(
            f"{source}:{error.getLineNumber()}: not well-formed XML, column "
            f"{(error.getColumnNumber() or 0) + 1}: {error.getMessage()}{builder.where()}"
        ) from None
    except defusedxml.DefusedXmlException as error:
        raise FlowError(
            f"{source}: document types and entities are not allowed in a flow "
            f"({type(error).__name__}); remove <!DOCTYPE …>"
        ) from None
    if builder.root is None:
        raise FlowError(f'{source}: the file has no element; a flow starts with <flow name="…">')
    return builder.root
