"""Matplotlib figures as SVG that lives inside a page: its fonts, its colours, its dark mode.

Knows nothing of what is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

__all__ = ["COLOURS", "DASHES", "FAINT", "INK", "LINE", "MARKERS", "figure", "inline_svg", "style"]

# Colours stand for CSS variables, so that the page can swap them; each is used for nothing else.
INK, LINE, FAINT = "#15181d", "#8b919b", "#d7dbe1"
# Okabe & Ito's palette, told apart by all common kinds of colour blindness. Series differ by dashes
# and markers as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (1, 1.2)), (0, (9, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
_VARIABLES = {
    INK: "var(--ink)",
    LINE: "var(--line)",
    FAINT: "var(--faint)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(COLOURS)},
}

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "grid.color": FAINT,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures; what is drawn inside has it."""
    with matplotlib.rc_context(_SETTINGS):
        yield


@contextmanager
def figure(width: float, height: float, **grid: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure of `width` × `height` inches and its axes, as ``Figure.subplots`` gives them.

    Made without pyplot, hence without any global state or display.
    """
    with style():
        room = ConstrainedLayoutEngine(hspace=0.08, wspace=0.04)  # between rows and columns
        made = Figure(figsize=(width, height), layout=room)
        FigureCanvasSVG(made)
        yield made, made.subplots(**grid)


def inline_svg(made: Figure, name: str, title: str) -> str:
    """Draw as an SVG element for a page; its ids start with `name`, which is unique in the page.

    Call it inside of `figure`, so that the texts get their settings.
    """
    with matplotlib.rc_context({"svg.hashsalt": name}):
        buffer = io.StringIO()
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"font-family:[^;\"]*", "font-family: inherit", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.IGNORECASE)
    head = re.search(r'<svg[^>]*viewBox="([^"]+)"[^>]*>', text)
    assert head is not None, "matplotlib always writes a view box"
    width = float(head[1].split()[2])
    opening = (
        f'<svg class="plot" role="img" viewBox="{head[1]}" '
        f'style="max-width: {width * 4 / 3:.0f}px" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
    )
    return opening + text[head.end() :].strip()
