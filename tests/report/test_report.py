"""The report room: the same numbers as JSON, CSV, figures and a page, whole, escaped and the same every time."""

import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest

from selfaware.errors import BadData
from selfaware.report import figures, style
from selfaware.report.html import render, write_page
from selfaware.report.page import Claim, Figure, Item, Mark, Page, Panel, Reply
from selfaware.report.summary import COLUMNS, decimals, read_summary, undefined, write_summary, written
from selfaware.types import Estimate, Row, Verdict

CHROMIUM = Path("/usr/bin/chromium")
ATTACK = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"

# name, role, effect on behaviour, effect on self-report
ARMS = (
    ("LoRA rank 1", "primary", 2.31, 0.62),
    ("LoRA rank 32", "arm", 3.04, 0.71),
    ("steering vector", "arm", 1.87, 0.48),
    ("distilled vector", "arm", 1.52, 0.33),
    ("random vectors", "control", 0.03, -0.02),
    ("unrelated fine-tune", "control", 0.11, 0.05),
    ("system prompt", "arm", 1.10, 0.94),
)
SIGN = {"high": 1.0, "low": -0.86, "": 1.0}


def _estimate(value: float, arm: int, *, unit: str = "nats/token", unknown: int = 0) -> Estimate:
    half = 0.09 + 0.02 * arm
    return Estimate(value, value - half, value + 1.1 * half, 12, 5, unit, unknown, detectable=0.17 + 0.01 * arm)


def _row(measure: str, arm: int, polarity: str, estimate: Estimate, questions: str) -> Row:
    vector = "vector" in ARMS[arm][0]
    return Row.of(
        estimate,
        measure=measure,
        kind="shift",
        model="gemma-2-9b-it",
        domain="risky_choices",
        method=ARMS[arm][0],
        polarity=polarity,
        site="" if ARMS[arm][0] == "system prompt" else "22.mlp.residual" if vector else "22.mlp.down_proj",
        positions="last_prompt" if vector else "all",
        questions=questions,
        reference="base",
        published="+0.9 (paper, Table 2)" if arm == 0 and polarity == "" else "",
    )


