"""One panel of lines: its axis, each line with its band and its gaps, and its name where it ends, on given axes.

Knows a `page.Curves` and how each of its lines looks. Must not know the panels beside it, nor any file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from selfaware.report import glyphs, style
from selfaware.report.page import Curves, Line
from selfaware.report.summary import finite, undefined
from selfaware.types import Estimate

# Inches: left of an axis, between lines' names, before a name.
LEFT, APART, KEY = 0.78, 0.175, 0.42
MANY_POINTS = 24
"""Points of a line from which not each has a marker."""

Arm = tuple[str, str, bool]
"""Label, polarity, whether it is a control: what lines that look alike have in common."""


@dataclass(frozen=True)
class Sign:
    """How a line is drawn."""

    colour: str
    marker: str
    dash: tuple[float, ...]
    hollow: bool
    strong: bool

    def look(self, *, markers: bool) -> dict[str, object]:
        """As matplotlib's keywords for a line, with or without its markers."""
        size = 6.5 if self.strong else 5.2
        return {
            "color": self.colour,
            "linewidth": 2.4 if self.strong else 1.3,
            "linestyle": (0, self.dash) if self.dash else "solid",
            "dash_capstyle": "butt",
            "marker": self.marker if markers else "none",
            "markersize": size,
            "markerfacecolor": "white" if self.hollow else self.colour,
            "markeredgecolor": self.colour,
            "markeredgewidth": 1.2,
        }


@dataclass(frozen=True)
class Size:
    """Inches: the axis's width and height, and the longest name beside it."""

    plot: float
    height: float
    name: float


def arm(line: Line) -> Arm:
    """What the line has in common with others that look like it."""
    return line.label, line.polarity if line.polarity in style.SHAPES else "", line.role == "control"


def draw(axes: Axes, one: Curves, signs: Mapping[Arm, Sign], ends: tuple[float, float], size: Size) -> None:
    """Draws one panel, with its numbers left of and below `axes` and the lines' names to the right.

    Args:
        axes: of the width and height in `size`.
        one: what to draw.
        signs: how each of its lines looks.
        ends: of the estimates' axis.
        size: of the parts.
    """
    plot, height = size.plot, size.height
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(style.LINE)
    axes.tick_params(length=3, width=0.8, color=style.LINE, labelcolor=style.MUTED, labelsize=style.SMALL)
    axes.set_ylim(*ends)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    _across(axes, one, plot)
    axes.set_xlabel(glyphs.fitted(one.over, plot, style.SMALL), color=style.MUTED, fontsize=style.SMALL, labelpad=3)
    unit = glyphs.fitted(one.unit, height, style.SMALL)
    axes.text(
        -(LEFT - 0.1) / plot, 0.5, unit, transform=axes.transAxes, rotation=90, ha="center", va="center",
        color=style.MUTED, fontsize=style.SMALL,
    )  # fmt: skip
    title = glyphs.fitted(one.title, plot + LEFT + KEY, style.SIZE + 1)
    axes.text(
        -(LEFT - 0.02) / plot, 1 + 0.15 / height, title, transform=axes.transAxes, fontsize=style.SIZE + 1,
        fontweight="bold", color=style.INK,
    )  # fmt: skip
    if one.band is not None:
        # With edges, since the lines' own bands may be as pale.
        axes.axhspan(*one.band, facecolor=style.BAND, edgecolor=style.LINE, linewidth=0.6, zorder=0)
    if one.span is not None:
        _span(axes, one.span, one.span_label, size)
    if one.zero is not None:
        axes.axhline(one.zero, color=style.MUTED, linewidth=0.9, zorder=1)
    gaps = 0
    for number, line in enumerate(one.lines):
        gaps += _line(axes, line, signs[arm(line)], number, 0.07 + 0.1 * gaps, height)
    if any(line.label for line in one.lines):
        _names(axes, one, signs, size)


def _span(axes: Axes, span: tuple[float, float], label: str, size: Size) -> None:
    """Shades a range of x, with its name at the top, inside the axis."""
    axes.axvspan(*span, facecolor=style.STRIPE, edgecolor=style.MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=-1)
    left, right = (axes.transData.transform((x, 0))[0] for x in span)
    middle = axes.transAxes.inverted().transform(((left + right) / 2, 0))[0]
    text = glyphs.fitted(label, size.plot, style.SMALL)
    half = min(0.5, glyphs.width(text, style.SMALL) / 2 / size.plot)
    axes.text(
        min(max(middle, half), 1 - half), 1 - 0.06 / size.height, text, transform=axes.transAxes, ha="center", va="top",
        fontsize=style.SMALL, color=style.MUTED,
    )  # fmt: skip


