"""A folder → `Domain`: records, items, and the questions made of them. Knows text and its schema, no model.

A domain's folder holds `domain.toml` (names, split, margins, rules, forms, word lists), `records.jsonl` (one decision a
line) and, where it has them, `self.jsonl` (items about oneself, their impersonal twins, unrelated ones).
"""

import hashlib
import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfaware.errors import BadData, UnknownName, unknown
from selfaware.types import FORMS, PARTS, Form, Part, Prompt, Question

HOME = Path(__file__).parent
SETS = ("choices", "self", "twin", "unrelated")


@dataclass(frozen=True)
class Outcomes:
    """What each option brings: pairs of probability and amount in `unit`; larger is better, costs are negative."""

    unit: str
    high: tuple[tuple[float, float], ...]
    low: tuple[tuple[float, float], ...]

    def expected(self) -> tuple[float, float]:
        """Expected value of the high and of the low option, in `unit`."""
        return _mean(self.high), _mean(self.low)

    def variance(self) -> tuple[float, float]:
        """Variance of the high and of the low option, in `unit` squared."""
        return tuple(_mean(tuple((p, (x - _mean(o)) ** 2) for p, x in o)) for o in (self.high, self.low))  # type: ignore[return-value]


def _mean(option: tuple[tuple[float, float], ...]) -> float:
    return sum(p * x for p, x in option)


@dataclass(frozen=True)
class Record:
    """One decision: a situation with an option of either polarity. `line` is where it stands in its file."""

    id: str
    family: str
    situation: str
    high: str
    low: str
    frame: str = ""
    outcomes: Outcomes | None = None
    line: int = 0


@dataclass(frozen=True)
class Item:
    """One statement to complete and its mirror, in which the same completions mean the opposite."""

    id: str
    set: str
    family: str
    user: str
    stem: str
    mirror_user: str
    mirror_stem: str
    high: str
    low: str
    line: int = 0


@dataclass(frozen=True)
class Domain:
    """Everything a folder says, and a checksum that changes when any of it does.

    Attributes:
        polarities: what `high` and `low` are called here.
        margins: by measure, the largest effect that still counts as none.
        checksum: hex digits over all of the folder's data files.
    """

    name: str
    folder: Path
    title: str
    claim: str
    source: str
    polarities: Mapping[str, str]
    shares: tuple[float, float]
    split_seed: int
    margins: Mapping[str, float]
    rules: Mapping[str, Any]
    forms: Mapping[str, Mapping[str, str]]
    statements: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]]
    records: tuple[Record, ...]
    items: tuple[Item, ...]
    checksum: str
    parts: Mapping[str, Part] = field(repr=False, default_factory=dict)

    def questions(
        self, set: str, part: Part | None = None, form: Form = "cloze", shown: bool = False
    ) -> tuple[Question, ...]:
        """The questions of a set: `choices` of one part in a form, or `self`, `twin`, `unrelated` statements.

        A record gives two questions (either option first), an item two (itself and its mirror), of one group each.

        Args:
            shown: True prints a statement's two completions in its prompt, in either order (four questions an item).

        Raises:
            UnknownName: no such set or form.
            BadData: the set is empty.
        """
        if set not in SETS:
            raise unknown("question set", set, SETS)
        if form not in self.forms:
            raise unknown("form", form, self.forms)
        made = tuple(self._choices(part, form) if set == "choices" else self._statements(set, shown))
        if not made:
            raise BadData(
                f"domain {self.name}: its question set {set!r} is empty; this needs at least one item. Add some to {self.folder}."
            )
        return made

    def _choices(self, part: Part | None, form: Form) -> Iterator[Question]:
        template = self.forms[form]
        for record in self.records:
            if part is not None and self.parts[record.family] != part:
                continue
            for order, (first, second) in enumerate(((record.high, record.low), (record.low, record.high))):
                user = template["user"].format(situation=record.situation, first=first, second=second)
                options = (record.high, record.low) if form == "cloze" else ("A", "B")
                high = 0 if form == "cloze" else order
                yield Question(
                    f"{record.id}/{'high' if order == 0 else 'low'}-first", record.family, record.id, "choices",
                    Prompt(user, template["stem"]), options, high, form == "letters",
                )  # fmt: skip

    def _statements(self, set: str, shown: bool) -> Iterator[Question]:
        template = self.statements["shown"] if shown else "{user}"
        for item in self.items:
            if item.set != set:
                continue
            for name, user, stem, high in (
                ("plain", item.user, item.stem, 0),
                ("mirror", item.mirror_user, item.mirror_stem, 1),
            ):
                orders = ((item.high, item.low), (item.low, item.high)) if shown else ((item.high, item.low),)
                for order, (first, second) in enumerate(orders):
                    id = f"{item.id}/{name}" + (f"/{'high' if order == 0 else 'low'}-first" if shown else "")
                    asked = template.format(user=user, first=first, second=second)
                    yield Question(id, item.family, item.id, set, Prompt(asked, stem), (item.high, item.low), high)


def split(families: tuple[str, ...], seed: int, shares: tuple[float, float]) -> dict[str, Part]:
    """Which part each family belongs to: sorted, shuffled with `seed`, cut at the shares of train and validation."""
    names = sorted(set(families))
    random.Random(seed).shuffle(names)
    ends = [round(shares[0] * len(names)), round((shares[0] + shares[1]) * len(names))]
    return {name: PARTS[(i >= ends[0]) + (i >= ends[1])] for i, name in enumerate(names)}


