"""Some of a set's questions: a few of each topic. Knows no claim."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar, cast

from selfaware.comparisons.arms import Asked
from selfaware.types import Open, Question

One = TypeVar("One", Question, Open)


def few(questions: Sequence[One], each: int) -> tuple[One, ...]:
    """All questions of the first `each` groups of every topic, in the order given; 0 keeps all."""
    groups: dict[str, dict[str, None]] = {}
    for q in questions:
        groups.setdefault(q.family, {})[q.group] = None
    kept = {name for found in groups.values() for name in list(found)[: each or None]}
    return tuple(q for q in questions if q.group in kept)


def one_order(questions: Sequence[One]) -> tuple[One, ...]:
    """One question of each group (a record's option orders), in the order given: of the first group the first order, of the next the second, in turn.

    What leans to the option named first is then balanced over groups rather than within each.
    """
    groups: dict[str, dict[str, list[One]]] = {}
    for q in questions:
        groups.setdefault(q.family, {}).setdefault(q.group, []).append(q)
    at = 0
    kept = set()
    for found in groups.values():
        for some in found.values():
            kept.add(some[at % len(some)].id)
            at += 1
    return tuple(q for q in questions if q.id in kept)


def fewer(sets: Sequence[Asked], each: int) -> list[Asked]:
    """The same sets with so few decisions of each topic; what is not a decision stays whole."""

    def cut(asked: Asked) -> Asked:
        return replace(asked, questions=few(cast(Sequence[Question], asked.questions), each))

    return [cut(asked) if asked.name == "choices" else asked for asked in sets]
