"""The numbers of a page as files and as text: `summary.json`, `rows.csv`, and how a number is written.

Knows pages and rows. Must not know how anything looks.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NoReturn, get_args

from selfaware.errors import BadData
from selfaware.report.page import Page, Table
from selfaware.types import Kind, Row, Verdict, Verdict3

SCHEMA = 2
COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(Row))

_MAYBE_NUMBERS = frozenset({"value", "low", "high", "detectable"})
_TABLE = tuple(column.name for column in fields(Table))
_COUNTS = frozenset({"n", "seeds", "unknown"})


@dataclass(frozen=True)
class Summary:
    """What `summary.json` holds.

    Attributes:
        experiment: the experiment's name.
        failures: what failed, and why.
    """

    experiment: str
    question: str
    settings: Mapping[str, str]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    environment: Mapping[str, str]
    failures: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...] = ()


# ---------------------------------------------------------------- numbers as text


def finite(number: float | None) -> float | None:
    """`number`, or None where it is not a finite number: what is unknown is not shown as a value."""
    return number if number is not None and math.isfinite(number) else None


def decimals(numbers: Iterable[float | None]) -> int:
    """How many decimals to write numbers with that stand under each other.

    Two, or more where the largest of them is below 0.1, so that it keeps two figures; at most five. One from 100 on.
    """
    largest = max((abs(number) for number in numbers if finite(number) is not None and number is not None), default=1.0)
    if largest >= 100:
        return 1
    return 2 if largest >= 0.1 or largest == 0 else min(5, 1 - math.floor(math.log10(largest)))


def written(number: float, places: int, *, signed: bool) -> str:
    """`number` with `places` decimals and a true minus sign; with a plus sign too where `signed`; zero has none."""
    text = f"{abs(number):.{places}f}"
    if float(text) == 0:
        return text
    return f"−{text}" if number < 0 else f"+{text}" if signed else text


def undefined(value: float | None, low: float | None, high: float | None, why: str) -> str | None:
    """Why an estimate can't be shown as a number, or None where it can.

    A value without a whole interval is not shown either: it could not be read as evidence.
    """
    if finite(value) is None:
        return why.removeprefix("undefined: ") or (
            "no reason was recorded" if value is None else f"the value is {value}"
        )
    if finite(low) is None or finite(high) is None:
        return f"no interval: {why}" if why else "no interval"
    return None


# ---------------------------------------------------------------- writing


def write_atomic(path: Path, content: bytes) -> Path:
    """`path`, now holding `content`: whole or, after a crash, as it was before.

    Raises:
        OSError: the folder can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_summary(page: Page, folder: Path | str) -> Path:
    """The path of `summary.json`, written into `folder` together with `rows.csv`.

    Both hold every field of every row. A number that is not finite becomes null (empty in the CSV), and `why` then
    says what it was. `condition` is JSON text in the CSV.

    Args:
        folder: made if it is not there.

    Raises:
        OSError: the folder can't be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(_clean(row)) for row in page.rows]
    summary = {
        "schema": SCHEMA,
        "experiment": page.name,
        "question": page.question,
        "settings": _mapping(page.settings),
        "rows": rows,
        "verdicts": [asdict(verdict) for verdict in page.verdicts],
        "environment": _mapping(page.environment),
        "failures": [{"what": what, "why": why} for what, why in page.failures],
        "tables": [asdict(table) for table in page.tables],
    }
    text = json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    # A lone surrogate has no UTF-8 form; written with a backslash it is a legal JSON escape that reads back as itself.
    path = write_atomic(folder / "summary.json", text.encode("utf-8", "backslashreplace"))
    write_atomic(folder / "rows.csv", _csv(rows).encode("utf-8", "backslashreplace"))
    return path


def _clean(row: Row) -> Row:
    """`row` with None for numbers that are not finite, and with the reason where the value is one of them."""
    lost = row.value is not None and finite(row.value) is None
    condition = {
        name: str(value) if isinstance(value, float) and finite(value) is None else value
        for name, value in row.condition.items()
    }
    return replace(
        row,
        value=finite(row.value),
        low=finite(row.low),
        high=finite(row.high),
        detectable=finite(row.detectable),
        why=row.why or (f"the value is {row.value}" if lost else ""),
        condition=condition,
    )


def _mapping(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Pairs as a dictionary; a label that comes again is numbered, so that nothing is lost."""
    found: dict[str, str] = {}
    for label, text in pairs:
        name, count = label, 1
        while name in found:
            count += 1
            name = f"{label} ({count})"
        found[name] = text
    return found


def _csv(rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "condition": json.dumps(row["condition"], ensure_ascii=False, allow_nan=False)})
    return text.getvalue()