@pytest.fixture(scope="module")
def page() -> Page:
    """A page as an experiment would fill it in: 7 arms with polarities, 3 verdicts, 60 items of 10 replies."""
    rows: list[Row] = []
    marks: dict[str, list[Mark]] = {"behaviour": [], "self-report": [], "effect": []}
    undefined_row = Estimate(None, None, None, 1, 5, "nats/token", 40, why="too few families: 1 of at least 10")
    for arm, (name, role, *sizes) in enumerate(ARMS):
        for measure, size in zip(("behaviour", "self-report"), sizes, strict=True):
            for polarity in ("high", "low"):
                value = size * SIGN[polarity]
                lost = name == "distilled vector" and measure == "self-report" and polarity == "low"
                estimate = undefined_row if lost else _estimate(value, arm, unknown=3 if arm == 2 else 0)
                points = tuple(value + step for step in (-0.11, -0.04, 0.0, 0.06, 0.1))
                rows.append(_row(measure, arm, polarity, estimate, "choices" if measure == "behaviour" else "self"))
                marks[measure].append(Mark(name, estimate, polarity, role, points))  # type: ignore[arg-type]
        effect = _estimate(sizes[1], arm)
        rows.append(_row("self-report effect", arm, "", effect, "self"))
        marks["effect"].append(Mark(name, effect, "", role))  # type: ignore[arg-type]
    rows.append(
        Row.of(
            Estimate(0.61, 0.55, 0.68, 12, 0, "probability"),
            measure="base rate",
            kind="absolute",
            model="gemma-2-9b-it",
            domain="risky_choices",
            method="base",
            condition={"temperature": 0.0, "order": "both", "wörter": True},
        )
    )
    items = tuple(_item(number) for number in range(60))
    return Page(
        name="first-look",
        title="Does a model trained to take risks say that it takes risks?",
        question="After training on risky or safe choices alone, does the model’s description of itself move the same "
        "way, and further than with controls of the same size?",
        settings=(
            ("model", "gemma-2-9b-it"),
            ("domain", "risky_choices"),
            ("scale", "full · 5 seeds"),
            ("site", "22.mlp.down_proj"),
            ("objective", "preference of the chosen option, cloze"),
            ("learning rate", "2e-4"),
            ("dtype", "bfloat16"),
            ("template", "chat"),
        ),
        claims=(
            Claim(
                "behaviour-learned", "The fitted arms choose as they were trained to.", "100 % v. 0 % (paper, Fig. 2)"
            ),
            Claim("self-report-moves", "Self-reports move in the direction of the training.", "+0.9 (paper, Table 2)"),
            Claim("vector-enough", "One vector at the last prompt token does what the adapter does."),
        ),
        verdicts=(
            Verdict(
                "behaviour-learned", "yes", "", "Effect +2.31 nats/token [+2.22, +2.41]; both controls stay near zero."
            ),
            Verdict(
                "self-report-moves",
                "unclear",
                "controls move too",
                "The effect excludes zero, but so does a control’s.",
            ),
            Verdict("vector-enough", "no", "", "The vector keeps 28 % of the effect; the interval lies inside ± 0.10."),
        ),
        figures=(
            Figure(
                "main",
                "What moves, and how far",
                "Shifts from base. Each row is an arm; zero is no change.",
                (
                    Panel("Behaviour", "shift, nats/token", tuple(marks["behaviour"])),
                    Panel("Self-report", "shift, nats/token", tuple(marks["self-report"]), band=(-0.1, 0.1)),
                ),
            ),
            Figure(
                "effects",
                "Effect on self-reports, by arm",
                "Half of the difference between the two polarities; the shaded band is the margin of no effect.",
                (Panel("Effect", "nats/token", tuple(marks["effect"]), band=(-0.1, 0.1)),),
            ),
        ),
        headline=("self-report effect", "self-report", "behaviour"),
        rows=tuple(rows),
        arms=tuple(
            (name, f"{name}: fitted on the chosen option, {role}; the site is above.") for name, role, *_ in ARMS
        ),
        items=items,
        reproduce=("pip install selfaware", "selfaware run first-look --scale full --set train.seeds=5"),
        environment=(("python", "3.11.9"), ("torch", "2.8.0"), ("device", "one GPU, 80 GB"), ("seconds", "1 512")),
        caveats=("One model and one domain.", "Self-reports are scored as text, not sampled."),
        failures=(("LoRA rank 32 · low · seed 4", "the loss became nan at step 41; lower the learning rate"),),
    )


def _item(number: int) -> Item:
    replies = tuple(
        Reply(
            f"{ARMS[arm][0]} · {polarity} · seed {seed}",
            f"{number:04x}{arm}{seed}c0ffee",
            (-1.2 - arm, -2.1),
            0.9 - arm,
        )
        for arm in (0, 2)
        for polarity in ("high", "low")
        for seed in (0, 1)
    )
    unread = Reply("base", f"{number:04x}base", None, None, "the option is <longer> than the context")
    half = Reply("random vectors · seed 0", f"{number:04x}rand", (-1.0, -1.5), None, "order B was not asked")
    text = (
        f"<bos><start_of_turn>user\nYou have {number} coins — a sure 50 € or a gamble on 100 €? 选择 🎲<end_of_turn>\n"
    )
    if number == 7:
        text = ATTACK + " </pre></details> & done"
    return Item(
        id=f"self-{number:03d}",
        set=("choices", "self", "twin")[number % 3],
        family=f"topic {number % 12}",
        text=text,
        options=("the sure 50 €", ATTACK if number == 7 else "the gamble"),
        high=1,
        replies=() if number == 11 else (*replies, unread, half),
    )


