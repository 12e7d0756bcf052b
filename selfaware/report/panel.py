"""One panel of a figure: where its marks stand, its axis, its numbers as text, drawn on the axes it is given.

Knows a `page.Panel`. Must not know the panels beside it, nor any file.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from selfaware.report import style
from selfaware.report.page import Mark, Panel
from selfaware.report.summary import decimals, finite, undefined, written
from selfaware.types import Estimate


@dataclass(frozen=True)
class Line:
    """One mark with its place: `y` in inches below the panel's top; `label` empty where the line above says it."""

    mark: Mark
    y: float
    label: tuple[str, ...]
    label_y: float

    @property
    def label_width(self) -> float:
        """Inches that the label takes, with the note after its last line."""
        if not self.label:
            return 0.0
        return max(*(width(text) for text in self.label), width(self.label[-1]) + self.note_width)

    @property
    def note_width(self) -> float:
        """Inches that the note takes, with the space before it."""
        return width(self.mark.note, style.SMALL) + style.NOTE_GAP if self.mark.note else 0.0


@dataclass(frozen=True)
class Columns:
    """Widths in inches of what stands beside each other: labels, the space after them, the plot, the numbers."""

    label: float
    gutter: float
    plot: float
    numbers: float


def lines(panel: Panel, characters: int) -> tuple[list[Line], float]:
    """The marks with their places, and the panel's height in inches. Neighbours with one label share it.

    Args:
        panel: with any number of marks; many that stand alone move closer.
        characters: where labels are broken.
    """
    groups: list[list[Mark]] = []
    for mark in panel.marks:
        if groups and (groups[-1][0].label, groups[-1][0].role, groups[-1][0].note) == (
            mark.label,
            mark.role,
            mark.note,
        ):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    dense = len(groups) > style.MANY and len(groups) == len(panel.marks)
    gap = style.GROUP_GAP / 3 if dense else style.GROUP_GAP
    found: list[Line] = []
    y = style.GROUP_GAP
    for group in groups:
        label = tuple(textwrap.wrap(group[0].label, characters)) or (group[0].label,)
        height = max(len(group) * style.ROW, len(label) * style.LINE_HEIGHT + 0.06)
        step = height / len(group)
        for index, mark in enumerate(group):
            found.append(Line(mark, y + (index + 0.5) * step, label if index == 0 else (), y + height / 2))
        y += height + gap
    return found, max(y, 0.5)


def unlabelled(placed: list[Line], beside: Sequence[Line]) -> list[Line]:
    """The lines without their labels where the panel beside it has the same ones at the same heights; notes stay."""
    if [(line.label, line.y) for line in placed] != [(line.label, line.y) for line in beside]:
        return placed
    return [replace(line, label=("",) if line.label else ()) for line in placed]


