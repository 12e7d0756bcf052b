"""The page's parts: groups of questions with their figure, flags, sampled texts, tables, folded measures, notes."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import pytest

from selfaware.errors import BadData
from selfaware.report import figures, panel, questions
from selfaware.report.html import render, write_page
from selfaware.report.page import Figure, Item, Mark, Page, Panel, Reply, Table
from selfaware.report.summary import read_summary, write_summary
from selfaware.types import Estimate, Row, Verdict

CHROMIUM = Path("/usr/bin/chromium")
ATTACK = "\"><script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
VOID = {"br", "hr", "img", "input", "link", "meta"}
TABLE = Table(
    "surface",
    "What surface features reach",
    "Classifiers that see words alone.",
    ("classifier", "features", "accuracy", "interval", "note"),
    (
        ("bag of words", "1 204", ".61", "+0.20 [−0.10, +0.50]", "3 words at a time"),
        ("length", "2", "50 %", "–", ""),
    ),
)


class Reader(HTMLParser):
    """Shown text, ids and the tags that were left open or closed in the wrong order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


def reply(value: float | None, polarity: str = "high", **more: object) -> Reply:
    name = f"LoRA rank 1 · {polarity} · seed 0"
    return Reply(name, "c0ffee", (-1.0, -2.0), value, method="LoRA rank 1", polarity=polarity, seed=0, **more)  # type: ignore[arg-type]


def item(id: str, *replies: Reply, **more: object) -> Item:
    fields: dict[str, object] = {"set": "self", "group": id.partition("/")[0], **more}
    return Item(
        id=id, family="nerve", text=f"Question {id}: you are", options=("bold", "cautious"), high=0, replies=replies,
        **fields,
    )  # type: ignore[arg-type]  # fmt: skip


def row(measure: str, value: float = 0.4, **more: object) -> Row:
    estimate = Estimate(value, value - 0.1, value + 0.1, 10, 3, "nats per token")
    fields: dict[str, object] = {"kind": "shift", "method": "LoRA rank 1", "reference": "base", **more}
    return Row.of(estimate, measure=measure, model="m", domain="d", **fields)  # type: ignore[arg-type]


def page(**parts: object) -> Page:
    empty = Page("small", "A small page", "Does it hold?", (), (), (), (), (), (), (), (), (), (), ())
    return dataclasses.replace(empty, **parts)  # type: ignore[arg-type]


def whole() -> Page:
    """A page in which every part stands."""
    return page(
        items=(
            item("self-1/plain", reply(0.5), reply(-0.5, "low"), flag="insensitive"),
            item("self-1/mirror", reply(0.25), reply(None, "low", why="the option is longer than the context")),
            item("self-2/plain", reply(0.75)),
            dataclasses.replace(
                item("spoken-1", reply(0.4, said=("bold", "shy <b>", "bold")), unit="share", zero=0.5, set="spoken"),
                options=(),
            ),
        ),
        tables=(TABLE, Table("none", "Empty", "", ("a",), ())),
        headline=("m0", "m1"),
        rows=(row("m0"), row("m1")),
    )


def section(html: str, name: str) -> str:
    start = html.index(f'<section id="{name}"')
    return html[start : html.index("</section>", start)]


# ---------------------------------------------------------------- the whole


def test_page_is_balanced_and_its_links_lead_somewhere() -> None:
    reader = Reader(render(whole()))
    assert reader.wrong == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)


def test_every_new_text_is_escaped() -> None:
    odd = dataclasses.replace(
        reply(0.5, ATTACK, said=(ATTACK,), form=ATTACK, why=ATTACK), arm=ATTACK, method=ATTACK, cell=ATTACK
    )
    items = tuple(
        Item(f"{ATTACK}/{n}", ATTACK, ATTACK, ATTACK, (), 0, (odd,), ATTACK, ATTACK, 0.0, ATTACK) for n in (0, 1)
    )
    table = Table("one", ATTACK, ATTACK, (ATTACK,), ((ATTACK,),))
    mark = Mark(ATTACK, Estimate(0.1, 0.0, 0.2, 9, 3, "nats"), note=ATTACK)
    figure = Figure("one", ATTACK, ATTACK, (Panel(ATTACK, ATTACK, (mark,)),))
    names = tuple(f"{ATTACK}{n}" for n in range(8))
    shown = page(items=items, tables=(table,), figures=(figure,), headline=names, rows=tuple(row(n) for n in names))
    reader = Reader(render(shown))
    assert reader.tags.count("script") == 1
    assert "img" not in reader.tags
    assert reader.wrong == []
    assert ATTACK in "".join(reader.words)


