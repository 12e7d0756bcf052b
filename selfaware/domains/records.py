"""The rows of a domain's files: decisions, statements, open items, with their schema. Knows one file at a time, no model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfaware.errors import BadData
from selfaware.types import READS, Passage, Reads

STATEMENTS = ("self", "twin", "unrelated", "other_form", "described")
SPOKEN = ("spoken", "spoken-twin")
PARAPHRASES = 5
"""Fewest ways in which an open item is asked."""


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
    """One decision: a situation with an option of either polarity. `line` is where it stands in its file.

    Attributes:
        start: the beginning of the reply, which the options go on from; empty where the form gives it.
        group: records of one group share text on purpose (turns of one dialogue); empty for itself.
    """

    id: str
    family: str
    situation: str
    high: str
    low: str
    frame: str = ""
    outcomes: Outcomes | None = None
    line: int = 0
    start: str = ""
    group: str = ""


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
class Spoken:
    """One item that is answered in the model's own words, in several paraphrases.

    Attributes:
        prompts, mirror_prompts: paraphrases; the mirror's are there for numbers alone, which there mean the opposite.
        high, low: words, or language codes, that count as 1 and as 0; empty for numbers.
    """

    id: str
    set: str
    family: str
    reads: Reads
    prompts: tuple[str, ...]
    mirror_prompts: tuple[str, ...]
    stem: str
    high: tuple[str, ...]
    low: tuple[str, ...]
    line: int = 0


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


def records(path: Path) -> Iterator[Record]:
    """The decisions of a file.

    Raises:
        BadData: a row that breaks the schema.
    """
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
            str(row.get("start", "")),
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


def items(path: Path) -> Iterator[Item]:
    """The statements of a file, each with its mirror.

    Raises:
        BadData: a row that breaks the schema.
    """
    seen: dict[str, int] = {}
    for number, row in rows(path):
        names = ("id", "set", "family", "user", "stem", "mirror_user", "mirror_stem", "high", "low")
        item = Item(**dict(zip(names, _text(path, number, row, *names), strict=True)), line=number)
        if item.set not in STATEMENTS:
            raise BadData(f"{path}:{number}: set {item.set!r}; it must be one of {', '.join(STATEMENTS)}. Mend it.")
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


def spoken(path: Path) -> Iterator[Spoken]:
    """The open items of a file.

    Raises:
        BadData: a row that breaks the schema: a single paraphrase, a number without its mirror, English as one of two
            languages, lists that share a word.
    """
    seen: dict[str, int] = {}
    for number, row in rows(path):
        at = f"{path}:{number}"
        id, set, family, reads = _text(path, number, row, "id", "set", "family", "reads")
        if set not in SPOKEN:
            raise BadData(f"{at}: set {set!r}; it must be one of {', '.join(SPOKEN)}. Mend it.")
        known = tuple(r for r in READS if r != "code")  # code goes on from a record's start
        if reads not in known:
            raise BadData(f"{at}: reads {reads!r}; it must be one of {', '.join(known)}. Mend it.")
        if id in seen:
            raise BadData(f"{at}: id {id!r} stands in line {seen[id]} too; ids must differ. Rename one.")
        lists = {name: _texts(at, row, name) for name in ("prompts", "mirror_prompts", "high", "low")}
        if len(lists["prompts"]) < PARAPHRASES:
            raise BadData(f"{at}: {len(lists['prompts'])} paraphrases of {id}; {PARAPHRASES} are needed. Write more.")
        if reads == "number" and len(lists["mirror_prompts"]) < PARAPHRASES:
            got = f"a scale with {len(lists['mirror_prompts'])} paraphrases of its mirror"
            raise BadData(
                f"{at}: {got}; {PARAPHRASES} are needed, in which 100 means the opposite. Write mirror_prompts."
            )
        if reads != "number" and (lists["mirror_prompts"] or not lists["high"] or not lists["low"]):
            raise BadData(f"{at}: {id} reads a {reads}; it needs high and low lists and no mirror_prompts. Mend it.")
        both = {x.casefold() for x in lists["high"]} & {x.casefold() for x in lists["low"]}
        if both:
            raise BadData(
                f"{at}: {', '.join(sorted(both))} stands in high and in low; it must be one. Remove it from one."
            )
        if reads == "language" and "en" in (*lists["high"], *lists["low"]):
            raise BadData(f"{at}: English is one of the two languages; a model answers in it anyway. Take another.")
        for name in ("prompts", "mirror_prompts"):
            if len({x.casefold() for x in lists[name]}) < len(lists[name]):
                raise BadData(f"{at}: two {name} of {id} are the same; paraphrases must differ. Rewrite one.")
        seen[id] = number
        yield Spoken(
            id, set, family, reads, lists["prompts"], lists["mirror_prompts"], str(row.get("stem", "")),
            lists["high"], lists["low"], number,
        )  # fmt: skip


def passages(path: Path) -> Iterator[Passage]:
    """The neutral texts of a file.

    Raises:
        BadData: a row that breaks the schema.
    """
    for number, row in rows(path):
        id, family, text = _text(path, number, row, "id", "family", "text")
        yield Passage(id, family, text)


def _texts(at: str, row: dict[str, Any], name: str) -> tuple[str, ...]:
    value = row.get(name, [])
    if not isinstance(value, list) or not all(isinstance(x, str) and x.strip() for x in value):
        raise BadData(f"{at}: field {name!r} holds {value!r}; a list of texts is needed. Fill it in.")
    return tuple(value)
