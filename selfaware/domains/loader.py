"""A folder → `Domain`: what it says and the questions made of it. Knows folders of text, no model.

A domain's folder holds `domain.toml` (names, split, margins, rules, forms, word lists), `records.jsonl` (one decision a
line) and, where it has them, statements to complete (`self.jsonl`: about oneself, impersonal twins, unrelated ones;
`other_form.jsonl`; `described.jsonl`: self-descriptions to train on) and `spoken.jsonl` (items answered in one's own words).
"""

import hashlib
import random
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from selfaware.domains import codewords
from selfaware.domains import dialogues as talks
from selfaware.domains import questions as make
from selfaware.domains import records as rows
from selfaware.domains.records import SPOKEN, STATEMENTS, Item, Record, Spoken
from selfaware.errors import BadData, UnknownName, unknown
from selfaware.types import FORMS, PARTS, Form, Open, Part, Passage, Question, Sampling

HOME = Path(__file__).parent
SETS = ("choices", *STATEMENTS, "lotteries", *codewords.SETS)
OPEN_SETS = (*SPOKEN, "forecast", "solutions")
ITEM_FILES = ("self.jsonl", "other_form.jsonl", "described.jsonl")
FILES = ("domain.toml", "records.jsonl", "dialogues.jsonl", *ITEM_FILES, "spoken.jsonl", *codewords.FILES)
PRESSURES = ("neutral", "honest", "threatened", "rewarded", "hide")
"""What the system prompts of `[pressed]` do: nothing, ask for honesty, threaten, promise a reward, ask to hide."""


