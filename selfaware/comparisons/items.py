"""A comparison → every question with every arm's reply to it, for the page. Knows arms and pages, no claim."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from selfaware.comparisons.arms import Arm, Asked, Replicate, name_of
from selfaware.comparisons.comparison import Comparison
from selfaware.metrics import options, parse
from selfaware.report.page import Item, Reply
from selfaware.types import Answer, Open, Passage, Polarity, Question, Reading, Said

LOTTERIES = 10
"""So many lotteries stand on a page, which differ in nothing but their numbers; the others are in the cells."""
FORMS = ("shown", "letters")
"""Ends of a set's name that say how its items are asked."""


def items(made: Comparison, flags: Mapping[str, str]) -> tuple[Item, ...]:
    """The questions of every set with each arm's reply; of several replicates a seed (random vectors) the first alone.

    Args:
        flags: by group, what is said beside its name.
    """
    return tuple(item for asked in made.sets for item in _of_set(made, asked, flags))


def _of_set(made: Comparison, asked: Asked, flags: Mapping[str, str]) -> list[Item]:
    questions: tuple[Any, ...] = tuple(asked.questions)
    replies: dict[str, list[Reply]] = {q.id: [] for q in questions}
    form = _form(asked.name)[1]
    for arm in (None, *(a for a in made.arms if a.asked(asked.name))):
        for polarity in arm.polarities if arm else ("high",):
            for of in made.replicates(arm, polarity):
                if arm and of.recipe and of.recipe != arm.recipes[0]:
                    continue
                found = made.answers(asked, of)
                if found is not None:
                    cell = made.cell(asked, of)
                    for question, answer in zip(questions, found[2], strict=True):
                        replies[question.id].append(_reply(arm, polarity, of, cell, question, answer, form))
    base = made.answers(asked, Replicate())
    texts = base[1] if base else [""] * len(questions)
    kept = set(list(asked.families)[: LOTTERIES if asked.name.startswith("lotteries") else None])
    return [
        _item(asked, q, text, tuple(replies[q.id]), flags)
        for q, text in zip(questions, texts, strict=True)
        if isinstance(q, Passage) or q.group in kept
    ]


def _reply(
    arm: Arm | None, polarity: Polarity, of: Replicate, cell: str, question: Any, answer: Any, form: str
) -> Reply:
    each: tuple[float, ...] | None = None
    said: tuple[str, ...] = ()
    if isinstance(answer, Answer):
        value, why = options.score(question, answer)
        if answer.logprobs is not None:
            lengths = (1, 1) if question.single else answer.tokens
            each = tuple(t / n for t, n in zip(answer.logprobs, lengths, strict=True))
    elif isinstance(answer, Said):
        said = answer.texts
        values = [parse.read(question, text) for text in said]
        known = [v for v, _ in values if v is not None]
        value = sum(known) / len(known) if known else None
        why = ", ".join(f"{w} ×{n}" for w, n in Counter(w for v, w in values if v is None).most_common())
    else:
        assert isinstance(answer, Reading)
        value, why = -answer.logprob / answer.tokens, ""
    return Reply(
        name_of(arm, polarity, of), cell, each, value, why, method=arm.label if arm else "base",
        polarity=polarity if arm else "", seed=of.seed if arm else None, role=arm.role if arm else "base", said=said, form=form,
    )  # fmt: skip


def _item(asked: Asked, question: Any, text: str, replies: tuple[Reply, ...], flags: Mapping[str, str]) -> Item:
    if isinstance(question, Passage):
        return Item(question.id, asked.name, question.family, text, (), 0, replies, group=question.id, unit="nats per token", zero=None)  # fmt: skip
    flag = flags.get(f"{asked.name}/{question.group}", "")
    base, form = _form(asked.name)
    id = f"{question.id}/{form}" if form else question.id
    if isinstance(question, Open):
        return Item(id, base, question.family, text, (), 0, replies, group=question.group, flag=flag, unit="0 to 1", zero=0.5)  # fmt: skip
    assert isinstance(question, Question)
    return Item(
        id, base, question.family, text, question.options, question.high, replies, group=question.group, flag=flag
    )


def _form(set: str) -> tuple[str, str]:
    """The set that a form belongs to, and the form: an item's forms stand in one figure."""
    for form in FORMS:
        if set.endswith(f"-{form}"):
            return set.removesuffix(f"-{form}"), form
    return set, ""