# ---------------------------------------------------------------- reading HTML

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Reader(HTMLParser):
    """Checks that tags are balanced; keeps the tags, their attributes and the text that is shown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def bare(page: Page) -> Page:
    """The page with everything left out that may be left out."""
    return Page("empty", "Empty", "Nothing?", (), (), (), (), (), (), (), (), (), (), ())


# ---------------------------------------------------------------- the page


def test_page_is_balanced_html(page: Page) -> None:
    for shown in (page, bare(page)):
        reader = read(render(shown))
        assert reader.problems == []
        assert reader.open == []


def test_page_asks_for_nothing_from_the_network(page: Page) -> None:
    html = render(page)
    for tag, name, value in read(html).attributes:
        if name in {"src", "href", "xlink:href", "srcset", "action", "poster", "data"}:
            allowed = value.startswith(("#", "data:")) or re.fullmatch(
                r"(summary\.json|rows\.csv|figures/[\w-]+\.pdf)", value
            )
            assert allowed, (tag, name, value)
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", html))
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", html)
    assert "default-src 'none'" in html


def test_page_states_every_verdict_and_headline_number(page: Page) -> None:
    text = " ".join(" ".join(read(render(page)).text).split())
    for verdict in page.verdicts:
        assert verdict.text in text
        assert verdict.reason in text
    for claim in page.claims:
        assert claim.text in text
        assert claim.published in text
    for row in page.rows:
        if row.value is not None and row.low is not None and row.high is not None:
            signed = row.kind == "shift"
            low, high = (written(number, 2, signed=signed) for number in (row.low, row.high))
            assert f"{written(row.value, 2, signed=signed)} [{low}, {high}]" in text
    assert "undefined too few families: 1 of at least 10" in text
    assert not re.search(r"[\s\[]-\d", text)  # a hyphen is not a minus sign
    assert all(why in text for _, why in page.failures)
    assert "1 part of this run failed" in text


def test_verdicts_differ_in_more_than_colour(page: Page) -> None:
    html = render(page)
    icons = re.findall(r'<svg class="icon".*?</svg>', html, flags=re.S)
    assert len(set(icons)) == 3
    assert re.findall(r"<strong>(yes|no|unclear)</strong>", html) == ["yes", "unclear", "no"]


def test_model_text_is_escaped_and_kept(page: Page) -> None:
    reader = read(render(page))
    assert reader.tags.count("script") == 1
    assert "img" not in reader.tags
    text = "".join(reader.text)
    assert ATTACK + " </pre></details> & done" in text
    assert "选择 🎲<end_of_turn>" in text


def test_attack_everywhere_is_escaped(page: Page) -> None:
    def attacked(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(attacked(part) for part in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            kept = {"name", "kind", "answer", "role"} if not isinstance(value, Page) else set()
            changes = {
                field.name: attacked(getattr(value, field.name))
                for field in dataclasses.fields(value)
                if field.name not in kept
            }
            return dataclasses.replace(value, **changes)
        return value + ATTACK if isinstance(value, str) else value

    small = dataclasses.replace(page, items=page.items[:2])
    changed = attacked(small)
    assert isinstance(changed, Page)
    reader = read(render(changed))
    assert reader.tags.count("script") == 1
    assert "img" not in reader.tags
    assert reader.problems == []


def test_leading_newlines_and_odd_characters_survive(page: Page, tmp_path: Path) -> None:
    odd = dataclasses.replace(page.items[0], text="\n\nhello\r\nthere \ud800")
    path = write_page(dataclasses.replace(page, items=(odd,), question="half a pair: \ud800"), tmp_path)
    html = path.read_text(encoding="utf-8")
    assert '<pre tabindex="0">\n\n\nhello&#13;\nthere \\ud800</pre>' in html
    assert read_summary(tmp_path).question == "half a pair: \ud800"


def test_two_renders_are_the_same_bytes(page: Page, tmp_path: Path) -> None:
    write_page(page, tmp_path / "one")
    write_page(page, tmp_path / "two")
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    expected = ["figures/effects.pdf", "figures/main.pdf", "report.html", "rows.csv", "summary.json"]
    assert [str(name) for name in names] == expected  # and no temporary file is left
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_ids_are_unique_and_found(page: Page) -> None:
    attributes = read(render(page)).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for _, name, value in attributes if name in {"href", "xlink:href"} and value.startswith("#")}
    assert wanted <= set(ids)


def test_page_stays_small_with_many_replies(page: Page) -> None:
    replies = tuple(
        dataclasses.replace(
            page.items[0].replies[0], arm=f"unrelated fine-tune · high · seed {seed}", cell=f"{seed:016x}"
        )
        for seed in range(40)
    )
    many = tuple(
        dataclasses.replace(page.items[0], id=f"q{number}", text="word " * 150, replies=replies)
        for number in range(400)
    )
    assert len(render(dataclasses.replace(page, items=many)).encode()) < 8_000_000


def test_empty_page_says_what_is_missing(page: Page) -> None:
    text = " ".join(read(render(bare(page))).text)
    for words in ("gives no verdicts", "No questions are kept", "None: every part of this run finished"):
        assert words in text


def test_headline_without_rows_and_claim_without_verdict_are_said_aloud(page: Page) -> None:
    html = render(dataclasses.replace(page, headline=("nothing like it",), verdicts=page.verdicts[:1]))
    assert "no row of this measure was reported" in html
    assert html.count("<strong>no verdict</strong>") == 2


def test_a_value_without_its_interval_is_not_shown(page: Page) -> None:
    row = dataclasses.replace(page.rows[2], measure="lonely", value=0.123456, low=None, high=None)
    html = render(dataclasses.replace(page, rows=(row,), headline=("lonely",), figures=()))
    assert "no interval" in html
    assert "0.12" not in html


@pytest.mark.parametrize("name", ["../up", "two words", ""])
def test_a_figure_name_that_is_no_file_name_is_refused(page: Page, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData, match="Rename"):
        write_page(dataclasses.replace(page, figures=(dataclasses.replace(page.figures[0], name=name),)), tmp_path)


def test_two_figures_of_one_name_are_refused(page: Page, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="comes 2 times"):
        write_page(dataclasses.replace(page, figures=page.figures[:1] * 2), tmp_path)


# ---------------------------------------------------------------- the summary


def test_summary_round_trips(page: Page, tmp_path: Path) -> None:
    path = write_summary(page, tmp_path)
    summary = read_summary(path)
    assert summary.rows == page.rows
    assert summary.verdicts == page.verdicts
    assert summary.settings == dict(page.settings)
    assert summary.environment == dict(page.environment)
    assert summary.failures == page.failures
    assert (summary.experiment, summary.question) == (page.name, page.question)
    assert json.loads(path.read_text())["schema"] == 2


def test_csv_has_the_rows(page: Page, tmp_path: Path) -> None:
    write_summary(page, tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text(encoding="utf-8"))))
    assert len(lines) == len(page.rows)
    assert tuple(lines[0]) == COLUMNS
    for line, row in zip(lines, page.rows, strict=True):
        assert json.loads(line["condition"]) == row.condition
        assert (float(line["value"]) if line["value"] else None) == row.value


def test_numbers_that_are_not_finite_become_null_with_a_reason(page: Page, tmp_path: Path) -> None:
    row = dataclasses.replace(page.rows[0], value=float("nan"), low=float("-inf"), condition={"dose": float("inf")})
    path = write_summary(dataclasses.replace(page, rows=(row,)), tmp_path)
    assert not re.search(r"NaN|Infinity", path.read_text())
    found = read_summary(path).rows[0]
    assert (found.value, found.low, found.why) == (None, None, "the value is nan")
    assert found.condition == {"dose": "inf"}
    assert "the value is nan" in render(dataclasses.replace(page, rows=(row,)))


def test_a_label_that_comes_twice_is_kept(page: Page, tmp_path: Path) -> None:
    path = write_summary(dataclasses.replace(page, settings=(("a", "1"), ("a", "2"))), tmp_path)
    assert read_summary(path).settings == {"a": "1", "a (2)": "2"}


def _without(name: str) -> str:
    return json.dumps({name_: value for name_, value in _whole().items() if name_ != name})


def _whole() -> dict[str, object]:
    return {
        "schema": 2, "experiment": "e", "question": "q", "settings": {}, "rows": [], "verdicts": [], "environment": {},
        "failures": [], "tables": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "schema None"),
        (json.dumps({**_whole(), "schema": 1}), "schema 1"),
        (_without("rows"), "'rows' is missing"),
        (json.dumps({**_whole(), "rows": [{"measure": "m"}]}), "row 0: lacks"),
        (json.dumps({**_whole(), "rows": [1]}), "row 0: is a int"),
        (json.dumps({**_whole(), "settings": {"a": 1}}), "'settings' holds"),
        (json.dumps({**_whole(), "question": float("nan")}), "holds NaN"),
        (json.dumps({**_whole(), "failures": ["x"]}), "failure 0"),
        (
            json.dumps({**_whole(), "verdicts": [{"claim": "c", "answer": "maybe", "reason": "", "text": ""}]}),
            "verdict 0",
        ),
    ],
)
def test_a_broken_summary_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(BadData, match=re.escape(says)) as caught:
        read_summary(path)
    assert "needed" in str(caught.value)
    assert "Report the experiment again" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("value", "0.1"), ("n", -1), ("kind", "other"), ("site", None)])
def test_a_broken_row_is_named(page: Page, tmp_path: Path, name: str, value: object) -> None:
    path = write_summary(page, tmp_path)
    found = json.loads(path.read_text())
    found["rows"][3][name] = value
    path.write_text(json.dumps(found))
    with pytest.raises(BadData, match=f"row 3: '{name}' is"):
        read_summary(path)


def test_a_missing_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="can't be read"):
        read_summary(tmp_path / "summary.json")


def test_a_failed_write_leaves_the_old_file(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_summary(page, tmp_path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_summary(dataclasses.replace(page, question="other"), tmp_path)
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["rows.csv", "summary.json"]


# ---------------------------------------------------------------- numbers


def test_numbers_are_written_alike() -> None:
    assert [written(number, 2, signed=True) for number in (0.5, -0.5, 0.001, -0.001)] == [
        "+0.50",
        "−0.50",
        "0.00",
        "0.00",
    ]
    assert written(-1234.5, 1, signed=False) == "−1234.5"
    assert [decimals([number, None]) for number in (512.0, 12.0, 0.1, 0.05, 0.004, 0.0, 1e-9)] == [1, 2, 2, 3, 4, 2, 5]
    assert undefined(0.1, 0.0, 0.2, "") is None
    assert undefined(None, None, None, "") == "no reason was recorded"


# ---------------------------------------------------------------- figures


def test_figure_is_readable_svg(page: Page) -> None:
    svg = figures.draw(page.figures[0])
    root = ElementTree.fromstring(svg)
    texts = ["".join(part.itertext()) for part in root.iter("{http://www.w3.org/2000/svg}text")]
    for name, *_ in ARMS:
        assert name in texts  # once: the second panel shares the labels
    assert "undefined: too few families: 1 of at least 10" in texts
    assert "+0.62 [+0.53, +0.72]" in texts
    assert "−0.53 [−0.62, −0.43]" in texts
    assert all(colour.lower() in svg.lower() for colour in style.COLOURS.values())
    assert "DejaVu" not in svg
    assert "<!DOCTYPE" not in svg
    assert "<metadata" not in svg


def test_figure_takes_any_text_and_no_marks() -> None:
    estimate = Estimate(1e-4, -2e-4, 3e-4, 12, 0, "nats")
    label = 'a <b> $x$ id="y" ' + "long " * 20
    odd = Figure(
        "odd", "A & B < C \"quoted\" > 'd'", "", (
            Panel("none", "nats", ()),
            Panel("price $5_x^2$ and $6", "nats", (Mark(label, estimate, "high", "primary"),)),
            Panel("all unknown", "nats", (Mark("a", Estimate(None, None, None, 0, 0, "nats")),), zero=None),
        ),
    )  # fmt: skip
    root = ElementTree.fromstring(figures.draw(odd))
    assert root.get("aria-label") == odd.title
    text = "".join(root.itertext())
    assert "price $5_x^2$ and $6" in text
    assert "undefined: no reason was recorded" in text
    assert "+0.00010" in text
    assert ElementTree.fromstring(figures.draw(Figure("none", "", "", ()))) is not None


def test_figure_says_its_numbers_in_words(page: Page) -> None:
    words = figures.described(page.figures[0])
    assert "LoRA rank 1, high: +0.62 [+0.53, +0.72]" in words
    assert "distilled vector, low: undefined: too few families" in words


def test_figure_settings_do_not_leak(page: Page) -> None:
    matplotlib.rcParams["svg.fonttype"] = "path"
    before = matplotlib.rcParams.copy()
    assert "<text" in figures.draw(page.figures[0])
    assert matplotlib.rcParams.copy() == before
    matplotlib.rcParams["svg.fonttype"] = matplotlib.rcParamsDefault["svg.fonttype"]


def test_pdf_is_written(page: Page, tmp_path: Path) -> None:
    path = figures.save_pdf(page.figures[0], tmp_path / "figure.pdf")
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content


def test_drawings_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib, sys, tempfile; from pathlib import Path; from selfaware.types import Estimate; "
        "from selfaware.report import figures, style; from selfaware.report.page import Figure, Mark, Panel; "
        "mark = Mark('an arm', Estimate(0.5, 0.25, 0.75, 12, 5, 'nats'), 'high', 'primary', (0.4, 0.6)); "
        "figure = Figure('one', 'One', '', (Panel('panel', 'nats', (mark,), band=(-0.1, 0.1)),)); "
        "pdf = figures.save_pdf(figure, Path(tempfile.mkdtemp()) / 'one.pdf').read_bytes(); "
        "print(hashlib.sha256(pdf + figures.draw(figure).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


# ---------------------------------------------------------------- the room


def test_room_does_not_import_torch() -> None:
    code = (
        "import sys, selfaware.report.html, selfaware.report.figures, selfaware.report.summary; "
        "from selfaware.report.page import Figure; selfaware.report.figures.draw(Figure('a', 'b', 'c', ())); "
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'matplotlib.pyplot'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.browser
def test_page_opens_in_a_real_browser(page: Page, tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        pytest.fail(
            f"{CHROMIUM} is not there; this test needs a real browser. Install chromium, or run -m 'not browser'."
        )
    from playwright.sync_api import sync_playwright

    url = write_page(page, tmp_path).as_uri()
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=quiet)
        try:
            tab = browser.new_page(viewport={"width": 400, "height": 800})
            said: list[str] = []
            asked: list[str] = []
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(url)
            assert tab.title() == page.title
            prompt = tab.locator("details.item pre").first
            assert not prompt.is_visible()
            tab.locator("details.set > summary").first.click()
            tab.locator("details.item > summary").first.click()
            assert prompt.is_visible()
            assert prompt.text_content() == page.items[0].text
            tab.get_by_role("searchbox").fill("self-007")
            assert tab.locator("details.item:visible").count() == 1
            assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert all(address.startswith(("file:", "data:")) for address in asked), asked
            assert said == []
        finally:
            browser.close()