def width(text: str, size: float = style.SIZE) -> float:
    """Width of `text` in inches at `size` points, in bold, the widest it gets."""
    if not text:
        return 0.0
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def limits(panel: Panel) -> tuple[float, float]:
    """The axis's ends: every interval, point and line fits, with some air."""
    numbers: list[float | None] = [panel.zero, *(panel.band or ())]
    for mark in panel.marks:
        if why(mark) is None:
            numbers += [mark.estimate.value, mark.estimate.low, mark.estimate.high, *mark.points]
    known = [number for number in numbers if number is not None and finite(number) is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - air, high + air


def shared_limits(panels: Sequence[Panel]) -> list[tuple[float, float]]:
    """Each panel's axis: the same for panels of one unit, so that lengths can be compared across them.

    A panel whose own axis would shrink to less than a third keeps its own.
    """
    keys = [(one.unit, one.zero) if any(why(mark) is None for mark in one.marks) else None for one in panels]
    return shared([limits(one) for one in panels], keys, [(one.unit, one.zero) for one in panels])


def shared(
    own: Sequence[tuple[float, float]], sharing: Sequence[object], keys: Sequence[object]
) -> list[tuple[float, float]]:
    """Each axis's ends: from the least to the greatest of those that share it, unless one would shrink to a third.

    Args:
        own: each axis's ends by itself.
        sharing: the axis that these ends have a say in; None for one with nothing on it.
        keys: the axis that each is drawn on.
    """
    found = list(own)
    for number, key in enumerate(keys):
        alike = [ends for other, ends in zip(sharing, own, strict=True) if other == key]
        if not alike:
            continue
        low, high = min(ends[0] for ends in alike), max(ends[1] for ends in alike)
        if all(high - low <= 3 * (ends[1] - ends[0]) for ends in alike):
            found[number] = (low, high)
    return found


def draw(axes: Axes, panel: Panel, placed: Sequence[Line], columns: Columns, ends: tuple[float, float]) -> None:
    """Draws one panel, with its labels to the left of `axes` and its numbers to the right.

    Args:
        axes: as wide as `columns.plot`, as high as `lines` said.
        panel: what to draw.
        placed: the panel's lines.
        columns: widths of the parts; no label is drawn where `columns.label` is 0.
        ends: of the axis.
    """
    height = axes.get_position().height * float(axes.figure.get_figheight())  # type: ignore[union-attr]
    axes.set_xlim(*ends)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.set_facecolor("none")
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(style.LINE)
    bins = min(7, max(4, int(columns.plot / 0.5)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(axis="x", length=3, width=0.8, color=style.LINE, labelcolor=style.MUTED, labelsize=style.SMALL)
    axes.set_xlabel(panel.unit, color=style.MUTED, fontsize=style.SMALL, labelpad=3)
    axes.text(
        0, 1 + 0.15 / height, panel.title, transform=axes.transAxes, fontsize=style.SIZE + 1, fontweight="bold",
        color=style.INK,
    )  # fmt: skip
    if panel.band is not None:
        axes.axvspan(panel.band[0], panel.band[1], color=style.BAND, linewidth=0, zorder=0)
    if panel.zero is not None:
        axes.axvline(panel.zero, color=style.MUTED, linewidth=0.9, zorder=1)
    decimal_places = places(panel)
    for line in placed:
        _line(axes, panel, line, columns, decimal_places)


def _line(axes: Axes, panel: Panel, line: Line, columns: Columns, decimal_places: int) -> None:
    mark, bold, plot = line.mark, line.mark.role == "primary", columns.plot
    weight = "bold" if bold else "normal"
    across = axes.get_yaxis_transform()
    if bold:
        left = -(columns.label + columns.gutter * 0.6) / plot if columns.label else -0.02
        axes.axhspan(
            line.y - style.ROW / 2, line.y + style.ROW / 2, xmin=left,
            xmax=1 + (style.NUMBER_GAP + columns.numbers + 0.05) / plot, color=style.STRIPE, linewidth=0, zorder=-1,
            clip_on=False,
        )  # fmt: skip
    for index, text in enumerate(line.label if columns.label else ()):
        last = index == len(line.label) - 1
        y = line.label_y + (index - (len(line.label) - 1) / 2) * style.LINE_HEIGHT
        right = columns.gutter * 0.5
        axes.text(
            -(right + (line.note_width if last else 0.0)) / plot, y, text, transform=across, ha="right", va="center",
            fontweight=weight, color=style.INK,
        )  # fmt: skip
        if last and mark.note:
            axes.text(
                -right / plot, y, mark.note, transform=across, ha="right", va="center", fontsize=style.SMALL,
                color=style.MUTED,
            )  # fmt: skip
    reason = why(mark)
    if reason is None:
        _mark(axes, mark, line.y)
        axes.text(
            1 + style.NUMBER_GAP / plot, line.y, numbers(mark, panel, decimal_places), transform=across, va="center",
            fontsize=style.SMALL, color=style.INK if bold else style.MUTED, fontweight=weight,
        )  # fmt: skip
    else:
        fits = max(16, int((plot + style.NUMBER_GAP + columns.numbers) / 0.066))
        axes.text(
            0.01, line.y, textwrap.shorten(f"undefined: {reason}", fits, placeholder=" …"), transform=across,
            va="center", fontsize=style.SMALL, color=style.INK, fontstyle="italic", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def _mark(axes: Axes, mark: Mark, y: float) -> None:
    colour = style.COLOURS.get(mark.polarity, style.COLOURS[""])
    shape = style.SHAPES.get(mark.polarity, style.SHAPES[""])
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


def why(mark: Mark) -> str | None:
    """Why the mark can't be drawn, or None where it can."""
    return undefined(mark.estimate.value, mark.estimate.low, mark.estimate.high, mark.estimate.why)


def places(panel: Panel) -> int:
    """Decimals of the panel's numbers."""
    shown = [mark.estimate for mark in panel.marks if why(mark) is None]
    return decimals([number for estimate in shown for number in (estimate.value, estimate.low, estimate.high)])


def numbers(mark: Mark, panel: Panel, decimal_places: int) -> str:
    """`+0.62 [+0.51, +0.73]`, signed where no effect is zero; empty where undefined."""
    if why(mark) is not None:
        return ""
    return stated(mark.estimate, decimal_places, signed=panel.zero == 0)


def stated(estimate: Estimate, decimal_places: int, *, signed: bool) -> str:
    """`0.62 [0.51, 0.73]`, of an estimate that is defined.

    Args:
        estimate: with a value and both ends.
        decimal_places: of each number.
        signed: whether positive numbers have a plus sign.
    """
    value, low, high = (
        written(number, decimal_places, signed=signed)
        for number in (estimate.value, estimate.low, estimate.high)
        if number is not None
    )
    return f"{value} [{low}, {high}]"
