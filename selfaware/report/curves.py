"""Lines over a number, each with the band of its 95 % intervals, named where it ends.

Knows panels of lines. Must not know the file or the page that the drawing goes into.

Two lines differ in colour, marker and dash: the colour and the marker say the polarity, dashes and hollow markers a
control. A point that is undefined is a gap, with a cross at the foot of the panel.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from selfaware.report import curve, forest, glyphs, panel, style
from selfaware.report.curve import Arm, Sign, Size
from selfaware.report.page import Curves
from selfaware.report.summary import decimals

# Inches: an axis's height; a name is this part of a panel at most.
_HIGH, _NAME = 2.5, 0.36
_MANY_LINES, _LONG_NAME = 6, 1.9
_MARKERS = {"high": ("^", "d", "p", "*"), "low": ("v", "s", "h", "P"), "": ("o", "D", "<", ">")}
# In points, for a line of 1 point; controls are dashed evenly, other lines are whole, dotted or mixed.
_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 1.5, 1.3, 1.5), (1.3, 1.3), (11, 1.5), (6, 1.3, 1.3, 1.3, 1.3, 1.3))
_CONTROL_DASHES: tuple[tuple[float, ...], ...] = ((4, 2.2), (2.2, 1.8), (5.5, 2, 2.2, 2), (3, 4))


def problem(one: Curves) -> str:
    """What is wrong with the panel, what it needs and what to do; empty where it can be drawn.

    Args:
        one: the panel.
    """
    if not one.lines:
        return "no lines; needed one at least. Leave the panel out."
    for line in one.lines:
        said = f"line {line.label!r}: "
        if not line.x:
            return f"{said}no points; needed one at least. Leave the line out, or give its points as undefined."
        if len(line.x) != len(line.estimates):
            return f"{said}{len(line.x)} x and {len(line.estimates)} estimates; needed one estimate for each x."
        if not all(math.isfinite(x) for x in line.x):
            return f"{said}x of {line.x}; needed finite numbers. Leave out the points that have none."
        if any(after <= before for before, after in pairwise(line.x)):
            return f"{said}x of {line.x}; needed numbers that rise. Sort the points, with one estimate for each x."
    for what, ends in (("span", one.span), ("band", one.band)):
        if ends is not None and not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] <= ends[1]):
            return f"{what} {ends}; needed two finite numbers that rise. Set its ends."
    return ""


def is_wide(panels: Sequence[Curves]) -> bool:
    """Whether they are as wide as the page: several panels, or one of many points or lines, or of long names.

    Args:
        panels: of one figure.
    """
    if len(panels) != 1:
        return True
    (one,) = panels
    return (
        len({x for line in one.lines for x in line.x}) > curve.MANY_POINTS
        or len(one.lines) > _MANY_LINES
        or any(glyphs.width(line.label, style.SMALL) > _LONG_NAME for line in one.lines)
    )


def words(one: Curves) -> list[str]:
    """A line of text for each line: at each x its numbers, or that it is undefined and why."""
    places = _places(one)
    lines = [f"over {one.over}"]
    if one.band is not None:
        lines.append(f"margin: {one.band[0]:g} to {one.band[1]:g}".replace("-", "−"))
    if one.span is not None:
        lines.append(f"{one.span_label or 'range'}: {curve.written_x(one.span[0])} to {curve.written_x(one.span[1])}")
    for line in one.lines:
        name = ", ".join(part for part in (line.label, line.polarity, "control" * (line.role == "control")) if part)
        points = []
        for x, estimate in zip(line.x, line.estimates, strict=True):
            why = curve.why(estimate)
            said = f"undefined: {why}" if why else panel.stated(estimate, places, signed=one.zero == 0)
            points.append(f"at {curve.written_x(x)} {said}")
        lines.append(f"{name}: {'; '.join(points)}")
    return lines


# ---------------------------------------------------------------- layout


def drawing(panels: Sequence[Curves]) -> Canvas:
    """The whole drawing, panels two in a row; those of one unit share an axis. Placed by hand, in inches.

    Args:
        panels: of one figure, each without a problem.
    """
    abreast = min(2, len(panels))
    wide = style.WIDTH if is_wide(panels) else style.SINGLE
    room = (wide - 2 * style.EDGE - (abreast - 1) * style.GUTTER) / abreast
    rows = [range(start, min(start + abreast, len(panels))) for start in range(0, len(panels), abreast)]
    heights = [max(_HIGH, *(len(panels[n].lines) * curve.APART + 0.1 for n in row)) for row in rows]
    total = sum(height + style.HEAD + style.FOOT for height in heights) + style.LEGEND
    # Names end alike in all panels, so that equal lengths on axes are equal numbers.
    longest = max(glyphs.width(line.label, style.SMALL) for one in panels for line in one.lines)
    name = min(longest, room * _NAME)
    plot = room - curve.LEFT - (curve.KEY + name if longest else 0.1)
    canvas = Canvas(figsize=(wide, total), facecolor="white")
    signs, ends = _signs(panels), _shared(panels)
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        for place, number in enumerate(row):
            left = style.EDGE + place * (room + style.GUTTER) + curve.LEFT
            box = (left / wide, 1 - (top + style.HEAD + height) / total, plot / wide, height / total)
            curve.draw(canvas.add_axes(box), panels[number], signs, ends[number], Size(plot, height, name))
        top += height + style.HEAD + style.FOOT
    forest.legend(canvas, _handles(panels, signs))
    return canvas


def _signs(panels: Sequence[Curves]) -> dict[Arm, Sign]:
    """How each line is drawn: an arm of several panels alike in all of them, two arms never alike."""
    made: dict[Arm, Sign] = {}
    for line in (line for one in panels for line in one.lines):
        key = _, polarity, control = curve.arm(line)
        if key not in made:
            markers, dashes = _MARKERS[polarity], _CONTROL_DASHES if control else _DASHES
            alike = sum(other[1] == polarity for other in made)
            dashed = sum(other[2] == control for other in made)
            made[key] = Sign(
                style.COLOURS[polarity], markers[alike % len(markers)], dashes[dashed % len(dashes)],
                control, line.role == "primary",
            )  # fmt: skip
    return made


def _shared(panels: Sequence[Curves]) -> list[tuple[float, float]]:
    """Each panel's ends of the estimates' axis."""
    own = []
    for one in panels:
        numbers = [*([] if one.zero is None else [one.zero]), *(one.band or ())]
        for line in one.lines:
            for _, value, low, high in curve.defined(line):
                numbers += [value, low, high]
        bottom, top = min(numbers, default=0.0), max(numbers, default=1.0)
        air = 0.07 * (top - bottom) or 0.5 * abs(top) or 1.0
        own.append((bottom - air, top + (1.6 * air if one.span and one.span_label else air)))
    keys = [(one.unit, one.zero) for one in panels]
    filled = [
        key if any(curve.defined(line) for line in one.lines) else None for key, one in zip(keys, panels, strict=True)
    ]
    return panel.shared(own, filled, keys)


# ---------------------------------------------------------------- signs in use


def _handles(panels: Sequence[Curves], signs: dict[Arm, Sign]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    used = {key[1] for key in signs}
    for polarity, label in (("high", "high"), ("low", "low"), ("", "neither")):
        if polarity in used and (polarity or len(used) > 1):
            hollow = all(sign.hollow for key, sign in signs.items() if key[1] == polarity)
            handles.append(forest.sign(polarity, label, hollow=hollow))
    colour = style.COLOURS[""]
    if any(sign.hollow for sign in signs.values()):
        control = Sign(colour, "o", _CONTROL_DASHES[0], True, False)
        handles.append(Line2D([], [], label="dashed, hollow: control", **control.look(markers=True)))  # type: ignore[arg-type]
    lines = [line for one in panels for line in one.lines]
    if any(curve.defined(line) for line in lines):
        handles.append(Patch(facecolor=colour, alpha=0.15, linewidth=0, label="95 % interval"))
    if any(one.band is not None for one in panels):
        handles.append(Patch(facecolor=style.BAND, edgecolor=style.LINE, linewidth=0.6, label="margin"))
    if any(len(curve.defined(line)) < len(line.x) for line in lines):
        cross = {"marker": "x", "markersize": 4, "markeredgewidth": 1.1, "linestyle": "none", "color": colour}
        handles.append(Line2D([], [], label="undefined", **cross))  # type: ignore[arg-type]
    return handles


def _places(one: Curves) -> int:
    return decimals(number for line in one.lines for point in curve.defined(line) for number in point[1:])
