"""A drawing as a list of things on a sheet, in inches from its top left: written as SVG by hand, or on a canvas for PDF.

Knows texts, boxes and rules. Must not know what they mean.

By hand, because the words of a direction may be of any script, which the reader's fonts have and matplotlib's has not,
and because matplotlib writes 60 bytes for a cell of a table that takes 8 here.
"""

from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Literal, Protocol

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D, Transform

from selfaware.report import glyphs, style

POINTS = 72.0
Anchor = Literal["start", "middle", "end"]
_SIDES = {"start": "left", "middle": "center", "end": "right"}
_SMALLEST = 0.6
"""How far a text is shrunk to fit, in a PDF, where code points made it longer than it was."""


class Thing(Protocol):
    """Something on a sheet."""

    def svg(self, name: str) -> str:
        """The elements, in points; `name` starts every id in them."""

    def paint(self, canvas: Canvas, layer: float) -> None:
        """Draws it on a canvas of the sheet's size, above what has a lower `layer`."""


@dataclass(frozen=True)
class Text:
    """One line of text, `y` half-way up its small letters.

    Attributes:
        room: inches that it may take in a PDF; None for any.
        turned: whether it reads upwards.
        word: whether it is a word of some model: its direction stays its own, and its spaces are kept.
    """

    x: float
    y: float
    text: str
    size: float = style.SMALL
    colour: str = style.INK
    anchor: Anchor = "start"
    bold: bool = False
    turned: bool = False
    word: bool = False
    room: float | None = None

    @property
    def _base(self) -> tuple[float, float]:
        """Where the letters stand."""
        down = 0.36 * self.size / POINTS
        return (self.x + down, self.y) if self.turned else (self.x, self.y + down)

    def style(self) -> str:
        """What it shares with texts that look alike, as CSS."""
        weight = ";font-weight:bold" if self.bold else ""
        own = ";unicode-bidi:isolate;white-space:pre" if self.word else ""
        side = "" if self.anchor == "start" else f";text-anchor:{self.anchor}"
        return f"font-size:{self.size:g}px;fill:{style.themed(self.colour)}{side}{weight}{own}"

    def svg(self, name: str) -> str:
        """The element, without its style."""
        x, y = (points(number) for number in self._base)
        place = f'transform="translate({x} {y})rotate(-90)"' if self.turned else f'x="{x}" y="{y}"'
        return f"<text {place}>{escape(glyphs.plain(self.text), quote=False)}</text>"

    def paint(self, canvas: Canvas, layer: float) -> None:
        """Draws it, smaller where it would be too wide."""
        text, size = glyphs.printable(glyphs.plain(self.text), bold=self.bold), self.size
        if self.room is not None and (wide := glyphs.width(text, size)) > self.room:
            size *= max(_SMALLEST, self.room / wide)
            text = glyphs.fitted(text, self.room, size)
        x, y = self._base
        canvas.text(
            x, y, text, transform=in_inches(canvas), fontsize=size, color=self.colour, ha=_SIDES[self.anchor],
            va="baseline", fontweight="bold" if self.bold else "normal", rotation=90 if self.turned else 0,
            rotation_mode="anchor", zorder=layer,
        )  # fmt: skip


@dataclass(frozen=True)
class Box:
    """A rectangle; without a fill where `fill` is empty, without an edge where `edge` is."""

    x: float
    y: float
    width: float
    height: float
    fill: str = ""
    edge: str = ""

    def svg(self, name: str) -> str:
        """The element."""
        x, y, width, height = (points(number) for number in (self.x, self.y, self.width, self.height))
        look = f"fill:{style.themed(self.fill) if self.fill else 'none'}"
        look += f";stroke:{style.themed(self.edge)};stroke-width:.8" if self.edge else ""
        return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" style="{look}"/>'

    def paint(self, canvas: Canvas, layer: float) -> None:
        """Draws it."""
        canvas.add_artist(
            Rectangle(
                (self.x, self.y), self.width, self.height, transform=in_inches(canvas), facecolor=self.fill or "none",
                edgecolor=self.edge or "none", linewidth=0.8 if self.edge else 0, zorder=layer,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A line from (x, y), as long as `down` says."""

    x: float
    y: float
    down: float
    colour: str = style.MUTED
    thickness: float = 0.9

    def svg(self, name: str) -> str:
        """The element."""
        look = f"stroke:{style.themed(self.colour)};stroke-width:{self.thickness:g}"
        return f'<path d="M{points(self.x)} {points(self.y)}v{points(self.down)}" style="{look}"/>'

    def paint(self, canvas: Canvas, layer: float) -> None:
        """Draws it."""
        canvas.add_artist(
            Line2D(
                [self.x, self.x], [self.y, self.y + self.down], transform=in_inches(canvas), color=self.colour,
                linewidth=self.thickness, solid_capstyle="butt", zorder=layer,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """Things on a sheet of some inches, the first at the bottom."""

    width: float
    height: float
    things: tuple[Thing, ...]

    def svg(self, name: str) -> str:
        """The sheet as an SVG element.

        Args:
            name: starts every id in it.
        """
        body = []
        for look, group in groupby(enumerate(self.things), lambda numbered: _look(numbered[1])):
            drawn = "".join(thing.svg(f"{name}-{number}") for number, thing in group)
            body.append(f'<g style="{look}">{drawn}</g>' if look else drawn)
        wide, high = points(self.width), points(self.height)
        head = f'xmlns="http://www.w3.org/2000/svg" width="{wide}pt" height="{high}pt" viewBox="0 0 {wide} {high}"'
        return "\n".join([f'<svg {head} style="font-family:{style.FONTS}">', *body, "</svg>"])

    def canvas(self) -> Canvas:
        """The sheet drawn by matplotlib."""
        canvas = Canvas(figsize=(self.width, self.height), facecolor="white")
        for number, thing in enumerate(self.things):
            thing.paint(canvas, number)
        return canvas


def _look(thing: Thing) -> str:
    return thing.style() if isinstance(thing, Text) else ""


def points(inches: float) -> str:
    """A length as text, in points to a tenth."""
    text = f"{inches * POINTS:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def in_inches(canvas: Canvas) -> Transform:
    """From inches below and right of the canvas's top left to its pixels."""
    return Affine2D().scale(1, -1).translate(0, canvas.get_figheight()) + canvas.dpi_scale_trans
