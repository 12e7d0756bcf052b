"""Curves, tables of colours and ranked words: what is drawn is what was planted, in any script, in grey, and small."""

import base64
import dataclasses
import math
import re
import warnings
import zlib
from html import unescape
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from selfaware.errors import BadData
from selfaware.report import cells, curve, curves, figures, glyphs, heat, ranked, style
from selfaware.report.html import render, write_page
from selfaware.report.page import AnyPanel, Curves, Figure, Heat, Line, Mark, Page, Panel, Ranked
from selfaware.types import Estimate

CHROMIUM = Path("/usr/bin/chromium")
CSS = (Path(figures.__file__).parent / "templates/report.css").read_text()
SVG = "{http://www.w3.org/2000/svg}"
ATTACK = "</text></svg><script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
NONE = Estimate(None, None, None, 1, 3, "nats", why="too few families: 1 of at least 10")


def est(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value, value - half, value + half, 10, 3, "nats")


def line(label: str, values: dict[float, float | None], polarity: str = "", role: str = "arm") -> Line:
    estimates = tuple(NONE if value is None else est(value) for value in values.values())
    return Line(label, tuple(values), estimates, polarity, role)  # type: ignore[arg-type]


def square(values: np.ndarray, limits: tuple[float, float] = (-1, 1), **more: object) -> Heat:
    rows, columns = (tuple(f"{what} {n}" for n in range(size)) for what, size in zip("rc", values.shape, strict=True))
    table = tuple(tuple(None if math.isnan(v) else float(v) for v in row) for row in values)
    return Heat("Cosines", "cosine", rows, columns, table, limits, **more)  # type: ignore[arg-type]


DEPTH = Curves(
    "Behaviour", "effect, nats", "block",
    (
        line("LoRA rank 1", {0: 0.11, 4: 0.52, 8: None, 12: 0.93, 16: 0.34, 20: None, 24: 0.05}, "high", "primary"),
        line("LoRA rank 1", {0: -0.12, 12: -0.71, 24: -0.03}, "low"),
        line("random vectors", {0: 0.01, 24: -0.02}, "", "control"),
    ),
    band=(-0.1, 0.1), span=(10, 14), span_label="published blocks",
)  # fmt: skip
WORDS = (" risk", "降低", "خطر", "\n\n", "\u202eevil", "<b>&amp;", "a\x00b", "")
TOKENS = Ranked("Promoted", "logit", WORDS, (3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, -0.25), (True, True, *(False,) * 6))
SMALL = square(np.array([[0.91, -0.42, math.nan], [0.13, 0.004, -1.0]]), over=("trained on", "asked about"))


def figure(*panels: AnyPanel, name: str = "f") -> Figure:
    return Figure(name, "What is found", "How to read it.", panels)


def page(*drawn: Figure) -> Page:
    return Page("small", "A small page", "Does it hold?", (), (), (), drawn, (), (), (), (), (), (), ())


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in parse(svg).iter(f"{SVG}text")]


KINDS = pytest.mark.parametrize(
    "panel", [DEPTH, SMALL, TOKENS], ids=["curves", "heat", "ranked"]
)  # forest plots have tests of their own


# ---------------------------------------------------------------- every kind


@KINDS
def test_the_same_panel_gives_the_same_bytes_and_a_whole_pdf(panel: AnyPanel, tmp_path: Path) -> None:
    one, two = (figures.save_pdf(figure(panel), tmp_path / name).read_bytes() for name in ("one.pdf", "two.pdf"))
    assert figures.draw(figure(panel)) == figures.draw(figure(panel))
    assert one == two
    assert one.startswith(b"%PDF-")
    assert one.rstrip().endswith(b"%%EOF")
    assert b"CreationDate" not in one
    start = int(one.rstrip().split(b"\n")[-2])
    assert one[start:].startswith((b"xref", b"%d " % 0))


