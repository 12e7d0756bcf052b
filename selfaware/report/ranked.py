"""Words in order with a bar each: the tokens of a direction, in whatever script they are.

Knows panels of words and where their parts stand. Must not know the file or the page that the drawing goes into.
"""

from collections.abc import Iterator, Sequence

from selfaware.report import glyphs, style
from selfaware.report.page import Ranked
from selfaware.report.panel import Columns
from selfaware.report.sheet import Box, Rule, Sheet, Text, Thing
from selfaware.report.summary import decimals, finite, written

# Inches.
_WORD, _LEAST, _THICK, _FOOT = 2.3, 0.5, 0.13, 0.3
"""Longest word; least room for words; a bar; what the unit takes below the bars."""
_GAP = 0.1


def problem(one: Ranked) -> str:
    """What is wrong with the panel, what it needs and what to do; empty where it can be drawn.

    Args:
        one: the panel.
    """
    if not one.words:
        return "no words; needed one at least. Leave the panel out."
    for what, count in (("values", len(one.values)), ("marked", len(one.marked) or len(one.words))):
        if count != len(one.words):
            return f"{count} {what} for {len(one.words)} words; needed one for each. Give both in one order."
    return ""


def is_wide(panels: Sequence[Ranked]) -> bool:
    """Whether they are as wide as the page: several panels are.

    Args:
        panels: of one figure.
    """
    return len(panels) != 1


def words(one: Ranked) -> list[str]:
    """A line of text for each word: its place, the word, its value, and whether it is counted."""
    return [
        f"{place}. {glyphs.isolated(glyphs.visible(word))}: {number}{', counted' if marked else ''}"
        for place, (word, number, marked) in enumerate(zip(one.words, _numbers(one), _marked(one), strict=True), 1)
    ]


def drawing(panels: Sequence[Ranked]) -> Sheet:
    """The whole drawing, panels two in a row; those of one unit share an axis.

    Args:
        panels: of one figure, each without a problem.
    """
    wide = style.WIDTH if is_wide(panels) else style.SINGLE
    abreast = min(2, len(panels))
    room = (wide - 2 * style.EDGE - (abreast - 1) * style.GUTTER) / abreast
    # Wide enough for a PDF too, where code points stand for characters that its font lacks.
    longest = max(
        glyphs.width(text) for one in panels for word in _shown(one) for text in (word, glyphs.printable(word))
    )
    words_wide = min(max(_LEAST, longest), _WORD)
    numbers_wide = max(glyphs.width(text, style.SMALL) for one in panels for text in _numbers(one))
    columns = Columns(words_wide, _GAP, room - words_wide - numbers_wide - 2 * _GAP, numbers_wide)
    things: list[Thing] = []
    top = 0.0
    for start in range(0, len(panels), abreast):
        row = panels[start : start + abreast]
        for number, one in enumerate(row):
            length = max(_length(other) for other in panels if other.unit == one.unit)
            things += _panel(one, length, style.EDGE + number * (room + style.GUTTER), top, columns)
        top += style.HEAD + max(len(one.words) for one in row) * style.ROW + _FOOT + 0.1
    if any(any(_marked(one)) for one in panels):
        things += _key(top + 0.06)
        top += style.LEGEND
    return Sheet(wide, top, tuple(things))


def _panel(one: Ranked, length: float, left: float, top: float, columns: Columns) -> Iterator[Thing]:
    """The panel from its top left, on an axis of some length, from its least value or from zero."""
    x, y, high = left + columns.label + _GAP, top + style.HEAD, len(one.words) * style.ROW
    room = columns.label + columns.plot + columns.numbers + 2 * _GAP
    scale = columns.plot / length
    zero = x - scale * min(0.0, *(value for value in one.values if finite(value) is not None), 0.0)
    yield Text(left, y - 0.2, glyphs.fitted(one.title, room, style.SIZE + 1), style.SIZE + 1, bold=True, room=room)
    middles = [y + (number + 0.5) * style.ROW for number in range(len(one.words))]
    for middle, word, marked in zip(middles, _shown(one), _marked(one), strict=True):
        yield Text(x - _GAP, middle, word, style.SIZE, anchor="end", bold=marked, word=True, room=columns.label)
    for middle, value, marked in zip(middles, one.values, _marked(one), strict=True):
        if finite(value) is not None:
            yield _bar(zero + scale * min(0.0, value), middle, scale * abs(value), counted=marked)
    for middle, text, marked in zip(middles, _numbers(one), _marked(one), strict=True):
        colour = style.INK if marked else style.MUTED
        yield Text(left + room, middle, text, colour=colour, anchor="end", bold=marked)
    yield Rule(zero, y, high)
    unit = glyphs.fitted(one.unit, room, style.SMALL)
    yield Text(x + columns.plot / 2, y + high + 0.14, unit, colour=style.MUTED, anchor="middle")


def _bar(x: float, middle: float, length: float, *, counted: bool) -> Box:
    """Filled for a counted word, pale with an edge for another: told apart in grey."""
    colour = style.COLOURS[""]
    return Box(x, middle - _THICK / 2, length, _THICK, colour if counted else style.BAND, colour)


def _key(middle: float) -> Iterator[Thing]:
    yield _bar(style.EDGE + 0.02, middle, 0.25, counted=True)
    yield Text(style.EDGE + 0.35, middle, "bold, filled: counted", colour=style.MUTED)


def _length(one: Ranked) -> float:
    """From the least value, or zero, to the greatest, or zero."""
    known = [value for value in one.values if finite(value) is not None]
    return max(0.0, *known, 0.0) - min(0.0, *known, 0.0) or 1.0


def _shown(one: Ranked) -> list[str]:
    return [glyphs.fitted(glyphs.visible(word), _WORD) for word in one.words]


def _marked(one: Ranked) -> tuple[bool, ...]:
    return one.marked or (False,) * len(one.words)


def _numbers(one: Ranked) -> list[str]:
    """Each word's value as text, signed where some are below zero."""
    places, signed = decimals(one.values), any(value < 0 for value in one.values)
    return ["unknown" if finite(value) is None else written(value, places, signed=signed) for value in one.values]
