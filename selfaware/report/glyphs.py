"""Text that can be seen: words of any script with their hidden characters made visible, and how wide a text is.

Knows characters, and which of them the PDF's font has. Must not know what a text is about.
"""

import re
import unicodedata
from functools import lru_cache

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, get_font

from selfaware.report import panel, style

_SIGNS = {"\n": "⏎", "\t": "⇥", "\x7f": "␡"}
_JOINERS = "\u200c\u200d"  # they shape the letters and emoji on either side
_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # they choose the form of the character before
# Letters and symbols by category, but blank.
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
# What XML 1.0 has no way to write, and half a surrogate pair, which UTF-8 has not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 400
"""Characters that are looked at, of a text that is to stand on one line."""
# Before this version matplotlib set right-to-left words in the order of their characters, unjoined.
_SHAPED = tuple(int(part) for part in re.findall(r"\d+", matplotlib.__version__)[:2]) >= (3, 11)


def visible(word: str) -> str:
    """`word` with what can't be seen made visible.

    Spaces at the ends and doubled ones are `␣`, a line's end is `⏎`, other control characters are their pictures;
    a combining mark that stands first has a dotted circle to sit on; what has no picture (a direction override, a lone
    surrogate, a no-break space) is its code point.
    """
    word = re.sub(r"^ +| +$| {2,}", lambda found: "␣" * len(found[0]), word)
    return _joined(
        [_visible(c, word[i - 1] if i else "", word[i + 1] if i + 1 < len(word) else "") for i, c in enumerate(word)]
    )


def _visible(c: str, before: str, after: str) -> tuple[str, bool]:
    """The character as shown, and whether that is a code point."""
    category = unicodedata.category(c)
    if c in _SIGNS:
        return _SIGNS[c], False
    if ord(c) < 32:
        return chr(0x2400 + ord(c)), False
    if c in _JOINERS and before and after:
        return c, False
    first = not before or (unicodedata.category(before)[0] in "CZ" and before not in _JOINERS)
    if category[0] == "M" and first and c not in _SELECTORS:
        return f"◌{c}", False
    # Private and unassigned characters are in no font that a reader can be expected to have.
    hidden = category[0] == "C" or (category[0] == "Z" and c != " ") or c in _BLANK
    if hidden or (first and c in _SELECTORS):
        return _code_point(c), True
    return c, False


def _code_point(c: str) -> str:
    return f"U+{ord(c):04X}"


def _joined(parts: list[tuple[str, bool]]) -> str:
    """The parts as one text, code points apart from what stands beside them."""
    text, coded = "", False
    for part, is_code in parts:
        apart = text and (is_code or coded) and not text.endswith(" ") and part != " "
        text, coded = f"{text}{' ' if apart else ''}{part}", is_code
    return text


def plain(text: str) -> str:
    """`text` with � for what no XML document can hold: control characters, lone surrogates."""
    return _FORBIDDEN.sub("\ufffd", text)


def isolated(text: str) -> str:
    """`text` between marks that keep its direction from turning what stands around it."""
    return f"\u2068{text}\u2069"


def printable(text: str, *, bold: bool = False) -> str:
    """`text` with the code point in place of each character that the PDF's font has no glyph for."""
    return _joined([(_code_point(c), True) if _is_missing(c, bold) else (c, False) for c in text])


def width(text: str, size: float = style.SIZE) -> float:
    """About how many inches `text` takes at `size` points, in bold, in a font that has all its characters."""
    # An ideograph takes an em, as does M in bold.
    stand_in = {c: "M" if unicodedata.east_asian_width(c) in "WF" else "n" for c in set(text) if _is_missing(c)}
    return panel.width("".join(stand_in.get(c, c) for c in text.replace("\n", " ")), size)


def fitted(text: str, inches: float, size: float = style.SIZE) -> str:
    """`text` on one line, cut with an ellipsis where it is wider than `inches` at `size` points."""
    text = plain(text).replace("\n", " ")
    if len(text) <= _LONGEST and width(text, size) <= inches:
        return text
    # The most characters that fit lie between these.
    fits, too_many = 0, min(len(text), _LONGEST)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if width(f"{text[:middle]}…", size) <= inches else (fits, middle)
    # A mark or a joiner without what it belongs to would be drawn on the ellipsis.
    while fits and (unicodedata.category(text[fits])[0] == "M" or text[fits] in _JOINERS or text[fits - 1] in _JOINERS):
        fits -= 1
    return f"{text[:fits].rstrip()}…"


def _is_missing(c: str, bold: bool = True) -> bool:
    """Whether the PDF can't show it: the font has no glyph, or the letter would stand in the wrong order."""
    if c == "\n":
        return False
    return ord(c) not in _known(bold) or (not _SHAPED and unicodedata.bidirectional(c) in ("R", "AL"))


@lru_cache(maxsize=2)
def _known(bold: bool) -> frozenset[int]:
    """Code points that the font has glyphs for."""
    font = findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    return frozenset(get_font(font).get_charmap())