def names() -> tuple[str, ...]:
    """Names of the domains in the package."""
    return tuple(sorted(p.parent.name for p in HOME.glob("*/domain.toml")))


def load(name: str) -> Domain:
    """The domain of that name, or the one in the folder of that path.

    Raises:
        UnknownName: neither a known name nor a folder with a `domain.toml`.
        BadData: a file that breaks the schema, with its line.
    """
    folder = HOME / name if name in names() else Path(name).expanduser()
    if not (folder / "domain.toml").is_file():
        if folder.is_dir():
            raise UnknownName(
                f"domain {name!r}: the folder has no domain.toml; a domain needs one. Write it, or name one of {', '.join(names())}."
            )
        raise unknown("domain", name, names(), "A folder's path works too.")
    about = _toml(folder / "domain.toml")
    records = tuple(_records(folder / "records.jsonl"))
    items = tuple(_items(folder / "self.jsonl")) if (folder / "self.jsonl").is_file() else ()
    try:
        shares = (float(about["split"]["train"]), float(about["split"]["validation"]))
        return Domain(
            name=about["name"], folder=folder, title=about["title"], claim=about["claim"], source=about["source"],
            polarities=about["polarities"], shares=shares, split_seed=int(about["split"]["seed"]), margins=about["margins"],
            rules=about["rules"], forms={f: about["forms"][f] for f in FORMS if f in about["forms"]},
            statements=about.get("statements", {}), words={k: tuple(v) for k, v in about["words"].items()}, records=records, items=items, checksum=_checksum(folder),
            parts=split(tuple(r.family for r in records), int(about["split"]["seed"]), shares),
        )  # fmt: skip
    except KeyError as error:
        raise BadData(
            f"{folder / 'domain.toml'}: the field {error} is missing; a domain needs it. See docs/ADDING.md."
        ) from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: {error}; TOML in UTF-8 is needed. Mend that line.") from error


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file of one object a line, with line numbers from 1; empty lines are passed over.

    Raises:
        BadData: a missing file, or a line that is not a JSON object (file and line number).
    """
    if not path.is_file():
        raise BadData(f"{path}: there is no such file; a domain needs it. Write one JSON object a line.")
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise BadData(
                f"{path}:{number}: not JSON ({error}); one object a line is needed. Mend that line."
            ) from error
        if not isinstance(row, dict):
            raise BadData(f"{path}:{number}: a JSON {type(row).__name__}; an object is needed. Mend that line.")
        yield number, row


def _text(path: Path, number: int, row: dict[str, Any], *fields: str) -> list[str]:
    for name in fields:
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            got = "nothing" if value is None else "an empty text" if isinstance(value, str) else type(value).__name__
            raise BadData(f"{path}:{number}: field {name!r} holds {got}; text is needed. Fill it in.")
    return [row[name] for name in fields]


def _records(path: Path) -> Iterator[Record]:
    seen: dict[str, int] = {}
    for number, row in rows(path):
        id, family, situation, high, low = _text(path, number, row, "id", "family", "situation", "high", "low")
        if id in seen:
            raise BadData(f"{path}:{number}: id {id!r} stands in line {seen[id]} too; ids must differ. Rename one.")
        if high.strip().lower() == low.strip().lower():
            raise BadData(
                f"{path}:{number}: both polarities have the same answer {high!r}; they must differ. Rewrite one."
            )
        seen[id] = number
        yield Record(
            id,
            family,
            situation,
            high,
            low,
            str(row.get("frame", "")),
            _outcomes(path, number, row.get("outcomes")),
            number,
        )
    if not seen:
        raise BadData(f"{path}: got no records; a domain needs some. Write one JSON object a line.")


def _outcomes(path: Path, number: int, row: Any) -> Outcomes | None:
    if row is None:
        return None
    try:
        sides = [tuple((float(p), float(x)) for p, x in row[k]) for k in ("high", "low")]
        unit = str(row["unit"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(
            f"{path}:{number}: outcomes {row!r} ({error}); they need unit, high and low as [probability, amount] pairs. Mend them."
        ) from error
    for side in sides:
        if abs(sum(p for p, _ in side) - 1) > 1e-6:
            raise BadData(
                f"{path}:{number}: probabilities sum to {sum(p for p, _ in side):g}; they must sum to 1. Mend them."
            )
    return Outcomes(unit, sides[0], sides[1])


def _items(path: Path) -> Iterator[Item]:
    seen: dict[str, int] = {}
    for number, row in rows(path):
        names = ("id", "set", "family", "user", "stem", "mirror_user", "mirror_stem", "high", "low")
        item = Item(**dict(zip(names, _text(path, number, row, *names), strict=True)), line=number)
        if item.set not in SETS[1:]:
            raise BadData(f"{path}:{number}: set {item.set!r}; it must be one of {', '.join(SETS[1:])}. Mend it.")
        if item.id in seen:
            raise BadData(
                f"{path}:{number}: id {item.id!r} stands in line {seen[item.id]} too; ids must differ. Rename one."
            )
        if item.high == item.low:
            raise BadData(f"{path}:{number}: both answers are {item.high!r}; they must differ. Rewrite one.")
        if (item.user, item.stem) == (item.mirror_user, item.mirror_stem):
            raise BadData(f"{path}:{number}: the mirror is the item itself; it must ask for the opposite. Rewrite it.")
        seen[item.id] = number
        yield item


def _checksum(folder: Path) -> str:
    total = hashlib.sha256()
    for name in ("domain.toml", "records.jsonl", "self.jsonl"):
        if (folder / name).is_file():
            total.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return total.hexdigest()[:16]
