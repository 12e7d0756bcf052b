"""How figures look: colours, shapes, sizes in inches and points. Knows nothing else.

The colours are those of Okabe and Ito, told apart with any colour vision; since the shapes differ too (up, down,
round), nothing is lost in grey.
"""

from typing import Any

COLOURS = {"high": "#D55E00", "low": "#0072B2", "": "#3A3F45"}
SHAPES = {"high": "^", "low": "v", "": "o"}
SIGNS = {"high": "▲", "low": "▼", "": "●"}

INK, MUTED, LINE, BAND, STRIPE = "#1B1F23", "#5A646E", "#C9CFD5", "#E9ECEF", "#FBF4EC"

# Inches; a figure of two panels is as wide as the page's column. Text sizes in points.
WIDTH, SINGLE = 10.4, 7.6
ROW, GROUP_GAP, LINE_HEIGHT = 0.235, 0.11, 0.165
HEAD, FOOT, LEGEND, EDGE, GUTTER = 0.40, 0.52, 0.34, 0.06, 0.30
LABEL_CHARACTERS = 30
SIZE, SMALL = 9.5, 8.5

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
