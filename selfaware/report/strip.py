"""The strip figure of one question or of a group of them: a row an arm, a small mark a reply, a large one their mean.

Knows items and their replies. Must not know the page around it: the signs and colours come from the page's styles.

Written as SVG by hand: a page holds hundreds of these, and matplotlib takes a second and 50 kB for what stands here in
a millisecond and 4 kB. All marks of one kind are the corners of one invisible path; the page draws a sign at each.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import fmean
from typing import get_args

from selfaware.report.page import Item, Reply, Role
from selfaware.report.summary import decimals, finite, written

# Pixels of a page as wide as its column; narrower screens scroll.
WIDTH, LABEL, ALONE, NUMBER, EDGE, GAP = 1040, 196, 400, 46, 6, 22
HEAD, FOOT = 20, 36
STEP, LEVELS, APART = 2, 4, 4
"""Replies less than APART from each other stand STEP further out, on up to LEVELS; a fifth lies upon another."""
ABREAST = 4
"""Columns beside each other; more stand under them, on the same scale."""

_POLARITIES = ("high", "low", "")
_ROLES: tuple[Role, ...] = ("base", "primary", "arm", "instrument", "control")
_SIGNS = {"high": "u", "low": "d", "": "o"}
_Corners = dict[str, list[tuple[int, int]]]


@dataclass(frozen=True)
class _Column:
    """One question, or one form of it: its title and its replies by method and polarity."""

    title: str
    replies: Mapping[tuple[str, str], tuple[Reply, ...]]


@dataclass(frozen=True)
class _Lane:
    """One arm's line: heights, in pixels from its row's top, of its mean, of the number beside it and of its replies.

    `step` is the way from a reply to another that would lie upon it.
    """

    polarity: str
    mean: int
    number: int
    replies: int
    step: int


@dataclass(frozen=True)
class _Band:
    """One method's row: `top` and `height` in pixels below the first row's top."""

    method: str
    role: Role
    lanes: tuple[_Lane, ...]
    top: int
    height: int


@dataclass(frozen=True)
class _Axis:
    """The axis that all columns share, and how values along it are written."""

    low: float
    high: float
    unit: str
    zero: float | None
    places: int

    def x(self, value: float, plot: int) -> int:
        """Pixels from the left edge of a plot that is `plot` wide, to the nearest whole one."""
        return EDGE + round((value - self.low) / (self.high - self.low) * (plot - 2 * EDGE))

    def mean(self, replies: Sequence[Reply]) -> str:
        """The mean of those that could be read, as text."""
        known = _read(replies)
        return written(fmean(known), self.places, signed=self.zero == 0) if known else "unknown"


def draw(items: Sequence[Item]) -> str:
    """The figure of one group of questions as inline SVG, empty where no reply names its method.

    Columns are the questions (or forms of one), on one axis; rows are the methods: base, primary, arms, controls.
    A mark's sign and colour are its polarity's; controls are hollow. A dotted line stands at the base's mean.
    Replies that could not be read have no mark and no part in the mean; a row without any says `unknown`.

    Args:
        items: of one unit and zero.
    """
    columns, bands = _columns(items), _bands(items)
    if not bands:
        return ""
    axis = _axis(columns, items[0])
    parts = (columns[start : start + ABREAST] for start in range(0, len(columns), ABREAST))
    return "".join(_block(part, bands, axis) for part in parts)


# ---------------------------------------------------------------- what stands where


def _columns(items: Sequence[Item]) -> list[_Column]:
    """A column for each question, and for each form in which it was asked."""
    made: list[_Column] = []
    asked = {reply.form for item in items for reply in item.replies}
    for item, name in zip(items, short_names([item.id for item in items]), strict=True):
        forms = tuple(dict.fromkeys(reply.form for reply in item.replies)) or ("",)
        for form in forms:
            sorted_in: dict[tuple[str, str], list[Reply]] = {}
            for reply in item.replies:
                if reply.form == form:
                    sorted_in.setdefault((_method(reply), _polarity(reply)), []).append(reply)
            said = "" if len(asked) == 1 or (form and form in name.split("/")) else form or "plain"
            title = " · ".join(part for part in (name, said) if part)
            made.append(_Column(title, {key: tuple(replies) for key, replies in sorted_in.items()}))
    return made


def short_names(ids: Sequence[str]) -> list[str]:
    """Each id without the parts (between slashes) that all of them start with; empty for one that stands alone."""
    parts = [id.split("/") for id in ids]
    same = 0
    while all(len(own) > same + 1 and own[same] == parts[0][same] for own in parts):
        same += 1
    return ["/".join(own[same:]) for own in parts] if len(ids) > 1 else [""]


def _method(reply: Reply) -> str:
    return reply.method or reply.arm


def _polarity(reply: Reply) -> str:
    return reply.polarity if reply.polarity in _POLARITIES else ""


def _read(replies: Iterable[Reply]) -> list[float]:
    return [value for reply in replies if (value := finite(reply.value)) is not None]


def _bands(items: Sequence[Item]) -> list[_Band]:
    """The rows from top to bottom, those of one role in the order in which they first come."""
    replies = [reply for item in items for reply in item.replies]
    if not any(reply.method for reply in replies):
        return []
    found: dict[str, tuple[Role, set[str]]] = {}
    for reply in replies:
        role = reply.role if reply.role in get_args(Role) else "arm"
        found.setdefault(_method(reply), (role, set()))[1].add(_polarity(reply))
    made, top = [], 0
    for method, (role, polarities) in sorted(found.items(), key=lambda entry: _ROLES.index(entry[1][0])):
        lanes, y = [], 2
        for polarity in _POLARITIES:
            if polarity not in polarities:
                continue
            # Means of high and low stand back to back, their replies outside.
            if polarity == "high":
                lanes.append(_Lane(polarity, y + 12, y + 14, y + 4, -STEP))
                y += 16
            else:
                lanes.append(_Lane(polarity, y + 6, y + (12 if lanes else 10), y + 14, STEP))
                y += 18
        height = max(y + 4, 12 * len(_label(method)) + 8)
        made.append(_Band(method, role, tuple(lanes), top, height))
        top += height
    return made


def _label(method: str) -> list[str]:
    return textwrap.wrap(method, 30, max_lines=2, placeholder=" …") or [method[:30]]


def _axis(columns: Sequence[_Column], item: Item) -> _Axis:
    known = [value for column in columns for replies in column.replies.values() for value in _read(replies)]
    numbers = [*known, *([] if item.zero is None else [item.zero])]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    air = 0.03 * (high - low) or 0.5 * abs(high) or 1.0
    return _Axis(low - air, high + air, item.unit, item.zero, decimals(known))


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers from `low` to `high`, evenly apart by 1, 2, 2.5 or 5 of some power of ten."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for times in (1, 2, 2.5, 5, 10, 20):
        first, last = math.ceil(low / (step * times)), math.floor(high / (step * times))
        if last - first < most:
            return [number * step * times for number in range(first, last + 1)]
    return []


# ---------------------------------------------------------------- drawing


def _block(columns: Sequence[_Column], bands: Sequence[_Band], axis: _Axis) -> str:
    """One SVG of a few columns. Classes have one or two letters, since they stand on a page thousands of times."""
    alone = len(columns) == 1
    each = NUMBER + ALONE if alone else (WIDTH - LABEL + GAP) // len(columns) - GAP
    width, foot = LABEL + len(columns) * (each + GAP) - GAP, HEAD + bands[-1].top + bands[-1].height
    corners: _Corners = {}
    under, over = _labels(bands, width), ""
    for number, column in enumerate(columns):
        left = LABEL + number * (each + GAP)
        lines, texts = _frame(column, bands, axis, each - NUMBER, foot)
        under += f'<g transform="translate({left})">{lines}</g>'
        over += f'<g class="a" transform="translate({left})">{texts}</g>'
        numbers = '<text y="12">mean</text>'
        for band in bands:
            for lane in band.lanes:
                if replies := column.replies.get((band.method, lane.polarity)):
                    _add(corners, band, lane, axis, _read(replies), left, each - NUMBER)
                    numbers += f'<text y="{HEAD + band.top + lane.number}">{axis.mean(replies)}</text>'
        over += f'<g class="n" transform="translate({left + each})">{numbers}</g>'
    # Replies first (r before m, from the end), so that means lie on top.
    marks = "".join(f'<path class="{name}" d="{_path(corners[name])}"/>' for name in sorted(corners, reverse=True))
    size = f'class="strip{" alone" if alone else ""}" viewBox="0 0 {width} {foot + FOOT}" style="width:{width}px"'
    return f'<svg {size} role="img" aria-label="{escape(_words(columns, bands, axis))}">{under}{marks}{over}</svg>'


def _labels(bands: Sequence[_Band], width: int) -> str:
    """The rows' names, and the stripe behind the primary one."""
    stripes = texts = ""
    for band in bands:
        weight = ' class="h"' if band.role == "primary" else ""
        if weight:
            stripes += f'<path class="p" d="M0 {HEAD + band.top}h{width}v{band.height}H0z"/>'
        rows = _label(band.method)
        for index, row in enumerate(rows):
            y = HEAD + band.top + band.height // 2 + 4 + 12 * index - 6 * (len(rows) - 1)
            texts += f'<text{weight} x="{LABEL - 12}" y="{y}">{escape(row)}</text>'
    return stripes + texts


