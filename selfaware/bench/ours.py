"""The plans as this package does them. Knows fits, doses and the clock; no contender."""

import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.bench import data
from selfaware.bench.runs import Run
from selfaware.bench.works import Fits, Grid
from selfaware.interventions.together import fit_together
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.readouts.dose import at_strength, dose, residual_norms
from selfaware.types import Question, Site

SHARE = 0.05
"""The smallest strength of a grid: norm added over the mean norm of the residual there; the others are its multiples."""


def fresh(model: Model) -> Model:
    """The same net with nothing kept."""
    same = Model(model.net, model.tokenizer, name=model.name, identity=model.identity, system_role=model.system_role)
    return same


def token_mean(model: Model, rows: Sequence[Row]) -> float:
    """A batch's loss as a mean over its tokens, from our rows."""
    with torch.no_grad():
        return -float(fresh(model).logprobs(rows).sum()) / sum(len(r.answer) for r in rows)


def fits(model: Model, plan: Fits, questions: Sequence[Question]) -> Callable[[], Run]:
    """Does the plan's fits, caches and all."""

    def once() -> Run:
        marks: list[float] = []
        began = time.perf_counter()

        def mark(step: int, steps: int, loss: float) -> None:
            marks.append(time.perf_counter() - began)

        same, recipe = fresh(model), plan.recipe(len(model.blocks))
        if plan.together:
            made = fit_together(same, recipe, questions, plan.arms, mark)
        else:
            made = tuple(recipe.fit(same, questions, polarity, seed, (), mark) for polarity, seed in plan.arms)
        seconds = time.perf_counter() - began
        return Run(seconds, tuple(marks), tuple(float(x) for fit in made for x in fit.provenance["losses"]))

    return once


def vectors(model: Model, plan: Grid, scored: Sequence[data.Scored]) -> dict[Site, Float[Tensor, " D"]]:
    """For each block of the grid a random direction, as long as the residual is there on the mean."""
    generator = torch.Generator().manual_seed(0)
    sites = [Site(block) for block in data.layers(plan, len(model.blocks))]
    drawn = {site: torch.randn(model.width, generator=generator) for site in sites}
    return at_strength(model, drawn, residual_norms(model, [q.prompt for q in scored]))


def strengths(plan: Grid) -> list[float]:
    """What a grid's vectors are multiplied by."""
    return [SHARE * (at + 1) for at in range(plan.strengths)]


def grid(
    model: Model, plan: Grid, questions: Sequence[Question], directions: dict[Site, Float[Tensor, " D"]]
) -> Callable[[], Run]:
    """Does the grid, prefill and all."""

    def once() -> Run:
        began = time.perf_counter()
        found = dose(fresh(model), directions, strengths(plan), plan.positions, questions, "raw")
        numbers = tuple(found.flatten().tolist())
        return Run(time.perf_counter() - began, (), numbers)

    return once
