"""Figures as forest plots: marks under each other, a dot with its interval, and the same numbers as text.

Knows a `page.Figure`. Must not know where its numbers come from, nor any HTML around it.
"""

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from selfaware.report import style
from selfaware.report.page import Figure, Mark, Panel
from selfaware.report.summary import decimals, finite, undefined, write_atomic, written


@dataclass(frozen=True)
class _Line:
    """One mark with its place: `y` in inches below the panel's top; `label` empty where the line above says it."""

    mark: Mark
    y: float
    label: tuple[str, ...]
    label_y: float


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


def described(figure: Figure) -> str:
    """Every number of the figure as text, for readers who can't see it: one line a mark, under its panel's title."""
    lines = [figure.title]
    for panel in figure.panels:
        lines.append(f"{panel.title} ({panel.unit}):")
        places = _places(panel)
        for mark in panel.marks:
            name = f"{mark.label}, {mark.polarity}" if mark.polarity else mark.label
            why = _why(mark)
            lines.append(f"{name}: {_numbers(mark, panel, places) if why is None else f'undefined: {why}'}")
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
    rows = [figure.panels[start : start + 2] for start in range(0, len(figure.panels), 2)]
    laid = [[_lines(panel) for panel in row] for row in rows]
    heights = [max((height for _, height in row), default=0.0) for row in laid]
    total = sum(height + style.HEAD + style.FOOT for height in heights) + style.LEGEND
    wide = style.WIDTH if len(figure.panels) > 1 else style.SINGLE
    canvas = Canvas(figsize=(wide, total), facecolor="white")
    top = 0.0
    for panels, row, height in zip(rows, laid, heights, strict=True):
        labels = [max((_width(text) for line in lines for text in line.label), default=0.0) for lines, _ in row]
        if len(row) == 2 and _same_labels(*panels):
            labels[1] = 0.0
        numbers = [
            max((_width(_numbers(mark, panel, _places(panel)), style.SMALL) for mark in panel.marks), default=0.0)
            for panel in panels
        ]
        gutters = [style.GUTTER if label else 0.0 for label in labels]
        spent = (
            sum(labels) + sum(numbers) + sum(gutters) + 2 * style.EDGE + (len(row) - 1) * style.GUTTER + len(row) * 0.12
        )
        plot = max(1.2, (wide - spent) / len(row))
        left = style.EDGE
        for panel, (lines, _), label, number, gutter in zip(panels, row, labels, numbers, gutters, strict=True):
            left += label + gutter
            box = (left / wide, 1 - (top + style.HEAD + height) / total, plot / wide, height / total)
            _panel(canvas.add_axes(box), panel, lines, plot, height, number, label, gutter)
            left += plot + 0.12 + number + style.GUTTER
        top += style.HEAD + height + style.FOOT
    _legend(canvas, figure, total)
    return canvas


def _lines(panel: Panel) -> tuple[list[_Line], float]:
    """The marks with their places, and the panel's height in inches. Neighbours with one label share it."""
    groups: list[list[Mark]] = []
    for mark in panel.marks:
        if groups and groups[-1][0].label == mark.label and groups[-1][0].role == mark.role:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    lines: list[_Line] = []
    y = style.GROUP_GAP
    for group in groups:
        label = tuple(textwrap.wrap(group[0].label, style.LABEL_CHARACTERS)) or (group[0].label,)
        height = max(len(group) * style.ROW, len(label) * style.LINE_HEIGHT + 0.06)
        step = height / len(group)
        for index, mark in enumerate(group):
            lines.append(_Line(mark, y + (index + 0.5) * step, label if index == 0 else (), y + height / 2))
        y += height + style.GROUP_GAP
    return lines, max(y, 0.5)


def _same_labels(first: Panel, second: Panel) -> bool:
    return [(mark.label, mark.role) for mark in first.marks] == [(mark.label, mark.role) for mark in second.marks]


def _width(text: str, size: float = style.SIZE) -> float:
    """Width of `text` in inches, in bold, the widest it gets."""
    if not text:
        return 0.0
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


# ---------------------------------------------------------------- one panel


