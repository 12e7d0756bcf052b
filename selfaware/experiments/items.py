"""A comparison → every question with every arm's reply to it, for the page. Knows arms and pages, no claim."""

from collections.abc import Mapping
from typing import Any

from selfaware.experiments.arms import Arm, Asked, Comparison, Replicate, name_of
from selfaware.metrics import options, parse
from selfaware.report.page import Item, Reply
from selfaware.types import Answer, Open, Passage, Polarity, Question, Reading, Said


def items(made: Comparison, flags: Mapping[str, str]) -> tuple[Item, ...]:
    """The questions of every set with each arm's reply; of several replicates a seed (random vectors) the first alone.

    Args:
        flags: by group, what is said beside its name.
    """
    return tuple(item for asked in made.sets for item in _of_set(made, asked, flags))


def _of_set(made: Comparison, asked: Asked, flags: Mapping[str, str]) -> list[Item]:
    questions: tuple[Any, ...] = tuple(asked.questions)
    replies: dict[str, list[Reply]] = {q.id: [] for q in questions}
    for arm in (None, *(a for a in made.arms if a.asked(asked.name))):
        for polarity in arm.polarities if arm else ("high",):
            for of in made.replicates(arm, polarity):
                if arm and of.recipe and of.recipe != arm.recipes[0]:
                    continue
                found = made.answers(asked, of)
                if found is not None:
                    cell = made.cell(asked, of)
                    for question, answer in zip(questions, found[2], strict=True):
                        replies[question.id].append(_reply(arm, polarity, of, cell, question, answer))
    base = made.answers(asked, Replicate())
    texts = base[1] if base else [""] * len(questions)
    return [_item(asked, q, text, tuple(replies[q.id]), flags) for q, text in zip(questions, texts, strict=True)]


def _reply(arm: Arm | None, polarity: Polarity, of: Replicate, cell: str, question: Any, answer: Any) -> Reply:
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
        why = "" if known else next((w for _, w in values if w), "nothing was said")
    else:
        assert isinstance(answer, Reading)
        value, why = -answer.logprob / answer.tokens, ""
    return Reply(
        name_of(arm, polarity, of), cell, each, value, why, method=arm.label if arm else "base",
        polarity=polarity if arm else "", seed=of.seed if arm else None, role=arm.role if arm else "base", said=said,
    )  # fmt: skip


def _item(asked: Asked, question: Any, text: str, replies: tuple[Reply, ...], flags: Mapping[str, str]) -> Item:
    if isinstance(question, Question):
        flag = flags.get(f"{asked.name}/{question.group}", "")
        return Item(question.id, asked.name, question.family, text, question.options, question.high, replies, group=question.group, flag=flag)  # fmt: skip
    if isinstance(question, Open):
        flag = flags.get(f"{asked.name}/{question.group}", "")
        return Item(question.id, asked.name, question.family, text, (), 0, replies, group=question.group, flag=flag, unit="0 to 1", zero=0.5)  # fmt: skip
    assert isinstance(question, Passage)
    return Item(
        question.id,
        asked.name,
        question.family,
        text,
        (),
        0,
        replies,
        group=question.id,
        unit="nats per token",
        zero=None,
    )