@KINDS
def test_svg_is_whole_follows_a_dark_page_and_keeps_its_ids_apart(panel: AnyPanel) -> None:
    svgs = [figures.draw(figure(panel, panel, name=name)) for name in ("one", "two")]
    ids = [value for svg in svgs for value in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))
    assert all(value.startswith(("figure-one", "figure-two")) for value in ids)
    for svg in svgs:
        assert set(re.findall(r'(?:url\(|href=")#([^")]*)', svg)) <= set(ids)
        assert set(re.findall(r"var\(--([\w-]+),", svg)) <= set(re.findall(r"--([\w-]+):", CSS))
        assert "DejaVu" not in svg
        root = parse(svg)
        assert root.get("aria-label") == "What is found"
        assert root[0].tag == f"{SVG}desc"
        assert texts(svg)


@KINDS
def test_hostile_text_is_text(panel: AnyPanel, tmp_path: Path) -> None:
    def attacked(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(attacked(part) for part in value)
        if isinstance(value, Line | Curves | Heat | Ranked):
            kept = {"polarity", "role"}
            return dataclasses.replace(
                value,
                **{f.name: attacked(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in kept},
            )
        return f"{value}{ATTACK} \x00\ud800" if isinstance(value, str) else value

    odd = dataclasses.replace(figure(attacked(panel)), title=f"{ATTACK} \x00\ud800")  # type: ignore[arg-type]
    svg = figures.draw(odd)
    tags = {part.tag.removeprefix(SVG) for part in parse(svg).iter()}
    assert not tags & {"script", "img"}
    assert ATTACK in (parse(svg)[0].text or "")
    assert figures.save_pdf(odd, tmp_path / "odd.pdf").exists()
    html = render(page(odd))
    assert html.count("<script") == 1
    assert "<img" not in html


def test_panels_of_two_kinds_are_refused() -> None:
    with pytest.raises(BadData, match="panels of Curves and Heat; needed one kind"):
        figures.draw(figure(DEPTH, SMALL))
    with pytest.raises(BadData, match="needed one of Panel, Curves, Heat, Ranked"):
        figures.draw(figure("not a panel"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("panel", "says"),
    [
        (dataclasses.replace(DEPTH, lines=()), "no lines; needed one"),
        (dataclasses.replace(DEPTH, lines=(line("a", {}),)), "line 'a': no points"),
        (dataclasses.replace(DEPTH, lines=(Line("a", (1, 2), (NONE,)),)), "2 x and 1 estimates"),
        (dataclasses.replace(DEPTH, lines=(line("a", {2: 0, 1: 0}),)), "needed numbers that rise"),
        (dataclasses.replace(DEPTH, lines=(line("a", {1: 0, math.inf: 0}),)), "needed finite numbers"),
        (dataclasses.replace(DEPTH, span=(3, 1)), "span (3, 1)"),
        (dataclasses.replace(DEPTH, band=(0, math.nan)), "band (0, nan)"),
        (dataclasses.replace(SMALL, rows=(), values=()), "0 rows and 3 columns"),
        (dataclasses.replace(SMALL, values=((0.1, 0.2, 0.3), (0.1,))), "values of 2 rows by 1 or 3 columns"),
        (dataclasses.replace(SMALL, notes=(("a",),)), "notes of 1 rows by 1 columns; needed 2 by 3"),
        (dataclasses.replace(SMALL, limits=(1, 1)), "limits 1 and 1"),
        (dataclasses.replace(TOKENS, words=(), values=(), marked=()), "no words"),
        (dataclasses.replace(TOKENS, values=(1.0,)), "1 values for 8 words"),
        (dataclasses.replace(TOKENS, marked=(True,)), "1 marked for 8 words"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_named_before_anything_is_written(
    panel: AnyPanel, says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadData, match=re.escape(says)) as caught:
        write_page(page(figure(TOKENS, name="whole"), figure(panel, name="broken")), tmp_path)
    assert str(caught.value).startswith("figure 'broken', panel 1 (")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "summary.json").exists()


def test_a_figure_of_several_panels_is_wide_and_one_as_wide_as_it_needs() -> None:
    assert not any(figures.is_wide(figure(panel)) for panel in (DEPTH, SMALL, TOKENS))
    assert all(figures.is_wide(figure(panel, panel)) for panel in (DEPTH, SMALL, TOKENS))
    assert figures.is_wide(figure(square(np.zeros((3, 20)))))
    many = tuple(line(f"arm {n}", {0: 0.1 * n, 1: 0.0}) for n in range(9))
    assert figures.is_wide(figure(dataclasses.replace(DEPTH, lines=many)))


# ---------------------------------------------------------------- curves


def plotted(*panels: Curves) -> list[matplotlib.axes.Axes]:
    return curves.drawing(panels).axes


def points(axes: matplotlib.axes.Axes, colour: str) -> list[list[float]]:
    """x of each piece of a line of this colour with its markers, not of crosses or names."""
    return [
        [float(x) for x in drawn.get_xdata()]
        for drawn in axes.lines
        if drawn.get_color() == colour and drawn.get_marker() not in ("x", "None", "none")
        and drawn.get_transform() == axes.transData
    ]  # fmt: skip


def test_every_number_of_a_curve_is_said_and_what_is_undefined_with_its_reason() -> None:
    said = figures.described(figure(DEPTH))
    first = next(text for text in said.split("\n") if text.startswith("LoRA rank 1, high: "))
    assert first == (
        "LoRA rank 1, high: at 0 +0.11 [+0.01, +0.21]; at 4 +0.52 [+0.42, +0.62]; at 8 undefined: too few families: "
        "1 of at least 10; at 12 +0.93 [+0.83, +1.03]; at 16 +0.34 [+0.24, +0.44]; at 20 undefined: too few families: "
        "1 of at least 10; at 24 +0.05 [−0.05, +0.15]"
    )
    assert "random vectors, control: at 0 +0.01" in said
    assert "over block\nmargin: −0.1 to 0.1\npublished blocks: 10 to 14" in said
    assert unescape(parse(figures.draw(figure(DEPTH)))[0].text or "") == said


def test_a_gap_is_a_gap_with_a_cross_under_it() -> None:
    (axes,) = plotted(DEPTH)
    high = style.COLOURS["high"]
    assert points(axes, high) == [[0, 4], [12, 16], [24]]
    bands = [band.get_paths()[0].vertices[:, 0] for band in axes.collections]
    ends = sorted((float(xs.min()), float(xs.max())) for xs in bands)
    assert ends == [(0, 4), (0, 24), (0, 24), (12, 16)]  # of the two other lines too; nothing crosses 8 or 20 in this
    crosses = [drawn.get_xdata() for drawn in axes.lines if drawn.get_marker() == "x" and len(drawn.get_xdata())]
    assert [list(xs) for xs in crosses] == [[8, 20]]
    assert "undefined" in texts(figures.draw(figure(DEPTH)))
    whole = dataclasses.replace(DEPTH, lines=DEPTH.lines[1:])
    assert "undefined" not in texts(figures.draw(figure(whole)))


def test_a_lone_point_shows_its_marker_and_its_interval() -> None:
    (axes,) = plotted(dataclasses.replace(DEPTH, lines=(line("one", {3: 0.4}),)))
    drawn = [(list(map(float, one.get_xdata())), list(one.get_ydata())) for one in axes.lines]
    assert ([3.0], [0.4]) in drawn
    assert ([3.0, 3.0], [pytest.approx(0.3), pytest.approx(0.5)]) in drawn


def test_a_line_of_which_nothing_is_known_is_drawn_as_crosses_alone() -> None:
    lost = dataclasses.replace(DEPTH, lines=(line("lost", {1: None, 2: None}),), zero=None, band=None, span=None)
    shown = texts(figures.draw(figure(lost)))
    assert "lost" in shown
    assert "undefined" in shown
    assert "95 % interval" not in shown


def test_lines_differ_in_marker_and_dash_and_an_arm_looks_alike_in_every_panel() -> None:
    arms = [line("a", {0: 0.1, 1: 0.2}, p) for p in ("high", "low", "")]
    arms += [line("b", {0: 0.3, 1: 0.1}, "high"), line("c", {0: 0, 1: 0}, "", "control"), line("d", {0: 0, 1: 0}, "", "control")]  # fmt: skip
    first, second = (dataclasses.replace(DEPTH, lines=tuple(one)) for one in (arms, reversed(arms)))
    signs = curves._signs((first, second))
    assert len(signs) == 6
    assert len({sign.marker for sign in signs.values()}) == 6
    assert len({sign.dash for sign in signs.values()}) == 6
    assert {key[2] for key, sign in signs.items() if sign.hollow} == {True}
    assert all(bool(sign.dash) for sign in signs.values() if sign.hollow)
    assert signs["a", "high", False].dash == ()


def test_the_legend_names_the_signs_in_use_alone() -> None:
    shown = texts(figures.draw(figure(DEPTH)))
    for sign in ("high", "low", "neither", "dashed, hollow: control", "95 % interval", "margin", "published blocks"):
        assert sign in shown
    plain = dataclasses.replace(DEPTH, lines=(line("a", {0: 0.1, 1: 0.2}),), band=None, span=None)
    shown = texts(figures.draw(figure(plain)))
    assert not {"high", "low", "neither", "margin", "dashed, hollow: control", "undefined"} & set(shown)


@pytest.mark.parametrize(
    ("xs", "name", "even"), [((0.25, 0.5, 1, 2), "log", True), ((-1, 0, 1, 2, 4), "symlog", False)]
)
def test_a_log_axis_has_equal_ratios_equally_far(xs: tuple[float, ...], name: str, even: bool) -> None:
    (axes,) = plotted(dataclasses.replace(DEPTH, lines=(line("a", dict.fromkeys(xs, 0.1)),), span=None, log=True))
    assert axes.get_xscale() == name
    at = [axes.transData.transform((x, 0))[0] for x in xs]
    steps = [after - before for before, after in pairwise(at)]
    assert all(step > 0 for step in steps)
    if even:
        assert steps == pytest.approx([steps[0]] * len(steps))
    else:
        assert steps[0] == pytest.approx(steps[1])  # symmetric about zero
        assert steps[2] == pytest.approx(steps[3])  # 1 to 2, 2 to 4
    assert [axes.xaxis.get_major_formatter()(x, n) for n, x in enumerate(xs)] == [curve.written_x(x) for x in xs]


def test_panels_of_one_unit_share_the_estimates_axis() -> None:
    other = dataclasses.replace(DEPTH, lines=(line("a", {0: 0.1, 1: 0.6}),))
    first, second, third = plotted(DEPTH, other, dataclasses.replace(other, unit="share"))
    assert first.get_ylim() == second.get_ylim()
    assert third.get_ylim() != second.get_ylim()


@given(st.lists(st.floats(0, 2.5), min_size=1, max_size=13))
def test_names_stand_apart_in_their_order_inside_the_panel(wanted: list[float]) -> None:
    placed = curve._apart(sorted(wanted), 2.5)
    assert all(after - before >= curve.APART - 1e-9 for before, after in pairwise(placed))
    assert placed[0] >= 0
    assert placed[-1] <= 2.5 + 1e-9
    if len(wanted) == 1:
        assert placed == pytest.approx(wanted)


# ---------------------------------------------------------------- tables as colours


def coloured(svg: str) -> tuple[dict[tuple[int, int], tuple[str, float]], set[tuple[int, int]]]:
    """(row, column) → colour and opacity of the cells drawn as shapes, and the cells with a dash, of the first grid."""
    fills: dict[tuple[int, int], tuple[str, float]] = {}
    dashes: set[tuple[int, int]] = set()
    grid = next(part for part in parse(svg).iter(f"{SVG}g") if part.get("shape-rendering"))
    for path in grid:
        look = path.get("style") or ""
        found = re.search(r"fill:var\(--heat-(\w+),.*fill-opacity:([\d.]+)", look)
        assert found
        for x, y, count, back in re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path.get("d") or ""):
            assert count == back
            for column in range(int(x), int(x) + int(count)):
                assert (int(y), column) not in fills
                fills[int(y), column] = (found[1], float(found[2]))
    place = grid.get("transform")
    for path in parse(svg).iter(f"{SVG}path"):
        if path.get("transform") == place and "h.4" in (path.get("d") or ""):
            for x, y, rest in re.findall(r"M([\d.]+) ([\d.]+)h.4((?:m.6 0h.4)*)", path.get("d") or ""):
                first = round(float(x) - 0.3)
                dashes |= {(int(float(y)), first + n) for n in range(1 + rest.count("m"))}
    return fills, dashes


def masks(svg: str) -> dict[str, np.ndarray]:
    """Kind → pixels from 0 to 255 of the images of a large grid."""
    found = {}
    for kind, data in re.findall(r'<mask id="[\w-]*-(\w)"><image[^>]*base64,([^"]*)"', svg):
        png = base64.b64decode(data)
        wide, high = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        size = int.from_bytes(png[33:37], "big")
        rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), dtype=np.uint8).reshape(high, wide + 1)
        assert not rows[:, 0].any()
        found[kind] = rows[:, 1:].astype(int)
    return found


def planted(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    values[rows // 2, : columns // 3] = math.nan
    return values


def level(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) * 10 + 0.5), value))


def test_each_cell_has_the_colour_of_its_value_and_its_sign() -> None:
    values = planted(20, 30)
    fills, dashes = coloured(figures.draw(figure(square(values))))
    for (row, column), value in np.ndenumerate(values):
        wanted = 0 if math.isnan(value) else level(value)
        if wanted == 0:
            assert (row, column) not in fills
        else:
            assert fills[row, column] == ("high" if wanted > 0 else "low", cells.opacity(abs(wanted), 10))
        assert ((row, column) in dashes) == (wanted < 0)


def test_ninety_by_ninety_is_small_and_every_cell_is_in_it() -> None:
    values = planted(90, 90)
    svg = figures.draw(figure(square(values)))
    assert len(svg.encode()) < 60_000
    drawn = masks(svg)
    assert set(drawn) == {"v", "s", "u"}
    known = ~np.isnan(values)
    levels = np.array([[level(v) if ok else 0 for v, ok in zip(*row, strict=True)] for row in zip(values, known, strict=True)])  # fmt: skip
    opacity = np.array([round(255 * cells.opacity(n, 10)) for n in range(11)])
    assert (drawn["v"] == opacity[abs(levels)]).all()
    assert (drawn["s"] == 255 * (levels < 0)).all()
    assert (drawn["u"] == 255 * ~known).all()
    words = dict(row.split(": ", 1) for row in figures.described(figure(square(values))).split("\n") if ": " in row)
    for number, row in enumerate(values):
        said = [
            math.nan if text == "unknown" else float(text.replace("−", "-")) for text in words[f"r {number}"].split()
        ]
        assert said == pytest.approx([float(f"{100 * v:.0f}") for v in row], abs=1, nan_ok=True)
    assert "numbers in units of 0.01" in figures.described(figure(square(values)))


def test_the_pdf_of_a_large_table_is_small_too(tmp_path: Path) -> None:
    pdf = figures.save_pdf(figure(square(planted(90, 90))), tmp_path / "large.pdf")
    assert pdf.stat().st_size < 120_000
    assert pdf.read_bytes().rstrip().endswith(b"%%EOF")


def test_a_table_of_which_nothing_is_known_is_hatched() -> None:
    for shape in ((3, 4), (50, 50)):
        unknown = square(np.full(shape, math.nan))
        svg = figures.draw(figure(unknown))
        said = figures.described(figure(unknown))
        assert f"unknown cells: {math.prod(shape)}" in said
        assert said.count("unknown") == 1 + math.prod(shape)
        assert "unknown" in texts(svg)
        assert "below zero" not in texts(svg)
        assert "-h)" in svg
    assert (masks(svg)["u"] == 255).all()


def test_every_number_of_a_table_is_said_after_its_names() -> None:
    notes = (("[0.8, 1]", "", ""), ("", "", ""))
    said = figures.described(figure(dataclasses.replace(SMALL, notes=notes)))
    assert "rows: trained on, columns: asked about" in said
    assert "r 0: c 0 +0.91 [0.8, 1]; c 1 −0.42; c 2 unknown" in said
    assert "r 1: c 0 +0.13; c 1 0.00; c 2 −1.00" in said


def test_numbers_and_notes_stand_in_cells_that_have_room() -> None:
    noted = dataclasses.replace(SMALL, notes=(("[0.8, 1.0]", "n1", ""), ("", "", "")))
    shown = texts(figures.draw(figure(noted)))
    assert {"+0.91", "−0.42", "[0.8, 1.0]", "n1"} <= set(shown)
    _, dashes = coloured(figures.draw(figure(noted)))
    assert not dashes  # the numbers say the sign
    narrow = square(planted(6, 60), notes=(("a note",) * 60,) * 6)
    shown = texts(figures.draw(figure(narrow)))
    assert "a note" not in shown
    assert not [text for text in shown if re.fullmatch(r"[+−]0\.\d\d", text)]
    long = dataclasses.replace(noted, notes=(("a note that is far too long for any cell",) * 3,) * 2)
    assert "a note that is far too long for any cell" not in texts(figures.draw(figure(long)))


def test_what_lies_beyond_the_limits_is_said_at_the_bar() -> None:
    inside, outside = (texts(figures.draw(figure(square(np.array([[0.5, far]]), (-1, 1))))) for far in (-0.9, 1.7))
    assert {"−1.00", "+1.00 cosine"} <= set(inside)
    assert {"−1.00", "≥ +1.00 cosine"} <= set(outside)


@given(
    st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([(-1.0, 1.0), (-0.2, 2.0), (0.0, 1.0), (0.5, 2.0), (-2.0, 0.0)])
)
def test_levels_are_ordered_and_symmetric_about_zero(a: float, b: float, limits: tuple[float, float]) -> None:
    first, second = (heat._level(value, limits) for value in (min(a, b), max(a, b)))
    assert first is not None
    assert second is not None
    if limits[1] > 0:
        assert first <= second
    else:
        assert first >= second >= 0  # farther below zero is stronger
    if limits[0] < 0 < limits[1] and abs(a) <= min(-limits[0], limits[1]):
        assert heat._level(-a, limits) == -(heat._level(a, limits) or 0)


def variables(scheme: str) -> dict[str, str]:
    start = {"light": 0, "dark": CSS.index("prefers-color-scheme: dark"), "print": CSS.index("@media print")}[scheme]
    return dict(re.findall(r"--([\w-]+): (#\w{6})", CSS[start : CSS.index("}", start)]))


def rgb(colour: str) -> tuple[float, ...]:
    return cells.mixed(colour, 1.0)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_in_grey_lightness_is_size_and_ink_is_read_on_any_of_it(scheme: str) -> None:
    names = variables(scheme)
    paper, ink = names["paper"], cells.lightness(rgb(names["ink"]))
    if scheme != "dark":
        assert {names[f"heat-{name or 'none'}"] for name in style.HEAT} == {c.lower() for c in style.HEAT.values()}

    def luminance(lightness: float) -> float:
        return ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness * 27 / 24389

    for name, most in (("high", 10), ("low", 10), ("none", 20)):
        shades = [cells.lightness(cells.mixed(names[f"heat-{name}"], cells.opacity(n, most), paper)) for n in range(most + 1)]  # fmt: skip
        steps = [abs(after - before) for before, after in pairwise(shades)]
        assert shades in (sorted(shades), sorted(shades, reverse=True))
        assert min(steps) > (1.2 if most == 20 else 2.4), name
        for shade in shades:
            low, high = sorted((luminance(shade), luminance(ink)))
            assert (high + 0.05) / (low + 0.05) > 4.4
    pairs = [
        [cells.lightness(cells.mixed(names[f"heat-{name}"], cells.opacity(n, 10), paper)) for n in range(11)]
        for name in ("high", "low")
    ]
    assert pairs[0] == pytest.approx(pairs[1], abs=1.0 if scheme != "dark" else 3.0)


# ---------------------------------------------------------------- ranked words


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        (" risk", "␣risk"),
        ("  two  inside ", "␣␣two␣␣inside␣"),
        ("one space", "one space"),
        (" ", "␣"),
        ("\n\n", "⏎⏎"),
        ("a\tb\r", "a⇥b␍"),
        ("\x00\x7f", "␀␡"),
        ("\u202eevil", "U+202E evil"),
        ("a\ud800b", "a U+D800 b"),
        ("\u00a0x", "U+00A0 x"),
        ("\u200b", "U+200B"),
        ("\u0301", "◌\u0301"),
        ("e\u0301", "e\u0301"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("\ufe0f", "U+FE0F"),
        ("می‌خواهم", "می‌خواهم"),
        ("\u3164", "U+3164"),
        ("降低", "降低"),
        ("\ufffe", "U+FFFE"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(word: str, shown: str) -> None:
    assert glyphs.visible(word) == shown


@given(st.text(max_size=30))
def test_no_word_breaks_the_drawing_or_vanishes(word: str) -> None:
    shown = glyphs.visible(word)
    assert bool(shown.strip()) == bool(word)
    assert glyphs.plain(shown) == shown
    assert not any(c in shown for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\n\x00")
    ElementTree.fromstring(f"<a>{shown.replace('&', '&amp;').replace('<', '&lt;')}</a>")


def test_words_are_said_in_order_each_in_its_own_direction() -> None:
    said = figures.described(figure(TOKENS)).split("\n")[2:]
    assert said[0] == "1. \u2068␣risk\u2069: +3.50, counted"
    assert said[1] == "2. \u2068降低\u2069: +3.00, counted"
    assert said[2] == "3. \u2068خطر\u2069: +2.50"
    assert said[7] == "8. \u2068\u2069: −0.25"
    lost = dataclasses.replace(TOKENS, values=(math.nan, *TOKENS.values[1:]))
    assert "␣risk\u2069: unknown" in figures.described(figure(lost))
    assert "unknown" in texts(figures.draw(figure(lost)))


def test_words_are_drawn_as_text_apart_from_each_other_and_counted_ones_bold() -> None:
    root = parse(figures.draw(figure(TOKENS)))
    found = {}
    for group in root.iter(f"{SVG}g"):
        for text in group.iter(f"{SVG}text"):
            found["".join(text.itertext())] = group.get("style") or ""
    for word, marked in zip(TOKENS.words, TOKENS.marked, strict=True):
        look = found[glyphs.visible(word)]
        assert ("bold" in look) is marked
        assert "unicode-bidi:isolate" in look
        assert "text-anchor:end" in look
    assert "bold, filled: counted" in found
    assert "bold, filled: counted" not in texts(figures.draw(figure(dataclasses.replace(TOKENS, marked=()))))


def test_bars_are_as_long_as_their_values_on_one_scale() -> None:
    lower = Ranked("Suppressed", "logit", ("a", "b"), (-1.0, -0.5))
    root = parse(figures.draw(figure(TOKENS, lower)))
    bars = [(float(bar.get("x") or 0), float(bar.get("width") or 0)) for bar in root.iter(f"{SVG}rect")][:10]
    per_unit = bars[0][1] / 3.5
    values = [*TOKENS.values, *lower.values]
    assert [width for _, width in bars] == pytest.approx([per_unit * abs(value) for value in values], abs=0.11)
    assert bars[7][0] + bars[7][1] == pytest.approx(bars[0][0], abs=0.11)  # below zero, to the left of the line
    assert bars[8][0] + bars[8][1] == pytest.approx(bars[9][0] + bars[9][1], abs=0.11)


def test_the_pdf_names_the_code_points_that_its_font_lacks(tmp_path: Path) -> None:
    assert glyphs.printable("降 a低b") == "U+964D a U+4F4E b"
    assert glyphs.printable("LoRA · −0.1 → ▲ ␣⏎") == "LoRA · −0.1 → ▲ ␣⏎"
    canvas = ranked.drawing((TOKENS,)).canvas()
    drawn = [text.get_text() for text in canvas.findobj(Text) if isinstance(text, Text)]
    assert "U+964D U+4F4E" in drawn
    chinese = dataclasses.replace(DEPTH, lines=(line("降低", {0: 0.1, 1: 0.2}),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for panel in (TOKENS, chinese, dataclasses.replace(SMALL, rows=("降", "低"))):
            figures.save_pdf(figure(panel), tmp_path / "one.pdf")
            assert "降" in figures.draw(figure(panel))


def test_a_long_text_is_cut_where_its_room_ends() -> None:
    long = glyphs.fitted("word " * 500, 2.0)
    assert long.endswith("…")
    assert 1.7 < glyphs.width(long) <= 2.0
    assert glyphs.fitted("short", 2.0) == "short"
    assert glyphs.width("降低") == pytest.approx(2 * style.SIZE / 72, rel=0.02)  # an em each


# ---------------------------------------------------------------- a real browser


@pytest.mark.browser
def test_every_kind_is_seen_in_a_real_browser(tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        pytest.fail(
            f"{CHROMIUM} is not there; this test needs a real browser. Install chromium, or run -m 'not browser'."
        )
    from playwright.sync_api import sync_playwright

    split = np.repeat([[1.0] * 30 + [-1.0] * 30], 45, axis=0)
    drawn = (
        figure(Panel("Effect", "nats", (Mark("LoRA", est(0.3), "high"),)), name="marks"),
        figure(DEPTH, name="curves"), figure(SMALL, name="small"), figure(square(split), name="large"),
        figure(TOKENS, name="ranked"),
    )  # fmt: skip
    url = write_page(page(*drawn), tmp_path).as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            tab = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
            said: list[str] = []
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.goto(url)
            for one in drawn:
                tab.locator(f"#figure-{one.name}").scroll_into_view_if_needed()
                assert tab.locator(f"#figure-{one.name}").is_visible()
            path = tmp_path / "large.png"
            tab.locator("#figure-large").screenshot(path=path)
            assert said == []
        finally:
            browser.close()
    pixels = matplotlib.image.imread(path)[..., :3]
    colours = {name: np.array(rgb(style.HEAT[name])) for name in ("high", "low")}
    near = {name: np.abs(pixels - colour).max(axis=2) < 0.03 for name, colour in colours.items()}
    left, right = near["high"].nonzero()[1], near["low"].nonzero()[1]
    assert min(len(left), len(right)) > 0.2 * pixels.shape[0] * pixels.shape[1]
    right_of_bar = right[right > 0.4 * pixels.shape[1]]
    assert np.median(left) < np.median(right_of_bar)
    dark = (pixels.max(axis=2) < 0.6) & (np.arange(pixels.shape[1]) > np.median(right_of_bar))
    assert dark.sum() > 45 * 10  # dashes, in the half below zero
