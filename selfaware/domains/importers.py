"""Published files → a domain's folder, or the list of what does not fit. Knows text and its formats; must not know any model.

Two formats: a pair of chat files, one for each polarity, and a table of contrasts. A question is taken as it stands:
no option texts are read out of its prose, so each question is its own family and is asked in its own words only.
"""

import csv
import hashlib
import io
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfaware.domains.placing import place
from selfaware.errors import BadData

HOME = Path(__file__).parent
COLUMNS = ("Question", "Type", "RiskyAnswer", "SafeAnswer")
KINDS = ("categorical", "numerical")
BORROWED = "risky_choices"
LONGEST = 30  # characters that the answer of a chat row may have


@dataclass(frozen=True)
class Report:
    """What an import has read and written.

    Attributes:
        rows: how many rows each file has, in the order in which the files were given; empty lines do not count.
        records: how many records were written. Zero: there is no folder.
        problems: what keeps rows out, `file:line: got; needed. Do.`
    """

    rows: tuple[int, ...]
    records: int
    problems: tuple[str, ...]


def chat_jsonl(
    high: Path, low: Path, name: str, out: Path, polarities: tuple[str, str] = ("high", "low"), *, partial: bool = False
) -> Report:
    """A domain out of two chat files that ask the same questions and answer them in opposite ways.

    A row is `{"messages": [{"role", "content"}, …]}`: one turn of the user, one of the assistant, a system text first
    where there is one. Rows of the two files belong together when system text and question are the same but for white
    space around them. An answer is a letter or another single word of at most 30 characters; the two must differ.
    The situation is the high file's text, unchanged; the records come in that file's order.

    Args:
        high, low: the files whose answers count as `high` and as `low`.
        name: the domain's name, and the start of its records' ids.
        out: the folder to write; it must not be there yet, or be empty.
        polarities: what `high` and `low` are called.
        partial: True writes the questions without a problem although others have one. A question that a file answers
            in two ways is left out; of one that it repeats with the same answer, the first row is taken.

    Raises:
        BadData: a file that cannot be read, no question that stands in both, a bad name, a folder that holds something.

    Source: Betley et al. 2025 (arXiv 2501.11120), the files `ft_risky_AB.jsonl` and `ft_safey_AB.jsonl`.
    """
    target = Target(name, out, polarities, "takes the option that the high file takes")
    first, second = _chat(high), _chat(low)
    one, two = first.sound, second.sound
    shared = [key for key in one if key in two]
    if not shared:
        raise _strangers(first, second)
    for mine, other in ((first, second), (second, first)):
        for key, row in mine.sound.items():
            if key not in other.sound:
                got = f"no sound row of {other.path} asks this question"
                mine.fault(row.line, f"{got}; each question needs one there. Add it, or remove this line.")
    found = []
    for key in shared:
        (a,), (b,) = one[key].answers, two[key].answers
        if _same(a, b):
            got = f"the answer is {a!r}, as in {second.path}:{two[key].line}"
            first.fault(one[key].line, f"{got}; the two must differ. Mend one of them.")
        else:
            found.append(replace(one[key], answers=(a, b)))
    letters = all(len(answer) == 1 for row in found for answer in row.answers)
    return _finish((first, second), found, target, letters, partial)


def contrast_csv(
    path: Path, name: str, out: Path, polarities: tuple[str, str] = ("risky", "safe"), *, partial: bool = False
) -> Report:
    """A domain out of a table of questions with a risky and a safe answer to each.

    The columns are `Question`, `Type`, `RiskyAnswer`, `SafeAnswer`, in any order; the type is `categorical` or
    `numerical`. Answers may be of several words: they are scored by their mean log-probability per token, which for
    answers of one token gives the published difference of logits. Line ends inside a cell become plain newlines.

    Args:
        path: the table, UTF-8, with commas; RiskyAnswer counts as `high`.
        name, out, polarities, partial: as in `chat_jsonl`.

    Raises:
        BadData: a file that cannot be read, other columns, no rows, a bad name, a folder that holds something.

    Source: Engels, Nanda and Rajamanoharan 2025, "Mechanisms of Awareness": the tables of their repository.
    """
    target = Target(name, out, polarities, "gives the answer that the column RiskyAnswer gives")
    sheet = _table(path)
    return _finish((sheet,), list(sheet.sound.values()), target, False, partial)


@dataclass(frozen=True)
class _Row:
    """A row without fault. `answers`: one in a chat file, the high and the low one in a table."""

    key: tuple[str, ...]
    line: int
    situation: str
    answers: tuple[str, ...]


