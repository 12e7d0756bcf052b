"""A steering vector trained by gradient: one constant, added at one site."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from selfaware.interventions.base import Constant, Intervention, Recipe, Step
from selfaware.interventions.together import fit_together
from selfaware.interventions.train import Training
from selfaware.models.hf import Model
from selfaware.types import Polarity, Positions, Question, Site


@dataclass(frozen=True)
class Vector:
    """y + v with v trained from a random start.

    Attributes:
        site: where it is added; parts with the same output are one site (`Model.resolve`).
        start_norm: norm of the Gaussian start, in the units of the site's output.

    Source: Engels et al. 2025, "Mechanisms of Awareness" (unit-norm Gaussian start, added to the MLP's output).
    """

    site: str = "15"
    start_norm: float = 1.0
    positions: Positions = "answer"
    training: Training = field(default_factory=lambda: Training(learning_rate=0.1))

    @property
    def needs(self) -> Sequence[Recipe]:
        """Nothing comes before it."""
        return ()

    @property
    def follows(self) -> bool:
        """Nothing comes before it."""
        return False

    @property
    def label(self) -> str:
        """As written on a page."""
        return "trained vector"

    def start(self, model: Model, seed: int) -> Intervention:
        """The vector before training, drawn by the seed."""
        site = model.resolve(Site.parse(self.site))
        v = torch.randn(model.output_width(site), generator=torch.Generator().manual_seed(seed))
        return Intervention({site: Constant((v / v.norm() * self.start_norm).to(model.device))}, self.positions)

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The trained vector.

        Raises:
            FitFailed: the loss is not finite.
        """
        return fit_together(model, self, examples, [(polarity, seed)], on_step)[0]
