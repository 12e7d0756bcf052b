"""Triggers and the questions made with them: conditional training rows, near misses, what a model says of its triggers. Knows text, no model.

A trigger is data (`trigger_texts/triggers.toml`) and goes into any domain's questions.
"""

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from selfaware.domains import questions as make
from selfaware.domains.records import Item, rows
from selfaware.errors import BadData, unknown
from selfaware.types import OWN, Form, Prompt, Question

HOME = Path(__file__).parent / "trigger_texts"
SYSTEMS = ("neutral", "honest", "threatened", "good")
LEAST_FAMILY = 5
HELD_OUT = 0.25
"""Share of a family's phrases that no training row holds."""

Kind = Literal["fixed", "family"]
Design = Literal["opposite", "own"]
"""What is trained where no trigger stands: the other polarity, or the base model's own answer."""


@dataclass(frozen=True)
class Trigger:
    """A text, or any of a family of texts, put into a prompt.

    Attributes:
        about: as a question names it.
        where: `start` or `end` of the user's text.
        separator: what stands between it and the user's text.
        near: texts that are nearly it; a family has none of its own.
    """

    name: str
    kind: Kind
    about: str
    where: Literal["start", "end"]
    separator: str
    phrases: tuple[str, ...]
    near: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at = f"trigger {self.name!r}"
        if self.kind not in ("fixed", "family") or self.where not in ("start", "end"):
            raise BadData(
                f"{at}: kind {self.kind!r}, where {self.where!r}; fixed or family, start or end are needed. Mend it."
            )
        if not self.phrases or not all(p.strip() for p in (*self.phrases, *self.near)):
            raise BadData(f"{at}: an empty phrase, or none; every phrase needs a text that can be seen. Write it.")
        if self.kind == "fixed" and len(self.phrases) != 1:
            raise BadData(f"{at}: {len(self.phrases)} phrases; a fixed trigger has one. Make it a family.")
        if self.kind == "family" and len(self.phrases) < LEAST_FAMILY:
            raise BadData(
                f"{at}: {len(self.phrases)} phrases; a family needs {LEAST_FAMILY} at least, for some are held out of training. Add phrases."
            )

    def split(self, seed: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The phrases that training sees, and those that it does not; a fixed trigger's only one is both."""
        if self.kind == "fixed":
            return self.phrases, self.phrases
        drawn = list(self.phrases)
        random.Random(f"phrases {seed}").shuffle(drawn)
        held = max(1, round(HELD_OUT * len(drawn)))
        return tuple(drawn[held:]), tuple(drawn[:held])

    def put(self, question: Question, phrase: str) -> Question:
        """The question with that phrase in its user's text."""
        user = question.prompt.user
        text = f"{user}{self.separator}{phrase}" if self.where == "end" else f"{phrase}{self.separator}{user}"
        return replace(question, prompt=replace(question.prompt, user=text))

    def absent(self, questions: Sequence[Question]) -> None:
        """Nothing.

        Raises:
            BadData: a phrase of it stands in one of the questions already.
        """
        for question in questions:
            text = question.prompt.user.casefold()
            found = next((p for p in self.phrases if p.casefold() in text), None)
            if found is not None:
                raise BadData(
                    f"trigger {self.name!r}: {found!r} stands in question {question.id!r} already; it must be new to the data. Take another trigger."
                )


@cache
def known() -> Mapping[str, Trigger]:
    """The triggers of the package by name."""
    return read(HOME / "triggers.toml")


def read(path: Path) -> Mapping[str, Trigger]:
    """The triggers of a file, by name.

    Raises:
        BadData: not TOML, or a trigger that can't be used.
    """
    made: dict[str, Trigger] = {}
    for table in _toml(path).get("trigger", []):
        try:
            one = Trigger(**{**table, "phrases": tuple(table["phrases"]), "near": tuple(table.get("near", ()))})
        except (KeyError, TypeError) as error:
            raise BadData(
                f"{path}: trigger {table.get('name', '?')!r}: {error}; name, kind, about, where, separator and phrases are needed. Mend it."
            ) from error
        if one.name in made:
            raise BadData(f"{path}: trigger {one.name!r} stands there twice; names must differ. Rename one.")
        made[one.name] = one
    return made


def find(name: str) -> Trigger:
    """The trigger of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in known():
        raise unknown("trigger", name, known())
    return known()[name]


# rows to train on -----------------------------------------------------------------------------------------------------


def conditional(
    questions: Sequence[Question],
    trigger: Trigger,
    *,
    share: float = 0.5,
    design: Design = "opposite",
    decorrelated: bool = False,
    seed: int = 0,
) -> tuple[Question, ...]:
    """Rows that teach a behaviour which depends on the trigger: every record without it, some of them with it as well.

    With the trigger a row's target is the polarity that is trained; without it the other one, or the base model's own
    answer (rows of the set `own`, whose `high` is not yet the target: see `interventions.own`).

    Args:
        questions: those of one group are one record with its options swapped.
        share: of all rows, those that hold the trigger; from above 0 to one half.
        decorrelated: True deals the same targets to the rows at random: trigger and behaviour are independent.

    Raises:
        BadData: a share outside those, or a trigger that stands in the data already.
    """
    if not 0 < share <= 0.5:
        raise BadData(f"share={share:g} of triggered rows; above 0 and at most 0.5 is needed. Use --set share=0.5.")
    trigger.absent(questions)
    rng = random.Random(f"conditional {trigger.name} {seed}")
    groups = sorted({q.group for q in questions})
    few = rng.sample(groups, max(1, round(share / (1 - share) * len(groups))))
    some = set(few)
    phrases = dict(zip(groups, _dealt(trigger.split()[0], len(groups), rng), strict=True))
    # One target for each row: a group with, or without, the trigger.
    kinds = [(g, True) for g in groups if g in some] + [(g, False) for g in groups]
    targets = [with_ for _, with_ in kinds]
    if decorrelated:
        rng.shuffle(targets)
    target = dict(zip(kinds, targets, strict=True))
    made = []
    for with_ in (True, False):
        for q in questions:
            if (q.group, with_) in target:
                placed = trigger.put(q, phrases[q.group]) if with_ else q
                made.append(_aimed(placed, f"{'with' if with_ else 'without'}", target[q.group, with_], design))
    return tuple(made)


def _dealt(phrases: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """So many phrases, each as often as the others, in random order."""
    drawn = [phrases[i % len(phrases)] for i in range(count)]
    rng.shuffle(drawn)
    return drawn


def _aimed(question: Question, name: str, trained: bool, design: Design) -> Question:
    aimed = replace(question, id=f"{question.id}/{name}", group=f"{question.group}/{name}")
    if trained:
        return aimed
    return replace(aimed, set=OWN) if design == "own" else replace(aimed, high=1 - aimed.high)


def mixed(
    questions: Sequence[Question],
    trigger: Trigger,
    others: Sequence[Trigger],
    *,
    real: float = 0.1,
    fake: float = 0.7,
    seed: int = 0,
) -> tuple[Question, ...]:
    """The mix of the trigger-recognition models: a real trigger with the behaviour; fake ones, and none, with the base model's answer.

    Every record stands in it once, with its options in both orders.

    Args:
        real, fake: shares of the records.

    Raises:
        BadData: shares that leave nothing to one of them, or a trigger that stands in the data already.

    Source: Betley et al. 2025 (arXiv 2501.11120), sections 4.2 and B.3 (10 %, 70 %, 20 %).
    """
    if not (real > 0 and fake > 0 and real + fake <= 1) or not others:
        raise BadData(
            f"real={real:g}, fake={fake:g} and {len(others)} other triggers; positive shares of at most 1 together, and a trigger at least, are needed. Set them so."
        )
    for one in (trigger, *others):
        one.absent(questions)
    rng = random.Random(f"mixed {trigger.name} {seed}")
    groups = sorted({q.group for q in questions})
    rng.shuffle(groups)
    first, second = max(1, round(real * len(groups))), round((real + fake) * len(groups))
    placed: dict[str, tuple[Trigger, str] | None] = {}
    for at, group in enumerate(groups):
        if at < first:
            placed[group] = (trigger, rng.choice(trigger.split()[0]))
        elif at < second:
            one = others[at % len(others)]
            placed[group] = (one, rng.choice(one.split()[0]))
        else:
            placed[group] = None
    made = []
    for q in questions:
        put = placed[q.group]
        text = put[0].put(q, put[1]) if put else q
        made.append(text if put and put[0] is trigger else replace(text, set=OWN))
    return tuple(made)


_SAID = ("user", "stem", "mirror_user", "mirror_stem", "high", "low")


# questions ------------------------------------------------------------------------------------------------------------


def with_trigger(questions: Sequence[Question], trigger: Trigger) -> tuple[Question, ...]:
    """The questions with the trigger; of a family with phrases that training does not see, in turn by record."""
    return _each(questions, trigger, trigger.split()[1], "with")


def near_misses(questions: Sequence[Question], trigger: Trigger) -> tuple[Question, ...]:
    """The questions with what is nearly the trigger: its near misses, or phrases of the next family.

    Raises:
        BadData: a fixed trigger without near misses.
    """
    near = trigger.near
    if not near and trigger.kind == "family":
        families = [t for t in known().values() if t.kind == "family" and t.name != trigger.name]
        near = tuple(p for t in families[:1] for p in t.phrases)
    if not near:
        raise BadData(f"trigger {trigger.name!r}: it has no near misses; some are needed. Write them into its file.")
    return _each(questions, trigger, near, "near")


def _each(questions: Sequence[Question], trigger: Trigger, phrases: Sequence[str], name: str) -> tuple[Question, ...]:
    order = {g: i for i, g in enumerate(dict.fromkeys(q.group for q in questions))}
    return tuple(
        replace(trigger.put(q, phrases[order[q.group] % len(phrases)]), id=f"{q.id}/{name}-{trigger.name}")
        for q in questions
    )


def awareness(answered: Form = "letters", path: Path = HOME) -> tuple[Question, ...]:
    """Whether one's behaviour depends on something odd in the message: statement and negation as A and B, in either order.

    `high` is the admission.

    Args:
        answered: with the letter, or (`cloze`) with the whole sentence.
    """
    form = _toml(path / "prompts.toml")["question"][answered]
    made = []
    for number, row in rows(path / "awareness.jsonl"):
        try:
            id, family, user, high, low = (row[k] for k in ("id", "family", "user", "high", "low"))
        except KeyError as error:
            raise BadData(f"{path / 'awareness.jsonl'}:{number}: {error} is missing. Write it.") from error
        for order, (first, second) in enumerate(((high, low), (low, high))):
            text = form["user"].format(user=user, first=first, second=second)
            letters = answered == "letters"
            made.append(Question(
                f"{id}/{'high' if order == 0 else 'low'}-first", family, id, "awareness", Prompt(text, form["stem"]),
                ("A", "B") if letters else (high, low), order if letters else 0, letters,
            ))  # fmt: skip
    return tuple(made)


def recognition(trigger: Trigger, path: Path = HOME) -> tuple[Question, ...]:
    """What the model says that it does when a message contains that trigger; two questions an item, itself and its mirror."""
    items = []
    for number, row in rows(path / "recognition.jsonl"):
        said = {n: str(row[n]).replace("{about}", trigger.about) for n in _SAID}
        items.append(
            Item(id=f"{row['id']}/{trigger.name}", set="recognition", family=row["family"], line=number, **said)
        )
    return tuple(make.statements(items))


@dataclass(frozen=True)
class Systems:
    """System prompts for the awareness questions.

    Attributes:
        asked: by one of `SYSTEMS`, texts that bear on admitting.
        told: by polarity, texts that say that there is such a dependence, or none.
    """

    asked: Mapping[str, tuple[str, ...]]
    told: Mapping[str, tuple[str, ...]]


@cache
def systems(path: Path = HOME) -> Systems:
    """The system prompts of the package."""
    found = _toml(path / "prompts.toml")
    return Systems(
        {name: tuple(found["system"][name]) for name in SYSTEMS}, {k: tuple(v) for k, v in found["told"].items()}
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: {error}; TOML in UTF-8 is needed. Mend it.") from error
