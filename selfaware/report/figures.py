"""Figures as forest plots: marks under each other, a dot with its interval, and the same numbers as text.

Knows a `page.Figure`. Must not know where its numbers come from, nor any HTML around it.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from selfaware.report import panel, style
from selfaware.report.page import Figure
from selfaware.report.summary import write_atomic


def draw(figure: Figure) -> str:
    """The figure as an inline SVG element, text kept as text in the reader's sans-serif font.

    The same figure always gives the same bytes. Every id in it starts with the figure's name, so that several can
    stand in one page. An estimate that is undefined is written out with its reason in place of a dot.

    Args:
        figure: a panel may hold any number of marks; panels stand two in a row.
    """
    with _style():
        buffer = io.StringIO()
        _canvas(figure).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), figure)


def save_pdf(figure: Figure, path: Path | str) -> Path:
    """The path of the figure as a PDF for a paper: fonts embedded, no date, written whole or not at all.

    Raises:
        OSError: the folder can't be written.
    """
    with _style():
        buffer = io.BytesIO()
        _canvas(figure).savefig(buffer, format="pdf", metadata={"CreationDate": None, "Producer": None})
    return write_atomic(Path(path), buffer.getvalue())


def is_wide(figure: Figure) -> bool:
    """Whether the figure is as wide as the page: it has several panels, or one of many marks or long labels."""
    if len(figure.panels) != 1:
        return len(figure.panels) > 1
    placed, _ = panel.lines(figure.panels[0], style.LONG_LABEL_CHARACTERS)
    return len(placed) > style.MANY or any(line.label_width > style.LONG_LABEL for line in placed)


def described(figure: Figure) -> str:
    """Every number of the figure as text, for readers who can't see it: one line a mark, under its panel's title."""
    lines = [figure.title]
    for one in figure.panels:
        lines.append(f"{one.title} ({one.unit}):")
        places = panel.places(one)
        for mark in one.marks:
            name = f"{mark.label} ({mark.note})" if mark.note else mark.label
            name = f"{name}, {mark.polarity}" if mark.polarity else name
            why = panel.why(mark)
            lines.append(f"{name}: {panel.numbers(mark, one, places) if why is None else f'undefined: {why}'}")
    return "\n".join(lines)


@contextmanager
def _style() -> Iterator[None]:
    """The house's drawing settings and matplotlib's own defaults, whatever the reader's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style.STYLE)
        yield


# ---------------------------------------------------------------- layout


def _canvas(figure: Figure) -> Canvas:
    """The whole drawing. Placed by hand in inches: automatic layout moves with the backend's text sizes."""
    abreast = min(2, len(figure.panels))
    characters = style.LABEL_CHARACTERS if abreast > 1 else style.LONG_LABEL_CHARACTERS
    laid = [panel.lines(one, characters) for one in figure.panels]
    for number in range(1, len(laid), 2):
        laid[number] = (panel.unlabelled(laid[number][0], laid[number - 1][0]), laid[number][1])
    ends = panel.shared_limits(figure.panels)
    rows = [range(start, min(start + 2, len(figure.panels))) for start in range(0, len(figure.panels), 2)]
    labels = [max((line.label_width for line in lines), default=0.0) for lines, _ in laid]
    wide = style.WIDTH if is_wide(figure) else style.SINGLE
    heights = [max(laid[number][1] for number in row) for row in rows]
    total = sum(height + style.HEAD + style.FOOT for height in heights) + style.LEGEND
    canvas = Canvas(figsize=(wide, total), facecolor="white")
    top, plot = 0.0, 0.0
    for row, height in zip(rows, heights, strict=True):
        columns = []
        for number in row:
            one = figure.panels[number]
            label = labels[number]
            text = max(
                (panel.width(panel.numbers(m, one, panel.places(one)), style.SMALL) for m in one.marks), default=0.0
            )
            columns.append(panel.Columns(label, style.GUTTER if label else 0.0, 0.0, text))
        spent = sum(c.label + c.gutter + c.numbers + style.NUMBER_GAP for c in columns)
        spent += 2 * style.EDGE + (len(row) - 1) * style.GUTTER
        # A panel left over stands under the first one, as wide as that is: lengths can be compared down the page too.
        plot = plot if plot and len(row) < abreast else max(1.2, (wide - spent) / len(row))
        left = style.EDGE
        for number, column in zip(row, columns, strict=True):
            left += column.label + column.gutter
            box = (left / wide, 1 - (top + style.HEAD + height) / total, plot / wide, height / total)
            lines, _ = laid[number]
            panel.draw(canvas.add_axes(box), figure.panels[number], lines, replace(column, plot=plot), ends[number])
            left += plot + style.NUMBER_GAP + column.numbers + style.GUTTER
        top += style.HEAD + height + style.FOOT
    _legend(canvas, figure, total)
    return canvas