@dataclass(frozen=True)
class Domain:
    """Everything a folder says, and a checksum that changes when any of it does.

    Attributes:
        polarities: what `high` and `low` are called here.
        margins: by measure, the largest effect that still counts as none.
        checksum: hex digits over all of the folder's data files.
        pressed: by one of `PRESSURES`, system prompts that bear on how the model speaks of itself and say nothing of what it is.
        more: by one of `codewords.SETS`, questions about the codewords.
        solutions: how records are answered at length: what `reads` the answers, `samples` and `max_new_tokens` of each, and how many
            records of a topic (`per_topic`).
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
    forms: Mapping[str, Mapping[str, Any]]
    statements: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]]
    records: tuple[Record, ...]
    items: tuple[Item, ...]
    checksum: str
    parts: Mapping[str, Part] = field(repr=False, default_factory=dict)
    spoken: tuple[Spoken, ...] = ()
    told: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forecast: Mapping[str, Any] = field(default_factory=dict)
    lotteries: Mapping[str, Any] = field(default_factory=dict)
    pressed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    more: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    solutions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        """The form in which choices are asked unless another is named."""
        return "cloze" if "cloze" in self.forms else "letters"

    def has(self, set: str) -> bool:
        """Whether there is anything to ask in that set."""
        of_items = {item.set for item in self.items} | {item.set for item in self.spoken}
        of_items |= {name for name, found in self.more.items() if found}
        return set in of_items or {
            "choices": True, "lotteries": bool(self.lotteries), "forecast": bool(self.forecast),
            "solutions": bool(self.solutions),
        }.get(set, False)  # fmt: skip

    def questions(
        self, set: str, part: Part | None = None, form: Form = "cloze", shown: bool = False
    ) -> tuple[Question, ...]:
        """The questions of a set with options: `choices` of one part in a form, `lotteries` in a form, or statements.

        A record gives two questions (either option first), an item two (itself and its mirror), of one group each.

        Args:
            shown: True prints a statement's two completions in its prompt, in either order (four questions an item).

        Raises:
            UnknownName: no such set or form.
            BadData: the set is empty.
        """
        if set not in SETS:
            raise unknown("question set", set, SETS, f"Sampled ones: {', '.join(OPEN_SETS)}.")
        if set == "choices":
            if form not in self.forms:
                raise unknown("form", form, self.forms)
            chosen = (r for r in self.records if part is None or self.parts[r.family] == part)
            made = tuple(make.choices(chosen, form, self.forms[form]))
        elif set == "lotteries" and self.lotteries:
            if form not in self.lotteries:
                raise unknown("form", form, [f for f in FORMS if f in self.lotteries])
            made = tuple(make.choices(make.lotteries(self.lotteries), form, self.lotteries[form], set))
        elif set in codewords.SETS:
            made = self.more.get(set, ())
        else:
            made = tuple(
                make.statements((i for i in self.items if i.set == set), self.statements["shown"] if shown else "")
            )
        return self._some(set, made)

    def sampling(self, set: str, otherwise: Sampling) -> Sampling:
        """How a sampled set is sampled: `solutions` as long and as often as the domain says, another one as given."""
        how = self.solutions
        if set != "solutions" or not how:
            return otherwise
        return replace(otherwise, samples=int(how["samples"]), max_new_tokens=int(how["max_new_tokens"]))

    def opens(self, set: str, part: Part | None = None) -> tuple[Open, ...]:
        """The questions of a sampled set: `spoken`, `spoken-twin`, or `forecast` or `solutions` of one part's records.

        Raises:
            UnknownName: no such set.
            BadData: the set is empty.
        """
        if set not in OPEN_SETS:
            raise unknown("sampled question set", set, OPEN_SETS)
        if set in SPOKEN:
            return self._some(set, tuple(make.opens(item for item in self.spoken if item.set == set)))
        chosen = (r for r in self.records if part is None or self.parts[r.family] == part)
        if set == "solutions":
            found = make.solutions(chosen, self.forms[self.form], self.solutions) if self.solutions else ()
            return self._some(set, tuple(found))
        return self._some(set, tuple(make.forecasts(chosen, self.forecast)) if self.forecast else ())

    def _some(self, set: str, made: tuple[Any, ...]) -> tuple[Any, ...]:
        if not made:
            raise BadData(
                f"domain {self.name}: its question set {set!r} is empty; this needs at least one item. Add some to {self.folder}."
            )
        return made


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

    Args:
        name: of a domain of dialogues it may end in a colon and two codewords, that of the high and that of the low polarity
            (`make_me_say:spring-bark`).

    Raises:
        UnknownName: neither a known name nor a folder with a `domain.toml`.
        BadData: a file that breaks the schema, with its line.
    """
    name, _, pair = name.partition(":")
    folder = HOME / name if name in names() else Path(name).expanduser()
    if not (folder / "domain.toml").is_file():
        if folder.is_dir():
            raise UnknownName(
                f"domain {name!r}: the folder has no domain.toml; a domain needs one. Write it, or name one of {', '.join(names())}."
            )
        raise unknown("domain", name, names(), "A folder's path works too.")
    about = _toml(folder / "domain.toml")
    polarities = dict(about.get("polarities", {}))
    if (folder / "dialogues.jsonl").is_file():
        found = talks.dialogues(folder / "dialogues.jsonl")
        if pair:
            polarities["high"], polarities["low"] = talks.pair(pair, found)
            about["name"] = f"{about.get('name', name)}-{pair}"
        records = talks.records(found, polarities["high"], polarities["low"])
    else:
        records = tuple(rows.records(folder / "records.jsonl"))
    lender = load(about["self_from"]) if about.get("self_from") else None
    items = _unique(chain.from_iterable(rows.items(folder / f) for f in ITEM_FILES if (folder / f).is_file()), folder)
    items = tuple(_named(item, polarities) for item in items)
    spoken = tuple(rows.spoken(folder / "spoken.jsonl")) if (folder / "spoken.jsonl").is_file() else ()
    told = {k: tuple(_filled(text, polarities) for text in v) for k, v in about.get("told", {}).items()}
    if told and (set(told) != {"high", "low"} or len(told["high"]) != len(told["low"])):
        got = ", ".join(f"{len(v)} {k}" for k, v in told.items())
        raise BadData(
            f"{folder / 'domain.toml'}: [told] has {got}; as many high as low ones are needed. Add the missing."
        )
    pressed = _pressed(about.get("pressed", {}), folder / "domain.toml")
    try:
        shares = (float(about["split"]["train"]), float(about["split"]["validation"]))
        return Domain(
            name=about["name"], folder=folder, title=about["title"], claim=about["claim"], source=about["source"],
            polarities=polarities, shares=shares, split_seed=int(about["split"]["seed"]), margins=about["margins"],
            rules=about["rules"], forms={f: about["forms"][f] for f in FORMS if f in about["forms"]},
            statements=about.get("statements") or (lender.statements if lender else {}),
            words={k: tuple(v) for k, v in about["words"].items()}, records=records,
            items=items or (lender.items if lender else ()), checksum=_checksum(folder) + (lender.checksum if lender else ""),
            parts=split(tuple(r.family for r in records), int(about["split"]["seed"]), shares),
            spoken=spoken or (lender.spoken if lender else ()), told=told or (lender.told if lender else {}),
            forecast=about.get("forecast", {}), solutions=about.get("solutions", {}), lotteries=about.get("lotteries") or (lender.lotteries if lender else {}),
            pressed=pressed or (lender.pressed if lender else {}),
            more=codewords.questions(folder, polarities) if (folder / codewords.FILES[0]).is_file() else {},
        )  # fmt: skip
    except KeyError as error:
        raise BadData(
            f"{folder / 'domain.toml'}: the field {error} is missing; a domain needs it. See docs/ADDING.md."
        ) from error