def _line(axes: Axes, line: Line, sign: Sign, number: int, cross: float, height: float) -> int:
    """Draws a line, its band, and crosses in inches above the foot where it is undefined; 1 where there are some."""
    order = 3 + 0.01 * number + (1 if sign.strong else 0)
    runs: list[list[tuple[float, float, float, float]]] = [[]]
    lost = []
    for x, estimate in zip(line.x, line.estimates, strict=True):
        if why(estimate):
            lost.append(x)
            runs.append([])
        else:
            runs[-1].append((x, *_numbers(estimate)))
    for run in filter(None, runs):
        xs, values, lows, highs = (list(column) for column in zip(*run, strict=True))
        if len(run) > 1:
            axes.fill_between(xs, lows, highs, color=sign.colour, alpha=0.15, linewidth=0, zorder=2)
        else:
            # A band of no width can't be seen.
            axes.plot(xs * 2, [*lows, *highs], color=sign.colour, linewidth=1.1, zorder=order, clip_on=False)
        every = max(1, math.ceil(len(run) / MANY_POINTS))
        axes.plot(xs, values, **sign.look(markers=True), markevery=every, zorder=order, clip_on=False)  # type: ignore[arg-type]
    axes.plot(
        lost, [cross / height] * len(lost), transform=axes.get_xaxis_transform(), linestyle="none", marker="x",
        markersize=4, markeredgecolor=sign.colour, markeredgewidth=1.1, zorder=order, clip_on=False,
    )  # fmt: skip
    return 1 if lost else 0


def _names(axes: Axes, one: Curves, signs: Mapping[Arm, Sign], size: Size) -> None:
    """Each line's name with a piece of it, right of the axis at the height where it ends, moved apart."""
    plot, height = size.plot, size.height
    low, high = axes.get_ylim()
    wanted = []
    for number, line in enumerate(one.lines):
        known = defined(line)
        at = (known[-1][1] - low) / (high - low) * height if known else 0.0
        wanted.append((at, -number, line))
    wanted.sort(key=lambda entry: entry[:2])
    for (_, _, line), y in zip(wanted, _apart([at for at, _, _ in wanted], height), strict=True):
        sign = signs[arm(line)]
        ends = [1 + 0.1 / plot, 1 + (KEY - 0.06) / plot]
        axes.plot(ends, [y / height] * 2, transform=axes.transAxes, clip_on=False, **sign.look(markers=False), zorder=5)  # type: ignore[arg-type]
        look = {**sign.look(markers=True), "linestyle": "none"}
        axes.plot([sum(ends) / 2], [y / height], transform=axes.transAxes, clip_on=False, **look, zorder=6)  # type: ignore[arg-type]
        axes.text(
            1 + KEY / plot, y / height, glyphs.fitted(line.label, size.name + 0.01, style.SMALL), transform=axes.transAxes,
            va="center", fontsize=style.SMALL, color=style.INK, fontweight="bold" if sign.strong else "normal",
        )  # fmt: skip


def _apart(wanted: Sequence[float], height: float) -> list[float]:
    """The rising heights moved until each is `APART` from the next, as little as it takes, between 0 and `height`."""
    # Groups that touch stand around the mean of what they want.
    groups: list[list[float]] = []
    for at in wanted:
        groups.append([at])
        while len(groups) > 1 and _bottom(groups[-1], height) < _bottom(groups[-2], height) + len(groups[-2]) * APART:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, height) + number * APART for group in groups for number in range(len(group))]


def _bottom(group: Sequence[float], height: float) -> float:
    """Where the lowest of a group stands."""
    tall = (len(group) - 1) * APART
    return min(max(sum(group) / len(group) - tall / 2, 0.0), max(0.0, height - tall))


def _across(axes: Axes, one: Curves, plot: float) -> None:
    """The axis of x: its scale, its ends and its ticks, which are the lines' own points where they are few."""
    own = sorted({x for line in one.lines for x in line.x})
    every = [*own, *(one.span or ())]
    if one.log and min(every) > 0:
        axes.set_xscale("log", base=2)
    elif one.log:
        least = min((abs(x) for x in every if x), default=1.0)
        axes.set_xscale("symlog", base=2, linthresh=least)
    scale = axes.xaxis.get_transform()
    low, high = (float(end) for end in scale.transform([min(every), max(every)]))
    air = 0.03 * (high - low) or 0.5
    axes.set_xlim(*(float(end) for end in scale.inverted().transform([low - air, high + air])))
    axes.xaxis.set_minor_locator(NullLocator())
    if not one.log and len(own) > 12:
        whole = all(x == round(x) for x in own)
        axes.xaxis.set_major_locator(
            MaxNLocator(nbins=max(3, int(plot / 0.5)), integer=whole, steps=[1, 2, 2.5, 5, 10])
        )
        return
    # Zero and the ends first, then whatever still has room beside them.
    placed: dict[float, tuple[float, float]] = {}
    for x in sorted(own, key=lambda x: (x != 0, x not in (own[0], own[-1]), own.index(x))):
        at = (float(scale.transform([x])[0]) - low + air) / (high - low + 2 * air) * plot
        half = glyphs.width(written_x(x), style.SMALL) / 2 + 0.05
        if all(at + half <= left or at - half >= right for left, right in placed.values()):
            placed[x] = (at - half, at + half)
    ticks = sorted(placed)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([written_x(x) for x in ticks]))


def written_x(x: float) -> str:
    """A number of the x axis as text, to four figures."""
    return f"{x:.4g}".replace("-", "−")


# ---------------------------------------------------------------- numbers


def why(estimate: Estimate) -> str | None:
    """Why a point can't be drawn, or None where it can."""
    return undefined(estimate.value, estimate.low, estimate.high, estimate.why)


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    """Value, low and high of an estimate that is defined."""
    value, low, high = (finite(number) or 0.0 for number in (estimate.value, estimate.low, estimate.high))
    return value, low, high


def defined(line: Line) -> list[tuple[float, float, float, float]]:
    """x, value, low and high of the points that are defined."""
    return [(x, *_numbers(estimate)) for x, estimate in zip(line.x, line.estimates, strict=True) if not why(estimate)]
