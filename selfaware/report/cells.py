"""A grid of coloured cells: few as shapes, many as an image, either way a few kilobytes.

Knows levels of colour and where the grid stands. Must not know what the cells mean.

Colour is the page's own, as strong as the value is large, over the page's paper: so a grid follows a dark page. In
grey, strength is size whatever the sign; the sign is a dash in each cell below zero, and unknown cells are hatched.
"""

import base64
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from selfaware.report import style
from selfaware.report.sheet import in_inches, points

EITHER, ONE_WAY = 10, 20
"""Levels on either side of zero, and levels of a scale that has no zero inside: 21 colours in both."""
MANY = 1600
"""Cells from which a grid is an image.

As shapes, a level's cells being one path and neighbours in a row one rectangle, a cell of noise takes 14 bytes: 110 kB
for 90 by 90. As images of one byte a cell before compression, used as masks, it takes one, and what shows through a
mask is still the page's colour. Below this size shapes are as small, and sharp in every viewer.
"""
_ENLARGED = 8
"""Pixels a cell in a PDF, where some viewers blur an image's pixels into each other."""

Run = tuple[int, int, int]
"""Row, first column and number of cells beside each other."""


@dataclass(frozen=True)
class Cells:
    """A grid, in inches; one of the things on a sheet.

    Attributes:
        x, y: of its top left.
        width, height: of one cell.
        levels: by row, then column: 0 is paper, `most` and -`most` are strongest; None is unknown.
        most: levels from weakest to strongest.
        either: whether colours are high's and low's, on either side of zero; else they are neutral.
        dashed: whether cells below zero carry a dash; for those whose sign nothing else says.
        ruled: whether cells stand apart.
    """

    x: float
    y: float
    width: float
    height: float
    levels: tuple[tuple[int | None, ...], ...]
    most: int
    either: bool
    dashed: bool = False
    ruled: bool = False

    @property
    def _size(self) -> tuple[int, int]:
        return len(self.levels), max((len(row) for row in self.levels), default=0)

    def _runs(self, wanted: Callable[[int | None], bool]) -> list[Run]:
        """Cells of wanted levels, neighbours in a row together."""
        found = []
        for number, row in enumerate(self.levels):
            for hit, cells in groupby(enumerate(row), lambda cell: wanted(cell[1])):
                columns = [column for column, _ in cells]
                if hit:
                    found.append((number, columns[0], len(columns)))
        return found

    def _coloured(self) -> list[tuple[int, list[Run]]]:
        """Each level that is in use and not paper, with its cells."""
        found: dict[int, list[Run]] = {}
        for number, row in enumerate(self.levels):
            column = 0
            for level, alike in groupby(row):
                count = sum(1 for _ in alike)
                if level:
                    found.setdefault(level, []).append((number, column, count))
                column += count
        return sorted(found.items())

    # ------------------------------------------------------------ SVG

    def svg(self, name: str) -> str:
        """The elements, in points; `name` starts every id in them."""
        rows, columns = self._size
        return self._image(name) if rows * columns > MANY else self._shapes(name)

    def _shapes(self, name: str) -> str:
        body = ""
        for level, runs in self._coloured():
            path = "".join(f"M{column} {row}h{count}v1h-{count}z" for row, column, count in runs)
            body += (
                f'<path d="{path}" style="fill:{self._css(level)};fill-opacity:{opacity(abs(level), self.most):g}"/>'
            )
        # Without smoothing of edges, neighbours meet without a seam.
        parts = [f'<g transform="{self._placed()}" shape-rendering="crispEdges">{body}</g>'] if body else []
        rows, columns = self._size
        if self.ruled:
            path = "".join(f"M0 {row}h{columns}" for row in range(1, rows))
            path += "".join(f"M{column} 0v{rows}" for column in range(1, columns))
            parts.append(self._line(path, "#ffffff", 1.2))
        if unknown := self._runs(_is_unknown):
            high = points(self.height)
            path = "".join(
                f"M{points(self.x + c * self.width)} {points(self.y + r * self.height)}h{points(n * self.width)}v{high}"
                f"h{points(-n * self.width)}z"
                for r, c, n in unknown
            )
            parts.append(f'{self._hatch(name)}<path d="{path}" style="fill:url(#{name}-h)"/>')
        if self.dashed and (below := self._runs(_is_below)):
            path = "".join(f"M{c + 0.3:g} {r + 0.5:g}h.4" + "m.6 0h.4" * (n - 1) for r, c, n in below)
            parts.append(self._line(path, style.INK, self._thickness))
        return "".join(parts)

    def _image(self, name: str) -> str:
        """The same as rectangles of one paint each, behind images that let it through where it belongs."""
        rows, columns = self._size
        x, y, wide, high = (points(part) for part in (self.x, self.y, columns * self.width, rows * self.height))
        place = f'x="{x}" y="{y}" width="{wide}" height="{high}"'

        def masked(kind: str) -> str:
            return f'{place} mask="url(#{name}-{kind})"'

        def mask(kind: str, strength: Callable[[int | None], float]) -> str:
            grey = [bytes(round(255 * strength(level)) for level in row) for row in self.levels]
            data = base64.b64encode(_png(grey)).decode()
            return (
                f'<mask id="{name}-{kind}"><image {place} preserveAspectRatio="none" '
                f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/></mask>'
            )

        # Everything in high's colour as strong as it is large; then, where it is below zero, paper and low's over it.
        found = mask("v", lambda level: opacity(abs(level), self.most) if level else 0.0)
        found += f'<rect {masked("v")} style="fill:{self._css(1)}"/>'
        if self._runs(_is_below):
            found += f"{mask('s', lambda level: float(_is_below(level)))}{self._tile(name)}"
            found += f'<g mask="url(#{name}-s)"><rect {place} style="fill:{style.themed("#ffffff")}"/>'
            found += f'<rect {masked("v")} style="fill:{self._css(-1)}"/>'
            found += f'<rect {place} style="fill:url(#{name}-t)"/></g>' if self.dashed else "</g>"
        if self._runs(_is_unknown):
            found += f"{mask('u', lambda level: float(_is_unknown(level)))}{self._hatch(name)}"
            found += f'<rect {masked("u")} style="fill:url(#{name}-h)"/>'
        return found

    def _tile(self, name: str) -> str:
        """The pattern of cells below zero: a dash in each."""
        # To five figures: a tenth of a point would add up to whole cells.
        wide, high, dash = (f"{72 * part:.5g}" for part in (self.width, self.height, 0.5 * self.width))
        start, middle = f"{18 * self.width:.3g}", f"{36 * self.height:.3g}"
        look = f"stroke:{style.themed(style.INK)};stroke-width:{self._thickness:.2g}"
        return (
            f'<pattern id="{name}-t" patternUnits="userSpaceOnUse" x="{points(self.x)}" y="{points(self.y)}" '
            f'width="{wide}" height="{high}"><path d="M{start} {middle}h{dash}" style="{look}"/></pattern>'
        )

    @property
    def _thickness(self) -> float:
        """Of a dash, in points."""
        return min(0.8, 0.2 * self.height * 72)

    def _placed(self) -> str:
        return f"translate({points(self.x)} {points(self.y)})scale({self.width * 72:.5g} {self.height * 72:.5g})"

    def _line(self, path: str, colour: str, thickness: float) -> str:
        look = f"fill:none;stroke:{style.themed(colour)};stroke-width:{thickness:g};vector-effect:non-scaling-stroke"
        return f'<path transform="{self._placed()}" d="{path}" style="{look}"/>'

    def _hatch(self, name: str) -> str:
        """The pattern of unknown cells."""
        step = round(min(4.0, max(2.0, self.width * 72 / 3)), 1)
        return (
            f'<pattern id="{name}-h" patternUnits="userSpaceOnUse" width="{step:g}" height="{step:g}" '
            f'patternTransform="rotate(45)"><path d="M{step / 2:g} 0v{step:g}" '
            f'style="stroke:{style.themed(style.MUTED)};stroke-width:.7"/></pattern>'
        )

    # ------------------------------------------------------------ PDF

    def paint(self, canvas: Canvas, layer: float) -> None:
        """Draws it on a canvas of the sheet's size, above what has a lower `layer`."""
        rows, columns = self._size
        place = Affine2D().scale(self.width, self.height).translate(self.x, self.y) + in_inches(canvas)

        def add(path: Path, **look: object) -> None:
            canvas.add_artist(PathPatch(path, transform=place, zorder=layer, **look))

        if rows * columns > MANY:
            self._paint_image(canvas, layer)
        else:
            for level, runs in self._coloured():
                add(_rectangles(runs), facecolor=self._mixed(level), linewidth=0)
        if self.ruled:
            across = [((0.0, float(row)), (float(columns), float(row))) for row in range(1, rows)]
            down = [((float(column), 0.0), (float(column), float(rows))) for column in range(1, columns)]
            add(_strokes([*across, *down]), edgecolor="white", facecolor="none", linewidth=1.2)
        if unknown := self._runs(_is_unknown):
            add(_rectangles(unknown), facecolor="none", edgecolor=style.MUTED, linewidth=0, hatch="//////")
        if self.dashed and (below := self._runs(_is_below)):
            dashes = [((c + i + 0.3, r + 0.5), (c + i + 0.7, r + 0.5)) for r, c, n in below for i in range(n)]
            add(_strokes(dashes), edgecolor=style.INK, facecolor="none", linewidth=self._thickness)

    def _paint_image(self, canvas: Canvas, layer: float) -> None:
        rows, columns = self._size
        colours = {level: self._mixed(level) for level in range(-self.most, self.most + 1)}
        pixels = np.array(
            [[colours[level] if level is not None else (1.0, 1.0, 1.0) for level in row] for row in self.levels]
        )
        pixels = np.kron(np.round(255 * pixels).astype(np.uint8), np.ones((_ENLARGED, _ENLARGED, 1), dtype=np.uint8))
        wide, high = canvas.get_figwidth(), canvas.get_figheight()
        bottom = 1 - (self.y + rows * self.height) / high
        axes = canvas.add_axes((self.x / wide, bottom, columns * self.width / wide, rows * self.height / high))
        axes.set_axis_off()
        # Of things on one layer matplotlib draws axes last: they would hide the dashes.
        axes.set_zorder(layer - 0.5)
        axes.imshow(pixels, aspect="auto", interpolation="none")

    # ------------------------------------------------------------ colour

    def _paint(self, level: int) -> str:
        """The colour that a level is a share of."""
        return style.HEAT["" if not self.either else "low" if level < 0 else "high"]

    def _css(self, level: int) -> str:
        return style.themed(self._paint(level))

    def _mixed(self, level: int) -> tuple[float, ...]:
        """The level's colour on white paper, parts from 0 to 1."""
        return mixed(self._paint(level), opacity(abs(level), self.most))