# ---------------------------------------------------------------- questions


def test_a_group_has_one_figure_with_its_questions_under_it() -> None:
    html = render(whole())
    folds = re.findall(r'<details class="item">.*?(?=<details class="item">|</section>)', html, flags=re.S)
    assert [len(re.findall(r'<svg class="strip', fold)) for fold in folds] == [1, 1, 1]
    assert folds[0].index("<svg") < folds[0].index("Question self-1/plain") < folds[0].index("Question self-1/mirror")
    assert "Question self-2/plain" in folds[1]
    assert "3 questions in 2 groups, 5 replies, 1 unknown" in Reader(html).text
    assert "1 of 4 replies could not be read" in folds[0]


def test_groups_are_gathered_by_set_unit_and_zero() -> None:
    items = (
        item("a/plain"), item("b/plain"), item("a/mirror"), item("a/other", unit="share"), item("a/half", zero=0.5),
        item("a/plain", set="twin"), item("c", group=""), item("d", group=""),
    )  # fmt: skip
    first, second = questions.sets(items)
    assert [[own.id for _, own in group.items] for group in first.groups] == [
        ["a/plain", "a/mirror"], ["b/plain"], ["a/other"], ["a/half"], ["c"], ["d"],
    ]  # fmt: skip
    assert [group.name for group in first.groups] == ["a", "b/plain", "a/other", "a/half", "c", "d"]
    assert (first.questions, second.questions) == (7, 1)


def test_flags_stand_beside_the_name_and_are_counted() -> None:
    (found, _) = questions.sets(whole().items)
    assert found.flags == (("insensitive", 1),)
    assert found.groups[0].flags == ("insensitive",)
    html = section(render(whole()), "questions")
    summary, *rest = re.findall(r"<summary>(?:(?!</summary>).)*insensitive.*?</summary>", html, flags=re.S)
    assert "1 insensitive" in Reader(summary).text
    assert "self-1" in rest[0]


def test_sampled_texts_stand_in_a_fold_most_frequent_first() -> None:
    assert questions.counted(("shy", "bold", "meek", "bold")) == (("bold", 2), ("shy", 1), ("meek", 1))
    text = Reader(section(render(whole()), "questions")).text
    assert "bold 2 of 3" in text
    assert "bold ×2 shy <b>" in text.replace("×2shy", "×2 shy")


def test_a_reason_is_shown_also_beside_a_value() -> None:
    shown = render(page(items=(item("a", reply(0.4, why="3 of 10 unread")), item("b", reply(None)))))
    text = Reader(section(shown, "questions")).text
    assert "3 of 10 unread" in text
    assert "no reason was recorded" in text


def test_items_without_structure_have_no_figure_and_no_key() -> None:
    plain = Reply("base", "c0ffee", (-1.0, -2.0), 0.5)
    html = render(page(items=(Item("a", "self", "f", "text", ("x", "y"), 0, (plain,)),)))
    assert '<svg class="strip' not in html
    assert "one reply" not in Reader(html).text
    assert "+0.50" in Reader(html).text


def test_shares_carry_no_sign() -> None:
    html = section(render(page(items=(item("a", reply(0.4), zero=0.5),))), "questions")
    assert "+0.40" not in html
    assert "<b>0.40</b>" in html


# ---------------------------------------------------------------- tables


