"""The page that a person opens: one `report.html` that needs nothing but itself, beside its numbers and figures.

Knows pages. Must not know how a number was made.

Everything that an experiment or a model wrote is escaped. The page loads nothing: its policy (in a `meta` tag)
forbids every request, and every script but its own few lines, without which it reads the same.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from selfaware.errors import BadData
from selfaware.report import figures, questions, style
from selfaware.report.page import Claim, Page, Table
from selfaware.report.summary import decimals, finite, undefined, write_atomic, write_summary, written
from selfaware.types import Row, Verdict

_PACKAGE = "selfaware.report"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# A number with or without a sign, a unit sign, an interval, a second number; a dash or a word where there is none.
_NUMBER = re.compile(
    r"([+−-]?(\d[\d\s]*)?([.,]?\d+)(\s?%)?(\s?\[[^\]]*\]|\s?[/±×]\s?\d[\d.,]*(\s?%)?|\s\(no interval\b.*\))?"
    r"|\[[^\]]*\]|[–—-]?|unknown|undefined\b.*)"
)
_OPEN = 4
"""Headline measures that stand open; where there is more than one beyond, they are folded."""


@dataclass(frozen=True)
class _Card:
    """A claim with its verdict; None where the experiment gave none, which the page says aloud."""

    name: str
    claim: Claim | None
    verdict: Verdict | None


@dataclass(frozen=True)
class _Cell:
    """A row's estimate as text. `undefined` is the reason why there are no numbers, None where there are."""

    value: str
    interval: str
    detectable: str
    undefined: str | None


@dataclass(frozen=True)
class _Group:
    """The rows of one headline measure that are of one kind and unit: levels, or shifts from one reference."""

    kind: str
    unit: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Measure:
    """A headline measure: its anchor, and its rows by kind; none where no row was reported."""

    name: str
    anchor: str
    groups: tuple[_Group, ...]


def write_page(page: Page, folder: Path | str) -> Path:
    """The path of `report.html`, written into `folder` with `summary.json`, `rows.csv` and `figures/*.pdf`.

    Each file is written whole or not at all, the page last. The same page always gives the same bytes. Cost: half a
    second for each figure, and as much for ten thousand replies; some 150 bytes for each reply, 5 kB for a group.

    Args:
        folder: made if it is not there; files of the same names are replaced.

    Raises:
        BadData: two figures or two tables have one name, a name can't be a file's name, a figure can't be drawn, or a
            table's row is not as wide as its columns.
        OSError: the folder can't be written.
    """
    folder = Path(folder)
    _check(page)
    write_summary(page, folder)
    (folder / "figures").mkdir(exist_ok=True)
    for figure in page.figures:
        figures.save_pdf(figure, folder / "figures" / f"{figure.name}.pdf")
    # A lone surrogate in a model's text has no UTF-8 form; it is shown by its number.
    return write_atomic(folder / "report.html", render(page).encode("utf-8", "backslashreplace"))


def render(page: Page) -> str:
    """The page as one HTML document.

    Raises:
        BadData: two figures or two tables have one name, a name can't be a file's name, a figure can't be drawn, or a
            table's row is not as wide as its columns.
    """
    _check(page)
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["score"] = _score
    environment.filters["whitespace_kept"] = _whitespace_kept
    environment.tests["unread"] = questions.unread
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sets = questions.sets(page.items)
    measures = _measures(page)
    columns, same = _columns([row for measure in measures for group in measure.groups for row in group.rows])
    shown = len(measures) if len(measures) <= _OPEN + 1 else _OPEN
    return environment.get_template("report.html.jinja").render(
        page=page,
        style=Markup(_resource("report.css")),
        script=Markup(script),
        script_hash=digest,
        cards=_cards(page),
        measures=measures,
        shown=shown,
        columns=columns,
        same=same,
        cell=_cells(page.rows),
        condition=_condition,
        counted=questions.counted,
        figures=[(figure, Markup(figures.draw(figure)), figures.is_wide(figure)) for figure in page.figures],
        tables=[(table, _numeric(table)) for table in page.tables],
        sets=sets,
        drawn=any(group.figure for found in sets for group in found.groups),
        signs=style.SIGNS,
    )


