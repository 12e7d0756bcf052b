"""Arms × polarities × replicates × question sets → jobs, and what came of them as values by family. Shared by all experiments."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast, final

from numpy.typing import NDArray

from selfaware import stages, stats
from selfaware.comparisons.arms import Arm, Asked, ByFamily, Kept, Read, Replicate, View, name_of, tokens
from selfaware.interventions.anchored import Anchored
from selfaware.interventions.base import Intervention, Recipe
from selfaware.interventions.drawn import Drawn
from selfaware.interventions.lora import Lora
from selfaware.interventions.orthogonal import Orthogonal
from selfaware.interventions.own import OwnAnswers
from selfaware.interventions.snapshot import Snapshot
from selfaware.interventions.steer import Vector
from selfaware.launch import Job
from selfaware.metrics import options
from selfaware.report.page import Role
from selfaware.stages import Answers, Bench, Questions, Seen
from selfaware.types import Polarity, Score

OnStep = Callable[[float], None]


@final
class Comparison:
    """Arms against the base model on question sets: plans the cells, then reads them.

    Args:
        seeds: one fit of every arm and polarity for each.
        views: what is looked at inside the model.
    """

    def __init__(
        self,
        bench: Bench,
        arms: Sequence[Arm],
        sets: Sequence[Asked],
        seeds: Sequence[int],
        views: Sequence[View] = (),
    ) -> None:
        self.bench, self.arms, self.sets, self.seeds = bench, tuple(arms), tuple(sets), tuple(seeds)
        self.views = tuple(views)
        self.failed: dict[str, str] = {}
        self._read: dict[tuple[str, Read], tuple[Score, ...]] = {}
        self._answers: dict[str, tuple[Questions, tuple[str, ...], Answers]] = {}
        self._seen: dict[str, Seen] = {}
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

    def named_arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(a for a in self.arms if a.name == name)

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

    def look(self, view: View, of: Replicate) -> str:
        """The id of the look cell."""
        return self.bench.look_cell(view.readout, self._given(view, of), view.questions, fast=view.fast).id

    def _given(self, view: View, of: Replicate) -> list[str]:
        """Ids of the fits that a look is about."""
        beside = self._beside(view, of)
        return [fit.id for fit in (of.fit, beside.fit if beside else None) if fit]

    def _beside(self, view: View, of: Replicate) -> Replicate | None:
        if not view.beside:
            return None
        runs = self.replicates(self.named_arm(view.beside), "high")
        return next((other for other in runs if other.seed == of.seed), None)

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
                        run = partial(self._fit, arm, polarity, of)
                        made[of.fit.id] = Job(of.fit.id, label, self._fit_cost(arm, of.recipe, of), run)
                    for asked in self.sets:
                        if arm.asked(asked.name):
                            self._add_ask(made, asked, arm, polarity, of)
        for view in self.views:
            self._add_look(made, view, None, "high", Replicate())
            for arm in (a for a in self.arms if a.name in view.arms):
                for polarity in (p for p in arm.polarities if p in view.polarities):
                    for of in self.replicates(arm, polarity):
                        self._add_look(made, view, arm, polarity, of)
        return list(made.values())

    def _add_look(self, made: dict[str, Job], view: View, arm: Arm | None, polarity: Polarity, of: Replicate) -> None:
        if bool(view.arms) != bool(arm):
            return
        id = self.look(view, of)
        cost = 0.0 if self.bench.store.cell(id).path("done.json").is_file() else view.cost
        label = f"{view.readout.label} · {name_of(arm, polarity, of)}"
        run = partial(self._look, view, arm, polarity, of)
        made[id] = Job(id, label, cost, run, tuple(self._given(view, of)))

    def _look(self, view: View, arm: Arm | None, polarity: Polarity, of: Replicate, on_step: OnStep) -> None:
        given = [self._fit(arm, polarity, of, on_step)] if arm else []
        beside = self._beside(view, of)
        if beside:
            given.append(self._fit(self.named_arm(view.beside), "high", beside, on_step))
        self.bench.look(view.readout, self._given(view, of), given, view.questions, on_step, fast=view.fast)

    def _add_ask(self, made: dict[str, Job], asked: Asked, arm: Arm | None, polarity: Polarity, of: Replicate) -> None:
        id = self.cell(asked, of)
        if id in made:
            return
        done = self.bench.store.cell(id).path("done.json").is_file()
        cost = 0.0 if done else tokens(asked, full=of.fit is None)
        label = f"ask {name_of(arm, polarity, of)} · {asked.name}"
        run = partial(self._ask, asked, arm, polarity, of)
        made[id] = Job(id, label, cost, run, (of.fit.id,) if of.fit else ())

    def _fit(self, arm: Arm, polarity: Polarity, of: Replicate, on_step: OnStep) -> Intervention:
        return self.bench.fit(arm.examples, cast(Recipe, of.recipe), polarity, of.seed, on_step)

    def _ask(self, asked: Asked, arm: Arm | None, polarity: Polarity, of: Replicate, on_step: OnStep) -> None:
        fitted = self._fit(arm, polarity, of, lambda _: None) if arm and of.recipe else None
        fit = of.fit.id if of.fit else ""
        self.bench.ask(asked.under(of.system), fit, fitted, asked.template, on_step, asked.sampling)
        self.bench.score(self.cell(asked, of))

    def _fit_cost(self, arm: Arm, recipe: Recipe, of: Replicate) -> float:
        if of.fit is None or self.bench.store.cell(of.fit.id).path("done.json").is_file():
            return 0.0
        examples, share = arm.examples, 1.0
        if isinstance(recipe, Snapshot):  # the snapshots of a run cost one training together
            alike = [r for a in self.arms for r in a.recipes if isinstance(r, Snapshot) and r.of == recipe.of]
            recipe, share = recipe.of, 1 / len(alike)
        if isinstance(recipe, Drawn):
            examples, recipe = recipe.some(examples, of.seed), recipe.of
        if isinstance(recipe, Anchored | OwnAnswers):
            recipe = recipe.of
        if isinstance(recipe, Orthogonal):
            recipe = recipe.like
        if not isinstance(recipe, Lora | Vector):  # nothing is trained but what it needs, where no arm has that anyway
            have = {r for a in self.arms if a.examples == arm.examples for r in a.recipes}
            needed = [r for r in recipe.needs if r not in have]
            theirs: Polarity = of.fit.polarity if recipe.follows else "high"
            cells = [Replicate(of.seed, r, self.bench.fit_cell(examples, r, theirs, of.seed)) for r in needed]
            return sum(self._fit_cost(arm, r, cell) for r, cell in zip(needed, cells, strict=True))
        return share * 1.5 * recipe.training.epochs * tokens(Asked("", examples, "raw"), full=False) / 2

    # what came back ---------------------------------------------------------------------------------------------------

    def answers(self, asked: Asked, of: Replicate) -> tuple[Questions, tuple[str, ...], Answers] | None:
        """One replicate's questions, prompts as text, and answers; None when its cell failed."""
        id = self.cell(asked, of)
        if id in self.failed or (of.fit and of.fit.id in self.failed):
            return None
        if id not in self._answers:
            self._answers[id] = stages.asked(self.bench.store, id)
        return self._answers[id]

    def seen(self, view: View, of: Replicate) -> Seen | None:
        """What one replicate's look saw; None when its cell failed."""
        id = self.look(view, of)
        if id in self.failed or any(fit in self.failed for fit in self._given(view, of)):
            return None
        if id not in self._seen:
            self._seen[id] = stages.looked(self.bench.store, id)
        return self._seen[id]

    def vector(self, of: Replicate) -> NDArray[Any] | None:
        """The one constant vector of a replicate; None when its cell failed or it has not exactly one."""
        if not of.fit or of.fit.id in self.failed:
            return None
        found = stages.vectors(self.bench.store, of.fit.id)
        return next(iter(found.values())) if len(found) == 1 else None

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
        return [values for values in self.effects(asked, arm, read, by) if values is not None]

    def effects(
        self, asked: Asked, arm: Arm, read: Read, by: Callable[[Sequence[Score]], ByFamily] = options.by_family
    ) -> Kept:
        """The same for every replicate in its place, None where a cell of either polarity failed: so that arms and sets pair."""
        base = [by(s) for s in self.all_scores(asked, None, "high", read)]
        runs = [self.replicates(arm, polarity) for polarity in arm.polarities]
        made: Kept = []
        for pair in zip(*runs, strict=True):
            both = [self.scores(asked, of, read) for of in pair]
            known = [stats.difference([by(got)], base) for got in both if got is not None]
            whole = len(known) == len(both)
            made.append((stats.half_difference(*known) if len(known) > 1 else known[0])[0] if whole else None)
        return made


def why_failed(failed: Mapping[str, str], jobs: Sequence[Job]) -> tuple[tuple[str, str], ...]:
    """Label and reason of every failed job, in order."""
    return tuple((job.label, failed[job.id]) for job in jobs if job.id in failed)