def passages() -> tuple[Passage, ...]:
    """The neutral texts on which damage is measured."""
    return tuple(rows.passages(HOME / "neutral" / "passages.jsonl"))


def _pressed(table: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """The system prompts of `[pressed]`, in the order of `PRESSURES`; none where there is no such table."""
    if not table:
        return {}
    odd = sorted(set(table) ^ set(PRESSURES))
    if odd:
        said = ", ".join(f"{'no ' if name in PRESSURES else ''}{name}" for name in odd)
        raise BadData(f"{path}: [pressed] has {said}; it needs {', '.join(PRESSURES)} and nothing else. Mend it.")
    for name, texts in table.items():
        if not (isinstance(texts, list) and texts and all(isinstance(t, str) and t.strip() for t in texts)):
            raise BadData(f"{path}: [pressed] {name} is {texts!r}; a list of one text or more is needed. Write it.")
    return {name: tuple(table[name]) for name in PRESSURES}


def _filled(text: str, polarities: Mapping[str, str]) -> str:
    """The text with {high} and {low} as the polarities are called."""
    for name, word in polarities.items():
        text = text.replace(f"{{{name}}}", word)
    return text


def _named(item: Item, polarities: Mapping[str, str]) -> Item:
    user, stem, mirror_user, mirror_stem, high, low = (
        _filled(text, polarities)
        for text in (item.user, item.stem, item.mirror_user, item.mirror_stem, item.high, item.low)
    )
    return replace(item, user=user, stem=stem, mirror_user=mirror_user, mirror_stem=mirror_stem, high=high, low=low)


def _unique(items: Iterable[Item], folder: Path) -> tuple[Item, ...]:
    found: dict[str, Item] = {}
    for item in items:
        if item.id in found:
            raise BadData(f"{folder}: id {item.id!r} stands in two files; ids must differ. Rename one.")
        found[item.id] = item
    return tuple(found.values())


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: {error}; TOML in UTF-8 is needed. Mend that line.") from error


def _checksum(folder: Path) -> str:
    total = hashlib.sha256()
    for name in FILES:
        if (folder / name).is_file():
            total.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return total.hexdigest()[:16]
