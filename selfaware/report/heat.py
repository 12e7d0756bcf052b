"""Tables of numbers as colours: a cell each, with its number where there is room, and a bar that says what colours mean.

Knows panels of cells and where their parts stand. Must not know the file or the page that the drawing goes into.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from selfaware.report import cells, glyphs, style
from selfaware.report.cells import Cells
from selfaware.report.page import Heat
from selfaware.report.sheet import Box, Sheet, Text, Thing
from selfaware.report.summary import decimals, finite, written

# Inches.
_LABEL, _TURNED, _OVER = 2.4, 1.5, 0.22
"""Longest row label; longest column label that reads upwards; what a name of rows or columns takes."""
_WIDEST, _SQUARE, _LEAST, _TALLEST = 0.95, 0.3, 0.2, 11.0
"""A cell with a number; one without; the least for panels abreast; all rows together."""
_NUMBERED, _NOTED = 0.27, 0.40
_PITCH = 0.125
"""Labels that stand closer are thinned out."""
_SWATCH, _BAR = 0.085, 0.14


@dataclass(frozen=True)
class _Plan:
    """How one panel is laid out, in inches.

    Attributes:
        label: width of the row labels, with the name of the rows.
        numbers, notes: whether cells hold them.
        columns: the column labels, on one line or several; one line where they are turned.
        turned: whether they read upwards.
        every: one of so many is written.
        foot: height of what stands below the cells, without the bar.
    """

    label: float
    width: float
    height: float
    numbers: bool
    notes: bool
    columns: tuple[tuple[str, ...], ...]
    turned: bool
    every: int
    foot: float


def problem(one: Heat) -> str:
    """What is wrong with the panel, what it needs and what to do; empty where it can be drawn.

    Args:
        one: the panel.
    """
    rows, columns = len(one.rows), len(one.columns)
    if not rows or not columns:
        return f"{rows} rows and {columns} columns; needed one of each at least. Leave the panel out."
    for what, table in (("values", one.values), *((("notes", one.notes),) if one.notes else ())):
        widths = sorted({len(row) for row in table})
        if len(table) != rows or widths != [columns]:
            got = " or ".join(map(str, widths)) or "no"
            return (
                f"{what} of {len(table)} rows by {got} columns; needed {rows} by {columns}. Give one for each row and "
                "column, None for what is unknown."
            )
    low, high = one.limits
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return f"limits {low} and {high}; needed two finite numbers that rise. Set the ends of the colour scale."
    return ""


def is_wide(panels: Sequence[Heat]) -> bool:
    """Whether they are as wide as the page: several panels, or one whose cells need it to hold their numbers.

    Args:
        panels: of one figure.
    """
    if len(panels) != 1:
        return True
    (one,) = panels
    return len(one.columns) * _natural(one) + _label(one) > style.SINGLE - 2 * style.EDGE


def words(one: Heat) -> list[str]:
    """A line of text for each row: its numbers, each after its column's name.

    In a table of very many cells they stand in the columns' order, in units of their last decimal: eight thousand
    numbers are most of the figure's bytes.
    """
    places, signed = _places(one), _is_either(one)
    over = [f"{what}: {name}" for what, name in zip(("rows", "columns"), one.over, strict=True) if name]
    lines = [", ".join(over)] if over else []
    lost = sum(finite(value) is None for row in one.values for value in row)
    lines += [f"unknown cells: {lost}"] if lost else []
    many = len(one.rows) * len(one.columns) > cells.MANY
    if many:
        names = "as the rows" if one.columns == one.rows else ", ".join(one.columns)
        lines += [f"columns: {names}", f"numbers in units of {written(10.0**-places, places, signed=False)}"]
    for number, (name, row) in enumerate(zip(one.rows, one.values, strict=True)):
        texts = [_number(value, places, signed=signed and not many) or "unknown" for value in row]
        if many:
            whole = [re.sub(r"(?<!\d)0+(?=\d)", "", text.replace(".", "")) for text in texts]
            lines.append(f"{name}: {' '.join(whole)}")
            continue
        notes = one.notes[number] if one.notes else ("",) * len(row)
        parts = zip(one.columns, texts, notes, strict=True)
        lines.append(f"{name}: " + "; ".join(f"{c} {text}{f' {note}' if note else ''}" for c, text, note in parts))
    return lines


# ---------------------------------------------------------------- layout


def drawing(panels: Sequence[Heat]) -> Sheet:
    """The whole drawing: panels abreast where two have room for cells of a fair size, else under each other.

    Args:
        panels: of one figure, each without a problem.
    """
    wide = style.WIDTH if is_wide(panels) else style.SINGLE
    half = (wide - 2 * style.EDGE - style.GUTTER) / 2
    fits = all(_label(one) + len(one.columns) * _LEAST <= half for one in panels)
    abreast = 2 if len(panels) > 1 and fits else 1
    room = half if abreast == 2 else wide - 2 * style.EDGE
    things: list[Thing] = []
    top = 0.0
    for start in range(0, len(panels), abreast):
        row = [(one, _plan(one, room)) for one in panels[start : start + abreast]]
        keys = [_key(one, plan, room) for one, plan in row]
        under = max(len(one.rows) * plan.height + plan.foot for one, plan in row)
        for number, ((one, plan), key) in enumerate(zip(row, keys, strict=True)):
            left = style.EDGE + number * (room + style.GUTTER)
            things += _panel(one, plan, left, top, room)
            for thing, x, y in key:
                things += _at(thing, left + x, top + style.HEAD + under + 0.16 + y)
        top += style.HEAD + under + max(y for key in keys for _, _, y in key) + 0.46
    return Sheet(wide, top, tuple(things))


def _label(one: Heat) -> float:
    """Inches of the row labels, with what stands beside them."""
    longest = max(glyphs.width(name[:80], style.SMALL) for name in one.rows)
    return min(_LABEL, longest) + 0.1 + (_OVER if one.over[0] else 0.0)


def _natural(one: Heat) -> float:
    """Inches that a cell would have: with its number, or small where there are many rows or columns."""
    many = len(one.rows) > 40 or len(one.columns) > 40
    return 0.09 if many else _number_width(one) + 0.12


def _number_width(one: Heat) -> float:
    places, signed = _places(one), _is_either(one)
    texts = {_number(value, places, signed=signed) for row in one.values for value in row}
    return max(glyphs.width(text, style.SMALL) for text in texts)


def _plan(one: Heat, room: float) -> _Plan:
    label = _label(one)
    pitch = (room - label) / len(one.columns)
    numbers = _number_width(one) + 0.08 <= pitch and len(one.rows) * _NUMBERED <= _TALLEST
    noted = max((glyphs.width(note, style.TINY) for row in one.notes for note in row), default=0.0)
    notes = numbers and 0 < noted <= min(pitch, _WIDEST) - 0.06 and len(one.rows) * _NOTED <= _TALLEST
    if numbers:
        width, height = min(pitch, _WIDEST), _NOTED if notes else _NUMBERED
    else:
        width = min(pitch, _SQUARE)
        height = max(0.02, min(width, style.ROW, _TALLEST / len(one.rows)))
    longest = max(glyphs.width(name[:80], style.SMALL) for name in one.columns)
    lines, turned, every = tuple(_broken(name, width - 0.06) for name in one.columns), False, 1
    if all(re.fullmatch(r"[+−-]?[\d.,]+ ?%?", name) for name in one.columns):
        # Numbers are thinned out rather than turned: what is left out can be counted.
        lines, every = tuple((name,) for name in one.columns), math.ceil((longest + 0.08) / width)
    elif any(not found for found in lines):
        lines = tuple((glyphs.fitted(name, _TURNED, style.SMALL),) for name in one.columns)
        turned, every = True, math.ceil(_PITCH / width)
    foot = min(_TURNED, longest) if turned else max(len(found) for found in lines) * style.LINE_HEIGHT
    foot += 0.1 + (_OVER if one.over[1] else 0.0)
    return _Plan(label, width, height, numbers, notes, lines, turned, every, foot)


def _broken(name: str, inches: float) -> tuple[str, ...]:
    """The name on at most three lines of that width; none where it does not fit."""
    lines: list[str] = []
    for word in name.split() or [""]:
        if lines and glyphs.width(f"{lines[-1]} {word}", style.SMALL) <= inches:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return tuple(lines) if len(lines) <= 3 and all(glyphs.width(line, style.SMALL) <= inches for line in lines) else ()


def _panel(one: Heat, plan: _Plan, left: float, top: float, room: float) -> Iterator[Thing]:
    """The panel's title, cells, numbers and labels, from its top left."""
    x, y = left + plan.label, top + style.HEAD
    wide, high = len(one.columns) * plan.width, len(one.rows) * plan.height
    title = glyphs.fitted(one.title, room, style.SIZE + 1)
    yield Text(left, y - 0.2, title, style.SIZE + 1, bold=True, room=room)
    levels = tuple(tuple(_level(value, one.limits) for value in row) for row in one.values)
    yield Cells(
        x, y, plan.width, plan.height, levels, _most(one), _is_either(one),
        dashed=_is_either(one) and not plan.numbers, ruled=plan.numbers,
    )  # fmt: skip
    yield Box(x, y, wide, high, edge=style.LINE)
    if plan.numbers:
        yield from _numbers(one, plan, x, y)
    beside = plan.label - 0.08 - (_OVER if one.over[0] else 0.0)
    every = math.ceil(_PITCH / plan.height)
    for number in range(0, len(one.rows), every):
        name = glyphs.fitted(one.rows[number], beside + 0.02, style.SMALL)
        yield Text(x - 0.07, y + (number + 0.5) * plan.height, name, anchor="end", room=beside)
    for number in range(0, len(one.columns), plan.every):
        middle = x + (number + 0.5) * plan.width
        if plan.turned:
            name = plan.columns[number][0]
            yield Text(middle, y + high + 0.07, name, anchor="end", turned=True, room=_TURNED)
        for line, name in enumerate(() if plan.turned else plan.columns[number]):
            below = y + high + 0.14 + line * style.LINE_HEIGHT
            yield Text(middle, below, name, anchor="middle", room=plan.width * plan.every)
    names = [
        glyphs.fitted(name, most, style.SMALL) for name, most in zip(one.over, (max(high, 1.0), wide), strict=True)
    ]
    if one.over[0]:
        yield Text(left + 0.09, y + high / 2, names[0], colour=style.MUTED, anchor="middle", turned=True)
    if one.over[1]:
        yield Text(x + wide / 2, y + high + plan.foot - 0.1, names[1], colour=style.MUTED, anchor="middle")