def _is_below(level: int | None) -> bool:
    return level is not None and level < 0


def _is_unknown(level: int | None) -> bool:
    return level is None


@lru_cache(maxsize=64)
def opacity(level: int, most: int) -> float:
    """How opaque a level's colour is, so that levels are equally far apart in lightness on white paper.

    The colours are of one lightness, so equal levels look equal in grey to within one unit of L*, whatever the sign.

    Args:
        level: from 0, paper, to `most`.
        most: the strongest level.
    """
    colour = style.HEAT["high"]
    wanted = 100 - (100 - lightness(mixed(colour, 1.0))) * level / most
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if lightness(mixed(colour, middle)) > wanted else (low, middle)
    return round(high, 3)


def mixed(colour: str, share: float, paper: str = "#ffffff") -> tuple[float, ...]:
    """The colour that `share` of `colour` gives on `paper`: red, green and blue from 0 to 1.

    Args:
        colour: `#rrggbb`.
        share: from 0, paper alone, to 1.
        paper: `#rrggbb`.
    """
    return tuple(
        (share * int(colour[i : i + 2], 16) + (1 - share) * int(paper[i : i + 2], 16)) / 255 for i in (1, 3, 5)
    )


def lightness(colour: Sequence[float]) -> float:
    """CIE L* of an sRGB colour with parts from 0 to 1: what is left of it in grey, from 0 to 100."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 116 * math.cbrt(luminance) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


# ---------------------------------------------------------------- shapes and bytes


def _rectangles(runs: Sequence[Run]) -> Path:
    corners, codes = [], []
    for row, column, count in runs:
        right, below = column + count, row + 1
        corners += [(column, row), (right, row), (right, below), (column, below), (column, row)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(corners, codes)


def _strokes(lines: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> Path:
    if not lines:
        return Path(np.empty((0, 2)))
    return Path([end for line in lines for end in line], [Path.MOVETO, Path.LINETO] * len(lines))


def _png(rows: Sequence[bytes]) -> bytes:
    """A greyscale PNG of one byte a pixel, with nothing in it but the pixels: the same bytes for the same rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
