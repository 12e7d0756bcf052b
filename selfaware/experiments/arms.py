"""Arms × polarities × replicates × question sets → jobs, and what came of them as values by family. Shared by all experiments."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast, final

from selfaware import stages, stats
from selfaware.domains.questions import told
from selfaware.interventions.base import Recipe
from selfaware.launch import Job
from selfaware.metrics import options
from selfaware.report.page import Figure, Role, Table
from selfaware.stages import Answers, Bench, Fit, Questions
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
Read = Callable[[Any, Any], Sequence[Score]]
"""Questions and their answers to a value for each group: a measure of `metrics`."""

OnStep = Callable[[float], None]


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
class Findings:
    """Everything an experiment computes for its page, from the answers alone. `flags` marks items by group."""

    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)


@final
class Comparison:
    """Arms against the base model on question sets: plans the cells, then reads them.

    Args:
        seeds: one fit of every arm and polarity for each.
    """

    def __init__(self, bench: Bench, arms: Sequence[Arm], sets: Sequence[Asked], seeds: Sequence[int]) -> None:
        self.bench, self.arms, self.sets, self.seeds = bench, tuple(arms), tuple(sets), tuple(seeds)
        self.failed: dict[str, str] = {}
        self._read: dict[tuple[str, Read], tuple[Score, ...]] = {}
        self._answers: dict[str, tuple[Questions, tuple[str, ...], Answers]] = {}
        # Made once: a page asks for the same cells thousands of times.
        self._replicates: dict[tuple[str, Polarity], list[Replicate]] = {}
        self._cells: dict[tuple[str, str, str], str] = {}

    @property
    def named(self) -> dict[str, Asked]:
        """The question sets by name."""
        return {s.name: s for s in self.sets}

    def arm(self, role: Role) -> Arm:
        """The first arm of that role."""
        return next(a for a in self.arms if a.role == role)

    def replicates(self, arm: Arm | None, polarity: Polarity) -> list[Replicate]:
        """The arm's replicates at a polarity, in the same order at both; the base model is its own only one."""
        if arm is None:
            return [Replicate()]
        if arm.system:
            return [Replicate(at, system=text) for at, text in enumerate(arm.system[polarity])]
        key = (arm.name, polarity)
        if key not in self._replicates:
            runs = [(seed, recipe) for seed in self.seeds for recipe in arm.recipes]
            fit = self.bench.fit_cell
            self._replicates[key] = [Replicate(s, r, fit(arm.examples, r, polarity, s)) for s, r in runs]
        return self._replicates[key]

    def cell(self, asked: Asked, of: Replicate) -> str:
        """The id of the ask cell."""
        key = (asked.name, of.fit.id if of.fit else "", of.system)
        if key not in self._cells:
            cell = self.bench.ask_cell(asked.under(of.system), key[1], asked.template, asked.sampling)
            self._cells[key] = cell.id
        return self._cells[key]

    def jobs(self) -> list[Job]:
        """Every cell as a job, base first; a cell that two arms need appears once."""
        made: dict[str, Job] = {}
        for asked in self.sets:
            self._add_ask(made, asked, None, "high", Replicate())
        for arm in self.arms:
            for polarity in arm.polarities:
                for of in self.replicates(arm, polarity):
                    if of.fit and of.recipe and of.fit.id not in made:
                        label = f"fit {arm.label} · {polarity} · seed {of.seed}"
                        run = partial(self._fit, arm, of.recipe, polarity, of.seed)
                        made[of.fit.id] = Job(of.fit.id, label, self._fit_cost(arm, of.recipe, of.fit), run)
                    for asked in self.sets:
                        if arm.asked(asked.name):
                            self._add_ask(made, asked, arm, polarity, of)
        return list(made.values())

    def _add_ask(self, made: dict[str, Job], asked: Asked, arm: Arm | None, polarity: Polarity, of: Replicate) -> None:
        id = self.cell(asked, of)
        if id in made:
            return
        done = self.bench.store.cell(id).path("done.json").is_file()
        cost = 0.0 if done else _tokens(asked, full=of.fit is None)
        label = f"ask {name_of(arm, polarity, of)} · {asked.name}"
        run = partial(self._ask, asked, arm, polarity, of)
        made[id] = Job(id, label, cost, run, (of.fit.id,) if of.fit else ())

    def _fit(self, arm: Arm, recipe: Recipe, polarity: Polarity, seed: int, on_step: OnStep) -> None:
        self.bench.fit(arm.examples, recipe, polarity, seed, on_step)

    def _ask(self, asked: Asked, arm: Arm | None, polarity: Polarity, of: Replicate, on_step: OnStep) -> None:
        fitted = self.bench.fit(arm.examples, of.recipe, polarity, of.seed) if arm and of.recipe else None
        fit = of.fit.id if of.fit else ""
        self.bench.ask(asked.under(of.system), fit, fitted, asked.template, on_step, asked.sampling)
        self.bench.score(self.cell(asked, of))

    def _fit_cost(self, arm: Arm, recipe: Recipe, fit: Fit) -> float:
        training = getattr(recipe, "training", None)
        if training is None or self.bench.store.cell(fit.id).path("done.json").is_file():
            return 0.0
        return 1.5 * training.epochs * _tokens(Asked("", arm.examples, "raw"), full=False) / 2

    # what came back ---------------------------------------------------------------------------------------------------

    def answers(self, asked: Asked, of: Replicate) -> tuple[Questions, tuple[str, ...], Answers] | None:
        """One replicate's questions, prompts as text, and answers; None when its cell failed."""
        id = self.cell(asked, of)
        if id in self.failed or (of.fit and of.fit.id in self.failed):
            return None
        if id not in self._answers:
            self._answers[id] = stages.asked(self.bench.store, id)
        return self._answers[id]

    def scores(self, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...] | None:
        """One replicate's values; None when its cell failed."""
        found = self.answers(asked, of)
        if found is None:
            return None
        key = (self.cell(asked, of), read)
        if key not in self._read:
            self._read[key] = tuple(read(found[0], found[2]))
        return self._read[key]

    def all_scores(self, asked: Asked, arm: Arm | None, polarity: Polarity, read: Read) -> list[tuple[Score, ...]]:
        """The values of every replicate that did not fail."""
        found = [self.scores(asked, of, read) for of in self.replicates(arm, polarity)]
        return [s for s in found if s is not None]

    def levels(self, asked: Asked, arm: Arm | None, polarity: Polarity, read: Read) -> list[ByFamily]:
        """For each replicate that did not fail, each family's value; for the base (`arm` None) a list of one."""
        return [options.by_family(s) for s in self.all_scores(asked, arm, polarity, read)]

    def unread(self, asked: Asked, arm: Arm | None, polarity: Polarity, read: Read) -> int:
        """Sampled answers that could not be read, over all replicates."""
        return sum(s.unread for scores in self.all_scores(asked, arm, polarity, read) for s in scores)

    def shift(self, asked: Asked, arm: Arm, polarity: Polarity, read: Read) -> list[ByFamily]:
        """Each family's value minus the base model's on the same questions, for each replicate."""
        return stats.difference(self.levels(asked, arm, polarity, read), self.levels(asked, None, polarity, read))

    def effect(
        self, asked: Asked, arm: Arm, read: Read, by: Callable[[Sequence[Score]], ByFamily] = options.by_family
    ) -> list[ByFamily]:
        """(shift of the high arm − shift of the low arm) / 2 for each replicate whose two polarities both came back.

        Args:
            by: how scores become values; by group instead of by family for single items.
        """
        sides: list[list[ByFamily]] = [[], []]
        base = [by(s) for s in self.all_scores(asked, None, "high", read)]
        runs = [self.replicates(arm, polarity) for polarity in arm.polarities]
        for pair in zip(*runs, strict=True):
            both = [self.scores(asked, of, read) for of in pair]
            for side, got in zip(sides, both, strict=False):
                if got is not None and None not in both:
                    side.extend(stats.difference([by(got)], base))
        return stats.half_difference(sides[0], sides[1]) if len(arm.polarities) > 1 else sides[0]


def name_of(arm: Arm | None, polarity: Polarity, of: Replicate) -> str:
    """As a reply's arm is written on the page."""
    if arm is None:
        return "base"
    return f"{arm.label} · {polarity} · {f'wording {of.seed + 1}' if of.system else f'seed {of.seed}'}"


def _tokens(asked: Asked, full: bool) -> float:
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


def why_failed(failed: Mapping[str, str], jobs: Sequence[Job]) -> tuple[tuple[str, str], ...]:
    """Label and reason of every failed job, in order."""
    return tuple((job.label, failed[job.id]) for job in jobs if job.id in failed)
