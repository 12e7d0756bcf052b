"""Fits of one recipe, one or several at once: seeds and polarities side by side in a batch. Knows recipes, no data."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from selfaware.interventions.base import Delta, Intervention, LowRank, Step
from selfaware.interventions.train import Beside, Run, Training, train
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question


@runtime_checkable
class Trained(Protocol):
    """A recipe whose tensors are trained by gradient from a start that a seed draws."""

    @property
    def training(self) -> Training:
        """How they are trained."""

    @property
    def label(self) -> str:
        """As written on a page."""

    def start(self, model: Model, seed: int) -> Intervention:
        """The intervention before training."""


def fit_together(
    model: Model,
    recipe: Trained,
    examples: Sequence[Question],
    runs: Sequence[tuple[Polarity, int]],
    on_step: Step,
    beside: Beside | None = None,
) -> tuple[Intervention, ...]:
    """The recipe fitted for each polarity and seed, as `fit` would one after the other, up to rounding.

    Where a step is a few tokens, as at `last_prompt`, the net's weights are read once for all runs, and several cost
    little more than one. Where it is many, nothing is gained but fewer calls.

    Args:
        runs: polarity and seed of each.
        beside: a second loss; see `train`.

    Raises:
        FitFailed: a run's loss is not finite; none is given then.
    """
    started = [Run(recipe.start(model, seed), polarity, seed) for polarity, seed in runs]
    losses = train(model, started, examples, recipe.training, on_step, beside)
    return tuple(
        Intervention(
            {site: _quiet(delta) for site, delta in run.intervention.deltas.items()},
            run.intervention.positions,
            {"method": recipe.label, "losses": [round(x, 6) for x in own]},
        )
        for run, own in zip(started, losses, strict=True)
    )


def _quiet(delta: Delta) -> Delta:
    """The same without what only training needs."""
    if isinstance(delta, LowRank):
        return replace(delta, a=delta.a.detach(), b=delta.b.detach(), dropout=0.0, generator=None)
    return replace(delta, v=delta.v.detach())