def _frame(column: _Column, bands: Sequence[_Band], axis: _Axis, plot: int, foot: int) -> tuple[str, str]:
    """A column's lines (axis, zero, base) and texts (title, ticks, unit), from its left edge."""
    base = [
        value
        for band in bands
        if band.role == "base"
        for lane in band.lanes
        for value in _read(column.replies.get((band.method, lane.polarity), ()))
    ]
    ticks_at = ticks(axis.low, axis.high, max(3, plot // 56))
    places = next((p for p in range(6) if all(math.isclose(round(t, p), t, abs_tol=1e-9) for t in ticks_at)), 6)
    along = f"M0 {foot}h{plot}" + "".join(f"M{axis.x(tick, plot)} {foot}v4" for tick in ticks_at)
    lines = f'<path class="t" d="{along}"/>'
    for name, at in (("b", fmean(base) if base else None), ("z", axis.zero)):
        if at is not None:
            lines += f'<path class="{name}" d="M{axis.x(at, plot)} {HEAD}V{foot}"/>'
    middle = plot // 2
    title = escape(textwrap.shorten(column.title, max(10, plot // 6), placeholder=" …"))
    towards = "" if axis.zero is None else ", towards high →"
    texts = f'<text class="c" x="{middle}" y="12">{title}</text>' if title else ""
    for tick in ticks_at:
        texts += f'<text x="{axis.x(tick, plot)}" y="{foot + 15}">{written(tick, places, signed=axis.zero == 0)}</text>'
    return lines, f'{texts}<text x="{middle}" y="{foot + 30}">{escape(axis.unit)}{towards}</text>'


def _add(
    corners: _Corners, band: _Band, lane: _Lane, axis: _Axis, known: Sequence[float], left: int, plot: int
) -> None:
    """Adds the replies' marks and their mean's."""
    if not known:
        return
    kind = _SIGNS[lane.polarity] + ("c" if band.role == "control" else "")
    top = HEAD + band.top
    corners.setdefault(f"m{kind}", []).append((top + lane.mean, left + axis.x(fmean(known), plot)))
    last = [-math.inf] * LEVELS
    for x in sorted(left + axis.x(value, plot) for value in known):
        level = next((level for level in range(LEVELS) if x - last[level] > APART), last.index(min(last)))
        last[level] = x
        corners.setdefault(f"r{kind}", []).append((top + lane.replies + level * lane.step, x))


def _path(points: Iterable[tuple[int, int]]) -> str:
    """A path with a corner at each of (y, x): along each height from left to right, which costs 3 bytes a mark.

    A height with a single mark gets a second corner upon it, since some browsers drop a path of one corner.
    """
    by_height: dict[int, list[int]] = {}
    for y, x in sorted(points):
        by_height.setdefault(y, []).append(x)
    return "".join(
        f"M{found[0]} {y}h{' '.join(str(after - before) for before, after in pairwise(found)) or '0'}"
        for y, found in by_height.items()
    )


def _words(columns: Sequence[_Column], bands: Sequence[_Band], axis: _Axis) -> str:
    """What a screen reader says: the columns' names once, then each row's means in their order."""
    names = ", ".join(column.title for column in columns if column.title)
    rows = []
    for band in bands:
        arms = []
        for lane in band.lanes:
            means = []
            for column in columns:
                replies = column.replies.get((band.method, lane.polarity), ())
                lost = len(replies) - len(_read(replies))
                count = f" ({lost} unknown)" if 0 < lost < len(replies) else ""
                means.append(axis.mean(replies) + count if replies else "not asked")
            arms.append(f"{lane.polarity} {', '.join(means)}".strip())
        rows.append(f"{band.method}: {'; '.join(arms)}.")
    towards = "" if axis.zero is None else " towards high"
    return " ".join([f"Means{towards}, {axis.unit}{f'; {names}' if names else ''}.", *rows])
