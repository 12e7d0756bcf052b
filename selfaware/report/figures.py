"""Figures as inline SVG and as PDF, and the same numbers as text, each kind of panel drawn by a module of its own.

Knows a `page.Figure`. Must not know where its numbers come from, nor any HTML around it.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

import matplotlib
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from selfaware.errors import BadData
from selfaware.report import curves, forest, glyphs, heat, ranked, style
from selfaware.report.page import AnyPanel, Curves, Figure, Heat, Panel, Ranked
from selfaware.report.sheet import Sheet
from selfaware.report.summary import write_atomic

P = TypeVar("P", bound=AnyPanel)


@dataclass(frozen=True)
class _Kind(Generic[P]):
    """What a kind of panel must say of itself: what is wrong with one, how several are drawn, and their numbers.

    Attributes:
        problem: empty where the panel can be drawn; else what it got, what it needs and what to do.
        drawing: a sheet is written as SVG by this package, a canvas by matplotlib.
        words: lines of text with every number of one panel.
        is_wide: whether the drawing is as wide as the page.
    """

    panel: type[P]
    problem: Callable[[P], str]
    drawing: Callable[[Sequence[P]], Canvas | Sheet]
    words: Callable[[P], list[str]]
    is_wide: Callable[[Sequence[P]], bool]


_KINDS: tuple[_Kind[Any], ...] = (
    _Kind(Panel, forest.problem, forest.drawing, forest.words, forest.is_wide),
    _Kind(Curves, curves.problem, curves.drawing, curves.words, curves.is_wide),
    _Kind(Heat, heat.problem, heat.drawing, heat.words, heat.is_wide),
    _Kind(Ranked, ranked.problem, ranked.drawing, ranked.words, ranked.is_wide),
)


def draw(figure: Figure) -> str:
    """The figure as an inline SVG element, text kept as text in the reader's sans-serif font.

    The same figure always gives the same bytes. Every id in it starts with the figure's name, so that several can
    stand in one page. An estimate that is undefined is written out with its reason, or left as a gap in a line.

    Args:
        figure: a panel may hold any number of marks; panels stand two in a row.

    Raises:
        BadData: its panels are of several kinds, or one of them can't be drawn.
    """
    kind = check(figure)
    with _style():
        drawing = kind.drawing(figure.panels)
        if isinstance(drawing, Sheet):
            return _titled(drawing.svg(_id(figure)), figure)
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _titled(_inline(buffer.getvalue(), figure), figure)


def save_pdf(figure: Figure, path: Path | str) -> Path:
    """The path of the figure as a PDF for a paper: fonts embedded, no date, written whole or not at all.

    A character that the PDF's font lacks is written as its code point, for example `U+964D`.

    Raises:
        BadData: its panels are of several kinds, or one of them can't be drawn.
        OSError: the folder can't be written.
    """
    kind = check(figure)
    with _style():
        drawing = kind.drawing(figure.panels)
        canvas = drawing.canvas() if isinstance(drawing, Sheet) else drawing
        for text in canvas.findobj(Text):
            if isinstance(text, Text):
                text.set_text(glyphs.printable(text.get_text(), bold=text.get_fontweight() == "bold"))
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Producer": None})
    return write_atomic(Path(path), buffer.getvalue())


def is_wide(figure: Figure) -> bool:
    """Whether the figure is as wide as the page: it has several panels, or one of much content.

    Raises:
        BadData: its panels are of several kinds, or one of them can't be drawn.
    """
    return check(figure).is_wide(figure.panels)


def described(figure: Figure) -> str:
    """Every number of the figure as text, for readers who can't see it: its lines under each panel's title.

    Raises:
        BadData: its panels are of several kinds, or one of them can't be drawn.
    """
    kind = check(figure)
    lines = [figure.title]
    for one in figure.panels:
        lines += [f"{one.title} ({one.unit}):", *kind.words(one)]
    return "\n".join(lines)


def check(figure: Figure) -> _Kind[Any]:
    """How the figure's panels are drawn, once it is sure that they can be.

    Raises:
        BadData: its panels are of several kinds, or one of them can't be drawn.
    """
    types = list(dict.fromkeys(type(one) for one in figure.panels)) or [Panel]
    if len(types) > 1:
        names = " and ".join(found.__name__ for found in types)
        raise BadData(f"figure {figure.name!r}: panels of {names}; needed one kind. Make a figure of each.")
    kind = next((kind for kind in _KINDS if kind.panel is types[0]), None)
    if kind is None:
        known = ", ".join(kind.panel.__name__ for kind in _KINDS)
        raise BadData(
            f"figure {figure.name!r}: panels of {types[0].__name__}; needed one of {known}. Use one of these."
        )
    for number, one in enumerate(figure.panels, 1):
        if problem := kind.problem(one):
            raise BadData(f"figure {figure.name!r}, panel {number} ({one.title!r}): {problem}")
    return kind


@contextmanager
def _style() -> Iterator[None]:
    """The house's drawing settings and matplotlib's own defaults, whatever the reader's matplotlibrc says.

    Matplotlib warns of characters that its font lacks; on a page the reader's fonts have them, in a PDF they are
    written as code points.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style.STYLE)
        yield


# ---------------------------------------------------------------- text


def _id(figure: Figure) -> str:
    return "figure-" + re.sub(r"[^A-Za-z0-9_-]", "-", figure.name)


def _inline(svg: str, figure: Figure) -> str:
    """Matplotlib's SVG file made fit to stand in a page: no header, own ids, the reader's fonts."""
    name = _id(figure)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("*{", f"#{name} *{{", 1)  # the rule would else hold for the whole page

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r'\b(id="|href="#)', rf"\g<1>{name}-", found[0])
        text = text.replace("url(#", f"url(#{name}-")
        text = re.sub(r"(?<=: )#[0-9a-fA-F]{6}\b", lambda colour: style.themed(colour[0]), text)
        return re.sub(r"'DejaVu Sans'(, sans-serif)?", style.FONTS, text)

    return re.sub(r"<[A-Za-z][^>]*>", tag, svg)


def _titled(svg: str, figure: Figure) -> str:
    """The element with its id, its label and its numbers in words."""
    label = escape(glyphs.plain(figure.title))
    text = escape(glyphs.plain(described(figure)), quote=False)
    svg = svg.replace("<svg ", f'<svg id="{_id(figure)}" role="img" aria-label="{label}" ', 1)
    end = svg.index(">") + 1
    return f"{svg[:end]}\n <desc>{text}</desc>{svg[end:]}".rstrip() + "\n"