def _panel(
    axes: Axes,
    panel: Panel,
    lines: list[_Line],
    width: float,
    height: float,
    number: float,
    label: float,
    gutter: float,
) -> None:
    """Draws one panel. All sizes in inches; `number` and `label` are the text columns to its right and left."""
    low, high = _limits(panel)
    axes.set_xlim(low, high)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.set_facecolor("none")
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(style.LINE)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=min(7, max(4, int(width / 0.5))), steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(axis="x", length=3, width=0.8, color=style.LINE, labelcolor=style.MUTED, labelsize=style.SMALL)
    axes.set_xlabel(panel.unit, color=style.MUTED, fontsize=style.SMALL, labelpad=3)
    axes.text(
        0,
        1 + 0.15 / height,
        panel.title,
        transform=axes.transAxes,
        fontsize=style.SIZE + 1,
        fontweight="bold",
        color=style.INK,
    )
    if panel.band is not None:
        axes.axvspan(panel.band[0], panel.band[1], color=style.BAND, linewidth=0, zorder=0)
    if panel.zero is not None:
        axes.axvline(panel.zero, color=style.MUTED, linewidth=0.9, zorder=1)
    places = _places(panel)
    across = axes.get_yaxis_transform()
    for line in lines:
        mark, bold = line.mark, line.mark.role == "primary"
        weight = "bold" if bold else "normal"
        if bold:
            left = -(label + gutter * 0.6) / width if label else -0.02
            axes.axhspan(
                line.y - style.ROW / 2, line.y + style.ROW / 2, xmin=left, xmax=1 + (0.12 + number + 0.05) / width,
                color=style.STRIPE, linewidth=0, zorder=-1, clip_on=False,
            )  # fmt: skip
        if label:
            for index, text in enumerate(line.label):
                y = line.label_y + (index - (len(line.label) - 1) / 2) * style.LINE_HEIGHT
                axes.text(
                    -gutter * 0.5 / width, y, text, transform=across, ha="right", va="center", fontweight=weight,
                    color=style.INK,
                )  # fmt: skip
        why = _why(mark)
        if why is None:
            _mark(axes, mark, line.y)
            axes.text(
                1 + 0.12 / width, line.y, _numbers(mark, panel, places), transform=across, va="center",
                fontsize=style.SMALL, color=style.INK if bold else style.MUTED, fontweight=weight,
            )  # fmt: skip
        else:
            fits = max(16, int((width + 0.12 + number) / 0.066))
            axes.text(
                0.01, line.y, textwrap.shorten(f"undefined: {why}", fits, placeholder=" …"), transform=across,
                va="center", fontsize=style.SMALL, color=style.INK, fontstyle="italic", zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip


def _mark(axes: Axes, mark: Mark, y: float) -> None:
    colour, shape = (
        style.COLOURS.get(mark.polarity, style.COLOURS[""]),
        style.SHAPES.get(mark.polarity, style.SHAPES[""]),
    )
    strong = mark.role == "primary"
    value, *interval = (
        number for number in (mark.estimate.value, mark.estimate.low, mark.estimate.high) if number is not None
    )
    points = [point for point in mark.points if finite(point) is not None]
    axes.plot(
        points, [y + 0.078] * len(points), linestyle="none", marker=shape, markersize=3.2, markerfacecolor=colour,
        markeredgewidth=0, alpha=0.45, zorder=2, clip_on=False,
    )  # fmt: skip
    axes.plot(
        interval, [y, y], color=colour, linewidth=2.6 if strong else 1.5,
        solid_capstyle="butt", zorder=3, clip_on=False,
    )  # fmt: skip
    axes.plot(
        [value], [y], linestyle="none", marker=shape, markersize=9 if strong else 7,
        markerfacecolor="white" if mark.role == "control" else colour, markeredgecolor=colour, markeredgewidth=1.4,
        zorder=4, clip_on=False,
    )  # fmt: skip


def _limits(panel: Panel) -> tuple[float, float]:
    """The axis's ends: every interval, point and line fits, with some air."""
    numbers: list[float | None] = [panel.zero, *(panel.band or ())]
    for mark in panel.marks:
        if _why(mark) is None:
            numbers += [mark.estimate.value, mark.estimate.low, mark.estimate.high, *mark.points]
    known = [number for number in numbers if number is not None and finite(number) is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - air, high + air


def _legend(canvas: Canvas, figure: Figure, total: float) -> None:
    """One line under the panels that names the signs in use, and only those."""
    marks = [mark for panel in figure.panels for mark in panel.marks if _why(mark) is None]
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
    if any(panel.band is not None for panel in figure.panels):
        handles.append(Patch(facecolor=style.BAND, edgecolor=style.LINE, linewidth=0.6, label="margin"))
    if handles:
        canvas.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.03 / total), ncols=len(handles), frameon=False,
            fontsize=style.SMALL, labelcolor=style.MUTED, handletextpad=0.5, columnspacing=1.6, borderaxespad=0.2,
            handlelength=1.4,
        )  # fmt: skip


# ---------------------------------------------------------------- text


def _why(mark: Mark) -> str | None:
    return undefined(mark.estimate.value, mark.estimate.low, mark.estimate.high, mark.estimate.why)


def _places(panel: Panel) -> int:
    shown = [mark.estimate for mark in panel.marks if _why(mark) is None]
    return decimals([number for estimate in shown for number in (estimate.value, estimate.low, estimate.high)])


def _numbers(mark: Mark, panel: Panel, places: int) -> str:
    """`+0.62 [+0.51, +0.73]`, signed where no effect is zero; empty where undefined."""
    if _why(mark) is not None:
        return ""
    value, low, high = (
        written(number, places, signed=panel.zero == 0)
        for number in (mark.estimate.value, mark.estimate.low, mark.estimate.high)
        if number is not None
    )
    return f"{value} [{low}, {high}]"


def _inline(svg: str, figure: Figure) -> str:
    """Matplotlib's SVG file made fit to stand in a page: no header, own ids, the reader's fonts, a description."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", figure.name)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("*{", f"#figure-{name} *{{", 1)  # the rule would else hold for the whole page

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r'\b(id="|href="#)', rf"\g<1>figure-{name}-", found[0])
        text = text.replace("url(#", f"url(#figure-{name}-")
        return re.sub(r"'DejaVu Sans'(, sans-serif)?", "ui-sans-serif, system-ui, sans-serif", text)

    svg = re.sub(r"<[A-Za-z][^>]*>", tag, svg)
    label, text = escape(figure.title), escape(described(figure), quote=False)
    svg = svg.replace("<svg ", f'<svg id="figure-{name}" role="img" aria-label="{label}" ', 1)
    end = svg.index(">") + 1
    return f"{svg[:end]}\n <desc>{text}</desc>{svg[end:]}".rstrip() + "\n"
