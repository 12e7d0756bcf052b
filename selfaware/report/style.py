"""How figures look: colours, shapes, sizes in inches and points. Knows nothing else.

The colours are those of Okabe and Ito, told apart with any colour vision; since the shapes differ too (up, down,
round), nothing is lost in grey.
"""

from typing import Any

COLOURS = {"high": "#D55E00", "low": "#0072B2", "": "#3A3F45"}
SHAPES = {"high": "^", "low": "v", "": "o"}
SIGNS = {"high": "▲", "low": "▼", "": "●"}

# Ends of the colour scales of tables: of one lightness (57 of 100 in CIE L*), so that in grey equal sizes look equal
# whatever their sign, and light enough for numbers in ink on any of them (contrast 4.6 and more).
HEAT = {"high": "#D8680F", "low": "#3690C2", "": "#85888B"}

INK, MUTED, LINE, BAND, STRIPE = "#1B1F23", "#5A646E", "#C9CFD5", "#E9ECEF", "#FBF4EC"

# What each colour is called in the page's styles, where a dark page has its own.
THEMED = {
    COLOURS["high"].lower(): "mark-high", COLOURS["low"].lower(): "mark-low", COLOURS[""].lower(): "mark-none",
    INK.lower(): "ink", MUTED.lower(): "muted", LINE.lower(): "axis", BAND.lower(): "band", STRIPE.lower(): "stripe",
    "#ffffff": "paper",
    HEAT["high"].lower(): "heat-high", HEAT["low"].lower(): "heat-low", HEAT[""].lower(): "heat-none",
}  # fmt: skip

# Inches; a figure of two panels is as wide as the page's column. Text sizes in points.
WIDTH, SINGLE = 10.4, 7.6
ROW, GROUP_GAP, LINE_HEIGHT = 0.235, 0.11, 0.165
HEAD, FOOT, LEGEND, EDGE, GUTTER = 0.40, 0.52, 0.34, 0.06, 0.30
NUMBER_GAP, NOTE_GAP, LEAST_PLOT = 0.12, 0.10, 1.2
LABEL_CHARACTERS, LONG_LABEL_CHARACTERS = 30, 48
# From so many marks on a single panel is drawn dense and as wide as the page; a label longer than this widens it too.
MANY, LONG_LABEL = 12, 2.6
SIZE, SMALL, TINY = 9.5, 8.5, 6.5

# What stands in the SVG in place of the PDF's font.
FONTS = "ui-sans-serif, system-ui, sans-serif"

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SIZE,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "selfaware",
    "pdf.fonttype": 42,
    "pdf.compression": 6,
}


def themed(colour: str) -> str:
    """A colour of ours as the page's variable, so that it follows a dark page; with itself where there is no page."""
    name = THEMED.get(colour.lower())
    return f"var(--{name}, {colour})" if name else colour
