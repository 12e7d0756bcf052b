"""Forest plots: marks under each other, a dot with its interval, panels two in a row.

Knows panels of marks and where each stands. Must not know the file or the page that the drawing goes into.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from selfaware.report import panel, style
from selfaware.report.page import Panel


def problem(one: Panel) -> str:
    """Empty: any marks can be drawn, also none; one that is undefined is written out with its reason.

    Args:
        one: the panel.
    """
    return ""


def is_wide(panels: Sequence[Panel]) -> bool:
    """Whether they are as wide as the page: several panels, or one of many marks or long labels."""
    if len(panels) != 1:
        return len(panels) > 1
    placed, _ = panel.lines(panels[0], style.LONG_LABEL_CHARACTERS)
    return len(placed) > style.MANY or any(line.label_width > style.LONG_LABEL for line in placed)


def words(one: Panel) -> list[str]:
    """One line of text for each mark, with its numbers."""
    lines = []
    places = panel.places(one)
    for mark in one.marks:
        name = f"{mark.label} ({mark.note})" if mark.note else mark.label
        name = f"{name}, {mark.polarity}" if mark.polarity else name
        why = panel.why(mark)
        lines.append(f"{name}: {panel.numbers(mark, one, places) if why is None else f'undefined: {why}'}")
    return lines


def drawing(panels: Sequence[Panel]) -> Canvas:
    """The whole drawing. Placed by hand in inches: automatic layout moves with the backend's text sizes."""
    abreast = 2 if len(panels) > 1 else 1
    wide = style.WIDTH if is_wide(panels) else style.SINGLE
    if abreast > 1 and any(_room(wide, row) < style.LEAST_PLOT for row in _rows(panels, abreast)):
        abreast = 1  # long labels would push the second panel's numbers off the sheet
    rows = _rows(panels, abreast)
    ends = iter(panel.shared_limits(panels))
    heights = [max(one.height for one in row) for row in rows]
    total = sum(height + style.HEAD + style.FOOT for height in heights) + style.LEGEND
    canvas = Canvas(figsize=(wide, total), facecolor="white")
    # Panels under each other have one plot's width, and one left over is as wide as those above: lengths compare down the page.
    plot = max(style.LEAST_PLOT, min((_room(wide, row) for row in rows if len(row) == abreast), default=0.0))
    before = max((row[0].columns.label + row[0].columns.gutter for row in rows), default=0.0) if abreast == 1 else 0.0
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        left = style.EDGE
        for one in row:
            left += max(before, one.columns.label + one.columns.gutter)
            box = (left / wide, 1 - (top + style.HEAD + height) / total, plot / wide, height / total)
            panel.draw(canvas.add_axes(box), one.shown, one.lines, replace(one.columns, plot=plot), next(ends))
            left += plot + style.NUMBER_GAP + one.columns.numbers + style.GUTTER
        top += style.HEAD + height + style.FOOT
    _legend(canvas, panels)
    return canvas


@dataclass(frozen=True)
class _Laid:
    """A panel with its lines placed, its height in inches and its columns but for the plot."""

    shown: Panel
    lines: list[panel.Line]
    height: float
    columns: panel.Columns


def _rows(panels: Sequence[Panel], abreast: int) -> list[list[_Laid]]:
    """So many panels in a row; the second of a row leaves out labels that the first one has at the same heights."""
    characters = style.LABEL_CHARACTERS if abreast > 1 else style.LONG_LABEL_CHARACTERS
    laid: list[_Laid] = []
    for number, one in enumerate(panels):
        lines, height = panel.lines(one, characters)
        if number % abreast:
            lines = panel.unlabelled(lines, laid[-1].lines)
        label = max((line.label_width for line in lines), default=0.0)
        texts = (panel.width(panel.numbers(m, one, panel.places(one)), style.SMALL) for m in one.marks)
        columns = panel.Columns(label, style.GUTTER if label else 0.0, 0.0, max(texts, default=0.0))
        laid.append(_Laid(one, lines, height, columns))
    return [laid[start : start + abreast] for start in range(0, len(laid), abreast)]


def _room(wide: float, row: Sequence[_Laid]) -> float:
    """Inches that are left for each plot of a row."""
    spent = sum(c.label + c.gutter + c.numbers + style.NUMBER_GAP for c in (one.columns for one in row))
    return (wide - spent - 2 * style.EDGE - (len(row) - 1) * style.GUTTER) / len(row)


def sign(polarity: str, label: str, *, hollow: bool = False, size: float = 7) -> Line2D:
    """A legend's entry for a polarity's colour and shape."""
    colour = style.COLOURS[polarity]
    return Line2D(
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


def legend(canvas: Canvas, handles: Sequence[Line2D | Patch]) -> None:
    """One line at the foot of the drawing that names the signs in use; nothing where there is none.

    Args:
        canvas: whose last `style.LEGEND` inches are free.
        handles: its entries, each with its label.
    """
    if handles:
        canvas.legend(
            handles=list(handles), loc="lower left", bbox_to_anchor=(0.0, 0.03 / canvas.get_figheight()),
            ncols=len(handles), frameon=False, fontsize=style.SMALL, labelcolor=style.MUTED, handletextpad=0.5,
            columnspacing=1.6, borderaxespad=0.2, handlelength=1.4,
        )  # fmt: skip


def _legend(canvas: Canvas, panels: Sequence[Panel]) -> None:
    marks = [mark for one in panels for mark in one.marks if panel.why(mark) is None]
    handles: list[Line2D | Patch] = []
    for polarity, label in (("high", "high"), ("low", "low"), ("", "neither")):
        shown = [mark for mark in marks if (mark.polarity if mark.polarity in style.SHAPES else "") == polarity]
        if shown and (polarity or len(shown) < len(marks)):
            handles.append(sign(polarity, label, hollow=all(mark.role == "control" for mark in shown)))
    if any(mark.role == "control" for mark in marks):
        handles.append(sign("", "hollow: control", hollow=True))
    if marks:
        handles.append(Line2D([], [], color=style.COLOURS[""], linewidth=1.5, label="95 % interval"))
    if any(mark.points for mark in marks):
        handles.append(sign("", "small: one seed", size=3.2))
    if any(one.band is not None for one in panels):
        handles.append(Patch(facecolor=style.BAND, edgecolor=style.LINE, linewidth=0.6, label="margin"))
    legend(canvas, handles)