def _legend(canvas: Canvas, figure: Figure, total: float) -> None:
    """One line under the panels that names the signs in use, and only those."""
    marks = [mark for one in figure.panels for mark in one.marks if panel.why(mark) is None]
    handles: list[Line2D | Patch] = []

    def sign(polarity: str, label: str, *, hollow: bool = False, size: float = 7) -> None:
        colour = style.COLOURS[polarity]
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=style.SHAPES[polarity],
                markersize=size,
                markeredgecolor=colour,
                markerfacecolor="white" if hollow else colour,
                markeredgewidth=1.4 if size > 4 else 0,
                alpha=1.0 if size > 4 else 0.6,
                label=label,
            )
        )

    for polarity, label in (("high", "high"), ("low", "low"), ("", "neither")):
        shown = [mark for mark in marks if (mark.polarity if mark.polarity in style.SHAPES else "") == polarity]
        if shown and (polarity or len(shown) < len(marks)):
            sign(polarity, label, hollow=all(mark.role == "control" for mark in shown))
    if any(mark.role == "control" for mark in marks):
        sign("", "hollow: control", hollow=True)
    if marks:
        handles.append(Line2D([], [], color=style.COLOURS[""], linewidth=1.5, label="95 % interval"))
    if any(mark.points for mark in marks):
        sign("", "small: one seed", size=3.2)
    if any(one.band is not None for one in figure.panels):
        handles.append(Patch(facecolor=style.BAND, edgecolor=style.LINE, linewidth=0.6, label="margin"))
    if handles:
        canvas.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.03 / total), ncols=len(handles), frameon=False,
            fontsize=style.SMALL, labelcolor=style.MUTED, handletextpad=0.5, columnspacing=1.6, borderaxespad=0.2,
            handlelength=1.4,
        )  # fmt: skip


# ---------------------------------------------------------------- text


def _inline(svg: str, figure: Figure) -> str:
    """Matplotlib's SVG file made fit to stand in a page: no header, own ids, the reader's fonts, a description."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", figure.name)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("*{", f"#figure-{name} *{{", 1)  # the rule would else hold for the whole page

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r'\b(id="|href="#)', rf"\g<1>figure-{name}-", found[0])
        text = text.replace("url(#", f"url(#figure-{name}-")
        text = re.sub(r"(?<=: )#[0-9a-fA-F]{6}\b", _themed, text)
        return re.sub(r"'DejaVu Sans'(, sans-serif)?", "ui-sans-serif, system-ui, sans-serif", text)

    svg = re.sub(r"<[A-Za-z][^>]*>", tag, svg)
    label, text = escape(figure.title), escape(described(figure), quote=False)
    svg = svg.replace("<svg ", f'<svg id="figure-{name}" role="img" aria-label="{label}" ', 1)
    end = svg.index(">") + 1
    return f"{svg[:end]}\n <desc>{text}</desc>{svg[end:]}".rstrip() + "\n"


def _themed(found: re.Match[str]) -> str:
    """A colour of ours as the page's variable, so that it follows a dark page; with itself where there is no page."""
    name = style.THEMED.get(found[0].lower())
    return f"var(--{name}, {found[0]})" if name else found[0]