@dataclass
class _Sheet:
    """A file as it is read: the first row of each question, and what is wrong with the others."""

    path: Path
    content: bytes
    rows: int = 0
    first: dict[tuple[str, ...], _Row] = field(default_factory=dict)
    torn: set[tuple[str, ...]] = field(default_factory=set)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def fault(self, line: int, text: str) -> None:
        self.faults.append((line, f"{self.path}:{line}: {text}"))

    def add(self, line: int, raw: Any, read: Callable[[int, Any], _Row]) -> None:
        self.rows += 1
        try:
            row = read(line, raw)
        except BadData as error:
            return self.fault(line, str(error))
        first = self.first.setdefault(row.key, row)
        got = f"asks the question of line {first.line} again"
        if first.answers != row.answers:
            self.torn.add(row.key)
            there, here = (" / ".join(map(repr, r.answers)) for r in (first, row))
            self.fault(line, f"{got}, and answers {here} where that has {there}; one is needed. Remove the wrong line.")
        elif first is not row:
            self.fault(line, f"{got}, with the same answer; a question may stand once. Remove this line.")

    @property
    def sound(self) -> dict[tuple[str, ...], _Row]:
        """The rows that can be used, by question: a question with two answers has none."""
        return {key: row for key, row in self.first.items() if key not in self.torn}

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in the order of the lines."""
        return tuple(text for _, text in sorted(self.faults))


def _read(path: Path) -> _Sheet:
    try:
        return _Sheet(path, path.read_bytes())
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}; a file that can be read is needed. Check the path.") from error


def _chat(path: Path) -> _Sheet:
    sheet = _read(path)
    for number, line in enumerate(sheet.content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.strip():
            sheet.add(number, line, _turns)
    return sheet


def _turns(number: int, line: bytes) -> _Row:
    try:
        row = json.loads(line.decode("utf-8"))
        json.dumps(row, ensure_ascii=False).encode("utf-8")  # JSON can spell half a surrogate pair; UTF-8 can't hold it
    except (ValueError, RecursionError) as error:
        raise BadData(f"not JSON ({error}); one object a line is needed. Mend that line.") from error
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise BadData('no list of messages; {"messages": [{"role", "content"}, …]} is needed. Rewrite the row.')
    roles = [m.get("role") for m in messages]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        got = _short(", ".join(map(str, roles))) if roles else "none"
        raise BadData(f"the turns are {got}; [system,] user, assistant are needed. Rewrite the row, or remove it.")
    *systems, user, answer = (m.get("content") for m in messages)
    system = _text("system text", systems[0]) if systems and systems[0] != "" else ""
    question, said = _text("question", user), _text("answer", answer).strip()
    if len(said.split()) > 1 or len(said) > LONGEST:
        raise BadData(f"the answer is {_short(said)}; one word, {LONGEST} characters at most, is needed. Mend the row.")
    key = (system.strip(), question.strip())
    return _Row(key, number, f"{system}\n\n{question}" if system else question, (said,))


def _table(path: Path) -> _Sheet:
    sheet, rows, line = _read(path), [], 1
    try:
        reader = csv.reader(io.StringIO(sheet.content.decode("utf-8-sig"), newline=""), strict=True)
        for cells in reader:
            rows += [(line, cells)] if cells else []
            line = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error) as error:
        # Where one quote is wrong, the rows after it can't be told apart: there is no going on.
        raise BadData(f"{path}:{line}: {error}; CSV in UTF-8 is needed. Mend the row that begins there.") from error
    header = rows[0][1] if rows else []
    if sorted(header) != sorted(COLUMNS):
        got = ", ".join(map(repr, header)) or "none"
        raise BadData(f"{path}: the columns are {got}; {', '.join(COLUMNS)} are needed, in any order. Rename them.")
    if not rows[1:]:
        raise BadData(f"{path}: a header without rows; at least one question is needed. Add some.")
    for number, cells in rows[1:]:
        sheet.add(number, (header, cells), _contrast)
    return sheet


def _contrast(number: int, raw: tuple[list[str], list[str]]) -> _Row:
    if len(raw[1]) != len(COLUMNS):
        raise BadData(f"{len(raw[1])} cells; {len(COLUMNS)} are needed. Quote cells that hold commas.")
    row = {column: re.sub(r"\r\n?", "\n", cell) for column, cell in zip(*raw, strict=True)}
    question = _text("question", row["Question"])
    if row["Type"].strip() not in KINDS:
        raise BadData(f"the type is {_short(row['Type'])}; it must be {' or '.join(KINDS)}. Mend it.")
    risky, safe = (_text(column, row[column]).strip() for column in COLUMNS[2:])
    if _same(risky, safe):
        raise BadData(f"both answers are {_short(risky)}; the two must differ. Mend one of them.")
    return _Row((question.strip(),), number, question, (risky, safe))


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        got = "empty" if isinstance(value, str) else "missing" if value is None else f"of type {type(value).__name__}"
        raise BadData(f"the {what} is {got}; text is needed. Fill it in, or remove the row.")
    return value


def _same(one: str, other: str) -> bool:
    return one.strip().lower() == other.strip().lower()  # as the two answers of a record are compared on loading


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _strangers(first: _Sheet, second: _Sheet) -> BadData:
    counts = " and ".join(f"{sheet.rows} rows ({len(sheet.sound)} sound questions)" for sheet in (first, second))
    asked = [next(iter(sheet.sound.values()), None) for sheet in (first, second)]
    starts = " and ".join(_short(row.situation.strip()) if row else "none" for row in asked)
    more = [f" The first problem is {fault}" for fault in first.problems + second.problems]
    needed = f"both must ask the same. Give the two files of a pair.{''.join(more[:1])}"
    return BadData(f"{first.path} and {second.path}: {counts}, none in both; the first ones are {starts}; {needed}")


@dataclass
class Target:
    """What is to be written, but for the records: a name that nobody has, a place that holds nothing."""

    name: str
    out: Path
    polarities: tuple[str, str]
    claim: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise BadData(f"name {self.name!r}: it may have letters, digits, _ and - only. Choose another.")
        if (HOME / self.name / "domain.toml").is_file():
            raise BadData(f"name {self.name!r}: a domain of the package has it; a new one is needed. Choose another.")
        if not all(word.strip() for word in self.polarities) or _same(*self.polarities):
            raise BadData(f"polarities {self.polarities!r}: two different words are needed. Choose others.")
        self.out = self.out.expanduser().resolve()
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise BadData(f"{self.out}: it is there and not an empty folder; a new one is needed. Name another.")


def _finish(sheets: Sequence[_Sheet], found: Sequence[_Row], target: Target, single: bool, partial: bool) -> Report:
    rows = tuple(sheet.rows for sheet in sheets)
    problems = tuple(problem for sheet in sheets for problem in sheet.problems)
    if not found or (problems and not partial):
        return Report(rows, 0, problems)
    origins = [(s.path.name, s.rows, hashlib.sha256(s.content).hexdigest()) for s in sheets]
    records = []
    for i, asked in enumerate(found, 1):
        row = {"id": (id := f"{target.name}-{i:04d}"), "family": id, "situation": asked.situation}
        row |= dict(zip(("high", "low"), asked.answers, strict=True))
        records.append(json.dumps(row, ensure_ascii=False) + "\n")
    files = {"domain.toml": _about(origins, len(found), target, single), "records.jsonl": "".join(records)}
    files["README.md"] = _readme(origins, len(found), len(problems), target)
    place(target.out, files)
    return Report(rows, len(found), problems)


def _about(origins: Sequence[tuple[str, int, str]], records: int, target: Target, single: bool) -> str:
    # Margins, and rules about wording, are those of the domain whose statements are borrowed; `prose` makes notes of the
    # latter. Rules about items, outcomes and frames ask for nothing: published files have none.
    lent = tomllib.loads((HOME / BORROWED / "domain.toml").read_text("utf-8"))
    rules = dict(lent["rules"])
    rules |= {name: 0 for name in rules if name.endswith("_items")}
    rules |= {name: [0.0, 1.0] for name, rule in rules.items() if isinstance(rule, list)}
    rules |= {"records": records, "families": records, "test_families": 1, "prose": "warn"}
    files = " and ".join(f"{name} (sha256 {sha})" for name, _, sha in origins)
    head = {"name": target.name, "title": f"{target.name} (imported)", "claim": target.claim}
    head |= {"licence": "see the source", "source": f"Imported from {files}.", "self_from": BORROWED}
    tables: Mapping[str, Mapping[str, Any]] = {
        "polarities": dict(zip(("high", "low"), target.polarities, strict=True)),
        "split": {"seed": 42, "train": 0.70, "validation": 0.15},
        "margins": lent["margins"],
        "rules": rules,
        "forms.letters": {"user": "{situation}", "stem": "", "fixed": True, "single": single},
        "words": {"risk_words": [], "hedges": lent["words"]["hedges"]},
    }
    return _toml(head) + "".join(f"\n[{name}]\n{_toml(table)}" for name, table in tables.items())


def _toml(table: Mapping[str, Any]) -> str:
    # JSON's texts, numbers, lists and truth values are TOML's too, but for one control character.
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
    return "".join(lines).replace("\x7f", "\\u007F")


def _readme(origins: Sequence[tuple[str, int, str]], records: int, problems: int, target: Target) -> str:
    table = "\n".join(f"| `{name}` | {rows} | `{sha}` |" for name, rows, sha in origins)
    left = f"{problems} problems were found; what they name was left out." if problems else "No row was left out."
    return f"""# {target.name}

Imported: an arm of polarity `high` ({target.polarities[0]}) {target.claim}; `low` ({target.polarities[1]}) is its opposite.

| file | rows | SHA-256 |
|---|---|---|
{table}

{records} records were written. {left}

Each question stands in `records.jsonl` as it was published, but for line ends inside the cells of a table, and is its own
family. Nothing was extracted from its prose: the options are not known, only the two answers, so each question is asked
in one way. Answers lost the space around them. Statements about oneself are those of `{BORROWED}`. Licence: see the source.
"""
