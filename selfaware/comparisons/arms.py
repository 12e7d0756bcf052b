"""What is compared: arms, replicates, question sets, views inside; and how values of a replicate become an estimate. Plans no job."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from selfaware import stats
from selfaware.domains.questions import told
from selfaware.interventions.base import Recipe
from selfaware.readouts.base import Readout
from selfaware.report.page import Figure, Role, Table
from selfaware.stages import Fit, Questions
from selfaware.types import (
    POLARITIES,
    Estimate,
    Open,
    Passage,
    Polarity,
    Question,
    Row,
    Sampling,
    Score,
    Template,
    Verdict,
)

ByFamily = dict[str, float | None]
Kept = list[ByFamily | None]
"""One table for each replicate of an arm, in their order; None where a cell of either polarity failed."""

Read = Callable[[Any, Any], Sequence[Score]]
"""Questions and their answers to a value for each group: a measure of `metrics`."""


@dataclass(frozen=True)
class Arm:
    """What is compared with the base model: fitted, given, random, or told by a system prompt.

    Attributes:
        recipes: replicates within a seed, each counted as one more replicate (five random vectors); one for a fitted arm.
        examples: the questions it is trained on.
        single: True where an interval should cover one new replicate rather than the mean (random vectors).
        fixed: True where there is one replicate and no other is meant (somebody's adapter): families alone are random.
        sets: names of the question sets it is asked; empty for all.
        system: by polarity, system prompts given to the base model; each is one replicate. Then there are no recipes.
        polarities: those it has; without `low` its effect is its shift from the base model.
    """

    name: str
    label: str
    role: Role
    recipes: tuple[Recipe, ...]
    examples: tuple[Question, ...]
    about: str
    site: str = ""
    positions: str = ""
    single: bool = False
    fixed: bool = False
    sets: tuple[str, ...] = ()
    system: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    polarities: tuple[Polarity, ...] = POLARITIES

    def asked(self, name: str) -> bool:
        """Whether it is asked the set of that name."""
        return not self.sets or name in self.sets


@dataclass(frozen=True)
class Replicate:
    """One run of an arm at a polarity: a fit cell, or the base model with a system prompt, or the base model."""

    seed: int = 0
    recipe: Recipe | None = None
    fit: Fit | None = None
    system: str = ""


@dataclass(frozen=True)
class Asked:
    """A question set as it is asked.

    Attributes:
        sampling: of open questions.
        part: of the records, where it is made of them.
    """

    name: str
    questions: Questions
    template: Template
    sampling: Sampling | None = None
    part: str = ""

    def under(self, system: str) -> Questions:
        """The questions, under that system prompt where there is one."""
        return cast(Questions, told(self.questions, system)) if system else self.questions

    @property
    def families(self) -> dict[str, str]:
        """Each item's family, by its group."""
        return {q.id if isinstance(q, Passage) else q.group: q.family for q in self.questions}


@dataclass(frozen=True)
class View:
    """A readout inside the model: one cell for each polarity and replicate of each arm, or a single one of the base model.

    Attributes:
        arms: names of the arms; empty for the base model.
        questions: what it looks at.
        cost: how long one takes, in the unit of the other jobs (tokens that run through the model).
        fast: look in the training type, where rounding averages out over many questions.
        polarities: of the arms that have several; both unless named.
        beside: the name of an arm whose replicate of the same number, at `high`, is given to the readout as well; empty for none.
    """

    name: str
    readout: Readout
    arms: tuple[str, ...] = ()
    questions: Questions = ()
    cost: float = 1000.0
    fast: bool = False
    polarities: tuple[Polarity, ...] = POLARITIES
    beside: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything an experiment computes for its page, from the answers alone. `flags` marks items by group."""

    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)


def name_of(arm: Arm | None, polarity: Polarity, of: Replicate) -> str:
    """As a reply's arm is written on the page."""
    if arm is None:
        return "base"
    return f"{arm.label} · {polarity} · {f'wording {of.seed + 1}' if of.system else f'seed {of.seed}'}"


def tokens(asked: Asked, full: bool) -> float:
    """Rough count of tokens to run: answers always, prompts only where they are not shared with earlier cells."""
    total = 0.0
    for q in asked.questions:
        if isinstance(q, Passage):
            total += 2 * len(q.text)
        elif isinstance(q, Open):
            sampling = asked.sampling or Sampling()
            total += 4 * sampling.samples * sampling.max_new_tokens / 3 + len(q.prompt.user)
        else:
            total += sum(len(o) for o in q.options) + (len(q.prompt.user) if full else 0)
    return total / 4


def by_group(values: Sequence[Score]) -> ByFamily:
    """Each item's own value."""
    return {s.group: s.value for s in values}


def mean_of(values: Iterable[Mapping[str, float | None]]) -> tuple[float, ...]:
    """Each replicate's mean over the families that were read."""
    means = []
    for by_family in values:
        known = [v for v in by_family.values() if v is not None]
        means.append(sum(known) / len(known) if known else float("nan"))
    return tuple(means)


def estimated(arm: Arm | None, values: list[ByFamily], unit: str) -> Estimate:
    """The arm's estimate, with the interval that suits it."""
    return stats.estimate(values, unit, fitted=bool(arm and not arm.fixed), single=bool(arm and arm.single))