# ---------------------------------------------------------------- reading


def read_summary(path: Path | str) -> Summary:
    """The summary that `write_summary` wrote, checked field by field.

    Args:
        path: a `summary.json`, or the folder it lies in.

    Raises:
        BadData: the file is missing, is not JSON, holds NaN or Infinity, is of another schema, or lacks something.
    """
    path = Path(path)
    path = path / "summary.json" if path.is_dir() else path

    def broken(got: str, needed: str) -> NoReturn:
        raise BadData(f"{path}: {got}; needed {needed}. Report the experiment again to write a new one.")

    def not_finite(constant: str) -> NoReturn:
        broken(f"holds {constant}", "finite numbers or null")

    try:
        found = json.loads(path.read_bytes().decode("utf-8"), parse_constant=not_finite)
    except OSError as error:
        broken(f"can't be read ({error.strerror})", "a summary.json")
    except ValueError as error:
        broken(f"not JSON in UTF-8 ({error})", "a whole summary.json")

    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else None
        broken(f"schema {schema!r}", f"an object of schema {SCHEMA}")
    shape = {
        "experiment": str, "question": str, "settings": dict, "rows": list, "verdicts": list, "environment": dict,
        "failures": list, "tables": list,
    }  # fmt: skip
    for name, kind in shape.items():
        if not isinstance(found.get(name), kind):
            broken(f"{name!r} is {_shown(found, name)}", f"a {kind.__name__}")
    for name in ("settings", "environment"):
        if not all(isinstance(text, str) for text in found[name].values()):
            broken(f"{name!r} holds something that is not text", "text for each label")

    for number, row in enumerate(found["rows"]):
        problem = _row_problem(row)
        if problem:
            broken(f"row {number}: {problem}", f"the fields {', '.join(COLUMNS)}, each of its type")
    verdict_names = {column.name for column in fields(Verdict)}
    for number, verdict in enumerate(found["verdicts"]):
        if not _all_text(verdict, verdict_names) or verdict["answer"] not in get_args(Verdict3):
            broken(f"verdict {number} is {verdict!r}", f"texts {sorted(verdict_names)}, the answer yes, no or unclear")
    for number, failure in enumerate(found["failures"]):
        if not _all_text(failure, {"what", "why"}):
            broken(f"failure {number} is {failure!r}", "texts 'what' and 'why'")
    for number, table in enumerate(found["tables"]):
        if not _is_table(table):
            broken(f"table {number} is no whole table", f"{', '.join(_TABLE)}, and a text for each column in each row")

    return Summary(
        experiment=found["experiment"],
        question=found["question"],
        settings=found["settings"],
        rows=tuple(Row(**row) for row in found["rows"]),
        verdicts=tuple(Verdict(**verdict) for verdict in found["verdicts"]),
        environment=found["environment"],
        failures=tuple((failure["what"], failure["why"]) for failure in found["failures"]),
        tables=tuple(
            Table(**{**table, "columns": tuple(table["columns"]), "rows": tuple(tuple(row) for row in table["rows"])})
            for table in found["tables"]
        ),
    )


def _shown(found: Mapping[str, object], name: str) -> str:
    return f"a {type(found[name]).__name__}" if name in found else "missing"


def _all_text(found: object, names: set[str]) -> bool:
    return isinstance(found, dict) and set(found) == names and all(isinstance(text, str) for text in found.values())


def _is_table(found: object) -> bool:
    """Whether it is a table as written: texts, and rows as wide as the columns."""
    if not isinstance(found, dict) or set(found) != set(_TABLE):
        return False
    columns, rows = found["columns"], found["rows"]
    if not all(isinstance(found[name], str) for name in ("name", "title", "caption")):
        return False
    return (
        isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(line, list) and len(line) == len(columns) for line in rows)
        and all(isinstance(text, str) for line in (columns, *rows) for text in line)
    )


def _row_problem(row: object) -> str:
    """What is wrong with a row as read, or an empty text."""
    if not isinstance(row, dict):
        return f"is a {type(row).__name__}"
    missing, foreign = set(COLUMNS) - set(row), set(row) - set(COLUMNS)
    if missing or foreign:
        return f"lacks {sorted(missing)} and has unknown {sorted(foreign)}"
    for name, value in row.items():
        if name == "condition":
            good = isinstance(value, dict) and all(isinstance(part, str | int | float) for part in value.values())
        elif name in _MAYBE_NUMBERS:
            good = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        elif name in _COUNTS:
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        elif name == "kind":
            good = value in get_args(Kind)
        else:
            good = isinstance(value, str)
        if not good:
            return f"{name!r} is {value!r}"
    return ""