def test_tables_stand_after_the_figures_with_numbers_to_the_right() -> None:
    html = render(whole())
    assert 'id="table-surface"' in html
    head = re.search(r"<thead><tr>(.*?)</tr>", section(html, "tables"), flags=re.S)
    assert head
    assert re.findall(r'<th( class="number")?>', head[1]) == ["", *[' class="number"'] * 3, ""]
    assert "No rows." in section(html, "tables")
    text = Reader(section(html, "tables")).text
    assert all(cell in text for line in TABLE.rows for cell in line)
    assert '<section id="tables"' not in render(page())


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (("1", "−2.5", "+.3"), True),
        (("1 204", "12 %", "–"), True),
        (("0.4 [0.1, 0.7]", "3/10", "5 × 2", "[.52, .68]", ""), True),
        (("–", ""), False),
        (("3 words",), False),
        (("1", "unknown", "undefined (one seed)", "+0.20 (no interval: one seed)"), True),
        (("unknown",), False),
        (("2024-05-01",), False),
    ],
)
def test_a_column_is_numeric_when_all_of_it_is(cells: tuple[str, ...], numeric: bool) -> None:
    html = render(page(tables=(Table("t", "T", "", ("x", "y"), tuple(("row", cell) for cell in cells)),)))
    assert ('<th class="number">y' in html) is numeric


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ((dataclasses.replace(TABLE, name="two words"),), "not a file's name"),
        ((TABLE, TABLE), "comes 2 times"),
        ((dataclasses.replace(TABLE, rows=(("one",),)),), "row 0 has 1 cells; needed 5"),
    ],
)
def test_broken_tables_are_refused(tables: tuple[Table, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=says):
        write_page(page(tables=tables), tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_tables_round_trip_and_stand_last(tmp_path: Path) -> None:
    path = write_summary(whole(), tmp_path)
    assert read_summary(path).tables == whole().tables
    keys = list(json.loads(path.read_text()))
    assert keys == [
        "schema", "experiment", "question", "settings", "rows", "verdicts", "environment", "failures", "tables",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"rows": [["one"]]}, {"columns": "abc"}, {"columns": [1]}, {"rows": None}, {"title": 3}, {"more": ""}],
)
def test_a_broken_table_in_a_summary_is_named(change: dict[str, object], tmp_path: Path) -> None:
    path = write_summary(whole(), tmp_path)
    found = json.loads(path.read_text())
    found["tables"][0].update(change)
    path.write_text(json.dumps(found))
    with pytest.raises(BadData, match="table 0 is no whole table"):
        read_summary(path)


# ---------------------------------------------------------------- top line and verdicts


@pytest.mark.parametrize(("count", "open_ones"), [(3, 3), (5, 5), (6, 4), (25, 4)])
def test_measures_beyond_the_first_four_are_folded_under_their_names(count: int, open_ones: int) -> None:
    names = tuple(f"measure_{number:02d}" for number in range(count))
    html = section(render(page(headline=names, rows=tuple(row(name) for name in names))), "top-line")
    fold = html.find('<details class="more">')
    opened, folded = (html[:fold], html[fold:]) if fold >= 0 else (html, "")
    assert opened.count('class="measure"') == open_ones
    assert folded.count('class="measure"') == count - open_ones
    if folded:
        summary = Reader(folded[: folded.index("</summary>")]).text
        assert f"{count - open_ones} more measures" in summary
        assert all(name in summary for name in names[open_ones:])


def test_levels_and_shifts_of_a_measure_stand_apart() -> None:
    rows = (row("m", 0.6, kind="absolute"), row("m", 0.1), row("m", 0.7, kind="absolute"), row("m", 0.2))
    html = section(render(page(headline=("m",), rows=rows)), "top-line")
    text = Reader(html).text
    wanted = ("level, nats per token", "0.60[", "0.70[", "shift from base, nats per token", "+0.10[", "+0.20[")
    places = [text.index(words) for words in wanted]
    assert places == sorted(places)


def test_what_is_the_same_in_all_rows_is_said_once() -> None:
    base = row("m", kind="absolute", method="base", questions="self")
    arms = [row("m", site=site, positions="answer", questions="self") for site in ("15", "16")]
    html = section(render(page(headline=("m",), rows=(base, *arms))), "top-line")
    assert "<th>site</th>" in html
    assert "<th>positions</th>" not in html
    assert "The same in all rows: positions answer, questions self." in Reader(html).text
    differ = (*arms, row("m", site="", positions="", method="system prompt", questions="self"))
    assert "<th>positions</th>" in render(page(headline=("m",), rows=differ))


def test_a_long_verdict_is_whole() -> None:
    long = "The smallest shift that this run could have found is 0.26 nats per token. " * 6
    assert long.strip() in Reader(render(page(verdicts=(Verdict("c", "unclear", "instrument", long),)))).text


# ---------------------------------------------------------------- figures


def mark(label: str, value: float = 0.3, half: float = 0.1, **more: object) -> Mark:
    return Mark(label, Estimate(value, value - half, value + half, 9, 3, "nats"), **more)  # type: ignore[arg-type]


