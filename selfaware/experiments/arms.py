"""Arms × polarities × seeds × question sets → jobs, and what came of them as values by family. Shared by all experiments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from selfaware import stages, stats
from selfaware.interventions.base import Recipe
from selfaware.launch import Job
from selfaware.metrics import options
from selfaware.report.page import Figure, Item, Reply, Role
from selfaware.stages import Bench, Fit
from selfaware.types import POLARITIES, Estimate, Polarity, Question, Row, Score, Template, Verdict

ByFamily = dict[str, float | None]


@dataclass(frozen=True)
class Arm:
    """What is compared with the base model.

    Attributes:
        recipes: replicates within a seed, each counted as one more replicate (five random vectors); one for a fitted arm.
        examples: the questions it is trained on.
        single: True where an interval should cover one new replicate rather than the mean (random vectors).
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


@dataclass(frozen=True)
class Asked:
    """A question set as it is asked: its name, its questions, the template."""

    name: str
    questions: tuple[Question, ...]
    template: Template


@dataclass(frozen=True)
class Findings:
    """Everything an experiment computes for its page, from the answers alone."""

    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Figure, ...]


@final
class Comparison:
    """Arms against the base model on question sets: plans the cells, then reads them.

    Args:
        seeds: one fit of every arm and polarity for each.
    """

    def __init__(self, bench: Bench, arms: Sequence[Arm], sets: Sequence[Asked], seeds: Sequence[int]) -> None:
        self.bench, self.arms, self.sets, self.seeds = bench, tuple(arms), tuple(sets), tuple(seeds)
        self.failed: dict[str, str] = {}
        self._scores: dict[tuple[str, str], tuple[Score, ...]] = {}

    def fits(self, arm: Arm, polarity: Polarity) -> list[tuple[int, Recipe, Fit]]:
        """The arm's replicates at a polarity: seed, recipe, cell."""
        return [(s, r, self.bench.fit_cell(arm.examples, r, polarity, s)) for s in self.seeds for r in arm.recipes]

    def jobs(self) -> list[Job]:
        """Every cell as a job, base first; a cell that two arms need appears once."""
        made: dict[str, Job] = {}
        for asked in self.sets:
            self._add_ask(made, asked, None, None)
        for arm in self.arms:
            for polarity in POLARITIES:
                for seed, recipe, fit in self.fits(arm, polarity):
                    label = f"{arm.label} · {polarity} · seed {seed}"
                    if fit.id not in made:
                        made[fit.id] = Job(
                            fit.id,
                            f"fit {label}",
                            self._fit_cost(arm, recipe, fit),
                            self._fitting(arm, recipe, polarity, seed),
                        )
                    for asked in self.sets:
                        self._add_ask(made, asked, fit, (arm, recipe, polarity, seed))
        return list(made.values())

    def _add_ask(
        self, made: dict[str, Job], asked: Asked, fit: Fit | None, of: tuple[Arm, Recipe, Polarity, int] | None
    ) -> None:
        cell = self.bench.ask_cell(asked.questions, fit.id if fit else "", asked.template)
        if cell.id in made:
            return
        label = f"{of[0].label} · {of[2]} · seed {of[3]}" if of else "base"
        cost = (
            0.0
            if self.bench.store.cell(cell.id).path("done.json").is_file()
            else _tokens(asked.questions, full=fit is None)
        )

        def run(on_step: Callable[[float], None]) -> None:
            loaded = self.bench.fit(of[0].examples, of[1], of[2], of[3]) if of else None
            self.bench.ask(asked.questions, fit.id if fit else "", loaded, asked.template, on_step)

        made[cell.id] = Job(cell.id, f"ask {label} · {asked.name}", cost, run, (fit.id,) if fit else ())

    def _fitting(
        self, arm: Arm, recipe: Recipe, polarity: Polarity, seed: int
    ) -> Callable[[Callable[[float], None]], None]:
        def run(on_step: Callable[[float], None]) -> None:
            self.bench.fit(arm.examples, recipe, polarity, seed, on_step)

        return run

    def _fit_cost(self, arm: Arm, recipe: Recipe, fit: Fit) -> float:
        training = getattr(recipe, "training", None)
        if training is None or self.bench.store.cell(fit.id).path("done.json").is_file():
            return 0.0
        return 1.5 * training.epochs * _tokens(arm.examples, full=False) / 2

    # what came back ---------------------------------------------------------------------------------------------------

    def scores(self, asked: Asked, fit: Fit | None) -> tuple[Score, ...] | None:
        """Scores of one arm's replicate, towards `high`, nats; None when its cell failed."""
        key = (asked.name, fit.id if fit else "")
        if key not in self._scores:
            cell = self.bench.ask_cell(asked.questions, key[1], asked.template)
            if cell.id in self.failed or (fit and fit.id in self.failed):
                return None
            self._scores[key] = self.bench.score(cell.id)
        return self._scores[key]

    def levels(
        self, asked: Asked, arm: Arm | None, polarity: Polarity, read: Callable[[Sequence[Score]], Sequence[Score]]
    ) -> list[ByFamily]:
        """For each replicate that did not fail, each family's value; for the base (`arm` None) a list of one."""
        fits = [f for _, _, f in self.fits(arm, polarity)] if arm else [None]
        found = [self.scores(asked, f) for f in fits]
        return [options.by_family(read(s)) for s in found if s is not None]

    def masses(self, asked: Asked, arm: Arm | None, polarity: Polarity) -> list[ByFamily]:
        """For each replicate, each family's probability that the single-token options hold together."""
        fits = [f for _, _, f in self.fits(arm, polarity)] if arm else [None]
        found = []
        for fit in fits:
            if self.scores(asked, fit) is not None:
                cell = self.bench.ask_cell(asked.questions, fit.id if fit else "", asked.template).id
                questions, _, answers = stages.asked(self.bench.store, cell)
                found.append(options.by_family(options.valid_mass(questions, answers)))
        return found

    def shift(
        self, asked: Asked, arm: Arm, polarity: Polarity, read: Callable[[Sequence[Score]], Sequence[Score]]
    ) -> list[ByFamily]:
        """Each family's value minus the base model's on the same questions, for each replicate."""
        return stats.difference(self.levels(asked, arm, polarity, read), self.levels(asked, None, polarity, read))

    def effect(self, asked: Asked, arm: Arm, read: Callable[[Sequence[Score]], Sequence[Score]]) -> list[ByFamily]:
        """(shift of the high arm − shift of the low arm) / 2 for each replicate whose two polarities both came back."""
        sides: list[list[ByFamily]] = [[], []]
        base = self.levels(asked, None, "high", read)
        for (_, _, up), (_, _, down) in zip(self.fits(arm, "high"), self.fits(arm, "low"), strict=True):
            both = [self.scores(asked, up), self.scores(asked, down)]
            for side, got in zip(sides, both, strict=True):
                if got is not None and None not in both:
                    side.extend(stats.difference([options.by_family(read(got))], base))
        return stats.half_difference(sides[0], sides[1])

    def items(self, asked: Asked, every_replicate: bool = False) -> tuple[Item, ...]:
        """The questions with each arm's reply; of several replicates a seed (random vectors) the first alone, unless told."""
        replies: dict[str, list[Reply]] = {q.id: [] for q in asked.questions}
        for arm in (None, *self.arms):
            for polarity in POLARITIES if arm else POLARITIES[:1]:
                runs = self.fits(arm, polarity) if arm else [(0, None, None)]
                for seed, recipe, fit in runs:
                    if arm and recipe != arm.recipes[0] and not every_replicate:
                        continue
                    if self.scores(asked, fit) is None:
                        continue
                    cell = self.bench.ask_cell(asked.questions, fit.id if fit else "", asked.template).id
                    name = f"{arm.label} · {polarity} · seed {seed}" if arm else "base"
                    for question, answer in zip(asked.questions, stages.asked(self.bench.store, cell)[2], strict=True):
                        value, why = options.score(question, answer)
                        each = None if answer.logprobs is None else tuple(
                            t / (1 if question.single else n) for t, n in zip(answer.logprobs, answer.tokens, strict=True)
                        )  # fmt: skip
                        replies[question.id].append(Reply(name, cell, each, value, why))
        texts = stages.asked(self.bench.store, self.bench.ask_cell(asked.questions, "", asked.template).id)[1]
        return tuple(
            Item(q.id, asked.name, q.family, text, q.options, q.high, tuple(replies[q.id]))
            for q, text in zip(asked.questions, texts, strict=True)
        )


def _tokens(questions: Sequence[Question], full: bool) -> float:
    """Rough count of tokens to run: options always, prompts only where they are not shared with earlier cells."""
    return sum(sum(len(o) for o in q.options) + (len(q.prompt.user) if full else 0) for q in questions) / 4


def nats(values: Sequence[Score]) -> Sequence[Score]:
    """Scores as they are, nats towards `high`."""
    return values


def mean_of(values: Sequence[Mapping[str, float | None]]) -> tuple[float, ...]:
    """Each replicate's mean over the families that were read."""
    means = []
    for by_family in values:
        known = [v for v in by_family.values() if v is not None]
        means.append(sum(known) / len(known) if known else float("nan"))
    return tuple(means)


def estimated(arm: Arm, values: list[ByFamily], unit: str) -> Estimate:
    """The arm's estimate, with the interval that suits it."""
    return stats.estimate(values, unit, single=arm.single)


def why_failed(failed: Mapping[str, str], jobs: Sequence[Job]) -> tuple[tuple[str, str], ...]:
    """Label and reason of every failed job, in order."""
    return tuple((job.label, failed[job.id]) for job in jobs if job.id in failed)
