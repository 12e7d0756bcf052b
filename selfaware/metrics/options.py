"""Option scores → a value towards `high` for each question, and its mean over the orders and mirrors of a group."""

import math
from collections.abc import Sequence
from dataclasses import replace

from selfaware.errors import BadData
from selfaware.types import Answer, Question, Score


def score(question: Question, answer: Answer) -> tuple[float | None, str]:
    """How far the answer leans to the option that counts as high, and the reason when that is unknown.

    Spelled-out options: l_high − l_low, l = mean log-probability per token, nats. Letters: the difference of the two
    letters' log-probabilities, nats, which is their logit difference.

    Raises:
        BadData: a question without exactly two options, or an answer to another number of them.
    """
    if len(question.options) != 2 or question.high not in (0, 1):
        raise BadData(
            f"question {question.id!r}: {len(question.options)} options, high is {question.high}; "
            "two are needed, and 0 or 1. Mend the question."
        )
    if answer.logprobs is None:
        return None, answer.why or "no answer"
    if len(answer.logprobs) != 2 or len(answer.tokens) != 2:
        raise BadData(
            f"answer {answer.id!r}: {len(answer.logprobs)} log-probabilities of {len(answer.tokens)} options; "
            "two of each are needed. Ask again."
        )
    if not question.single and min(answer.tokens) < 1:
        return None, "an option without tokens"
    per_option = [
        total / (1 if question.single else n) for total, n in zip(answer.logprobs, answer.tokens, strict=True)
    ]
    value = per_option[question.high] - per_option[1 - question.high]
    return (value, "") if math.isfinite(value) else (None, "not a finite number")


def scores(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """One score for each group: the mean over its questions (option orders, an item and its mirror), nats.

    A group with an unread question is unknown: half of it would bring back what the other half cancels.

    Raises:
        BadData: a question without an answer.
    """
    by_id = {a.id: a for a in answers}
    missing = [q.id for q in questions if q.id not in by_id]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BadData(f"answers: none for question {missing[0]!r}{more}; each question needs one. Ask again.")
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    out = []
    for group, members in groups.items():
        values = [score(q, by_id[q.id]) for q in members]
        why = next((reason for value, reason in values if value is None), "")
        mean = None if why else sum(v for v, _ in values if v is not None) / len(values)
        out.append(Score(group, members[0].family, mean, why))
    return tuple(out)


def chosen(values: Sequence[Score]) -> tuple[Score, ...]:
    """1 where the high option is preferred, 0 where the low one is, 0.5 at a tie; unknown stays unknown."""
    return tuple(
        replace(s, value=None if s.value is None else 0.5 * (1 + (s.value > 0) - (s.value < 0))) for s in values
    )


def places(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """How far the first option stands before the second among all of them, −1 to 1: the share of places between them.

    Options stand in the order of their mean log-probability per token. 1: the first option leads and the second comes last.

    Raises:
        BadData: fewer than three options.
    """
    by_id = {a.id: a for a in answers}
    made = []
    for question in questions:
        answer, count = by_id[question.id], len(question.options)
        if count < 3:
            raise BadData(f"question {question.id!r}: {count} options; places need three at least. Use `scores`.")
        if answer.logprobs is None or min(answer.tokens) < 1:
            made.append(Score(question.group, question.family, None, answer.why or "an option without tokens"))
            continue
        means = [total / n for total, n in zip(answer.logprobs, answer.tokens, strict=True)]
        order = sorted(range(count), key=lambda i, m=means: -m[i])  # type: ignore[misc]
        apart = (order.index(1) - order.index(0)) / (count - 1)
        made.append(Score(question.group, question.family, apart if question.high == 0 else -apart))
    return tuple(made)


def valid_mass(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """Probability that single-token options hold together, 0 to 1; none for spelled-out options."""
    family = {q.id: q.family for q in questions if q.single}
    return tuple(Score(a.id, family[a.id], *_mass(a)) for a in answers if a.id in family)


def _mass(answer: Answer) -> tuple[float | None, str]:
    if answer.valid is None:
        return None, answer.why or "no valid mass"
    # Rounding can lift a sum of probabilities past 1 by an ulp; −∞ is an honest 0.
    return (None, "not a finite number") if math.isnan(answer.valid) else (math.exp(min(answer.valid, 0.0)), answer.why)


def by_family(values: Sequence[Score]) -> dict[str, float | None]:
    """The mean over each family's groups; None where a family holds an unknown."""
    groups: dict[str, list[float | None]] = {}
    for s in values:
        groups.setdefault(s.family, []).append(s.value)
    known = {family: [v for v in found if v is not None] for family, found in groups.items()}
    return {f: sum(known[f]) / len(found) if len(known[f]) == len(found) else None for f, found in groups.items()}