def _numbers(one: Heat, plan: _Plan, x: float, y: float) -> Iterator[Text]:
    """Each cell's number, with its note below; first all numbers, then all notes, since neighbours share a style."""
    places, signed = _places(one), _is_either(one)
    up = 0.07 if plan.notes else 0.0
    for r, row in enumerate(one.values):
        for c, value in enumerate(row):
            if text := _number(value, places, signed=signed):
                middle = (x + (c + 0.5) * plan.width, y + (r + 0.5) * plan.height)
                yield Text(middle[0], middle[1] - up, text, anchor="middle")
    for r, noted in enumerate(one.notes if plan.notes else ()):
        for c, note in enumerate(noted):
            if note:
                middle = (x + (c + 0.5) * plan.width, y + (r + 0.5) * plan.height)
                yield Text(middle[0], middle[1] + 0.09, note, style.TINY, anchor="middle", room=plan.width)


# ---------------------------------------------------------------- what the colours mean


def _key(one: Heat, plan: _Plan, room: float) -> list[tuple[Cells | Text, float, float]]:
    """The bar of colours between its ends, the unit, and the signs in use: things with their place below the cells."""
    low, high = one.limits
    places = decimals(one.limits)
    known = [value for row in one.values for cell in row if (value := finite(cell)) is not None]
    signed = _is_either(one)
    ends = [written(end, places, signed=signed) for end in (low, high)]
    ends[0] = f"≤ {ends[0]}" if any(value < low for value in known) else ends[0]
    ends[1] = f"≥ {ends[1]}" if any(value > high for value in known) else ends[1]
    first, last = (_level(end, one.limits) or 0 for end in one.limits)
    levels = tuple(range(first, last + 1)) if first < last else tuple(range(first, last - 1, -1))
    dashed = signed and not plan.numbers
    swatches = Cells(0, 0, _SWATCH, _BAR, (levels,), _most(one), signed, dashed=dashed)
    bar: list[tuple[Cells | Text, float]] = [
        _text(ends[0]),
        (swatches, len(levels) * _SWATCH),
        _text(f"{ends[1]} {one.unit}"),
    ]
    signs: list[tuple[Cells | Text, float]] = []
    if dashed and any((_level(value, one.limits) or 0) < 0 for value in known):
        signs.append((Cells(0, 0, 0.2, _BAR, ((-_most(one) // 2,),), _most(one), True, dashed=True), 0.2))
        signs.append(_text("below zero"))
    if len(known) < len(one.rows) * len(one.columns):
        signs.append((Cells(0, 0, 0.2, _BAR, ((None,),), 1, False), 0.2))
        signs.append(_text("unknown"))
    placed: list[tuple[Cells | Text, float, float]] = []
    x = y = 0.0
    for group in (bar, *(signs[i : i + 2] for i in range(0, len(signs), 2))):
        if x and x + sum(wide + 0.08 for _, wide in group) > room:
            x, y = 0.0, y + 0.22
        for thing, wide in group:
            placed.append((thing, x, y))
            x += wide + 0.08
        x += 0.2
    return placed


def _text(text: str) -> tuple[Text, float]:
    """A word of the key, and its width."""
    fitted = glyphs.fitted(text, 3.0, style.SMALL)
    return Text(0, 0, fitted, colour=style.MUTED), glyphs.width(fitted, style.SMALL)


def _at(thing: Cells | Text, x: float, y: float) -> Iterator[Thing]:
    """The thing of a key, with its middle at a height; a swatch in a thin frame, since some are as white as paper."""
    if isinstance(thing, Text):
        yield replace(thing, x=x, y=y)
        return
    top = y - thing.height / 2
    yield replace(thing, x=x, y=top)
    yield Box(x, top, len(thing.levels[0]) * thing.width, thing.height, edge=style.LINE)
    if thing.either and 0 in thing.levels[0]:
        middle = x + (thing.levels[0].index(0) + 0.5) * thing.width
        yield Text(middle, y, "0", style.TINY, colour=style.MUTED, anchor="middle")


# ---------------------------------------------------------------- numbers


def _is_either(one: Heat) -> bool:
    """Whether zero lies inside the scale: colours on either side of it."""
    return one.limits[0] < 0 < one.limits[1]


def _most(one: Heat) -> int:
    return cells.EITHER if _is_either(one) else cells.ONE_WAY


def _level(value: float | None, limits: tuple[float, float]) -> int | None:
    """The value's level of colour.

    With zero inside the limits the farther end is strongest, and equal sizes on either side look equal; else the end
    that is farther from zero is strongest.
    """
    if finite(value) is None or value is None:
        return None
    low, high = limits
    value = min(max(value, low), high)
    if low < 0 < high:
        share = value / max(-low, high)
        return int(math.copysign(math.floor(cells.EITHER * abs(share) + 0.5), share))
    share = (value - low) / (high - low)
    return math.floor(cells.ONE_WAY * (share if low >= 0 else 1 - share) + 0.5)


def _places(one: Heat) -> int:
    return decimals(value for row in one.values for value in row)


def _number(value: float | None, places: int, *, signed: bool) -> str:
    """The number as text; empty where it is unknown."""
    return "" if finite(value) is None or value is None else written(value, places, signed=signed)