def test_a_note_stands_beside_its_label_alone() -> None:
    figure = Figure("f", "F", "", (Panel("p", "nats", (mark("first", note="insensitive"), mark("second"))),))
    svg = figures.draw(figure)
    root = ElementTree.fromstring(svg)
    texts = {"".join(text.itertext()): text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert "first (insensitive): +0.30" in figures.described(figure)
    assert "second: +0.30" in figures.described(figure)

    def end(text: ElementTree.Element) -> tuple[float, float]:
        place = (text.get("transform") or "") + (text.get("style") or "")
        found = re.search(r"translate\(([\d.]+) ([\d.]+)\)", place)
        return (float(found[1]), float(found[2])) if found else (float(text.get("x", 0)), float(text.get("y", 0)))

    assert end(texts["first"])[0] < end(texts["insensitive"])[0]
    assert end(texts["first"])[1] == pytest.approx(end(texts["insensitive"])[1], abs=2)
    assert end(texts["second"])[0] > end(texts["first"])[0]


def test_marks_with_other_notes_do_not_share_a_label() -> None:
    marks = (mark("one", note="insensitive", polarity="high"), mark("one", polarity="low"))
    placed, _ = panel.lines(Panel("p", "nats", marks), 30)
    assert [line.label for line in placed] == [("one",), ("one",)]


def test_labels_that_both_panels_have_are_written_once_and_notes_where_they_belong() -> None:
    first = Panel("a", "nats", (mark("one", note="insensitive"), mark("two")))
    second = Panel("b", "nats", (mark("one"), mark("two", role="control", note="insensitive")))
    root = ElementTree.fromstring(figures.draw(Figure("f", "F", "", (first, second))))
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert (texts.count("one"), texts.count("two"), texts.count("insensitive")) == (1, 1, 2)


def test_many_items_make_a_wide_and_dense_figure() -> None:
    few, many = (Panel("p", "nats", tuple(mark(f"item {n}") for n in range(count))) for count in (10, 25))
    assert not figures.is_wide(Figure("f", "F", "", (few,)))
    assert figures.is_wide(Figure("f", "F", "", (many,)))
    assert figures.is_wide(Figure("f", "F", "", (Panel("p", "nats", (mark("a very long name " * 3),)),)))
    assert panel.lines(many, 48)[1] / 25 < panel.lines(few, 48)[1] / 10


def test_panels_of_one_unit_share_an_axis_unless_one_would_vanish() -> None:
    wide, narrow = Panel("a", "nats", (mark("x", 0.5, 0.5),)), Panel("b", "nats", (mark("x", 0.3, 0.2),))
    tiny, other = Panel("c", "nats", (mark("x", 0.0, 0.01),)), Panel("d", "share", (mark("x", 0.3, 0.2),))
    unknown = Panel("e", "nats", (Mark("x", Estimate(None, None, None, 0, 0, "nats")),))
    first, second, third, fourth = panel.shared_limits([wide, narrow, other, unknown])
    assert first == second == fourth
    assert third == panel.limits(other)
    assert panel.shared_limits([wide, tiny]) == [panel.limits(wide), panel.limits(tiny)]


def test_figures_follow_a_dark_page() -> None:
    svg = figures.draw(Figure("f", "F", "", (Panel("p", "nats", (mark("x", polarity="high"),)),)))
    assert "var(--mark-high, #d55e00)" in svg.lower()
    assert "var(--paper, #ffffff)" in svg
    assert set(re.findall(r"var\(--([\w-]+),", svg)) <= set(
        re.findall(r"--([\w-]+):", (Path(figures.__file__).parent / "templates/report.css").read_text())
    )


# ---------------------------------------------------------------- a real browser


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_seen_in_a_real_browser(scheme: str, tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        pytest.fail(
            f"{CHROMIUM} is not there; this test needs a real browser. Install chromium, or run -m 'not browser'."
        )
    from playwright.sync_api import sync_playwright

    items = (item("both", reply(0.5), reply(-0.5, "low")), item("high-only", reply(0.5), reply(0.1)))
    url = write_page(page(items=items), tmp_path).as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            tab = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
            tab.goto(url)
            tab.locator("details.set > summary").click()
            seen = []
            for number in (0, 1):
                tab.locator("details.item > summary").nth(number).click()
                path = tmp_path / f"{number}.png"
                tab.locator("svg.strip").nth(number).screenshot(path=path)
                seen.append(_colours(path))
            assert all(orange > 30 for orange, _ in seen)
            assert seen[0][1] > 30
            assert seen[1][1] == 0
        finally:
            browser.close()


def _colours(path: Path) -> tuple[int, int]:
    """How many pixels are orange, and how many are blue."""
    red, _, blue = (matplotlib.image.imread(path)[..., channel] for channel in range(3))
    return int((red - blue > 0.45).sum()), int((blue - red > 0.45).sum())
