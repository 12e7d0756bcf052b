"""Which prompts a probe can tell apart, by what an adapter reads and by the whole residual stream. Knows looks, no claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfaware import stats
from selfaware.comparisons.arms import Arm, ByFamily, Replicate, View
from selfaware.comparisons.comparison import Comparison
from selfaware.readouts import probe
from selfaware.report.page import Figure, Mark, Panel, Role
from selfaware.types import Estimate, Question, Row

UNIT = "share right"
PUBLISHED = "coefficients of Gemma 2 27B, codeword ring: block 16 +0.889, 29 +0.649, 22 +0.480, 21 −0.334; accuracies not recorded"


@dataclass(frozen=True)
class Told:
    """How well two question sets are told apart.

    Attributes:
        pair: the two sets.
        by: by what is read, the share of prompts on the right side: families of both sets count alike, and chance is one half.
    """

    pair: tuple[str, str]
    by: Mapping[str, Estimate]

    @property
    def name(self) -> str:
        """As in a row's `questions`."""
        return "/".join(self.pair)

    @property
    def text(self) -> str:
        """All of it, for a verdict."""
        each = "; ".join(f"{name} {stats.spoken(e).replace('+', '')}" for name, e in self.by.items())
        return f"{self.pair[0]} against {self.pair[1]}: {each}"


def told(
    made: Comparison,
    pair: tuple[str, str],
    gate: View,
    arms: Mapping[str, Arm],
    stream: View,
    ridge: float,
) -> Told:
    """What a probe on each arm's scalars, and one on the untouched model's stream, tell of two sets of prompts.

    Args:
        gate: looks of `probe.Features` at the arms; its questions hold both sets.
        arms: by name, whose scalars are read; a seed's share is the mean over its polarities.
        stream: a look of the base model at the same questions: all that is there to be told.
        ridge: of the probe.
    """
    questions = [q for q in gate.questions if isinstance(q, Question)]
    kept = balanced(questions, pair)
    found = {}
    for name, arm in arms.items():
        sides = [[_right(made, gate, of, questions, kept, pair, ridge) for of in made.replicates(arm, p)] for p in arm.polarities]  # fmt: skip
        rows = [_mean(both) for both in zip(*sides, strict=True)]
        found[name] = stats.estimate([row for row in rows if row], UNIT)
    whole = _right(made, stream, Replicate(), questions, kept, pair, ridge)
    found["residual stream"] = stats.estimate([whole] if whole else [], UNIT, fitted=False)
    return Told(pair, found)


def balanced(questions: Sequence[Question], pair: tuple[str, str]) -> list[int]:
    """The numbers of the questions of both sets, of as many families each, so that chance is one half."""
    families = [sorted({q.family for q in questions if q.set == name}) for name in pair]
    count = min(map(len, families))
    kept = {(name, family) for name, some in zip(pair, families, strict=True) for family in some[:count]}
    return [at for at, q in enumerate(questions) if (q.set, q.family) in kept]


def _right(
    made: Comparison,
    view: View,
    of: Replicate,
    questions: Sequence[Question],
    kept: Sequence[int],
    pair: tuple[str, str],
    ridge: float,
) -> ByFamily:
    """For each family of either set the share of its prompts that a probe fitted on other families puts on the right side."""
    seen, some = made.seen(view, of), [questions[at] for at in kept]
    if seen is None or len({(q.set, q.family) for q in some}) < 4:
        return {}
    y = np.array([q.set == pair[0] for q in some], dtype=int)
    scores = probe.held_out(seen.numbers["x"][list(kept)], y, [q.family for q in some], ridge)
    found: dict[str, list[float]] = {}
    for question, value in zip(some, probe.right(scores, y).tolist(), strict=True):
        found.setdefault(f"{question.set}/{question.family}", []).append(value)
    return {family: sum(v) / len(v) for family, v in found.items()}


def _mean(sides: Sequence[ByFamily]) -> ByFamily:
    """The mean of both polarities, family by family; empty where one is missing."""
    if not all(sides):
        return {}
    return {f: sum(side[f] or 0.0 for side in sides) / len(sides) for f in sides[0]}


def rows(all_told: Sequence[Told], site: str, model: str, domain: str) -> list[Row]:
    """One row for each pair and each thing that is read."""
    return [
        Row.of(
            estimate, measure="probe_accuracy", kind="absolute", model=model, domain=domain, method=name, site=site,
            questions=each.name, reference="chance, one half", published=PUBLISHED,
        )
        for each in all_told
        for name, estimate in each.by.items()
    ]  # fmt: skip


def figure(all_told: Sequence[Told], primary: str, control: str) -> Figure:
    """One panel for each pair.

    Args:
        primary, control: names of what is read, for the marks' weights.
    """
    roles: dict[str, Role] = {primary: "primary", control: "control"}
    panels = [
        Panel(each.name, UNIT, tuple(Mark(n, e, "", roles.get(n, "base")) for n, e in each.by.items()), zero=0.5)
        for each in all_told
    ]
    caption = (
        "Share of prompts that a logistic probe puts on the right side, families held out in turn; the line is chance. "
        "Statements and decisions differ in form, and the whole stream tells them apart by that alone; a statement and its twin differ in whom they are about."
    )
    return Figure("probe", "Does what the adapter reads tell self-description apart?", caption, tuple(panels))
