"""Rows and prompt templates → questions, in every form and order. Knows texts and templates, no file and no model."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from selfaware.domains.records import Item, Record, Spoken
from selfaware.types import Form, Open, Prompt, Question

Asked = TypeVar("Asked", Question, Open)


def choices(
    records: Iterable[Record], form: Form, template: Mapping[str, Any], set: str = "choices"
) -> Iterator[Question]:
    """Two questions a record, either option first. A template that is `fixed` holds its options in the text: one question.

    Args:
        template: `user` with {situation}, {first}, {second}, and `stem`; for imported texts `fixed`, and `single` where the
            answers are letters.
    """
    for record in records:
        if template.get("fixed"):
            options = (record.high, record.low)
            stem = template["stem"].replace("{start}", record.start)
            prompt = Prompt(template["user"].replace("{situation}", record.situation), stem)
            yield Question(record.id, record.family, record.id, set, prompt, options, 0, bool(template.get("single")))
            continue
        for order, (first, second) in enumerate(((record.high, record.low), (record.low, record.high))):
            user = template["user"].format(situation=record.situation, first=first, second=second)
            options = (record.high, record.low) if form == "cloze" else ("A", "B")
            high = 0 if form == "cloze" else order
            id = f"{record.id}/{'high' if order == 0 else 'low'}-first"
            yield Question(
                id, record.family, record.id, set, Prompt(user, template["stem"]), options, high, form == "letters"
            )


def statements(items: Iterable[Item], shown: str = "") -> Iterator[Question]:
    """Two questions an item, itself and its mirror.

    Args:
        shown: a template with {user}, {first}, {second} that prints both completions, in either order: four questions.
    """
    for item in items:
        for name, user, stem, high in (
            ("plain", item.user, item.stem, 0),
            ("mirror", item.mirror_user, item.mirror_stem, 1),
        ):
            orders = ((item.high, item.low), (item.low, item.high)) if shown else ((item.high, item.low),)
            for order, (first, second) in enumerate(orders):
                id = f"{item.id}/{name}" + (f"/{'high' if order == 0 else 'low'}-first" if shown else "")
                asked = (shown or "{user}").format(user=user, first=first, second=second)
                yield Question(id, item.family, item.id, item.set, Prompt(asked, stem), (item.high, item.low), high)


def opens(items: Iterable[Spoken]) -> Iterator[Open]:
    """One open question for each paraphrase of each item, and of its mirror."""
    for item in items:
        for name, prompts in (("plain", item.prompts), ("mirror", item.mirror_prompts)):
            for at, user in enumerate(prompts, 1):
                yield Open(
                    f"{item.id}/{name}-{at}", item.family, item.id, item.set, Prompt(user, item.stem), item.reads,
                    item.high, item.low, name == "mirror",
                )  # fmt: skip


def forecasts(records: Iterable[Record], template: Mapping[str, Any]) -> Iterator[Open]:
    """Two open questions a record: how often out of 100 it would take the high option, and (the mirror) the low one.

    Args:
        template: `users`, paraphrases with {situation}, {first}, {second}, {asked}, taken in turn; `stem`.
    """
    users = template["users"]
    for at, record in enumerate(records):
        orders = ((record.high, record.low), (record.low, record.high))
        for mirror, asked in enumerate((record.high, record.low)):
            first, second = orders[at % 2]
            user = users[at % len(users)].format(situation=record.situation, first=first, second=second, asked=asked)
            id = f"{record.id}/{'low' if mirror else 'high'}"
            prompt = Prompt(user, template.get("stem", ""))
            yield Open(id, record.family, record.id, "forecast", prompt, "number", mirror=bool(mirror))


def solutions(records: Iterable[Record], form: Mapping[str, Any], how: Mapping[str, Any]) -> Iterator[Open]:
    """One open question for each of the first records of a topic: the same prompt, answered at length.

    Args:
        form: as the records' choices are asked.
        how: what `reads` the answers, and `per_topic`.
    """
    met: Counter[str] = Counter()
    for record in records:
        met[record.family] += 1
        if met[record.family] <= int(how.get("per_topic", 1)):
            prompt = Prompt(
                form["user"].replace("{situation}", record.situation), form["stem"].replace("{start}", record.start)
            )
            yield Open(record.id, record.family, record.id, "solutions", prompt, how["reads"])


def lotteries(settings: Mapping[str, Any]) -> tuple[Record, ...]:
    """Seeded pairs of lotteries, each its own family: no wording to go by.

    Of four distinct whole amounts the outer two are the high (risky) lottery, the inner two the low one; either
    option's chances are drawn from 1 to 99 per cent, so that either may be worth more.

    Args:
        settings: `number`, `seed`, `low` and `high` (ends of the amounts, inclusive), `option` with {p}, {q}, {a}, {b}.

    Source: Betley et al. 2025 (arXiv 2501.11120), appendix C.1.9.
    """
    rng = random.Random(int(settings["seed"]))
    made = []
    for number in range(1, int(settings["number"]) + 1):
        a, b, c, d = sorted(rng.sample(range(int(settings["low"]), int(settings["high"]) + 1), 4))
        texts = []
        for pair in ([a, d], [b, c]):
            rng.shuffle(pair)
            p = rng.randint(1, 99)
            texts.append(settings["option"].format(p=p, q=100 - p, a=pair[0], b=pair[1], unit=settings.get("unit", "")))
        id = f"lottery-{number:03}"
        made.append(Record(id, id, "", texts[0], texts[1]))
    return tuple(made)


def told(questions: Sequence[Asked], system: str) -> tuple[Asked, ...]:
    """The same questions under that system prompt."""
    return tuple(replace(q, prompt=replace(q.prompt, system=system)) for q in questions)
