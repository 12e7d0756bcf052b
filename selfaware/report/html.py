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
from selfaware.report import figures, style
from selfaware.report.page import Claim, Item, Page, Reply
from selfaware.report.summary import decimals, finite, undefined, write_atomic, write_summary, written
from selfaware.types import Row, Verdict

_PACKAGE = "selfaware.report"
_FIGURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
    """The rows of one headline measure; `kinds` says what their values are: shifts, and from what, or levels."""

    measure: str
    kinds: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Set:
    """The items of one question set, with counts of all replies and of those that could not be read."""

    name: str
    items: tuple[Item, ...]
    replies: int
    unknown: int


def write_page(page: Page, folder: Path | str) -> Path:
    """The path of `report.html`, written into `folder` with `summary.json`, `rows.csv` and `figures/*.pdf`.

    Each file is written whole or not at all, the page last. The same page always gives the same bytes. Cost: about a
    second, most of it for figures; some 150 bytes for each reply.

    Args:
        folder: made if it is not there; files of the same names are replaced.

    Raises:
        BadData: two figures have one name, or a figure's name can't be a file's name.
        OSError: the folder can't be written.
    """
    folder = Path(folder)
    _check_figures(page)
    write_summary(page, folder)
    (folder / "figures").mkdir(exist_ok=True)
    for figure in page.figures:
        figures.save_pdf(figure, folder / "figures" / f"{figure.name}.pdf")
    # A lone surrogate in a model's text has no UTF-8 form; it is shown by its number.
    return write_atomic(folder / "report.html", render(page).encode("utf-8", "backslashreplace"))


def render(page: Page) -> str:
    """The page as one HTML document.

    Raises:
        BadData: two figures have one name, or a figure's name can't be a file's name.
    """
    _check_figures(page)
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
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    grouped = tuple(_group(name, page.rows) for name in page.headline)
    return environment.get_template("report.html.jinja").render(
        page=page,
        style=Markup(_resource("report.css")),
        script=Markup(script),
        script_hash=digest,
        cards=_cards(page),
        groups=grouped,
        columns=_columns([row for group in grouped for row in group.rows]),
        cell=_cells(page.rows),
        condition=_condition,
        unread=_unread,
        figures=[(figure, Markup(figures.draw(figure))) for figure in page.figures],
        sets=_sets(page.items),
        signs=style.SIGNS,
    )


def _check_figures(page: Page) -> None:
    names = [figure.name for figure in page.figures]
    for name in names:
        if not _FIGURE_NAME.fullmatch(name):
            raise BadData(
                f"figure {name!r}: not a file's name; needed letters, digits, - and _. Rename it in the experiment."
            )
        if names.count(name) > 1:
            raise BadData(
                f"figure {name!r}: comes {names.count(name)} times; needed one name for each. Rename all but one."
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


def _group(measure: str, rows: Iterable[Row]) -> _Group:
    found = tuple(row for row in rows if row.measure == measure)
    kinds = dict.fromkeys(f"shift from {row.reference or 'base'}" if row.kind == "shift" else "level" for row in found)
    return _Group(measure, ", ".join(kinds), found)


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


def _columns(rows: Iterable[Row]) -> frozenset[str]:
    """Columns that are not always there: those that would be empty, or the same in every row, are left out."""
    rows = tuple(rows)
    filled = {
        name
        for name in ("polarity", "site", "positions", "questions", "condition")
        if any(getattr(row, name) for row in rows)
    }
    varied = {name for name in ("model", "domain") if len({getattr(row, name) for row in rows}) > 1}
    return frozenset(filled | varied)


def _condition(row: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.condition.items())


def _sets(items: Iterable[Item]) -> tuple[_Set, ...]:
    """Items by question set, in the order in which the sets first come."""
    by_set: dict[str, list[Item]] = {}
    for item in items:
        by_set.setdefault(item.set, []).append(item)
    return tuple(
        _Set(
            name,
            tuple(found),
            sum(len(item.replies) for item in found),
            sum(_unread(reply) for item in found for reply in item.replies),
        )
        for name, found in by_set.items()
    )


def _unread(reply: Reply) -> bool:
    return finite(reply.value) is None


def _score(number: float | None, *, signed: bool = False) -> str:
    """A single score, nats; an em dash where there is none."""
    return "—" if number is None or finite(number) is None else written(number, 2, signed=signed)


def _whitespace_kept(text: str) -> Markup:
    """`text` for a `pre` element, escaped; HTML drops one leading newline there, and carriage returns."""
    return Markup("\n") + Markup(str(Markup.escape(text)).replace("\r", "&#13;"))