def _check(page: Page) -> None:
    for what, names in (
        ("figure", [figure.name for figure in page.figures]),
        ("table", [table.name for table in page.tables]),
    ):
        for name in names:
            if not _NAME.fullmatch(name):
                raise BadData(
                    f"{what} {name!r}: not a file's name; needed letters, digits, - and _. Rename it in the experiment."
                )
            if names.count(name) > 1:
                raise BadData(
                    f"{what} {name!r}: comes {names.count(name)} times; needed one name for each. Rename all but one."
                )
    for figure in page.figures:
        figures.check(figure)
    for table in page.tables:
        for number, row in enumerate(table.rows):
            if len(row) != len(table.columns):
                raise BadData(
                    f"table {table.name!r}: row {number} has {len(row)} cells; needed {len(table.columns)}, one a "
                    "column. Fill it up in the experiment."
                )


def _resource(name: str) -> str:
    return (resources.files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def _cards(page: Page) -> tuple[_Card, ...]:
    """The verdicts in order, each with its claim; then claims that have no verdict."""
    claims = {claim.name: claim for claim in page.claims}
    judged = {verdict.claim for verdict in page.verdicts}
    return (
        *(_Card(verdict.claim, claims.get(verdict.claim), verdict) for verdict in page.verdicts),
        *(_Card(claim.name, claim, None) for claim in page.claims if claim.name not in judged),
    )


def _measures(page: Page) -> tuple[_Measure, ...]:
    """The headline measures in order, levels and shifts apart: beside each other they would be read as one."""
    made = []
    for number, name in enumerate(page.headline):
        found: dict[tuple[str, str], list[Row]] = {}
        for row in page.rows:
            if row.measure == name:
                kind = f"shift from {row.reference or 'base'}" if row.kind == "shift" else "level"
                found.setdefault((kind, row.unit), []).append(row)
        groups = tuple(_Group(kind, unit, tuple(rows)) for (kind, unit), rows in found.items())
        made.append(_Measure(name, f"measure-{number + 1}", groups))
    return tuple(made)


def _numeric(table: Table) -> tuple[bool, ...]:
    """Which of the table's columns hold numbers alone, and at least one."""
    return tuple(
        all(_NUMBER.fullmatch(row[index].strip()) for row in table.rows)
        and any(re.search(r"\d", row[index]) for row in table.rows)
        for index in range(len(table.columns))
    )


def _cells(rows: Iterable[Row]) -> Callable[[Row], _Cell]:
    """What a row's estimate looks like. Rows of one measure and unit get the same decimals, on the whole page."""
    numbers: dict[tuple[str, str], list[float | None]] = {}
    for row in rows:
        numbers.setdefault((row.measure, row.unit), []).extend((row.value, row.low, row.high))
    places = {key: decimals(found) for key, found in numbers.items()}

    def cell(row: Row) -> _Cell:
        def text(number: float | None, *, signed: bool) -> str:
            return "" if finite(number) is None or number is None else written(number, digits, signed=signed)

        digits, signed = places[row.measure, row.unit], row.kind == "shift"
        why = undefined(row.value, row.low, row.high, row.why)
        detectable = text(row.detectable, signed=False)
        if why is not None:
            return _Cell("", "", detectable, why)
        interval = f"[{text(row.low, signed=signed)}, {text(row.high, signed=signed)}]"
        return _Cell(text(row.value, signed=signed), interval, detectable, None)

    return cell


def _columns(rows: Iterable[Row]) -> tuple[frozenset[str], tuple[tuple[str, str], ...]]:
    """Columns that are not always there, and what is the same in all rows and said once instead of in a column.

    The base model's rows have no site and no positions of their own, and do not count as another value. Model and
    domain stand in the settings.
    """
    rows = tuple(rows)
    shown = {"polarity"} if any(row.polarity for row in rows) else set()
    same = []
    for name in ("model", "domain", "site", "positions", "questions", "condition"):
        found = {_condition(row) if name == "condition" else str(getattr(row, name)) for row in rows}
        if name in ("site", "positions"):
            found = {str(getattr(row, name)) for row in rows if row.method != "base"}
        if len(found) > 1:
            shown.add(name)
        elif any(found) and name not in ("model", "domain"):
            same.append(("" if name == "condition" else name, found.pop()))
    return frozenset(shown), tuple(same)


def _condition(row: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.condition.items())


def _score(number: float | None, *, signed: bool = False) -> str:
    """A single score; an em dash where there is none."""
    return "—" if number is None or finite(number) is None else written(number, 2, signed=signed)


def _whitespace_kept(text: str) -> Markup:
    """`text` for a `pre` element, escaped; HTML drops one leading newline there, and carriage returns."""
    return Markup("\n") + Markup(str(Markup.escape(text)).replace("\r", "&#13;"))
